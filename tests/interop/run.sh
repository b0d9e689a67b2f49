#!/bin/sh
# Networks of timm, transformers and torchvision with random weights, imported, give the tokens that they gave there, after
# every block; exported, they give them in onnxruntime and in those libraries; the Python package reads checkpoints.
#     sh tests/interop/run.sh [BUILD]        a build directory of meson; build-tests if none is given
# Makes a Python environment with these packages in the build directory, once (2 GB). TSR_PYTHON names a Python that has them
# already. The last line says `N passed, N failed`, or `skipped: ...` with exit status 77 where pip cannot get them within
# TSR_INTEROP_SECONDS (300).
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build-tests}
output=$build/interop.log
export OMP_WAIT_POLICY=passive # other programs may run beside this: threads that wait must not spin

if ! ninja -C "$build" tessera tests/interop/forward tests/serialization/write_checkpoint >/dev/null; then
    echo 'tests/interop/run.sh: the build failed' >&2
    echo '0 passed, 1 failed'
    exit 1
fi
reader=serialization/python
if [ -z "${TSR_PYTHON:-}" ]; then
    TSR_PYTHON=$build/interop/bin/python reader=
    if ! [ -e "$build/interop/complete" ]; then
        rm -rf "$build/interop"
        # Of PyTorch the build for CPUs where pip has it.
        if ! { python3 -m venv "$build/interop" &&
            timeout "${TSR_INTEROP_SECONDS:-300}" "$TSR_PYTHON" -m pip install -q --no-compile --retries 1 --timeout 20 \
                torch==2.13.0 torchvision timm transformers onnx onnxruntime pillow "./serialization/python"; } \
            >"$output" 2>&1; then
            echo 'skipped: tests/interop: no Python environment with torch 2.13, timm, transformers and onnxruntime could be made'
            exit 77
        fi
        touch "$build/interop/complete"
    fi
fi

# One script; it prints a line for each check that begins with ok or FAILED.
check() {
    if ! "$TSR_PYTHON" "$@" >"$output.part" 2>&1 && ! grep -q '^FAILED: ' "$output.part"; then
        echo "FAILED: $1 stopped" >>"$output.part"
    fi
    cat "$output.part" >>"$output"
    rm -f "$output.part"
}

: >"$output"
check tests/interop/compare.py "$build/tessera" "$build/tests/interop/forward"
check tests/interop/export.py "$build/tessera"
check tests/serialization/test_python_reader.py "$reader" "$build/tests/serialization/write_checkpoint" \
    serialization/checkpoint.proto
grep -E '^(ok|FAILED): ' "$output"
passed=$(grep -c '^ok: ' "$output")
failed=$(grep -c '^FAILED: ' "$output")
[ "$failed" -eq 0 ] || grep -vE '^(ok|FAILED): ' "$output" | tail -n 30 >&2
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
