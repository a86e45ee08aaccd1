#!/usr/bin/env python3
"""What squares of parts of a window are worth: gradients of the log-likelihood of drawn labels along
the rounding errors of every matrix, squared over whole windows and over parts of them.

EXPORTED is what `rco bench pack --export` has written. Prints, by kind of matrix, the mean square over
whole windows as a share of the sum of squares over parts, and the deviation of one window's
sensitivity (mean over the forms of a matrix) from the mean of all windows, for several parts.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

PARTS = 8


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("exported", type=Path, help="what `rco bench pack --export` wrote")
    parser.add_argument("model", help="the Hugging Face folder that was exported")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def products(args, matrices):
    """`⟨∂L/∂W over a part, error of a form⟩`: [windows, parts, matrices, forms]."""
    forms = sorted({f for m in matrices for f in m["forms"]} - {"source"})
    files = [safe_open(args.exported / f"{f}.safetensors", "pt") for f in forms]
    tokens = safe_open(args.exported / "tokens.safetensors", "pt").get_tensor("tokens").long()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    model.requires_grad_(False)
    found = {}

    def watch(name, layer):
        weight = layer.weight
        errors = torch.stack([(f.get_tensor(name) - weight).reshape(-1) for f in files])

        def forward(_, inputs, output):
            x = inputs[0][0].view(PARTS, -1, weight.shape[1])

            def backward(g):
                g = g[0].view(PARTS, -1, weight.shape[0])
                found[name] = torch.einsum("cto,cti->coi", g, x).flatten(1) @ errors.T

            output.register_hook(backward)

        layer.register_forward_hook(forward)

    layers = dict(model.named_modules())
    for m in matrices:
        watch(m["module"], layers[m["module"]])
    out = []
    for window in tokens[: args.windows]:
        embedded = model.get_input_embeddings()(window[None]).requires_grad_(True)
        likely = torch.log_softmax(model(inputs_embeds=embedded).logits[0], -1)
        drawn = torch.multinomial(likely.detach().exp(), 1)
        likely.gather(1, drawn).sum().backward()
        out.append(torch.stack([found[m["module"]] for m in matrices], 1).numpy())
        print(f"{len(out)} of {args.windows}", end="\r", flush=True, file=sys.stderr)
    return np.array(out)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    matrices = json.loads((args.exported / "index.json").read_text())["matrices"]
    z = products(args, matrices)
    kinds = np.array([m["module"].split(".")[-1] for m in matrices])
    squares = {}
    for parts in (1, 2, PARTS):
        joined = z.reshape(len(z), parts, -1, *z.shape[2:]).sum(2)
        squares[parts] = (joined**2).sum(1)
    scale = squares[PARTS].mean(0)
    print("kind            whole / parts")
    for kind in sorted(set(kinds)):
        ratio = (squares[1].mean(0) / scale)[kinds == kind].mean()
        print(f"{kind:14s}  {ratio:.3f}")
    print("parts  deviation of one window")
    for parts, square in squares.items():
        one = (square / scale).mean(-1)
        print(f"{parts:5d}  {(one.std(0) / one.mean(0)).mean():.3f}")


if __name__ == "__main__":
    main()
