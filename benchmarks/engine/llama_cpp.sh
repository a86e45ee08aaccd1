#!/usr/bin/env bash
# KL of llama.cpp's own recipes from the model they were made of, by our engine with activations
# rounded as llama.cpp rounds them, and by llama.cpp, on the same tokens.
#
#   benchmarks/engine/llama_cpp.sh RUN > benchmarks/engine/llama_cpp.txt
#
# RUN is the run folder of `rco bench quantize` on SmolLM2 (`make bench-quantize`): its folder
# `presets` has the files that llama.cpp has quantised. THREADS=1 where other work runs beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
presets=$1/presets
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
model=$(scripts/fetch_smollm2.sh)
printf '%-7s %-10s %-20s %-20s %s\n' recipe text llama.cpp engine-rounded ratio
for recipe in Q2_K IQ3_M Q4_0; do
    for text in novels scripture; do
        for runtime in llama.cpp engine-rounded; do
            "$rco" eval "$presets/$recipe.gguf" --against "$model" --runtime "$runtime" --json \
                --text "assets/text/$text.txt" --windows 8 --window 256 --threads "${THREADS:-0}"
        done | python3 -c "
import json, re, sys
found = [json.loads(part) for part in re.split(r'(?<=^\})\s*', sys.stdin.read(), flags=re.M) if part.strip()]
a, b = (f['texts'][0]['kl_mean'] for f in found)
show = lambda kl: f\"{kl['value']:.5f} ± {kl['error']:.5f}\"
print(f\"{'$recipe':7} {'$text':10} {show(a):20} {show(b):20} {b['value'] / a['value']:.4f}\")"
    done
done
