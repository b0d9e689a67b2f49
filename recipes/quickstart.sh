#!/bin/sh
# On Debian 12, as root or with sudo: installs what is missing, builds, learns from the images of Fashion-MNIST without
# their labels, and says what the features are worth. About three minutes on two cores; nothing but Debian packages is
# installed outside of this directory.
#     sh recipes/quickstart.sh
# TSR_BUILD names the build directory, build if unset. A run that was interrupted goes on where it was.
set -eu
cd "$(dirname "$0")/.."
build=${TSR_BUILD:-build}
case $build in
/*) ;;
*) build=$PWD/$build ;;
esac
data=/usr/share/datasets/fashion-mnist
run=$build/quickstart
tessera=$build/install/bin/tessera

say() {
    printf '\n==== %s\n' "$1"
}

say 'Debian packages'
sh recipes/install.sh recipes/packages </dev/null

say 'build'
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" --prefix "$build/install" -Dtests=disabled
else
    meson configure "$build" -Dprefix="$build/install"
fi
meson install -C "$build" --quiet

say "pre-training, without labels; everything is kept in $run"
resume=
for checkpoint in "$run"/checkpoint-*.tsr; do
    [ ! -e "$checkpoint" ] || resume=--resume
done
"$tessera" pretrain ibot --preset quickstart --data "$data" --out "$run" $resume

say 'what the features are worth: nearest neighbours'
"$tessera" knn "$run" --data "$data" --train-images 20000 --test-images 5000

say 'what the features are worth: a linear classifier'
"$tessera" linear "$run" --data "$data" --train-images 10000 --test-images 5000 --epochs 30

say 'done'
cat <<EOF
The program is $tessera. Look further:
  $tessera attention $run --data $data --index 1 --out attention.jpg
  $tessera data ibot --preset quickstart --data $data --out views.jpg
  $tessera inspect $run
EOF
