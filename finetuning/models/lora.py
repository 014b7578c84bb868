"""LoRA: train two thin matrices beside each big one, and merge them when all is done.

An adapted matrix acts as W + (alpha / rank) B A with A [rank, in], B [out, rank]; W stays as it
is. So a fine-tuning keeps gradients and optimizer state for a percent of the weights, and the
backward pass never forms a gradient of W's size. Merged, the model is a plain checkpoint again,
with the official names and no trace of the adapters.

Adapters go onto either model as it stands: the models read `layer.weight` and multiply by it, and
an adapted layer hands out a weight that knows how to multiply. They work with recomputed blocks
(gradient checkpointing), since a block that runs again asks for the weight again.

Sources: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.errors import CheckpointError
from finetuning.models.dropout import dropout

TARGETS = ("blocks.*.att.*", "blocks.*.ffn.*")
"""Every matrix of every block, in RWKV-4 and RWKV-7 alike."""

_A, _B = "lora_a", "lora_b"


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How large the adapters are and where they go."""

    rank: int = 8
    alpha: float = 32.0  # their product is scaled by alpha / rank
    dropout: float = 0.01  # share of the adapters' inputs left out in training
    targets: Sequence[str] = TARGETS  # patterns of layer names, as "blocks.*.att.key"

    def validate(self) -> None:
        """Check what the types do not; ValueError names the option."""
        if self.rank < 1:
            raise ValueError("--lora-rank must be at least 1.")
        if self.alpha <= 0:
            raise ValueError("--lora-alpha must be positive.")
        if not 0 <= self.dropout < 1:
            raise ValueError("--lora-dropout must be at least 0 and below 1.")
        if not self.targets:
            raise ValueError("--lora-targets names no layer.")


class AdaptedLinear(nn.Module):
    """A linear layer without bias, frozen, with a trainable adapter.

    Its parameters are `weight`, under the name that the layer always had, `lora_a` and `lora_b`.
    """

    def __init__(
        self, layer: nn.Linear, settings: LoraSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.scale = settings.alpha / settings.rank
        self.dropout = settings.dropout
        weight = layer.weight
        out_width, in_width = weight.shape
        device = weight.device
        assert isinstance(weight, nn.Parameter)
        self.register_parameter("weight", weight)
        a = torch.empty(settings.rank, in_width)
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=generator)
        self.lora_a = nn.Parameter(a.to(device))
        self.lora_b = nn.Parameter(torch.zeros(out_width, settings.rank, device=device))
        self.train(layer.training)

    def __getattr__(self, name: str) -> Any:
        """`weight` is the frozen matrix together with its adapter."""
        value: Any = super().__getattr__(name)
        if name != "weight":
            return value
        adapted = value.as_subclass(_AdaptedWeight)
        adapted.layer = self
        return adapted

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        narrow = functional.linear(dropout(x, self.dropout if self.training else 0), self.lora_a)
        return functional.linear(x, self.base) + functional.linear(narrow, self.lora_b) * self.scale

    @property
    def base(self) -> Tensor:
        """The frozen matrix by itself, [out, in]."""
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def merged(self) -> Tensor:
        """One matrix that does the same (without dropout), [out, in], in the base's type."""
        return (self.base.float() + self.scale * (self.lora_b @ self.lora_a)).to(self.base.dtype)


class _AdaptedWeight(Tensor):
    """What an adapted layer hands out as its weight: multiplies through the adapter.

    Anything but `linear` gets the merged matrix, so that no use of the weight can miss the
    adapter. The hook is torch's own for tensor subclasses.
    """

    layer: AdaptedLinear

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear and len(args) == 2 and not kwargs and type(args[1]) is cls:
            return args[1].layer(args[0])
        plain = {key: _plain(value) for key, value in (kwargs or {}).items()}
        return func(*_plain(args), **plain)


def _plain(value: Any) -> Any:
    """The argument with merged matrices in the place of adapted weights."""
    if isinstance(value, _AdaptedWeight):
        return value.layer.merged()
    if isinstance(value, tuple | list):
        return tuple(_plain(part) for part in value)
    return value


def add_adapters(model: nn.Module, settings: LoraSettings, *, seed: int = 0) -> list[str]:
    """Freeze `model` and put an adapter onto each matrix that the settings name.

    The adapted model computes what it did before: B starts at zero. Returns the layers' names.

    Raises:
        ValueError: a setting makes no sense, or a pattern fits no matrix of a block. (Embedding
            and head are no targets: they are looked up and read by row, not multiplied.)
    """
    settings.validate()
    candidates = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("blocks.")
    }
    for pattern in settings.targets:
        if not any(fnmatchcase(name, pattern) for name in candidates):
            example = next(iter(candidates), "none")
            raise ValueError(
                f"--lora-targets: {pattern!r} fits no matrix of a block. Names are as {example!r}."
            )
    model.requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(seed)
    adapted = []
    for name, layer in candidates.items():
        if any(fnmatchcase(name, pattern) for pattern in settings.targets):
            parent, _, own_name = name.rpartition(".")
            setattr(
                model.get_submodule(parent), own_name, AdaptedLinear(layer, settings, generator)
            )
            adapted.append(name)
    return adapted


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, by name: what a checkpoint of a LoRA run needs beside the model."""
    return {name: weight for name, weight in model.state_dict().items() if _is_adapter(name)}


def load_adapter_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put saved adapters back onto a model with adapters of the same shape.

    Raises:
        CheckpointError: they do not fit; nothing was changed.
    """
    own = adapter_weights(model)
    strange = sorted(own.keys() ^ weights.keys())
    if strange:
        raise CheckpointError(
            f"The saved adapters are of a run with other --lora-targets ({strange[0]} is in one "
            "of them alone). Use the settings they were made with."
        )
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            raise CheckpointError(
                f"The saved adapters do not fit this model: {name} is {list(weight.shape)}, not "
                f"{list(own[name].shape)}. Use the model and --lora-rank they were made with."
            )
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """A state dict with the official names and every adapter merged into its matrix."""
    weights = {n: weight for n, weight in model.state_dict().items() if not _is_adapter(n)}
    for name, layer in model.named_modules():
        if isinstance(layer, AdaptedLinear):
            weights[name + ".weight"] = layer.merged()
    return weights


def _is_adapter(name: str) -> bool:
    return name.rpartition(".")[2] in (_A, _B)
