"""Model files with the shapes of real checkpoints and random weights, made in seconds.

Speed depends on shapes and types alone, so nothing needs to be downloaded to measure it. Quantized
weights are random bytes under a constant scale that keeps activations in the range of a trained
model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lambda_inference.gguf.checkpoint import Checkpoint, Floats
from lambda_inference.gguf.convert import Pack, Quantization, write
from lambda_inference.gguf.layout import shape_of
from lambda_inference.gguf.reader import read_metadata
from lambda_inference.gguf.vocabulary import JSON_KEY, Vocabulary, bpe_vocabulary
from lambda_inference.model import describe


@dataclass(frozen=True)
class Size:
    """A real checkpoint's hyperparameters; `ranks` are those of w, a, v, g (RWKV-7)."""

    generation: int
    layers: int
    width: int
    vocab: int
    ranks: tuple[int, int, int, int] = (64, 64, 32, 128)


SIZES: Mapping[str, Size] = {
    "rwkv4-430m": Size(4, 24, 1024, 50277),
    "rwkv7-0.4b": Size(7, 24, 1024, 65536),
    "rwkv7-0.1b": Size(7, 12, 768, 65536),
}


class _Random(Checkpoint):
    """A checkpoint of which only the shapes exist; values are made when read."""

    def __init__(self, size: Size) -> None:
        self._shapes = dict(_shapes(size))
        self._rng = np.random.default_rng(1)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def __getitem__(self, name: str) -> Floats:
        shape = self._shapes[name]
        # A block of normal numbers, repeated: drawing hundreds of millions takes too long.
        block = self._rng.standard_normal(1 << 20).astype(np.float32)
        count = prod(shape)
        values = np.resize(block, count).reshape(shape)
        if len(shape) == 2 and "r_k" not in name:
            return values * np.float32(1 / sqrt(shape[-1]))
        return np.float32(0.5) + np.float32(0.1) * values

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _shapes(size: Size) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, ffn = size.width, size.width * 4
    yield "emb.weight", (size.vocab, width)
    yield "head.weight", (size.vocab, width)
    for norm in ("blocks.0.ln0", "ln_out"):
        yield f"{norm}.weight", (width,)
        yield f"{norm}.bias", (width,)
    for i in range(size.layers):
        block, att, channel = f"blocks.{i}.", f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for norm in ("ln1", "ln2"):
            yield f"{block}{norm}.weight", (width,)
            yield f"{block}{norm}.bias", (width,)
        for name in ("receptance", "key", "value", "output"):
            yield f"{att}{name}.weight", (width, width)
        yield channel + "key.weight", (ffn, width)
        yield channel + "value.weight", (width, ffn)
        if size.generation == 4:
            yield channel + "receptance.weight", (width, width)
            for name in ("att.time_mix_k", "att.time_mix_v", "att.time_mix_r", "att.time_decay",
                         "att.time_first", "ffn.time_mix_k", "ffn.time_mix_r"):  # fmt: skip
                yield block + name, (width,)
            continue
        for name in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"):
            yield att + name, (1, 1, width)
        yield channel + "x_k", (1, 1, width)
        yield att + "r_k", (width // 64, 64)
        yield att + "ln_x.weight", (width,)
        yield att + "ln_x.bias", (width,)
        for name, rank in zip("wavg", size.ranks, strict=True):
            yield f"{att}{name}1", (width, rank)
            yield f"{att}{name}2", (rank, width)


def random_weights(size: Size) -> tuple[Checkpoint, Pack]:
    """What `lambda_inference.gguf.convert.write` needs of a model file without meaning."""
    return _Random(size), _pack


def write_model(
    path: Path, size: Size, quantization: Quantization = "Q8_0", *, talks_like: Path | None = None
) -> Path:
    """Write a model file of that size.

    It has the tokenizer and the chat template of the model file `talks_like`, so that the server
    can serve it; without one, tokens that mean nothing.
    """
    weights = _Random(size)
    tokens = [f"[PAD{i}]" for i in range(size.vocab)]
    vocabulary = Vocabulary(None, "gpt2", tokens, [5] * size.vocab, ["a b"], None)
    template = None
    if talks_like is not None:
        source = read_metadata(talks_like, {JSON_KEY})[JSON_KEY]
        vocabulary = bpe_vocabulary(str(source), size.vocab)
        template = describe(talks_like).template
    write(path, weights, shape_of(weights), vocabulary, quantization=quantization,
          name=path.stem, template=template, pack=_pack)  # fmt: skip
    return path


def write_checkpoint(path: Path, size: Size) -> Path:
    """The same model as a bfloat16 `.pth`, for the `rwkv` package. Needs torch."""
    import torch

    weights = _Random(size)
    torch.save({name: torch.from_numpy(weights[name]).bfloat16() for name in weights}, path)
    return path


_BLOCK_BYTES = {"Q8_0": 34, "Q4_0": 18}


def _pack(shape: tuple[int, ...], kind: str) -> npt.NDArray[Any] | None:
    """Random blocks in place of quantizing; None for the types that are not quantized."""
    if kind not in _BLOCK_BYTES:
        return None
    columns = shape[-1] // 32 * _BLOCK_BYTES[kind]
    sample = np.random.default_rng(2).integers(0, 256, (1 << 15) * _BLOCK_BYTES[kind], np.uint8)
    blocks = np.resize(sample, (prod(shape) // 32, _BLOCK_BYTES[kind]))
    spread = 74.0 if kind == "Q8_0" else 4.6  # standard deviation of the random integers
    blocks[:, :2] = np.frombuffer(np.float16(1 / spread / sqrt(shape[-1])).tobytes(), np.uint8)
    return blocks.reshape(*shape[:-1], columns)
