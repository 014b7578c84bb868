"""Official checkpoint names to GGUF names, and the hyperparameters that follow from the shapes.

RWKV-7 follows llama.cpp (conversion/rwkv.py, src/models/rwkv7.cpp): low-rank factors transposed so
that a row is an output, the six token-shift mixes stacked in the order r w k v a g, and the first
layer's unused value-residual factors filled with copies, because llama.cpp wants them to be there.
RWKV-4 has no place there; its mixes are stored as llama.cpp means them, towards the token before
(x + (previous - x) * mix), which is one less the official time_mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from lambda_inference.errors import ModelCorrupt
from lambda_inference.gguf.checkpoint import Checkpoint, Floats

_TOP = {
    "emb.weight": "token_embd.weight",
    "blocks.0.ln0.weight": "token_embd_norm.weight",
    "blocks.0.ln0.bias": "token_embd_norm.bias",
    "ln_out.weight": "output_norm.weight",
    "ln_out.bias": "output_norm.bias",
    "head.weight": "output.weight",
}
_MATRICES = ("receptance", "key", "value", "output")
_MIXES7 = ("r", "w", "k", "v", "a", "g")


class Kind(Enum):
    """What a tensor is for, which decides how it may be stored."""

    VECTOR = "always F32"
    LORA = "low-rank factor: small, and more sensitive than a matrix"
    EMBEDDING = "read one row a token"
    MATRIX = "read whole, every token"


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file to be: `load` reads and reshapes it when its turn comes."""

    name: str
    kind: Kind
    load: Callable[[], Floats]
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    """The checkpoint's tensors that it is made of."""


@dataclass(frozen=True)
class Shape:
    """Hyperparameters of a checkpoint. `ranks` has the keys w, a, v, g (RWKV-7 only)."""

    generation: int
    layers: int
    width: int
    ffn_width: int
    vocab_size: int
    head_size: int
    ranks: Mapping[str, int]

    @property
    def architecture(self) -> str:
        """The GGUF architecture name."""
        return f"rwkv{self.generation}"


def shape_of(weights: Checkpoint) -> Shape:
    """Read the hyperparameters off the tensors' shapes.

    Raises:
        ModelCorrupt: neither RWKV-4 nor RWKV-7, or incomplete.
    """
    try:
        vocab_size, width = weights.shape("emb.weight")
        layers = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks."))
        ffn_width = weights.shape("blocks.0.ffn.key.weight")[0]
        if "blocks.0.att.r_k" in weights:
            # The first layer has no value residual of its own; take the second's rank.
            v1 = f"blocks.{min(1, layers - 1)}.att.v1"
            factors = {"w": "blocks.0.att.w1", "a": "blocks.0.att.a1", "g": "blocks.0.att.g1"}
            factors["v"] = v1 if v1 in weights else factors["a"]
            ranks = {key: weights.shape(name)[1] for key, name in factors.items()}
            head_size = weights.shape("blocks.0.att.r_k")[1]
            return Shape(7, layers, width, ffn_width, vocab_size, head_size, ranks)
        if "blocks.0.att.time_mix_k" in weights and "blocks.0.att.ln_x.weight" not in weights:
            if weights.shape("blocks.0.att.key.weight") != (width, width):
                raise ModelCorrupt(
                    "This RWKV-4 checkpoint's attention is not as wide as its embedding; "
                    "no engine here runs that."
                )
            return Shape(4, layers, width, ffn_width, vocab_size, width, {})
    except (KeyError, ValueError, IndexError) as error:
        raise ModelCorrupt(f"The checkpoint is not a complete RWKV model ({error}).") from error
    raise ModelCorrupt(
        "The checkpoint is neither RWKV-4 nor RWKV-7; other generations are not supported."
    )


