#!/usr/bin/env python3
"""How much better a plan could become by exchanging widths, and how much of that calibration text
can tell.

At a plan of `search.py` every matrix is given its next smaller and its next larger width, alone, and
the KL of windows is measured: of the calibration text, and of texts that no plan was chosen by. Then
the best exchange is made up of these moves (those that gain most for a byte against those that lose
least, at one price of a byte, within the bytes of the plan) by one half of the calibration windows,
and looked at on the other half and on the other texts. What is chosen by chance is gone there.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

PRICES = 400


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("exported", type=Path, help="what `rco bench pack --export` wrote")
    parser.add_argument("model", help="the Hugging Face folder that was exported")
    parser.add_argument("plans", type=Path, help="what `search.py` wrote")
    parser.add_argument("out", type=Path, help="where the measured moves go, CSV")
    parser.add_argument("--contender", required=True, help="the plan to look at")
    parser.add_argument("--budget", type=int, required=True)
    parser.add_argument("--text", type=Path, action="append", default=[], help="other texts")
    parser.add_argument("--calibration", type=int, default=8, help="calibration windows")
    parser.add_argument("--windows", type=int, default=4, help="windows of each other text")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Loss:
    """KL to the original, window by window, of a model whose layers below a move are not repeated."""

    def __init__(self, model, tokens):
        self.model, self.base = model, model.model
        self.positions = torch.arange(tokens.shape[1])[None]
        self.start = self.base.embed_tokens(tokens)
        self.rotary = self.base.rotary_emb(self.start, self.positions)
        self.taught = self.log_probs(self.layers(self.start, 0))

    def layers(self, states, first, kept=None):
        for layer in self.base.layers[first:]:
            if kept is not None:
                kept.append(states)
            states = layer(states, attention_mask=None, position_ids=self.positions,
                           position_embeddings=self.rotary)
            states = states[0] if isinstance(states, tuple) else states
        return states

    def log_probs(self, states):
        # A window at a time: the vocabulary is large.
        return [self.model.lm_head(self.base.norm(one[None]))[0].log_softmax(-1) for one in states]

    def kl(self, states):
        pairs = zip(self.taught, self.log_probs(states))
        return np.array([(t.exp() * (t - s)).sum(-1).mean().item() for t, s in pairs])


def windows(tokenizer, path, count, length):
    """Windows of a text, evenly apart."""
    tokens = tokenizer(path.read_text()).input_ids
    apart = len(tokens) // length // count * length
    if apart == 0:
        raise SystemExit(f"{path}: too short for {count} windows of {length} tokens")
    return torch.tensor([tokens[n * apart : n * apart + length] for n in range(count)])


def measure(args, texts):
    """The KL at the plan and what every move changes: one number a window."""
    index = json.loads((args.exported / "index.json").read_text())
    matrices = {m["module"]: m["forms"] for m in index["matrices"]}
    sizes = next(iter(matrices.values()))
    forms = sorted((f for f in sizes if f != "source"), key=sizes.get)
    files = {form: safe_open(args.exported / f"{form}.safetensors", "pt") for form in forms}
    found = json.loads(args.plans.read_text())
    wanted = (args.contender, args.budget)
    plan = next(p["forms"] for p in found if (p["contender"], p["budget"]) == wanted)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    loss = Loss(model, torch.cat(texts))
    modules = {name: model.get_submodule(name) for name in matrices}

    def put(name, form):
        modules[name].weight.data = files[form].get_tensor(name)

    for name, form in plan.items():
        put(name, form)
    kept = []
    at_plan = loss.kl(loss.layers(loss.start, 0, kept))
    moves = []
    for name, bytes_of in matrices.items():
        layer, now = int(name.split(".")[2]), forms.index(plan[name])
        for then in (now - 1, now + 1):
            if 0 <= then < len(forms):
                put(name, forms[then])
                change = loss.kl(loss.layers(kept[layer], layer)) - at_plan
                price = bytes_of[forms[then]] - bytes_of[forms[now]]
                moves.append((name, forms[now], forms[then], price, change))
        put(name, plan[name])
        print(f"{name}: {len(moves)} moves", flush=True)
    return at_plan, moves


def exchange(names, prices, changes):
    """The moves of the best exchange by these changes: the lowest price of a byte at which what is
    given up pays for what is taken."""
    per_byte = changes / np.abs(prices)
    for price in np.quantile(-per_byte[prices > 0], np.linspace(0, 1, PRICES)):
        up = np.flatnonzero((prices > 0) & (-per_byte > price))
        raised = {names[n] for n in up}
        down = [n for n in np.flatnonzero((prices < 0) & (per_byte < price))
                if names[n] not in raised]
        chosen = np.concatenate([up, np.array(down, dtype=int)])
        if prices[chosen].sum() <= 0:
            return chosen
    return np.array([], dtype=int)


def trusted(prices, half, other):
    """The changes of one half, drawn to the mean of their kind by as much as the halves differ."""
    out = np.zeros_like(half)
    for kind in (prices > 0, prices < 0):
        weights = np.abs(prices[kind]).astype(float)
        one, two = half[kind] / weights, other[kind] / weights
        off = [x - np.average(x, weights=weights) for x in (one, two)]
        common = np.average(off[0] * off[1], weights=weights)
        share = max(common, 0.0) / np.average(off[0] ** 2, weights=weights)
        out[kind] = (one - (1.0 - share) * off[0]) * weights
    return out


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    tokens = safe_open(args.exported / "tokens.safetensors", "pt").get_tensor("tokens").long()
    every = len(tokens) // args.calibration
    texts = [tokens[::every][: args.calibration]]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts += [windows(tokenizer, t, args.windows, tokens.shape[1]) for t in args.text]
    at_plan, moves = measure(args, texts)
    count = len(texts[0])
    spans = {"half": slice(0, count, 2), "other half": slice(1, count, 2)}
    for path in args.text:
        spans[path.stem] = slice(count, count + args.windows)
        count += args.windows
    with open(args.out, "w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["budget", "contender", "matrix", "before", "after", "bytes"]
                      + [f"window {n}" for n in range(count)])
        of = [args.budget, args.contender]
        rows.writerow(of + ["the plan", "", "", 0] + [f"{x:.6f}" for x in at_plan])
        for *move, change in moves:
            rows.writerow(of + move + [f"{x:.6f}" for x in change])
    names = [move[0] for move in moves]
    prices = np.array([move[3] for move in moves])
    means = {name: np.array([m[4][span].mean() for m in moves]) for name, span in spans.items()}
    print("at the plan: " + ", ".join(f"{n} {at_plan[s].mean():.4f}" for n, s in spans.items()))
    for chooser, judge in (("half", "other half"), ("other half", "half")):
        for name, by in (("as measured", means[chooser]),
                         ("drawn to the mean", trusted(prices, means[chooser], means[judge]))):
            chosen = exchange(names, prices, by)
            said = ", ".join(f"{n} {means[n][chosen].sum():+.4f}" for n in spans)
            print(f"chosen by the {chooser}, {name}: {len(chosen)} moves, "
                  f"foreseen {by[chosen].sum():+.4f}; {said}")


if __name__ == "__main__":
    main()
