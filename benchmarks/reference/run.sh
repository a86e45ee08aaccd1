#!/usr/bin/env bash
# The search of the reference implementation (https://github.com/IST-DASLab/RCO, a copy of which
# lies in REFERENCE) against ours: SmolLM2-135M, the same options, tokens and budgets, one thread
# each, one after the other. Rows come to OUT, results.csv.
#
#   benchmarks/reference/run.sh REFERENCE WORK MODEL [OUT]
set -euo pipefail
reference=${1:?REFERENCE is missing: a copy of https://github.com/IST-DASLab/RCO}
work=${2:?WORK is missing: a folder for runs}
model=${3:?MODEL is missing: the folder that scripts/smollm2_hf.sh makes}
cd "$(dirname "$0")/../.."
out=${4:-benchmarks/reference}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
rco=${RCO:-${CARGO_TARGET_DIR:-$cache/target}/release/rco}
python=$(scripts/interop_python.sh)
export RAYON_NUM_THREADS=1
pack() {
    "$rco" bench pack "$model" --effort quick --text assets/text/novels-calibration.txt \
        --heldout assets/text/novels.txt --heldout assets/text/scripture.txt --windows 12 \
        --linear-bpw "${BPW:-2.5,3.0,3.5,4.0}" --widths 2,3,4,5,6,8 --group-size 64 \
        --zero-points never --evolution 0 --plain-steps 0 --run "$work/pack" "$@"
}
mkdir -p "$work"
pack --export "$work/exported"
"$python" benchmarks/reference/search.py "$reference" "$work/exported" "$model" \
    "$work/plans.json" --snapshots 12 25 50 100 --bf16 --threads 1 | tee "$out/reference.txt"
pack --plans "$work/plans.json" --out "$out" | tee "$out/table.txt"
