#!/usr/bin/env python3
"""Makes the fixtures of crates/rco-model/tests/fixtures with PyTorch and transformers.

    python3 -m venv VENV && VENV/bin/pip install torch transformers
    VENV/bin/python scripts/make_model_fixtures.py [NAME...]

For each family a tiny random model as a Hugging Face folder, and `expected.safetensors`:
`tokens` [sequences, length] and the `logits` of transformers in f32 (eager attention).
For the bundled model only `expected.safetensors`, and `tokens.json` with the tokens of
its tokenizer for a few texts. Versions are written to `versions.json`.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "crates" / "rco-model" / "tests" / "fixtures"
BUNDLED = ROOT / "assets" / "tiny-moe"

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

# Name of the fixture: model_type, changes to SMALL. Sequences have 24 tokens, so that
# windows of 7 and original contexts of 16 and 32 matter.
FAMILIES = {
    "llama": ("llama", {"rope_parameters": ROPE, "attention_bias": True}),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama-linear": ("llama", {"rope_parameters": LINEAR}),
    "mistral": ("mistral", {"rope_parameters": ROPE, "sliding_window": 7}),
    "qwen2": ("qwen2", {"rope_parameters": ROPE, "tie_word_embeddings": True}),
    "qwen2-window": (
        "qwen2",
        {
            "rope_parameters": ROPE,
            "use_sliding_window": True,
            "sliding_window": 7,
            "max_window_layers": 1,
        },
    ),
    "qwen3": ("qwen3", {"rope_parameters": ROPE, "tie_word_embeddings": True}),
    "qwen3-yarn": ("qwen3", {"rope_parameters": YARN}),
    "qwen3_moe": (
        "qwen3_moe",
        {
            "rope_parameters": ROPE,
            "num_hidden_layers": 3,
            "moe_intermediate_size": 24,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
        },
    ),
    "olmoe": (
        "olmoe",
        {
            "rope_parameters": ROPE,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "norm_topk_prob": False,
        },
    ),
    "mixtral": (
        "mixtral",
        {
            "rope_parameters": ROPE,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": None,
        },
    ),
    "gemma2": (
        "gemma2",
        {
            "rope_parameters": ROPE,
            "tie_word_embeddings": True,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 12,
            "sliding_window": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 12,
            "sliding_window": 7,
        },
    ),
}


def randomise(model):
    """Weights large enough that every part of a block matters, norms not at one."""
    generator = torch.Generator().manual_seed(7)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 1:
            weight.data = weight.data + 0.2 * noise
        else:
            weight.data = noise * (1.5 / weight.shape[-1] ** 0.5)


def logits(model, tokens):
    model.eval()
    with torch.no_grad():
        return model(tokens, use_cache=False).logits.float().contiguous()


def family(name):
    model_type, changes = FAMILIES[name]
    config = AutoConfig.for_model(model_type, **(SMALL | changes))
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    randomise(model)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocab_size, (2, 24), generator=generator)
    expected = {"tokens": tokens.int(), "logits": logits(model, tokens)}
    save_file(expected, folder / "expected.safetensors")


def bundled():
    folder = OUT / "tiny-moe"
    folder.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(
        BUNDLED, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    texts = [
        "In the beginning God created the heaven and the earth.",
        "def main():\n    return {'a': 1.5, \"b\": [x ** 2 for x in range(10)]}\n",
        "Grüße, naïve café — 東京 🙂\t\ttabs  and   spaces\r\n",
    ]
    encoded = [{"text": t, "tokens": tokenizer(t)["input_ids"]} for t in texts]
    (folder / "tokens.json").write_text(json.dumps(encoded, ensure_ascii=False, indent=1) + "\n")
    tokens = torch.tensor([encoded[0]["tokens"][:10], encoded[1]["tokens"][:10]])
    expected = {"tokens": tokens.int(), "logits": logits(model, tokens)}
    save_file(expected, folder / "expected.safetensors")


def main():
    names = sys.argv[1:] or [*FAMILIES, "tiny-moe"]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names:
        bundled() if name == "tiny-moe" else family(name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (OUT / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
