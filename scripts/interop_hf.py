#!/usr/bin/env python3
"""Checks pruned folders against transformers: see interop_hf.sh.

`rco eval` has measured the mean KL of each folder from the original on windows of a text; the
same windows are scored here with transformers. A folder with different numbers of experts per
layer is loaded layer by layer, as `per_layer_num_experts` says.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TEXT = Path("assets/text/novels.txt")
ALLOWED = 1e-4


def load_stock(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def load_uneven(folder):
    """The load rule: block `l` has as many experts and router rows as entry `l` says."""
    config = AutoConfig.from_pretrained(folder)
    counts = config.per_layer_num_experts
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    for layer, count in zip(model.model.layers, counts):
        own = copy.deepcopy(config)
        own.num_experts = own.num_local_experts = count
        if count:
            layer.mlp = type(layer.mlp)(own)
    state = load_file(Path(folder) / "model.safetensors")
    wanted = model.state_dict()
    for name, tensor in list(wanted.items()):
        if name in state:
            tensor.copy_(state[name])
        elif name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            for e in range(tensor.shape[0]):
                parts = [state[f"{stem}{e}.{p}_proj.weight"] for p in ("gate", "up")]
                tensor[e].copy_(torch.cat(parts).reshape(tensor[e].shape))
        elif name.endswith("experts.down_proj"):
            stem = name.removesuffix("down_proj")
            for e in range(tensor.shape[0]):
                tensor[e].copy_(state[f"{stem}{e}.down_proj.weight"])
        elif name == "lm_head.weight":
            tensor.copy_(state["model.embed_tokens.weight"])
        else:
            sys.exit(f"{folder} has no tensor {name}")
    model.load_state_dict(wanted)
    return model.eval()


@torch.no_grad()
def mean_kl(teacher, student, windows):
    sums = []
    for tokens in windows:
        ids = torch.tensor([tokens])
        p = torch.log_softmax(teacher(ids).logits[0].double(), -1)
        q = torch.log_softmax(student(ids).logits[0].double(), -1)
        sums.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(sums).mean().item()


def main():
    original, work = sys.argv[1], Path(sys.argv[2])
    tokenizer = AutoTokenizer.from_pretrained(original)
    ids = tokenizer(TEXT.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    windows = [ids[64 * i : 64 * (i + 1)] for i in range(4)]
    teacher = load_stock(original)
    failed = False
    for kind, load in (("uniform", load_stock), ("uneven", load_uneven), ("layers", load_stock), ("zeros", load_stock)):
        folder = work / kind
        student = load(folder)
        config = json.loads((folder / "config.json").read_text())
        counts = config.get("per_layer_num_experts") or config.get("num_local_experts")
        ours = json.loads((work / f"{kind}.json").read_text())["texts"][0]["kl_mean"]["value"]
        theirs = mean_kl(teacher, student, windows)
        failed |= not abs(ours - theirs) < ALLOWED
        prompt = torch.tensor([ids[:12]])
        text = tokenizer.decode(student.generate(prompt, max_new_tokens=24, do_sample=False)[0])
        layers = config["num_hidden_layers"]
        print(f"{kind}: {layers} layers, experts {counts}; mean KL {theirs:.6f}, ours {ours:.6f}")
        print("  it writes:", " ".join(text.split()))
    sys.exit("they differ" if failed else 0)


main()
