#!/bin/sh
# Installs the build, compiles a program with what pkg-config says and nothing else, and runs a script on it.
#     sh tests/examples/install.sh BUILD SOURCE.c SCRIPT
set -eu
build=$1 source=$2 script=$3
command -v pkg-config > /dev/null || exit 77
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root meson install -C "$build" --no-rebuild --quiet
pc=$(find "$root" -name tessera.pc)
[ -n "$pc" ] || { echo "no tessera.pc was installed" >&2; exit 1; }
PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
cd "$root" # nothing of the source tree is found by chance
${CC:-cc} -std=c11 -Wall -Wextra -Werror "$source" -o recipe $(pkg-config --cflags --libs tessera)
LD_LIBRARY_PATH=$(dirname "$(find "$root" -name 'libtessera.so' | head -n 1)")
export LD_LIBRARY_PATH
sh "$script" "$root/recipe"
