#!/usr/bin/env python3
"""PyTorch's side of `rco bench engine`: one forward and backward pass of a llama.

    torch_side.py MODE FOLDER REPEATS THREADS

MODE is one of
  plain              gradients of the matrices of the blocks, f32
  interpolated       every matrix is sum_k p_k W_k of all options in memory (f32), and the
                     gradients are those of the p_k: what the reference implementation does
  interpolated-bf16  the same with the copies in bf16, interpolated in f32
  compare            gradients of both kinds against those that rco has written

Prints one JSON object. Eager, scaled_dot_product_attention, nothing computed twice; rotation
of neighbouring coordinates, as GGUF files of this architecture have it.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

MODE, FOLDER, REPEATS, THREADS = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(THREADS)
INDEX = json.loads((FOLDER / "index.json").read_text())
H, KV, D = INDEX["heads"], INDEX["kv_heads"], INDEX["head_dim"]
S, T, EPS = INDEX["sequences"], INDEX["length"], INDEX["norm_eps"]


def read(name, dtype=np.float32):
    return torch.from_numpy(np.fromfile(FOLDER / name, dtype=dtype))


def split(file, names_and_shapes):
    """Tensors of a file of plain f32, one after the other, each read by itself."""
    tensors = {}
    with open(FOLDER / file, "rb") as f:
        for name, shape in names_and_shapes:
            tensor = torch.empty(shape)
            f.readinto(memoryview(tensor.view(-1).numpy()).cast("B"))
            tensors[name] = tensor
    return tensors


SHAPES = dict((name, shape) for name, shape in INDEX["weights"])
MATRICES = INDEX["matrices"]


class Plain:
    """The matrices themselves are the parameters."""

    def __init__(self):
        self.weights = split("student.f32", INDEX["weights"])
        for name in MATRICES:
            self.weights[name].requires_grad_()

    def matrix(self, name):
        return self.weights[name]

    def parameters(self):
        return [self.weights[name] for name in MATRICES]


class Interpolated:
    """The parameters are one probability for each option of each matrix."""

    def __init__(self, dtype):
        self.weights = split("student.f32", INDEX["weights"])
        options = INDEX["options"]
        self.stacks = {}
        for name in MATRICES:
            rows, columns = SHAPES[name]
            del self.weights[name]
            self.stacks[name] = torch.empty(options, rows * columns, dtype=dtype)
        for k in range(options):
            with open(FOLDER / f"option-{k}.f32", "rb") as f:
                for name in MATRICES:
                    copy = torch.empty(self.stacks[name].shape[1])
                    f.readinto(memoryview(copy.numpy()).cast("B"))
                    self.stacks[name][k] = copy.to(dtype)
        start = torch.zeros(options)
        start[0] = 1.0
        self.p = {name: start.clone().requires_grad_() for name in MATRICES}

    def matrix(self, name):
        stack = self.stacks[name]
        if stack.dtype == torch.float32:
            mixed = torch.mv(stack.t(), self.p[name])
        else:
            mixed = sum(p * w.float() for p, w in zip(self.p[name], stack))
        return mixed.view(*SHAPES[name])

    def parameters(self):
        return [self.p[name] for name in MATRICES]


def rotation():
    frequencies = INDEX["rope_base"] ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    angles = torch.outer(torch.arange(T, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """x [S, heads, T, D]"""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def forward(model, tokens, cos, sin):
    w = model.weights
    norm = lambda x, name: F.rms_norm(x, x.shape[-1:], w[name], EPS)
    x = w["embedding"][tokens]
    for layer in range(INDEX["layers"]):
        at = f"layer.{layer}."
        m = lambda kind: model.matrix(at + kind)
        h = norm(x, at + "attention_norm")
        q = F.linear(h, m("query")).view(S, T, H, D).transpose(1, 2)
        k = F.linear(h, m("key")).view(S, T, KV, D).transpose(1, 2)
        v = F.linear(h, m("value")).view(S, T, KV, D).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # Keys and values repeated: the grouped form takes the slow path on the processor.
        k, v = k.repeat_interleave(H // KV, 1), v.repeat_interleave(H // KV, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(y.transpose(1, 2).reshape(S, T, H * D), m("output"))
        h = norm(x, at + "mlp_norm")
        x = x + F.linear(F.silu(F.linear(h, m("gate"))) * F.linear(h, m("up")), m("down"))
    return norm(x, "final_norm").view(S * T, -1)


def head(model):
    return model.weights.get("head", model.weights["embedding"])


def teacher(model):
    with torch.no_grad():
        logits = read("teacher.f32").view(S * T, -1) @ head(model).T
        return F.log_softmax(logits, -1)


def step(model, tokens, cos, sin, target):
    log_probs = F.log_softmax(F.linear(forward(model, tokens, cos, sin), head(model)), -1)
    loss = F.kl_div(log_probs, target, reduction="sum", log_target=True) / (S * T)
    loss.backward()
    return loss.item()


def peak_rss():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def sgemm():
    """Operations a second of both threads: by processor time, as other work may run beside."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(12):
        start = time.process_time()
        a @ b
        spent = time.process_time() - start
        best = max(best, 2 * 2048**3 * torch.get_num_threads() / spent)
    return best


def setup(model):
    tokens = read("tokens.u32", np.int32).long().view(S, T)
    return (tokens, *rotation(), teacher(model))


def measure(model):
    given = setup(model)
    seconds, cpu_seconds, loss = [], [], 0.0
    for _ in range(REPEATS):
        for p in model.parameters():
            p.grad = None
        start, cpu_start = time.perf_counter(), time.process_time()
        loss = step(model, *given)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    rss = peak_rss()
    result = {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss, "peak_rss": rss}
    result |= {"sgemm": sgemm(), "threads": torch.get_num_threads(), "parts": []}
    print(json.dumps(result))


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return (torch.dot(a, b) / a.norm() / b.norm()).item()


def compare():
    model = Plain()
    step(model, *setup(model))
    worst = {}
    with open(FOLDER / "gradients.f32", "rb") as f:
        for name in MATRICES:
            theirs = torch.empty(SHAPES[name])
            f.readinto(memoryview(theirs.view(-1).numpy()).cast("B"))
            worst[name] = cosine(model.weights[name].grad, theirs)
    matrix = min(worst, key=worst.get)
    gradients = {name: model.weights[name].grad for name in MATRICES}
    # The same through the probabilities: differences within a matrix are what counts.
    model = Interpolated(torch.float32)
    step(model, *setup(model))
    options = INDEX["options"]
    theirs = read("options.f64", np.float64).view(-1, options)
    of_p, ours = {}, []
    for row, name in zip(theirs, MATRICES):
        # In f64, as the difference of nearly equal sums would lose the digits of f32.
        g, stack = gradients[name].double().flatten(), model.stacks[name]
        exact = torch.stack([(g * (w.double() - stack[0].double())).sum() for w in stack])
        ours.append(exact)
        of_p[name] = cosine(exact, row)
    least = min(of_p, key=of_p.get)
    grads = torch.stack([model.p[n].grad - model.p[n].grad[0] for n in MATRICES])
    print(
        json.dumps(
            {
                "weights": worst[matrix],
                "worst_matrix": matrix,
                "options": of_p[least],
                "worst_options": least,
                "all_options": cosine(torch.stack(ours), theirs),
                "autograd_options": cosine(grads, theirs),
                "matrices": len(MATRICES),
            }
        )
    )


if MODE == "compare":
    compare()
elif MODE == "plain":
    measure(Plain())
else:
    measure(Interpolated(torch.bfloat16 if MODE.endswith("bf16") else torch.float32))
