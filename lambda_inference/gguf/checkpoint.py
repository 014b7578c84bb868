"""Checkpoints as a mapping from official tensor names to float32 arrays, read one at a time.

safetensors are read through a memory map with numpy alone (bfloat16, which numpy lacks, widens to
float32 by a shift), so converting one needs no torch; `.pth` files need it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelNotFound

Floats = npt.NDArray[np.float32]
SUFFIXES = (".safetensors", ".pth")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors package itself


class Checkpoint(Mapping[str, Floats]):
    """Tensors by name; each access reads one."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it. KeyError if there is none of that name."""


def open_checkpoint(path: Path) -> Checkpoint:
    """The weights at `path` (.safetensors or .pth).

    Raises:
        ModelNotFound: no file there.
        ModelCorrupt: not a checkpoint, or a damaged one.
        EngineUnavailable: a `.pth` without torch installed.
    """
    if not path.is_file():
        raise ModelNotFound(f"There is no checkpoint at {path}.")
    return SafeTensors(path) if path.suffix == ".safetensors" else _Pickled(path)


def fingerprint(weights: Checkpoint, names: Iterable[str]) -> str:
    """Names a checkpoint by the values of its tensors: SHA-256, in hexadecimal.

    Of every name, in alphabetical order, its shape without ones, and its values as float16, little
    endian: the same for a `.pth`, for safetensors, and for whatever was exported from them, however
    a model file then stores the weights. `finetuning.training.state_tuning.fingerprint` is the same
    of a model in torch.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        lengths = [length for length in weights.shape(name) if length != 1]
        digest.update(f"{name} {lengths}\n".encode())
        with np.errstate(over="ignore"):
            digest.update(np.ascontiguousarray(weights[name], "<f2").data)
    return digest.hexdigest()


def checkpoint_in(folder: Path) -> Path:
    """The weights of a folder: `model.safetensors`, `model.pth`, or the only file of such a kind.

    Raises:
        ModelNotFound: none or several are there.
    """
    for suffix in SUFFIXES:
        preferred = folder / f"model{suffix}"
        found = [preferred] if preferred.is_file() else sorted(folder.glob(f"*{suffix}"))
        if len(found) > 1:
            raise ModelNotFound(
                f"{folder} holds several {suffix} files; name one of them. (A checkpoint in "
                "several parts must be joined first.)"
            )
        if found:
            return found[0]
    raise ModelNotFound(
        f"{folder} holds no checkpoint: no file in it ends in .safetensors or .pth."
    )


class SafeTensors(Checkpoint):
    """Length (8 bytes), JSON directory, data: https://github.com/huggingface/safetensors"""  # noqa: D415

    def __init__(self, path: Path) -> None:
        """Read the directory and map the rest.

        Raises:
            ModelCorrupt: it is cut short, or contradicts itself.
        """
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            (length,) = struct.unpack("<Q", head) if len(head) == 8 else (size,)
            if length > min(size - 8, _MAX_HEADER):
                raise ModelCorrupt(f"{path} is not a whole safetensors file.")
            try:
                directory: dict[str, Any] = json.loads(file.read(length))
                self.metadata: dict[str, str] = dict(directory.pop("__metadata__", None) or {})
                self._entries = {name: self._entry(entry) for name, entry in directory.items()}
            except (
                ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
            ) as error:  # fmt: skip
                raise ModelCorrupt(f"{path} has a damaged directory ({error}).") from error
        self._bytes: npt.NDArray[np.uint8] = (
            np.memmap(path, np.uint8, "r", offset=8 + length)
            if size > 8 + length
            else np.zeros(0, np.uint8)
        )
        for name, (dtype, shape, start, end) in self._entries.items():
            wanted = prod(shape) * dtype.itemsize
            if not 0 <= start <= end <= len(self._bytes) or end - start != wanted:
                raise ModelCorrupt(f"{path}: tensor {name} lies outside the file; it is damaged.")

    @staticmethod
    def _entry(entry: dict[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
        start, end = entry["data_offsets"]
        shape = tuple(int(length) for length in entry["shape"])
        if any(length < 0 for length in shape):
            raise ValueError("a negative dimension")
        return np.dtype(_DTYPES[entry["dtype"]]), shape, int(start), int(end)

    def __getitem__(self, name: str) -> Floats:
        dtype, shape, start, end = self._entries[name]
        values = self._bytes[start:end].view(dtype).reshape(shape)
        if dtype == np.dtype("<u2"):
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Checkpoint.shape`."""
        return self._entries[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Pickled(Checkpoint):
    """A PyTorch file, with weights only: nothing in it is executed."""

    def __init__(self, path: Path) -> None:
        try:
            import torch
        except ImportError as error:
            raise EngineUnavailable(
                f"Converting {path.name} needs torch: install friend[reference], or save the "
                "weights as safetensors."
            ) from error
        try:
            # Files of PyTorch before 1.6 are no archives and cannot be mapped.
            mapped = zipfile.is_zipfile(path)
            weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # torch.load and pickle raise anything on a foreign file
            reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            raise ModelCorrupt(f"{path} cannot be read as a checkpoint ({reason}).") from error
        if not isinstance(weights, dict):
            raise ModelCorrupt(f"{path} does not hold named tensors.")
        self._weights: dict[str, Any] = weights

    def __getitem__(self, name: str) -> Floats:
        values: Floats = self._weights[name].detach().float().numpy()
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._weights[name].shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
