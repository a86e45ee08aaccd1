#!/usr/bin/env python3
"""Checks packed folders against transformers with compressed-tensors: see interop_packed.sh.

`rco check logits` has written tokens and logits of each folder; the same tokens go through
transformers here, with the weights that compressed-tensors unpacks, computing in 32 bits.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ALLOWED = 1e-5


def load(folder):
    """Weights are unpacked in the type that the folder names, as in use; then all is widened."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        # compressed-tensors unpacks linear layers at the first use.
        model(torch.tensor([[0, 1]]))
    # Its own `float` refuses models that were stored quantised, unpacked or not.
    return torch.nn.Module.float(model)


def main():
    work = Path(sys.argv[1])
    failed = False
    for kind in ("packed", "fake"):
        folder = work / kind
        ours = load_file(work / f"{kind}.safetensors")
        model = load(folder)
        config = json.loads((folder / "config.json").read_text())
        packed = config.get("quantization_config")
        sums, same = [], []
        for tokens, logits in zip(ours["tokens"].long(), ours["logits"].double()):
            with torch.no_grad():
                theirs = model(tokens[None]).logits[0].double()
            p, q = logits.log_softmax(-1), theirs.log_softmax(-1)
            sums.append((p.exp() * (p - q)).sum(-1))
            same.append(p.argmax(-1) == q.argmax(-1))
        kl = torch.cat(sums).mean().item()
        failed |= not kl < ALLOWED
        agree = 100 * torch.cat(same).float().mean().item()
        groups = sorted(
            f"{g['weights']['num_bits']}{'' if g['weights']['symmetric'] else 'z'}"
            for g in packed["config_groups"].values()
        ) if packed else ["16 bits"]
        print(f"{kind}: widths {' '.join(groups)}; KL of transformers' logits from ours {kl:.2e},"
              f" same top token {agree:.1f} %")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = ours["tokens"][:1, :12].long()
        text = model.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=0)[0]
        print("  it writes:", " ".join(tokenizer.decode(text).split()))
    sys.exit("they differ" if failed else 0)


main()