def tensors_of(weights: Checkpoint, shape: Shape) -> Iterator[Tensor]:
    """The tensors of the file, in the order in which the engine reads them.

    Raises:
        ModelCorrupt: a tensor is missing.
    """
    build = _Builder(weights)
    for name in ("emb.weight", "blocks.0.ln0.weight", "blocks.0.ln0.bias"):
        yield build.plain(name, _TOP[name], Kind.EMBEDDING if name[0] == "e" else Kind.VECTOR)
    for i in range(shape.layers):
        old, new = f"blocks.{i}.", f"blk.{i}."
        for part in ("weight", "bias"):
            yield build.plain(f"{old}ln1.{part}", f"{new}attn_norm.{part}")
            yield build.plain(f"{old}ln2.{part}", f"{new}attn_norm_2.{part}")
        yield from (
            _mixing7(build, old, new, i) if shape.generation == 7 else _mixing4(build, old, new)
        )
        for name in _MATRICES:
            yield build.plain(
                f"{old}att.{name}.weight", f"{new}time_mix_{name}.weight", Kind.MATRIX
            )
        channel = ("key", "value") if shape.generation == 7 else ("key", "receptance", "value")
        for name in channel:
            yield build.plain(
                f"{old}ffn.{name}.weight", f"{new}channel_mix_{name}.weight", Kind.MATRIX
            )
    for name in ("ln_out.weight", "ln_out.bias", "head.weight"):
        yield build.plain(name, _TOP[name], Kind.MATRIX if name[0] == "h" else Kind.VECTOR)


def _mixing4(build: _Builder, old: str, new: str) -> Iterator[Tensor]:
    for place, names in (("att", "kvr"), ("ffn", "kr")):
        mixing = "time" if place == "att" else "channel"
        for name in names:
            source = f"{old}{place}.time_mix_{name}"
            yield build.vector(f"{new}{mixing}_mix_lerp_{name}.weight", source, lambda m: 1 - m)
    for name in ("decay", "first"):
        yield build.vector(f"{new}time_mix_{name}.weight", f"{old}att.time_{name}")


def _mixing7(build: _Builder, old: str, new: str, layer: int) -> Iterator[Tensor]:
    mixes = [f"{old}att.x_{name}" for name in _MIXES7]
    yield build.stack(f"{new}time_mix_lerp_fused.weight", mixes)
    for name in ("w", "a", "v", "g"):
        # llama.cpp: the first layer's v factors have a's shape and are not used.
        source = f"{old}att.{'a' if name == 'v' and layer == 0 else name}"
        if name != "g":
            yield build.vector(f"{new}time_mix_{name}0.weight", source + "0")
        for factor in ("1", "2"):
            yield build.transposed(f"{new}time_mix_{name}{factor}.weight", source + factor)
    for name in ("k_k", "k_a", "r_k"):
        yield build.vector(f"{new}time_mix_{name}.weight", f"{old}att.{name}")
    for part in ("weight", "bias"):
        yield build.plain(f"{old}att.ln_x.{part}", f"{new}time_mix_ln.{part}")
    yield build.vector(f"{new}channel_mix_lerp_k.weight", f"{old}ffn.x_k")


class _Builder:
    def __init__(self, weights: Checkpoint) -> None:
        self._weights = weights

    def _shape(self, name: str) -> tuple[int, ...]:
        try:
            return self._weights.shape(name)
        except KeyError as error:
            raise ModelCorrupt(f"The checkpoint has no tensor {name}.") from error

    def plain(self, source: str, name: str, kind: Kind = Kind.VECTOR) -> Tensor:
        return Tensor(name, kind, lambda: self._weights[source], self._shape(source), (source,))

    def vector(
        self, name: str, source: str, change: Callable[[Floats], Floats] = lambda v: v
    ) -> Tensor:
        return Tensor(
            name,
            Kind.VECTOR,
            lambda: change(self._weights[source].reshape(-1)),
            (prod(self._shape(source)),),
            (source,),
        )

    def transposed(self, name: str, source: str) -> Tensor:
        shape = self._shape(source)
        if len(shape) != 2:
            raise ModelCorrupt(f"The checkpoint's {source} is no matrix.")
        return Tensor(
            name,
            Kind.LORA,
            lambda: np.ascontiguousarray(self._weights[source].T),
            shape[::-1],
            (source,),
        )

    def stack(self, name: str, sources: Sequence[str]) -> Tensor:
        sizes = {prod(self._shape(source)) for source in sources}
        if len(sizes) != 1:
            raise ModelCorrupt(f"The checkpoint's {sources[0]} and the like differ in length.")
        shape = (len(sources), 1, 1, sizes.pop())
        return Tensor(
            name,
            Kind.VECTOR,
            lambda: np.stack([self._weights[s].reshape(-1) for s in sources]).reshape(shape),
            shape,
            tuple(sources),
        )
