"""Metadata and tensor directory of a GGUF file, without numpy or the gguf package.

The native engine checks and maps the weights itself; this reads what the server needs beside
them (tokenizer, chat template) and what `friend model info` shows. Every length is compared with
the bytes that are there before it is used.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn, TypeAlias

from lambda_inference.errors import ModelCorrupt, ModelNotFound

Scalar: TypeAlias = int | float | bool | str
Value: TypeAlias = Scalar | list[int] | list[float] | list[bool] | list[str]

#: Number -> name, elements and bytes of a block.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    8: ("Q8_0", 32, 34),
}

_STRING, _ARRAY, _BOOL = 8, 9, 7
_FORMATS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_MAX_NAME = 1024  # bytes
_MAX_DIMENSION = 1 << 40


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the directory: `shape` outermost first, `offset` and `nbytes` in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int | None
    """None for a type that this project does not read."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself."""

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    size: int

    @property
    def architecture(self) -> str:
        """`rwkv4` or `rwkv7` for a file that the engine runs."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)


def read_metadata(path: Path, keys: Collection[str] | None = None) -> dict[str, Value]:
    """The metadata of the file at `path`; of `keys` only, stopping as soon as all are found.

    Converted files have the tokenizer and the template before the long lists that only llama.cpp
    reads, so that asking for those by name costs no walk through the lists.

    Raises:
        ModelNotFound: no such file.
        ModelCorrupt: not a whole GGUF file.
    """
    with _Reader(path) as reader:
        return reader.metadata(None if keys is None else set(keys))


def read_info(path: Path) -> ModelInfo:
    """Everything but the weights.

    Raises:
        ModelNotFound: no such file.
        ModelCorrupt: not a whole GGUF file.
    """
    with _Reader(path) as reader:
        metadata = reader.metadata(None)
        tensors = reader.tensors(metadata)
        return ModelInfo(path, reader.version, metadata, tensors, reader.size)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise ModelNotFound(f"There is no model file at {path}.") from error
        except OSError as error:
            raise ModelNotFound(f"The model file {path} cannot be opened: {error}.") from error
        with file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (ValueError, OSError) as error:
                raise ModelCorrupt(
                    f"Cannot use the model file {path}: it is empty or no regular file."
                ) from error
        self.size = len(self._map)
        self._at = 0
        try:
            self._header()
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def _fail(self, what: str) -> NoReturn:
        raise ModelCorrupt(f"Cannot use the model file {self.path}: {what}.")

    def _header(self) -> None:
        magic = self._take(4)
        if magic != b"GGUF":
            if magic[:2] == b"PK":
                self._fail(
                    "it is a PyTorch checkpoint, not GGUF; run `friend model convert` on it first"
                )
            self._fail("it is not a GGUF file")
        self.version = int(self._number(4))
        if self.version not in (2, 3):
            self._fail(f"its GGUF version is {self.version} (2 and 3 are supported)")
        self._tensor_count = int(self._number(10))
        self._value_count = int(self._number(10))
        if self._tensor_count > self.size // 33 or self._value_count > self.size // 14:
            self._fail(
                f"it claims {self._tensor_count} tensors and {self._value_count} metadata "
                "values, more than it can hold"
            )

    def _take(self, count: int) -> bytes:
        if count > self.size - self._at:
            self._fail("it ends in the middle of its header; the file is truncated or damaged")
        self._at += count
        return self._map[self._at - count : self._at]

    def _number(self, kind: int) -> int | float | bool:
        format_ = "<" + _FORMATS[kind]
        raw = self._take(struct.calcsize(format_))
        if kind == _BOOL:
            return raw != b"\0"
        value: int | float = struct.unpack(format_, raw)[0]
        return value

    def _string(self) -> str:
        return self._take(int(self._number(10))).decode("utf-8", "replace")

    def _name(self, what: str) -> str:
        length = int(self._number(10))
        if not 1 <= length <= _MAX_NAME:
            self._fail(f"{what} is {length} bytes long (1 to {_MAX_NAME} allowed)")
        return self._take(length).decode("utf-8", "replace")

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind in _FORMATS:
            return self._number(kind)
        if kind != _ARRAY:
            self._fail(f"a metadata value has the unknown type {kind}")
        of, count = int(self._number(4)), int(self._number(10))
        if of == _STRING:
            if count > (self.size - self._at) // 8:
                self._fail(f"a metadata array claims {count} values, more than the file holds")
            return [self._string() for _ in range(count)]
        if of not in _FORMATS:
            self._fail(f"a metadata array has the unsupported type {of}")
        width = struct.calcsize("<" + _FORMATS[of])
        if count > (self.size - self._at) // width:
            self._fail(f"a metadata array claims {count} values, more than the file holds")
        raw = self._take(count * width)
        if of == _BOOL:
            return [byte != 0 for byte in raw]
        return list(struct.unpack(f"<{count}{_FORMATS[of]}", raw))

    def metadata(self, keys: set[str] | None) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for _ in range(self._value_count):
            key = self._name("a metadata key")
            value = self._value(int(self._number(4)))
            if key in found:
                self._fail(f"the metadata key {key} is there twice")
            if keys is None or key in keys:
                found[key] = value
                if keys is not None and len(found) == len(keys):
                    break
        return found

    def tensors(self, metadata: Mapping[str, Value]) -> tuple[TensorInfo, ...]:
        entries = [self._tensor() for _ in range(self._tensor_count)]
        if len({entry.name for entry in entries}) < len(entries):
            self._fail("a tensor is there twice")
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            self._fail(f"its alignment is {alignment} (a power of two from 8 on expected)")
        start = -(-self._at // alignment) * alignment
        for entry in entries:
            if entry.nbytes is not None and start + entry.offset + entry.nbytes > self.size:
                self._fail(
                    f"tensor {entry.name} lies beyond the end of the file; it is truncated "
                    "or damaged"
                )
        return tuple(entries)

    def _tensor(self) -> TensorInfo:
        name = self._name("a tensor name")
        dimensions = int(self._number(4))
        if not 1 <= dimensions <= 4:
            self._fail(f"tensor {name} has {dimensions} dimensions (1 to 4 allowed)")
        shape = tuple(int(self._number(10)) for _ in range(dimensions))[::-1]
        if not all(1 <= length <= _MAX_DIMENSION for length in shape):
            self._fail(f"tensor {name} has the shape {shape}")
        kind, offset = int(self._number(4)), int(self._number(10))
        if kind not in TENSOR_TYPES:
            return TensorInfo(name, f"type {kind}", shape, offset, None)
        label, block, width = TENSOR_TYPES[kind]
        if shape[-1] % block:
            self._fail(f"tensor {name} is {label}, but its rows are no multiple of {block} long")
        return TensorInfo(name, label, shape, offset, prod(shape) // block * width)
