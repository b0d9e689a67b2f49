#!/bin/sh
# What the presets "quickstart" of all recipes are worth on Fashion-MNIST: docs/performance.md has the table.
#     sh tests/bench/presets.sh PROGRAM OUT          trains and measures; what OUT has already is skipped
#     sh tests/bench/presets.sh table OUT            prints OUT/results.tsv as Markdown: mean and standard deviation of the seeds
# PROGRAM is tessera. Two processes of one thread each; less than half an hour a seed on two cores. From the environment: SEEDS ("0 1 2"),
# METHODS (below), JOBS (2), DATA, and SMALL=1, which tries all of it in a few minutes for no sensible number.
set -eu

all_methods='untrained ibot supervised mae simsiam dino beit-kmeans beit-color beit-dvae beit-prototypes'
data=${DATA:-/usr/share/datasets/fashion-mnist}
methods=${METHODS:-$all_methods}
seeds=${SEEDS:-0 1 2}

# ---- the table ----

table() {
    awk -F '\t' -v methods="$methods" '
    BEGIN {
        n = split("raw-pixels " methods, row, " ")
        columns = split("knn knn-mean linear all-labels 10%-labels 1%-labels", column, " ")
        printf "| features |"
        split("k-NN, class token|k-NN, mean of patches|linear|fine-tuned, all labels|10 %|1 %", title, "|")
        for (c = 1; c <= columns; c++) printf " %s |", title[c]
        printf "\n| --- |"
        for (c = 1; c <= columns; c++) printf " --- |"
        printf "\n"
    }
    { key = $1 SUBSEP $3; count[key]++; sum[key] += $4; square[key] += $4 * $4 }
    END {
        for (r = 1; r <= n; r++) {
            printf "| %s |", row[r]
            for (c = 1; c <= columns; c++) {
                key = row[r] SUBSEP column[c]; k = count[key]
                if (k == 0) { printf " |"; continue }
                mean = sum[key] / k; variance = k > 1 ? (square[key] - k * mean * mean) / (k - 1) : 0
                if (k > 1) printf " %.1f ± %.1f |", mean, sqrt(variance > 0 ? variance : 0)
                else printf " %.1f |", mean
            }
            printf "\n"
        }
    }' "$1/results.tsv"
}

# ---- one method with one seed ----

# measured METHOD SEED MEASURE
measured() {
    awk -F '\t' -v m="$1" -v s="$2" -v w="$3" '$1 == m && $2 == s && $3 == w { found = 1 } END { exit !found }' \
        "$out/results.tsv"
}

# put METHOD SEED MEASURE VALUE; a measure without a value is a mistake of this script
put() {
    case $4 in
    *[0-9]*) printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$out/results.tsv" ;;
    *)
        echo "presets.sh: $1, seed $2: no value of $3" >&2
        exit 1
        ;;
    esac
}

# train RUN WORDS...: `tessera WORDS --out RUN`, or its rest where it was interrupted
train() {
    run=$1
    shift
    [ ! -e "$run/done" ] || return 0
    mkdir -p "$run"
    for checkpoint in "$run"/checkpoint-*.tsr; do
        [ ! -e "$checkpoint" ] || set -- pretrain "$(sed -n 1p "$run/recipe")" --resume
    done
    if [ "$1" = pretrain ]; then echo "$2" >"$run/recipe"; else echo finetune >"$run/recipe"; fi
    "$program" "$@" --data "$data" --out "$run" --threads 1 --workers 1 --keep 1 --evaluate-every 100 $short \
        >"$run/output" 2>&1 || {
        echo "presets.sh: $run: $(tail -n 1 "$run/output")" >&2
        exit 1
    }
    : >"$run/done"
}

# pretrain METHOD SEED
pretrain() {
    run=$out/$1-$2
    case $1 in
    beit-kmeans) set -- "$2" beit --preset quickstart ;;
    beit-color) set -- "$2" beit --preset quickstart-color ;;
    beit-dvae)
        train "$out/dvae-$2" pretrain dvae --preset quickstart --seed "$2"
        set -- "$2" beit --preset quickstart-dvae --tokenizer-checkpoint "$out/dvae-$2"
        run=$out/beit-dvae-$1
        ;;
    beit-prototypes) set -- "$2" beit --preset quickstart-prototypes --tokenizer-checkpoint "$out/ibot-$2" ;;
    *) set -- "$2" "$1" --preset quickstart ;;
    esac
    seed=$1
    shift
    train "$run" pretrain "$@" --seed "$seed"
}

