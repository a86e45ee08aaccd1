#!/usr/bin/env python3
"""Checks a packed folder against vLLM on the CPU: see interop_vllm.sh.

`rco check logits` has written tokens and logits of the folder; the same tokens go through vLLM,
which gives the log-probabilities of its most likely tokens. What is left of the probability is one
token more: KL over these is a lower bound of that over the vocabulary, and close to it.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from vllm import LLM, SamplingParams

TOP = 512


def main():
    folder, ours, allowed = Path(sys.argv[1]), load_file(sys.argv[2]), float(sys.argv[3])
    tokens = ours["tokens"].tolist()
    # In the type that the folder names, as in use.
    llm = LLM(str(folder), dtype="auto", max_model_len=256, max_logprobs=TOP, enforce_eager=True,
              enable_prefix_caching=False, seed=0)
    score = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=TOP)
    found = llm.generate([{"prompt_token_ids": ids} for ids in tokens], score, use_tqdm=False)
    sums, same = [], []
    for logits, answer in zip(ours["logits"].double(), found):
        p = logits.log_softmax(-1)
        # Entry n holds what is said of token n, after those before it.
        for n, entry in enumerate(answer.prompt_logprobs[1:]):
            ids = torch.tensor(list(entry))
            q = torch.tensor([entry[i].logprob for i in ids.tolist()]).double()
            of_ours = p[n, ids]
            rest = [(1 - x.exp().sum()).clamp(min=1e-12) for x in (of_ours, q)]
            kl = (of_ours.exp() * (of_ours - q)).sum() + rest[0] * (rest[0] / rest[1]).log()
            sums.append(kl)
            same.append(p[n].argmax() == ids[q.argmax()])
    kl = torch.stack(sums).mean().item()
    agree = 100 * torch.stack(same).float().mean().item()
    print(f"KL of vLLM's probabilities from ours {kl:.2e}, same top token {agree:.1f} %")
    write = SamplingParams(temperature=0, max_tokens=24)
    prompt = {"prompt_token_ids": tokens[0][:12]}
    answer = llm.generate([prompt], write, use_tqdm=False)[0].outputs[0].text
    begun = llm.get_tokenizer().decode(prompt["prompt_token_ids"])
    print("  it writes:", " ".join((begun + answer).split()))
    sys.exit(0 if kl < allowed else f"they differ by more than {allowed}")


if __name__ == "__main__":
    main()
