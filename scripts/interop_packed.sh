#!/usr/bin/env bash
# Packs a Hugging Face folder, loads what was written in transformers with compressed-tensors on
# the CPU, compares logits with ours, and lets it write a sentence.
#
#   scripts/interop_packed.sh [MODEL] [LIMIT...]
#
# without arguments for the bundled mixture of experts and for SmolLM2. Needs Python with torch,
# transformers and compressed-tensors: see interop_python.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
python=$(scripts/interop_python.sh)
text=assets/text/novels.txt

check() {
    local model=$1 work kind
    shift
    work=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    local common=("$@" --text assets/text/novels-calibration.txt --effort trial --quiet
        --run "$work/run")
    "$rco" quantize "$model" "${common[@]}" -o "$work/packed"
    "$rco" quantize "$model" "${common[@]}" --format fake-quant -o "$work/fake"
    for kind in packed fake; do
        "$rco" check logits "$work/$kind" --text "$text" -o "$work/$kind.safetensors"
    done
    "$python" scripts/interop_packed.py "$work"
    rm -rf "$work"
}

if (($#)); then
    check "$@"
else
    check assets/tiny-moe --linear-bpw 4
    check "$(scripts/smollm2_hf.sh)" --linear-bpw 4 --act-order
fi
