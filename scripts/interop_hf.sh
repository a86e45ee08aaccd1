#!/usr/bin/env bash
# Loads pruned Hugging Face folders in transformers, compares logits with ours, and lets them
# write a sentence.
#
#   scripts/interop_hf.sh [MODEL] [AMOUNT]
#
# Needs Python with torch, transformers and safetensors: RCO_INTEROP_PYTHON names one; else a
# virtual environment in the cache is used and made if need be (a large download).
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-assets/tiny-moe}
amount=${2:-25%}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
python=${RCO_INTEROP_PYTHON:-$cache/venv-interop/bin/python}

if ! "$python" -c 'import torch, transformers, safetensors' 2>/dev/null; then
    python3 -m venv "$cache/venv-interop"
    "$cache/venv-interop/bin/pip" install --quiet torch transformers safetensors
    python=$cache/venv-interop/bin/python
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(--experts "$amount" --text assets/text/novels-calibration.txt --effort trial --quiet)
"$rco" prune "$model" "${common[@]}" --per-layer -o "$work/uniform"
"$rco" prune "$model" "${common[@]}" -o "$work/uneven"
for kind in uniform uneven; do
    "$rco" eval "$work/$kind" --against "$model" --text assets/text/novels.txt \
        --windows 4 --window 64 --json > "$work/$kind.json"
done
"$python" scripts/interop_hf.py "$model" "$work"
