"""A learnt initial state: a voice for a model, in a file of its own.

The files are those of `finetuning.training.state_tuning`, which documents them; they are read
here without torch or the safetensors package. A state means something only to the model it was
learnt with, so each is compared with the model before it is used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lambda_inference.errors import ModelCorrupt, ModelError, ModelNotFound, StateForeign

if TYPE_CHECKING:
    from lambda_inference.engine import Layers
    from lambda_inference.gguf.checkpoint import SafeTensors

_log = logging.getLogger(__name__)
FORMAT = "friend-initial-state-1"
SUFFIX = ".safetensors"
_PARTS = {"rwkv4": ("time_shift", "aa", "bb", "pp", "channel_shift"), "rwkv7": ("wkv",)}


@dataclass(frozen=True)
class Identity:
    """Which weights: a model's own, or those that a state was learnt with."""

    architecture: str
    layers: int
    width: int
    head_size: int
    """0 for RWKV-4, which has no heads."""
    fingerprint: str
    """See `gguf.checkpoint.fingerprint`; empty if it is not known."""

    def __str__(self) -> str:
        heads = f" in heads of {self.head_size}" if self.head_size else ""
        return f"{self.architecture} with {self.layers} layers of {self.width}{heads}"

    @property
    def _shape(self) -> tuple[str, int, int, int]:
        return self.architecture, self.layers, self.width, self.head_size

    def refuse_foreign(self, path: Path, model: Identity) -> None:
        """Raise unless the state at `path`, learnt with these weights, fits `model`.

        A model file that does not say which checkpoint it was made of is compared by shape alone,
        and the log says so.

        Raises:
            StateForeign: it was learnt with another model.
        """
        if self._shape != model._shape:
            raise StateForeign(
                f"{path} was learnt with another model ({self}; this one is {model}). Serve it "
                "with that one, or learn one for this model."
            )
        if not model.fingerprint:
            _log.warning(
                "%s fits by its shape; whether it was learnt with this very model cannot be told, "
                "because the model file does not name its checkpoint. `friend model convert` "
                "writes files that do.",
                path,
            )
        elif self.fingerprint != model.fingerprint:
            raise StateForeign(
                f"{path} was learnt with other weights of the same shape (checkpoint "
                f"{self.fingerprint[:12]}; this one is {model.fingerprint[:12]}). Serve it with "
                "those, or learn one for this model."
            )


class LearntState:
    """A file, its header read and checked; the values are read by `layers`."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ModelNotFound: no file at `path`.
            ModelCorrupt: not a learnt state, or a damaged one.
        """
        from lambda_inference.gguf.checkpoint import SafeTensors

        if not path.is_file():
            raise ModelNotFound(f"There is no learnt state at {path}.")
        try:
            self._file: SafeTensors = SafeTensors(path)
        except OSError as error:
            raise ModelNotFound(f"The learnt state {path} cannot be read ({error}).") from error
        except ModelCorrupt as error:
            raise ModelCorrupt(f"{error} Copy the learnt state again.") from error
        self.path = path
        self.identity = _identity_in(path, self._file.metadata)
        if self._shapes() != {name: self._file.shape(name) for name in self._file}:
            raise _damaged(path)

    def layers(self) -> Layers:
        """The values, float32.

        Raises:
            ModelCorrupt: a value is no finite number.
        """
        names = _PARTS[self.identity.architecture]
        layers = [
            {name: self._file[f"blocks.{n}.{name}"] for name in names}
            for n in range(self.identity.layers)
        ]
        if not all(np.isfinite(part).all() for layer in layers for part in layer.values()):
            raise _damaged(self.path)
        return layers

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        one = self.identity
        if one.layers > len(self._file):  # each has at least one tensor: a header may claim any
            raise _damaged(self.path)
        shape: tuple[int, ...] = (one.width,)
        if one.head_size:
            shape = (one.width // one.head_size, one.head_size, one.head_size)
        names = _PARTS[one.architecture]
        return {f"blocks.{n}.{name}": shape for n in range(one.layers) for name in names}


def is_learnt_state(path: Path) -> bool:
    """Whether the file at `path` says that it is one, sound or not."""
    if path.suffix != SUFFIX:
        return False
    from lambda_inference.gguf.checkpoint import SafeTensors

    try:
        return str(SafeTensors(path).metadata.get("format", "")).startswith("friend-initial-state")
    except (OSError, ModelError):
        return False


def open_states(place: Path) -> dict[str, LearntState]:
    """The file at `place` under the name "", or each file of a folder under its own, sorted.

    Raises:
        ModelNotFound: nothing is there.
        ModelCorrupt: not a learnt state, or a damaged one.
    """
    if not place.is_dir():
        return {"": LearntState(place)}
    found = {path.stem: LearntState(path) for path in sorted(place.glob(f"*{SUFFIX}"))}
    if not found:
        raise ModelNotFound(f"{place} holds no learnt state: no file in it ends in {SUFFIX}.")
    return found


def identity_of(weights: Path) -> Identity:
    """The identity of the model whose weights are at `weights`: .gguf, .safetensors or .pth.

    Raises:
        ModelError: it is no model.
    """
    if weights.suffix == ".gguf":
        return _identity_of_gguf(weights)
    from lambda_inference.gguf.checkpoint import fingerprint, open_checkpoint
    from lambda_inference.gguf.layout import shape_of, tensors_of

    checkpoint = open_checkpoint(weights)
    shape = shape_of(checkpoint)
    sources = {name for tensor in tensors_of(checkpoint, shape) for name in tensor.sources}
    head_size = shape.head_size if shape.generation == 7 else 0
    return Identity(
        shape.architecture,
        shape.layers,
        shape.width,
        head_size,
        fingerprint(checkpoint, sources),
    )


def _identity_of_gguf(path: Path) -> Identity:
    from lambda_inference.gguf.reader import read_metadata

    # All of it: in a file without a fingerprint one that is asked for is looked for to the end.
    known = read_metadata(path)
    kind = str(known.get("general.architecture", ""))

    def number(name: str) -> int:
        value = known.get(f"{kind}.{name}")
        return value if isinstance(value, int) else 0

    return Identity(
        kind,
        number("block_count"),
        number("embedding_length"),
        number("wkv.head_size"),
        str(known.get("friend.fingerprint", "")),
    )


def _identity_in(path: Path, metadata: Mapping[str, object]) -> Identity:
    if metadata.get("format") != FORMAT:
        raise ModelCorrupt(f"{path} is no learnt state that this version of friend can read.")
    architecture = str(metadata.get("architecture"))
    try:
        shape = json.loads(str(metadata.get("shape")))
        layers, width = shape["layers"], shape["width"]
        head_size = shape["head_size"] if architecture == "rwkv7" else 0
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    sizes = (layers, width, head_size)
    if architecture not in _PARTS or not all(type(size) is int for size in sizes):
        raise _damaged(path)
    if layers < 1 or width < 1 or (architecture == "rwkv7" and head_size < 1):
        raise _damaged(path)
    return Identity(architecture, *sizes, str(metadata.get("fingerprint", "")))


def _damaged(path: Path) -> ModelCorrupt:
    return ModelCorrupt(f"The learnt state {path} is damaged. Copy or learn it again.")
