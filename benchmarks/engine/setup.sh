#!/usr/bin/env bash
# Makes the Python environment of `rco bench engine` in the cache folder and prints the path
# of its interpreter. The wheel of PyTorch for Linux is the CUDA build; the processor is all
# that the benchmark uses.
set -euo pipefail
venv="${XDG_CACHE_HOME:-$HOME/.cache}/rco/venv-engine"
if ! "$venv/bin/python" -c 'import torch, numpy' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet torch numpy >&2
fi
echo "$venv/bin/python"
