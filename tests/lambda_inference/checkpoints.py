"""Random checkpoints: official names, real proportions, weights on a trained model's scale."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[np.float32]]


class _Random:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> npt.NDArray[np.float32]:
        return (mean + scale * self._rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, low: float, high: float, *shape: int) -> npt.NDArray[np.float32]:
        return self._rng.uniform(low, high, shape).astype(np.float32)


def _frame(random: _Random, layers: int, width: int, vocab: int) -> Weights:
    weights = {
        "emb.weight": random.normal(vocab, width, scale=0.5),
        "blocks.0.ln0.weight": random.normal(width, scale=0.2, mean=1),
        "blocks.0.ln0.bias": random.normal(width, scale=0.1),
        "ln_out.weight": random.normal(width, scale=0.2, mean=1),
        "ln_out.bias": random.normal(width, scale=0.1),
        "head.weight": random.normal(vocab, width, scale=2.5 / math.sqrt(width)),
    }
    for i in range(layers):
        for norm in ("ln1", "ln2"):
            weights[f"blocks.{i}.{norm}.weight"] = random.normal(width, scale=0.2, mean=1)
            weights[f"blocks.{i}.{norm}.bias"] = random.normal(width, scale=0.1)
    return weights


def rwkv7(
    *,
    layers: int,
    width: int,
    vocab: int,
    head: int = 64,
    ffn: int | None = None,
    ranks: tuple[int, int, int, int] = (64, 64, 32, 128),
    seed: int = 1,
) -> Weights:
    """RWKV-7. `ranks` are those of w, a, v, g; the defaults are the 0.4B model's."""
    random = _Random(seed)
    weights = _frame(random, layers, width, vocab)
    ffn = ffn or width * 4
    for i in range(layers):
        att, channel = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for name in "rwkvag":
            weights[f"{att}x_{name}"] = random.uniform(0, 1, 1, 1, width)
        for name, rank in zip("wavg", ranks, strict=True):
            if name == "v" and i == 0:
                continue
            if name != "g":
                mean = {"w": -3.0, "a": 0.0, "v": 0.7}[name]
                weights[f"{att}{name}0"] = random.normal(1, 1, width, scale=1.5, mean=mean)
            weights[f"{att}{name}1"] = random.normal(width, rank, scale=width**-0.5)
            weights[f"{att}{name}2"] = random.normal(rank, width, scale=rank**-0.5)
        weights[att + "k_k"] = random.normal(1, 1, width, scale=0.1, mean=0.85)
        weights[att + "k_a"] = random.normal(1, 1, width, scale=0.1, mean=1)
        weights[att + "r_k"] = random.normal(width // head, head, scale=0.1)
        for name in ("receptance", "key", "value", "output"):
            weights[f"{att}{name}.weight"] = random.normal(width, width, scale=width**-0.5)
        weights[att + "ln_x.weight"] = random.normal(width, scale=0.1, mean=0.7)
        weights[att + "ln_x.bias"] = random.normal(width, scale=0.05)
        weights[channel + "x_k"] = random.uniform(0, 1, 1, 1, width)
        weights[channel + "key.weight"] = random.normal(ffn, width, scale=width**-0.5)
        weights[channel + "value.weight"] = random.normal(width, ffn, scale=ffn**-0.5)
    return weights


def rwkv4(*, layers: int, width: int, vocab: int, ffn: int | None = None, seed: int = 1) -> Weights:
    """RWKV-4."""
    random = _Random(seed)
    weights = _frame(random, layers, width, vocab)
    ffn = ffn or width * 4
    for i in range(layers):
        att, channel = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        weights[att + "time_decay"] = random.uniform(-6, 2, width)
        weights[att + "time_first"] = random.normal(width, scale=0.7, mean=-0.5)
        for name in "kvr":
            weights[f"{att}time_mix_{name}"] = random.uniform(0, 1, 1, 1, width)
        for name in ("key", "value", "receptance", "output"):
            weights[f"{att}{name}.weight"] = random.normal(width, width, scale=1.5 * width**-0.5)
        for name in "kr":
            weights[f"{channel}time_mix_{name}"] = random.uniform(0, 1, 1, 1, width)
        weights[channel + "key.weight"] = random.normal(ffn, width, scale=width**-0.5)
        weights[channel + "value.weight"] = random.normal(width, ffn, scale=ffn**-0.5)
        weights[channel + "receptance.weight"] = random.normal(width, width, scale=width**-0.5)
    return weights


def save(weights: Weights, path: Path) -> Path:
    """As safetensors or, by the suffix, as a `.pth`."""
    if path.suffix == ".pth":
        import torch

        torch.save({name: torch.from_numpy(values) for name, values in weights.items()}, path)
    else:
        from safetensors.numpy import save_file

        save_file(weights, path)
    return path


def save_tokenizer(folder: Path, size: int) -> Path:
    """A byte-level BPE of 256 letters and `<|endoftext|>`, for a vocabulary of at least 257."""
    import json

    from lambda_inference.talk.tokenizer import _BYTE_OF

    vocab = {"<|endoftext|>": 0} | {letter: n for n, letter in enumerate(_BYTE_OF, 1)}
    if len(vocab) > size:
        raise ValueError("a byte vocabulary needs 257 rows")
    document = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 0,
                "content": "<|endoftext|>",
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        ],
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document), "utf-8")
    return path
