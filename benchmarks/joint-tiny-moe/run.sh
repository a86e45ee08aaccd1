#!/usr/bin/env bash
# One byte budget for types and experts, against types alone and against pruning first.
#
#   benchmarks/joint-tiny-moe/run.sh WORK > benchmarks/joint-tiny-moe/results.txt
#
# All plans are of the bundled model, calibrated on two texts, and are compared with the whole
# original on windows of other parts of these and of a text unlike them, in our engine. Files
# and run folders stay in WORK; a run that was interrupted goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
rco=${RCO:-${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rco/target}/release/rco}
model=assets/tiny-moe/tiny-moe.bf16.gguf
sizes=${SIZES:-1800000,2200000,2600000}
common=(--text assets/text/novels-calibration.txt --text assets/text/scripture-calibration.txt
    --effort quick --quiet)
mkdir -p "$work"

quantize() { # name, model, more
    local name=$1 of=$2
    shift 2
    [ -e "$work/$name.done" ] && return
    "$rco" quantize "$of" --size "$sizes" "${common[@]}" "$@" --no-verify --force \
        --run "$work/$name.rco" -o "$work/$name-{size}.gguf"
    touch "$work/$name.done"
}

quantize types "$model"
quantize joint "$model" --drop-experts
for share in 12.5 25; do
    pruned=$work/pruned-$share.gguf
    [ -e "$pruned" ] || "$rco" prune "$model" --experts "$share%" --per-layer "${common[@]}" \
        --no-verify -o "$pruned"
    quantize "pruned-$share-first" "$pruned"
done

printf '%-10s %-18s %10s  %-9s %s\n' budget plan bytes weights 'mean KL ± standard error by text'
for size in ${sizes//,/ }; do
    for name in types pruned-12.5-first pruned-25-first joint; do
        file=$work/$name-$size.gguf
        weights=$("$rco" inspect "$file" --json |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["parameters"])')
        "$rco" eval "$file" --against "$model" --windows 24 --window 256 --json \
            --text assets/text/novels.txt --text assets/text/scripture.txt \
            --text assets/text/plays.txt |
            python3 -c '
import json, sys
from pathlib import Path
texts = json.load(sys.stdin)["texts"]
print("%-10s %-18s %10s  %-9s" % tuple(sys.argv[1:]), "  ".join(
    "%s %.5f ± %.5f" % (Path(t["text"]).stem, t["kl_mean"]["value"], t["kl_mean"]["error"])
    for t in texts))' "$size" "$name" "$(stat -c %s "$file")" "$weights"
    done
done
