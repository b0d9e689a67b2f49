#!/bin/sh
# The README's program is docs/examples/train.c, line by line.
#     sh tests/examples/check_readme.sh README.md docs/examples/train.c
sed -n '/^```c$/,/^```$/p' "$1" | sed '1d;$d' | diff - "$2"
