"""Tiny random checkpoints of both generations, with official names and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LABELS = {
    "user": "User:",
    "assistant": "Friend:",
    "separator": "\n\n",
    "end_of_text": "<|endoftext|>",
}


def rwkv7(*, layers: int, width: int, vocab: int, head: int, seed: int = 1) -> dict[str, Any]:
    """Random RWKV-7 weights; LoRA ranks are small, shapes as in the official checkpoints."""
    gen = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=gen) * scale

    heads, ffn, rank = width // head, width * 4, 8
    w: dict[str, Any] = {
        "emb.weight": rand(vocab, width),
        "blocks.0.ln0.weight": 1 + rand(width, scale=0.1),
        "blocks.0.ln0.bias": rand(width, scale=0.1),
        "ln_out.weight": 1 + rand(width, scale=0.1),
        "ln_out.bias": rand(width, scale=0.1),
        "head.weight": rand(vocab, width, scale=3 * width**-0.5),
    }
    for i in range(layers):
        block, att, ffn_name = f"blocks.{i}.", f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for ln in ("ln1", "ln2"):
            w[f"{block}{ln}.weight"] = 1 + rand(width, scale=0.1)
            w[f"{block}{ln}.bias"] = rand(width, scale=0.1)
        for name in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g"):
            w[att + name] = torch.rand(1, 1, width, generator=gen)
        for name in ("w", "a") + (("v",) if i else ()):
            w[f"{att}{name}0"] = rand(1, 1, width)
            w[f"{att}{name}1"] = rand(width, rank, scale=width**-0.5)
            w[f"{att}{name}2"] = rand(rank, width, scale=rank**-0.5)
        w[att + "g1"] = rand(width, rank, scale=width**-0.5)
        w[att + "g2"] = rand(rank, width, scale=rank**-0.5)
        w[att + "k_k"] = 0.85 + rand(1, 1, width, scale=0.1)
        w[att + "k_a"] = 1 + rand(1, 1, width, scale=0.1)
        w[att + "r_k"] = rand(heads, head, scale=0.1)
        for name in ("receptance", "key", "value", "output"):
            w[f"{att}{name}.weight"] = rand(width, width, scale=width**-0.5)
        w[att + "ln_x.weight"] = 1 + rand(width, scale=0.1)
        w[att + "ln_x.bias"] = rand(width, scale=0.1)
        w[ffn_name + "x_k"] = torch.rand(1, 1, width, generator=gen)
        w[ffn_name + "key.weight"] = rand(ffn, width, scale=width**-0.5)
        w[ffn_name + "value.weight"] = rand(width, ffn, scale=ffn**-0.5)
    return w


def rwkv4(*, layers: int, width: int, vocab: int, seed: int = 1) -> dict[str, Any]:
    """Random RWKV-4 weights under the official names."""
    gen = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=gen) * scale

    w: dict[str, Any] = {
        "emb.weight": rand(vocab, width),
        "blocks.0.ln0.weight": 1 + rand(width, scale=0.1),
        "blocks.0.ln0.bias": rand(width, scale=0.1),
        "ln_out.weight": 1 + rand(width, scale=0.1),
        "ln_out.bias": rand(width, scale=0.1),
        "head.weight": rand(vocab, width, scale=3 * width**-0.5),
    }
    for i in range(layers):
        block, att, ffn = f"blocks.{i}.", f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for ln in ("ln1", "ln2"):
            w[f"{block}{ln}.weight"] = 1 + rand(width, scale=0.1)
            w[f"{block}{ln}.bias"] = rand(width, scale=0.1)
        w[att + "time_decay"] = rand(width)
        w[att + "time_first"] = rand(width)
        for name in ("time_mix_k", "time_mix_v", "time_mix_r"):
            w[att + name] = torch.rand(1, 1, width, generator=gen)
        for name in ("key", "value", "receptance", "output"):
            w[f"{att}{name}.weight"] = rand(width, width, scale=width**-0.5)
        for name in ("time_mix_k", "time_mix_r"):
            w[ffn + name] = torch.rand(1, 1, width, generator=gen)
        w[ffn + "key.weight"] = rand(width * 4, width, scale=width**-0.5)
        w[ffn + "value.weight"] = rand(width, width * 4, scale=(width * 4) ** -0.5)
        w[ffn + "receptance.weight"] = rand(width, width, scale=width**-0.5)
    return w


def train_tokenizer(path: Path, vocab: int = 400) -> int:
    """A byte-level BPE on a few lines, with the template's labels as special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[LABELS[k] for k in ("end_of_text", "user", "assistant", "separator")],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = ["hello there, how are you doing today?", "i am fine. what music do you like?"] * 9
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def write_pocket(folder: Path, *, seed: int = 1) -> Path:
    """A model folder as the trainer writes it, of 2 layers of 32 and about 400 tokens."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    vocab = train_tokenizer(folder / "tokenizer.json")
    weights = rwkv7(layers=2, width=32, vocab=vocab, head=16, seed=seed)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()},
        folder / "model.safetensors",
    )
    config = {
        "architecture": "rwkv7",
        "layers": 2,
        "width": 32,
        "vocab_size": vocab,
        "head_size": 16,
        "context_length": 512,
        "template": LABELS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
