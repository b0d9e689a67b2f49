#!/bin/sh
# Writes the manual page from what the program says of itself: sh man.sh TESSERA > tessera.1
set -eu
tessera=$1

# Help text to roff: options become tagged paragraphs, all else stays line by line.
roff() {
    sed -e 's/\\/\\e/g' -e 's/-/\\-/g' | awk '
        function flush_lines() { if (open) print ".fi"; open = 0 }
        /^Usage: / { next }
        /^  \\-\\-/ {
            flush_lines()
            print ".TP"
            if (match($0, /^  [^ ]+( [^ ]+)? +/)) {
                flag = substr($0, 3, RLENGTH - 2)
                meaning = substr($0, RLENGTH + 1)
                sub(/ +$/, "", flag)
                print ".B " flag
                print "\\&" meaning
            }
            next
        }
        /^[^ ].*:$/ { flush_lines(); print ".SS " substr($0, 1, length($0) - 1); next }
        /^$/ { if (!open) next }
        { if (!open) print ".PP\n.nf"; open = 1; print "\\&" $0 }
        END { flush_lines() }'
}

names() {
    sed -n "/^$1:/,/^\$/s/^  \\([a-z][a-z0-9_-]*\\) .*/\\1/p"
}

version=$("$tessera" --version)
printf '.TH TESSERA 1 "" "%s" "User Commands"\n' "$version"
cat <<'EOF'
.SH NAME
tessera \- self\-supervised vision learning on CPUs
.SH SYNOPSIS
.B tessera
.I COMMAND
\&...
.SH DESCRIPTION
Pre\-trains vision transformers on images without labels, and measures what they learnt. Every command explains itself with
.BR \-\-help .
EOF
for command in $("$tessera" --help | names Commands); do
    case $command in
    pretrain)
        "$tessera" pretrain --help | names Recipes | while read -r recipe; do
            printf '.SH TESSERA PRETRAIN %s\n' "$recipe" | tr '[:lower:]' '[:upper:]'
            "$tessera" pretrain "$recipe" --help | roff
        done
        ;;
    plan | data)
        recipe=$("$tessera" "$command" --help | names Recipes | head -n 1)
        printf '.SH TESSERA %s RECIPE\n' "$command" | tr '[:lower:]' '[:upper:]'
        "$tessera" "$command" "$recipe" --help | sed '/^Training:/,$d' | roff
        if [ "$command" = data ]; then
            echo '.SH TESSERA DATA PACK'
            "$tessera" data pack --help | roff
        fi
        ;;
    *)
        printf '.SH TESSERA %s\n' "$command" | tr '[:lower:]' '[:upper:]'
        "$tessera" "$command" --help | roff
        ;;
    esac
done
cat <<'EOF'
.SH EXIT STATUS
0 when all went well, 1 when something failed, with one line on the standard error that says what to do, 2 when the usage
was wrong.
.SH ENVIRONMENT
.TP
.B OMP_NUM_THREADS
processor threads, where \-\-threads is not given
.TP
.B TSR_CPU
caps the instruction set of the kernels: portable, avx2, avx512, avx512bf16, amx
EOF
