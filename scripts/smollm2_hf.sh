#!/usr/bin/env bash
# Makes a Hugging Face folder of SmolLM2-135M-Instruct in bfloat16 from the GGUF file that
# scripts/fetch_smollm2.sh fetches, by the GGUF loader of transformers, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rco
folder=$cache/models/SmolLM2-135M-Instruct
if [[ ! -f $folder/config.json ]]; then
    gguf=$(scripts/fetch_smollm2.sh)
    python=$(scripts/interop_python.sh)
    rm -rf "$folder.tmp"
    "$python" - "$gguf" "$folder.tmp" >&2 <<'PYTHON'
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

gguf, out = Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
# The loader has decoded the file; what is left of it would be taken for a quantised model.
model.hf_quantizer = None
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.to(torch.bfloat16).save_pretrained(out)
AutoTokenizer.from_pretrained(**where).save_pretrained(out)
PYTHON
    mv "$folder.tmp" "$folder"
fi
echo "$folder"
