#!/usr/bin/env python3
"""GPTQ as its paper and the code in use have it, in plain PyTorch, on weights and Hessians that
`cargo run --example gptq_layers` has written.

For each matrix and width: damping of 0.01 of the mean diagonal, Cholesky of the inverse, blocks
of 128 columns, groups of 64 with symmetric scales from the largest magnitude when a group
begins, scales rounded to bfloat16. Each width of each matrix is a call of its own, as there.
"""

import sys
import time

import torch
from safetensors.torch import load_file

WIDTHS, GROUP, BLOCK, DAMPING = (2, 3, 4, 5, 6, 8), 64, 128, 0.01


def upper_factor(hessian):
    h = hessian.clone()
    dead = h.diagonal() == 0
    h.diagonal()[dead] = 1
    h.diagonal().add_(DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    return torch.linalg.cholesky(inverse, upper=True)


@torch.no_grad()
def gptq(weight, hessian, bits, act_order):
    order = torch.argsort(hessian.diagonal(), descending=True) if act_order else None
    w, h = weight.clone(), hessian
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def scale_of(part):
        scale = part.abs().amax(1).clamp(min=1e-8) / ((high - low) / 2)
        return scale.bfloat16().float()

    if order is not None:
        scales = torch.stack([scale_of(p) for p in weight.split(GROUP, 1)], 1)
        w, h = w[:, order], h[order][:, order]
    u = upper_factor(h)
    out = torch.zeros_like(w)
    columns = w.shape[1]
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = torch.zeros(w.shape[0], end - start)
        for j in range(start, end):
            if order is None:
                if j % GROUP == 0:
                    scale = scale_of(w[:, j : j + GROUP])
            else:
                scale = scales[:, order[j] // GROUP]
            q = (w[:, j] / scale).round().clamp(low, high) * scale
            q = q.bfloat16().float()
            out[:, j] = q
            error = (w[:, j] - q) / u[j, j]
            w[:, j:end] -= error[:, None] * u[j, j:end]
            errors[:, j - start] = error
        w[:, end:] -= errors @ u[start:end, end:]
    if order is not None:
        out = out[:, torch.argsort(order)]
    return out


def main():
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    tensors = load_file(sys.argv[1])
    print("matrix,bits,method,error,seconds_all_widths")
    for name in (n for n in tensors if not n.endswith(".hessian")):
        weight, hessian = tensors[name], tensors[f"{name}.hessian"]
        for act_order in (False, True):
            begun = time.perf_counter()
            found = [gptq(weight, hessian, bits, act_order) for bits in WIDTHS]
            seconds = time.perf_counter() - begun
            method = "pytorch act-order" if act_order else "pytorch"
            for bits, values in zip(WIDTHS, found):
                e = (weight - values).double()
                error = ((e @ hessian.double()) * e).sum().item()
                print(f"{name},{bits},{method},{error:.6e},{seconds:.4f}")


main()
