#!/usr/bin/env python3
"""Runs the search of the reference implementation of RCO (arXiv 2605.00649) on the options, tokens
and budgets that `rco bench pack --export` has written, on the CPU, and writes its plans for
`rco bench pack --plans`.

The reference is not part of this project: REFERENCE is a copy of
https://github.com/IST-DASLab/RCO. Its search, its rounding and its loss run as they are; this file
only gives them weights and tokens, counts, and rounds at some steps on the way by the function that
the reference rounds its result with.
"""

import argparse
import json
import logging
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", type=Path, help="a copy of the reference implementation")
    parser.add_argument("exported", type=Path, help="what `rco bench pack --export` wrote")
    parser.add_argument("model", help="the Hugging Face folder that was exported")
    parser.add_argument("out", type=Path, help="where the plans go, JSON")
    parser.add_argument("--budget", type=int, action="append", help="only these of the budgets")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--samples", type=int, default=4, help="Gumbel samples of a step")
    parser.add_argument("--sequences", type=int, default=1, help="windows of a step")
    parser.add_argument("--snapshots", type=int, nargs="*", default=[25, 50, 100])
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16, not in 32 bits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--name", default="reference", help="how its rows are called")
    return parser.parse_args()


class Exported:
    """Weights by module and width, as the reference asks for them."""

    def __init__(self, folder, index):
        self.matrices = {m["module"]: m for m in index["matrices"]}
        forms = sorted({form for m in index["matrices"] for form in m["forms"]} - {"source"})
        # A form is called by its width, group and zero points: 4g64.
        self.forms = {int(form.split("g")[0]): form for form in forms}
        if len(self.forms) != len(forms):
            sys.exit(f"two forms of one width among {forms}: export with one group, no zero points")
        self.files = {w: safe_open(folder / f"{f}.safetensors", "pt") for w, f in self.forms.items()}

    def get_layer_weight(self, module, width):
        return self.files[width].get_tensor(module)

    def bits(self, width):
        """Bits of a weight in this width, scales included, over all matrices."""
        matrices = self.matrices.values()
        total = sum(m["forms"][self.forms[width]] for m in matrices)
        return 8 * total / sum(m["weights"] for m in matrices)

    def bytes(self, plan):
        return sum(self.matrices[m]["forms"][self.forms[w]] for m, w in plan.items())


def main():
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sys.path.insert(0, str(args.reference / "src"))
    from common import get_layer_param_counts
    from grouping import build_layer_groups
    from metrics import compute_reference_log_probs
    from search import quant

    quant.InterpolatedModel.CONTROL_DEVICE = torch.device("cpu")
    torch.set_num_threads(args.threads)
    index = json.loads((args.exported / "index.json").read_text())
    store = Exported(args.exported, index)
    names, widths = list(store.matrices), sorted(store.forms)
    tokens = safe_open(args.exported / "tokens.safetensors", "pt").get_tensor("tokens").long()
    counted = {width: store.bits(width) for width in widths}
    weights = sum(m["weights"] for m in index["matrices"])
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    found = []
    for budget in args.budget or index["budgets"]:
        torch.manual_seed(args.seed)
        np.random.seed(args.seed)
        begun = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
        taught = compute_reference_log_probs(model, tokens, args.sequences)
        counts = get_layer_param_counts(model, names)
        groups = build_layer_groups(names, [])
        target = 8 * budget / weights
        steps = 0

        def round_now(interp):
            return quant.round_with_budget_dp(
                interp.get_prob_dict(), counts, widths, target, groups, bitwidth_map=counted)

        def keep(plan, gradients, seconds):
            size = store.bytes(plan)
            found.append({
                "contender": f"{args.name}, {gradients} gradients",
                "budget": budget, "gradients": gradients, "seconds": round(seconds, 1),
                "forms": {module: store.forms[width] for module, width in plan.items()},
            })
            args.out.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{budget} bytes: {gradients} gradients, {seconds:.0f} s, "
                  f"{size - budget:+} bytes, peak {peak():.2f} GB", flush=True)

        class Watched(quant.InterpolatedModel):
            """Counts steps: the search restores the budget once in each."""

            def retract(self, bits):
                nonlocal steps
                out = super().retract(bits)
                if steps in args.snapshots:
                    aside = time.perf_counter()
                    keep(round_now(self), steps * args.samples, aside - started - sum(paused))
                    # Rounding on the way is not part of the search.
                    paused.append(time.perf_counter() - aside)
                steps += 1
                return out

        paused = []
        interp = Watched(model, store, widths, names, groups, counts, bitwidth_map=counted)
        interp.setup()
        started = time.perf_counter()
        # Its initialisation restores the budget, too: step 0.
        interp.init_alpha_from_sensitivity(target)
        quant.optimize_projected_gumbel(
            interp, tokens, target, n_steps=args.steps, lr=0.1, tau_init=1.0, tau_min=0.01,
            n_gumbel_samples=args.samples, batch_size=args.sequences, batches_per_step=1,
            log_interval=5, objective="kl", ref_log_probs=taught)
        plan = round_now(interp)
        seconds = time.perf_counter() - started - sum(paused)
        keep(plan, args.steps * args.samples, seconds)
        print(f"{budget} bytes: {time.perf_counter() - begun:.0f} s with what comes before the "
              "search", flush=True)
        del model, interp, taught


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
