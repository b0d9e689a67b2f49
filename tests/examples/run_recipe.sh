#!/bin/sh
# Runs the recipe of docs/writing-a-recipe.md for twenty steps: it ends well, and its loss falls.
#     sh tests/examples/run_recipe.sh PROGRAM
data=/usr/share/datasets/fashion-mnist
[ -d "$data" ] || exit 77
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
"$1" "$data" "$out/run" || exit 1
[ -f "$out/run/checkpoint-00000020.tsr" ] || exit 1
awk -F'"distance":' '{ sub("}", "", $2); d[NR] = $2 } END { exit !(NR == 20 && d[20] < d[1]) }' "$out/run/log.jsonl"
