#!/bin/sh
# Networks of timm, transformers and torchvision with random weights, imported, give the outputs that they gave there.
# Needs the network: makes a Python environment (2 GB) in the build directory.
#     sh tests/interop/run.sh [BUILD]        a build directory of meson; build-tests if none is given
# TSR_PYTHON names a Python that has torch, torchvision, timm and transformers already.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build-tests}
ninja -C "$build" tessera tests/interop/forward >/dev/null
if [ -z "${TSR_PYTHON:-}" ]; then
    python3 -m venv "$build/interop"
    "$build/interop/bin/pip" install -q torch==2.13.0 torchvision timm transformers
    TSR_PYTHON=$build/interop/bin/python
fi
"$TSR_PYTHON" tests/interop/compare.py "$build/tessera" "$build/tests/interop/forward"
