#!/bin/sh
# On Debian 12, as root or with sudo: installs what is missing, builds, and runs the tests. The last line says
# `N passed, N failed`; the exit status is 0 only if something passed and nothing failed.
#     sh tests/run.sh
# TSR_BUILD names the build directory, build-tests if unset. Tests that take long: meson test -C build-tests --suite slow.
cd "$(dirname "$0")/.." || exit 1
build=${TSR_BUILD:-build-tests}
log=$build/meson-logs/testlog.json

fail() {
    echo "tests/run.sh: $1" >&2
    echo "0 passed, 1 failed"
    exit 1
}

sh recipes/install.sh recipes/packages tests/packages </dev/null || fail 'the packages could not be installed'
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" -Dwerror=true -Dtests=enabled || fail 'the build could not be set up'
fi
ninja -C "$build" || fail 'the build failed'
rm -f "$log"
export OMP_WAIT_POLICY=passive # tests run side by side: threads that wait must not spin
meson test -C "$build" --no-rebuild --no-suite slow --print-errorlogs --timeout-multiplier 4 </dev/null
[ -f "$log" ] || fail 'no test ran'
python3 tests/count.py "$log"
