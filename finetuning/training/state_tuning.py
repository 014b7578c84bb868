"""State tuning: learn the state that a model starts from, and nothing else.

RWKV begins a conversation with an empty memory. A learnt one in its place is a voice: the model
goes on from it as if it had read a long text written that way, at no cost a token, and its weights
are the same for all voices. RWKV-7 learns the matrices of every layer and head; RWKV-4 the
average, its weight and both shifts of every layer.

A learnt state means something only to the model it was learnt with, so its file says which:
safetensors with metadata

    format        "friend-initial-state-1"
    architecture  "rwkv4" or "rwkv7"
    shape         JSON: layers, width, vocab_size and, for RWKV-7, head_size
    fingerprint   of the weights, see `fingerprint`

and tensors `blocks.N.wkv` [heads, N value, N key], float16, for RWKV-7, or `blocks.N.time_shift`,
`.aa`, `.bb`, `.pp`, `.channel_shift` [width], float32, for RWKV-4: the layers' states under the
names and in the layout of the models here, which are those of the `rwkv` package as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from finetuning.errors import CheckpointError
from finetuning.models import rwkv4, rwkv7
from finetuning.models.rwkv4 import RWKV4
from finetuning.models.rwkv7 import RWKV7

FORMAT = "friend-initial-state-1"
FAINT = -4.0
"""First exponent of an RWKV-4 average that has read nothing: too faint to change much, yet not so
faint that no gradient comes through."""

_UNUSED = tuple(f"blocks.0.att.v{n}" for n in range(3))  # RWKV-7 has no value mix in layer 0
_TYPES = {"rwkv4": torch.float32, "rwkv7": torch.float16}


class _Start(Protocol):
    """What is learnt about one architecture."""

    def start(self, batch: int) -> list[Any]: ...

    def tensors(self) -> dict[str, Tensor]: ...


class _RWKV7Start(nn.Module):
    def __init__(self, state: Sequence[rwkv7.LayerState]) -> None:
        super().__init__()
        self.width = state[0].time_shift.shape[-1]
        self.wkv = nn.ParameterList(nn.Parameter(layer.wkv[0].clone()) for layer in state)

    def start(self, batch: int) -> list[rwkv7.LayerState]:
        shift = self.wkv[0].new_zeros(batch, self.width)
        return [rwkv7.LayerState(shift, _repeated(wkv, batch), shift) for wkv in self.wkv]

    def tensors(self) -> dict[str, Tensor]:
        return {f"blocks.{n}.wkv": wkv.detach() for n, wkv in enumerate(self.wkv)}


class _RWKV4Start(nn.Module):
    """An average and the logarithm of its weight: whatever they become, no weight is negative."""

    def __init__(self, state: Sequence[rwkv4.LayerState]) -> None:
        super().__init__()

        def learnt(parts: list[Tensor]) -> nn.ParameterList:
            return nn.ParameterList(nn.Parameter(part.detach().clone()) for part in parts)

        known = [layer.bb[0] > 0 for layer in state]
        weights = [torch.where(k, s.bb[0], 1.0) for k, s in zip(known, state, strict=True)]
        self.time_shift = learnt([s.time_shift[0] for s in state])
        self.mean = learnt([s.aa[0] / weight for s, weight in zip(state, weights, strict=True)])
        self.log_weight = learnt(
            [
                torch.where(k, s.pp[0] + weight.log(), FAINT)
                for k, s, weight in zip(known, state, weights, strict=True)
            ]
        )
        self.channel_shift = learnt([s.channel_shift[0] for s in state])

    def start(self, batch: int) -> list[rwkv4.LayerState]:
        layers = zip(self.time_shift, self.mean, self.log_weight, self.channel_shift, strict=True)
        return [
            rwkv4.LayerState(
                _repeated(time_shift, batch),
                _repeated(mean, batch),
                _repeated(torch.ones_like(mean), batch),
                _repeated(log_weight, batch),
                _repeated(channel_shift, batch),
            )
            for time_shift, mean, log_weight, channel_shift in layers
        ]

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"blocks.{n}.{name}": part[0].detach()
            for n, layer in enumerate(self.start(1))
            for name, part in layer._asdict().items()
        }


def _repeated(part: Tensor, batch: int) -> Tensor:
    return part.unsqueeze(0).expand(batch, *part.shape)


class StateTuned(nn.Module):
    """A frozen model with a learnt start: to training and generation a model like any other.

    Its only trainable parameters are the start's.
    """

    def __init__(self, model: RWKV4 | RWKV7, state: Sequence[Any] | None = None) -> None:
        """Freeze `model`.

        `state` (of one sequence) is where learning begins: by default the empty one; the state
        after a text in the wanted voice is a head start.
        """
        super().__init__()
        model.requires_grad_(requires_grad=False)
        self.model = model
        self.architecture = _architecture(model)
        first: Sequence[Any] = model.new_state(1) if state is None else state
        kind = _RWKV7Start if self.architecture == "rwkv7" else _RWKV4Start
        self.learnt: _Start = kind(first)

    @property
    def shape(self) -> rwkv4.RWKV4Shape | rwkv7.RWKV7Shape:
        """The model's."""
        return self.model.shape

    @property
    def head(self) -> nn.Linear:
        """The model's."""
        return self.model.head

    def new_state(self, batch: int) -> list[Any]:
        """The learnt state, for `batch` sequences."""
        return self.learnt.start(batch)

    def hidden(
        self, tokens: Tensor, state: Sequence[Any] | None = None
    ) -> tuple[Tensor, Sequence[Any]]:
        """As the model's, from the learnt state if none is given."""
        return self.model.hidden(tokens, self._or_learnt(tokens, state))

    def forward(
        self, tokens: Tensor, state: Sequence[Any] | None = None
    ) -> tuple[Tensor, Sequence[Any]]:
        """As the model's, from the learnt state if none is given."""
        result: tuple[Tensor, Sequence[Any]] = self.model(tokens, self._or_learnt(tokens, state))
        return result

    def _or_learnt(self, tokens: Tensor, state: Sequence[Any] | None) -> Sequence[Any]:
        return self.new_state(tokens.shape[0]) if state is None else state


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Names a model by its weights: SHA-256, in hexadecimal, of names, shapes and values.

    Shapes count without ones, and values as float16, little-endian, which is how models are
    exported: the checkpoint of a run and the model folder made from it are one model. Model files
    carry the same (`lambda_inference.gguf.checkpoint.fingerprint`), however they store the weights.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith(_UNUSED):
            continue
        weight = weights[name].detach().to("cpu", torch.float16).contiguous()
        lengths = [length for length in weight.shape if length != 1]
        digest.update(f"{name} {lengths}\n".encode())
        digest.update(weight.numpy().astype("<f2", copy=False).data)
    return digest.hexdigest()


