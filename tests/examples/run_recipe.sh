#!/bin/sh
# Runs the recipe of docs/writing-a-recipe.md: --help tells its options, its loss falls, and a run that was stopped resumes to the
# same bytes.
#     sh tests/examples/run_recipe.sh PROGRAM
set -u
data=/usr/share/datasets/fashion-mnist
[ -d "$data" ] || exit 77
program=$1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

"$program" --help | grep -q '^  pretrain ' || fail "--help lists no pretrain"
"$program" recipes | grep -q '^byol: ' || fail "recipes does not list byol"
"$program" pretrain byol --help > "$out/help" || fail "pretrain byol --help fails"
grep -q '^  --hidden 128 .*\[BYOL, section 3.3\]$' "$out/help" || fail "--help lacks the recipe's own option"
grep -q '^  --lr 0.0005 ' "$out/help" || fail "--help lacks an option of training"

train="pretrain byol --preset tiny --hidden 96 --data $data"
"$program" $train --out "$out/whole" --stop-after 20 || fail "a run fails"
"$program" $train --out "$out/parts" --stop-after 9 || fail "a run fails"
"$program" pretrain byol --resume --out "$out/parts" --stop-after 20 || fail "--resume fails"
cmp "$out/whole/checkpoint-00000020.tsr" "$out/parts/checkpoint-00000020.tsr" || fail "resumed to other bytes"
awk -F'"distance":' '{ sub("}", "", $2); d[NR] = $2 } END { exit !(NR == 20 && d[20] < d[1]) }' "$out/whole/log.jsonl" ||
    fail "the loss does not fall"
"$program" diff-recipe byol "$out/whole" | grep -q '^hidden  *128  *96$' || fail "diff-recipe misses --hidden"
"$program" knn "$out/whole" --data "$data" --train-images 200 --test-images 50 --no-baselines || fail "knn fails"
"$program" pretrain nosuch 2> "$out/error" && fail "an unknown recipe is taken"
grep -q "there is no recipe \"nosuch\"; there are: byol" "$out/error" || fail "its message is: $(cat "$out/error")"
