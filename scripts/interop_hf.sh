#!/usr/bin/env bash
# Loads pruned Hugging Face folders in transformers, compares logits with ours, and lets them
# write a sentence.
#
#   scripts/interop_hf.sh [MODEL] [AMOUNT]
#
# Needs Python with torch and transformers: see interop_python.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-assets/tiny-moe}
amount=${2:-25%}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
python=$(scripts/interop_python.sh)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(--experts "$amount" --text assets/text/novels-calibration.txt --effort trial --quiet)
"$rco" prune "$model" "${common[@]}" --per-layer -o "$work/uniform"
"$rco" prune "$model" "${common[@]}" -o "$work/uneven"
"$rco" prune "$model" --layers 1 "${common[@]:2}" -o "$work/layers"
"$rco" prune "$model" --sparsity 40% "${common[@]:2}" -o "$work/zeros"
for kind in uniform uneven layers zeros; do
    "$rco" eval "$work/$kind" --against "$model" --text assets/text/novels.txt \
        --windows 4 --window 64 --json > "$work/$kind.json"
done
"$python" scripts/interop_hf.py "$model" "$work"