def save_state(tuned: StateTuned, path: Path) -> None:
    """Write the learnt state; `path` is the old file or the new one, never half of it.

    Raises:
        CheckpointError: the learning went astray (a value is no finite number), or the file
            cannot be written.
    """
    kind = _TYPES[tuned.architecture]
    tensors = {
        name: part.to("cpu", kind).contiguous() for name, part in tuned.learnt.tensors().items()
    }
    for name, part in tensors.items():
        if not torch.isfinite(part).all():
            raise CheckpointError(
                f"The learnt state is of no use: {name} has values that are no numbers, or too "
                f"large for {str(kind).removeprefix('torch.')}. Lower --peak-rate and learn again."
            )
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(save(tensors, metadata=_identity(tuned.model)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"The learnt state {path} could not be written: {error}.") from error


def load_state(path: Path, model: RWKV4 | RWKV7) -> StateTuned:
    """Read a learnt state for `model`, to use it or to go on learning it.

    Raises:
        CheckpointError: the file is missing or damaged, or was learnt with another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"There is no learnt state {path}.") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a learnt state ({error}). Copy or learn it again."
        ) from error
    _refuse_foreign(path, found, _identity(model))
    empty: Sequence[Any] = model.new_state(1)
    wanted = {name: part.shape for name, part in StateTuned(model).learnt.tensors().items()}
    if {name: part.shape for name, part in tensors.items()} != wanted or not all(
        bool(torch.isfinite(part).all()) for part in tensors.values()
    ):
        raise CheckpointError(f"The learnt state {path} is damaged. Copy or learn it again.")
    state = []
    for n, layer in enumerate(empty):
        prefix = f"blocks.{n}."
        parts = {
            name.removeprefix(prefix): part.unsqueeze(0).to(model.emb.weight.device)
            for name, part in tensors.items()
            if name.startswith(prefix)
        }
        state.append(layer._replace(**parts))
    return StateTuned(model, state)


def _architecture(model: RWKV4 | RWKV7) -> str:
    return "rwkv7" if isinstance(model, RWKV7) else "rwkv4"


def _identity(model: RWKV4 | RWKV7) -> dict[str, str]:
    return {
        "format": FORMAT,
        "architecture": _architecture(model),
        "shape": json.dumps(asdict(model.shape), sort_keys=True),
        "fingerprint": fingerprint(model.state_dict()),
    }


def _refuse_foreign(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    if found.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no learnt state of this program.")
    kinds = ("architecture", "shape")
    if any(found.get(kind) != wanted[kind] for kind in kinds):
        theirs, ours = (" ".join(str(one.get(kind)) for kind in kinds) for one in (found, wanted))
        raise CheckpointError(
            f"{path} was learnt with a model of another shape: {theirs}; this one is {ours}. "
            "A learnt state fits only the model it was learnt with."
        )
    if found.get("fingerprint") != wanted["fingerprint"]:
        theirs, ours = (str(one.get("fingerprint"))[:12] for one in (found, wanted))
        raise CheckpointError(
            f"{path} was learnt with other weights of the same shape (model {theirs}, this one is "
            f"{ours}). Load it with the model it was learnt with, or learn one for this model."
        )
