#!/usr/bin/env bash
# Packs a Hugging Face folder for vLLM, loads it there on the CPU, compares what it finds likely
# with our engine on the same tokens, and lets it write a sentence.
#
#   scripts/interop_vllm.sh [MODEL]
#
# without arguments for SmolLM2. Needs Python with vLLM for the CPU: see vllm_python.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
python=$(scripts/vllm_python.sh)
model=${1:-$(scripts/smollm2_hf.sh)}
# vLLM computes in 16 bits here, which by itself costs about so much.
allowed=3e-3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# On the CPU vLLM has kernels for 4 bits, so the other matrices stay in 16.
"$rco" quantize "$model" --linear-bpw 7 --widths 4 --runtime vllm --text assets/text/novels-calibration.txt \
    --effort trial --quiet --run "$work/run" -o "$work/packed"
"$rco" check logits "$work/packed" --text assets/text/novels.txt -o "$work/logits.safetensors"
VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_LOGGING_LEVEL=${VLLM_LOGGING_LEVEL:-ERROR} \
    "$python" scripts/interop_vllm.py "$work/packed" "$work/logits.safetensors" "$allowed"