# The number in the first column of this line of a report.
value() {
    sed -n "s/^$1  *\([0-9.]*\) .*/\1/p"
}

# frozen METHOD SEED RUN: k-NN and linear of features that stay as they are
frozen() {
    for measure in knn knn-mean linear; do
        ! measured "$1" "$2" $measure || continue
        case $measure in
        knn) set -- "$1" "$2" "$3" knn "$3" --train-images $many --test-images $few --k 10 ;;
        knn-mean) set -- "$1" "$2" "$3" knn "$3" --train-images $many --test-images $few --k 10 --avgpool 1 ;;
        linear) set -- "$1" "$2" "$3" linear "$3" --train-images $few_more --test-images $few --epochs 30 ;;
        esac
        method=$1 seed=$2 run=$3
        shift 3
        if [ "$method" = untrained ]; then
            report=$("$program" "$@" --data "$data" --threads 1 --seed "$seed" 2>&1) || true
            put untrained "$seed" $measure "$(echo "$report" | value 'untrained network')"
            measured raw-pixels 0 $measure ||
                put raw-pixels 0 $measure "$(echo "$report" | value 'raw pixels')"
        else
            report=$("$program" "$@" --data "$data" --threads 1 --seed "$seed" --no-baselines 2>&1) || true
            put "$method" "$seed" $measure "$(echo "$report" | value 'this checkpoint')"
        fi
        set -- "$method" "$seed" "$run"
    done
}

# tuned METHOD SEED RUN: accuracy after training with labels, from RUN; from scratch where there is no RUN
tuned() {
    for share in all 10% 1%; do
        ! measured "$1" "$2" $share-labels || continue
        to=$out/$1-$2-$share
        case $share in
        all) options='--preset quickstart' ;;
        10%) options='--preset quickstart-10 --label-fraction 0.1' ;;
        1%) options='--preset quickstart-1 --label-fraction 0.01' ;;
        esac
        if [ -n "$3" ]; then
            train "$to" finetune "$3" $options --seed "$2"
        else
            train "$to" pretrain finetune $options --seed "$2"
        fi
        put "$1" "$2" $share-labels "$(sed -n 's/.*"val_accuracy": *\([0-9.e-]*\).*/\1/p' "$to/log.jsonl" |
            tail -n 1 | awk '{ print 100 * $1 }')"
    done
}

one() {
    if [ "$1" = untrained ]; then
        tuned untrained "$2" ''
        frozen untrained "$2" "$out/untrained-$2-all"
    else
        pretrain "$1" "$2"
        frozen "$1" "$2" "$out/$1-$2"
        tuned "$1" "$2" "$out/$1-$2"
    fi
    echo "$1, seed $2: done"
}

# ---- all of it ----

if [ $# -ne 2 ] && { [ $# -ne 5 ] || [ "$1" != one ]; }; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
if [ "$1" = table ]; then
    table "$2"
    exit
fi
many=20000 few=5000 few_more=10000 short=
[ -z "${SMALL:-}" ] || { many=500 few=200 few_more=500 short='--label-fraction 0.002'; }
if [ "$1" = one ]; then
    program=$2 out=$3
    one "$4" "$5"
    exit
fi
program=$1 out=$2
mkdir -p "$out"
touch "$out/results.tsv"
# The tokens of beit-prototypes are those of ibot, which comes before it.
for seed in $seeds; do
    for last in false true; do
        for method in $methods; do
            case $last-$method in
            false-beit-prototypes) continue ;;
            true-beit-prototypes) ;;
            true-*) continue ;;
            esac
            echo "$method $seed"
        done | xargs -P "${JOBS:-2}" -L 1 sh "$0" one "$program" "$out"
    done
done
table "$out"
