#!/bin/sh
# Networks of timm, transformers and torchvision with random weights, imported, give the tokens that they gave there, after
# every block. Needs Python packages (2 GB, once): makes an environment for them in the build directory.
#     sh tests/interop/run.sh [BUILD]        a build directory of meson; build-tests if none is given
# TSR_PYTHON names a Python that has torch, torchvision, timm and transformers already. Exit status 77: the packages cannot be
# had within TSR_INTEROP_SECONDS (300).
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build-tests}
ninja -C "$build" tessera tests/interop/forward >/dev/null
if [ -z "${TSR_PYTHON:-}" ]; then
    TSR_PYTHON=$build/interop/bin/python
    if ! [ -e "$build/interop/complete" ]; then
        rm -rf "$build/interop"
        python3 -m venv "$build/interop"
        # PyTorch 2.13 for CPUs where a local index has it; else the one of PyPI.
        timeout "${TSR_INTEROP_SECONDS:-300}" "$build/interop/bin/pip" install -q --retries 1 --timeout 20 \
            torch==2.13.0 torchvision timm transformers || exit 77
        touch "$build/interop/complete"
    fi
fi
exec "$TSR_PYTHON" tests/interop/compare.py "$build/tessera" "$build/tests/interop/forward"
