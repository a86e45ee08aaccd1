#!/usr/bin/env bash
# Prints a Python with what the interoperability scripts need: RCO_INTEROP_PYTHON names one;
# else a virtual environment in the cache is used, and made if need be (a large download), with the
# versions of interop_requirements.txt.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
python=${RCO_INTEROP_PYTHON:-$cache/venv-interop/bin/python}
if ! "$python" -c 'import accelerate, compressed_tensors, gguf, safetensors, torch, transformers' 2>/dev/null
then
    python3 -m venv "$cache/venv-interop" >&2
    python=$cache/venv-interop/bin/python
    "$python" -m pip install --quiet -r "$(dirname "$0")/interop_requirements.txt" >&2
fi
echo "$python"
