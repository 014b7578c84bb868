"""The C++ engine behind the engine interface: the default, and all that serving needs.

A state is an opaque object of `lambda_inference._native`. Its floats, layer after layer:

- RWKV-4: shift of the time mixing, shift of the channel mixing, aa, bb, pp [width each];
- RWKV-7: the two shifts [width each], then one matrix a head, [key j][value i] (the reference
  keeps it as [value][key]).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_inference import _native
from lambda_inference.errors import ModelCorrupt, ModelError, ModelNotFound, StateCorrupt

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lambda_inference.engine import Layers, State

# Magic, generation, layers, width, head size, CRC-32 of the floats.
_HEADER = struct.Struct("<8sIIIII")
_MAGIC = b"FRWKVST1"


class NativeState:
    """What the network remembers. Never changed once made."""

    __slots__ = ("inner", "shape")

    def __init__(self, inner: _native.State, shape: tuple[int, int, int, int]) -> None:
        self.inner = inner
        self.shape = shape

    @property
    def nbytes(self) -> int:
        """Size in memory, bytes."""
        return self.inner.nbytes

    def copy(self) -> NativeState:
        """An independent state with the same values."""
        return NativeState(self.inner.copy(), self.shape)

    def to_bytes(self) -> bytes:
        """Header with the model's shape and a checksum, then float32 values."""
        floats = self.inner.floats()
        return _HEADER.pack(_MAGIC, *self.shape, zlib.crc32(floats)) + floats


class NativeEngine:
    """RWKV-4 or RWKV-7 from a GGUF file. Safe to call from several threads at once."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Map the file; threads start with the first token.

        `threads` None means the CPUs this process was given, cgroup quota included. The variable
        FRIEND_ISA forces an instruction set, for tests.

        Raises:
            ModelNotFound: no file at `path`.
            ModelCorrupt: not a model file that this engine can run.
            ModelError: FRIEND_ISA names an instruction set that this processor lacks.
        """
        if not path.is_file():
            raise ModelNotFound(f"There is no model file at {path}.")
        try:
            self._session: _native.Session | None = _native.Session(str(path), threads or 0)
        except _native.ModelFileError as error:
            raise ModelCorrupt(str(error)) from error
        except RuntimeError as error:
            raise ModelError(str(error)) from error
        session = self._session
        self._shape = (session.generation, session.layers, session.width, session.head_size)
        self._vocab_size = session.vocab_size

    @property
    def vocab_size(self) -> int:
        """Number of logits a step gives."""
        return self._vocab_size

    @property
    def isa(self) -> str:
        """The instruction set in use: avx512, avx2, neon_dotprod, neon or scalar."""
        return self._open().isa

    @property
    def bytes_per_token(self) -> int:
        """Weights that a token reads when decoding, bytes."""
        return self._open().bytes_per_token

    @property
    def threads(self) -> int:
        """Threads that share a step."""
        return self._open().threads

    def new_state(self) -> State:
        """The state before the first token."""
        return NativeState(self._open().new_state(), self._shape)

    def forward(
        self, tokens: Sequence[int], state: State | None
    ) -> tuple[npt.NDArray[np.float32], State]:
        """See `Engine.forward`. The GIL is released meanwhile.

        Raises:
            ValueError: no token, a token outside the vocabulary, or another engine's state.
            ModelCorrupt: the model file was shortened since it was opened.
        """
        return self._run(tokens, state, each=False)

    def forward_each(
        self, tokens: Sequence[int], state: State | None
    ) -> tuple[npt.NDArray[np.float32], State]:
        """As `forward`, with logits [tokens, vocab_size]: a row after every one of `tokens`.

        The rows are the ones that `forward` gives, to the bit. Raises as `forward` does.
        """
        return self._run(tokens, state, each=True)

    def forward_batch(
        self, tokens: Sequence[Sequence[int]], states: Sequence[State | None]
    ) -> tuple[npt.NDArray[np.float32], list[State]]:
        """See `Engine.forward_batch`. Raises as `forward` does, before any token is read."""
        inner = [_inner(state) for state in states]
        try:
            logits, after = self._open().forward_batch([list(one) for one in tokens], inner)
        except _native.ModelFileError as error:
            raise ModelCorrupt(str(error)) from error
        return logits, [NativeState(state, self._shape) for state in after]

    def state_from_bytes(self, data: bytes) -> State:
        """See `Engine.state_from_bytes`."""
        if len(data) < _HEADER.size:
            raise StateCorrupt("These bytes are too short for a state.")
        magic, *shape, checksum = _HEADER.unpack_from(data)
        floats = data[_HEADER.size :]
        if magic != _MAGIC:
            raise StateCorrupt("These bytes are not a state of the native engine.")
        if tuple(shape) != self._shape:
            raise StateCorrupt("The state belongs to a model of another shape.")
        if zlib.crc32(floats) != checksum:
            raise StateCorrupt("The state is damaged.")
        try:
            return NativeState(self._open().state_from_floats(floats), self._shape)
        except ValueError as error:
            raise StateCorrupt(str(error)) from error

    def state_from_layers(self, layers: Layers) -> State:
        """See `Engine.state_from_layers`."""
        import numpy as np

        generation, _, width, _ = self._shape
        parts: list[npt.NDArray[np.float32]] = []
        for layer in layers:
            if generation == 7:
                parts += [np.zeros(2 * width, np.float32), layer["wkv"].transpose(0, 2, 1)]
            else:
                names = ("time_shift", "channel_shift", "aa", "bb", "pp")
                parts += [layer[name] for name in names]
        floats = b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)
        return NativeState(self._open().state_from_floats(floats), self._shape)

    def close(self) -> None:
        """Give the weights back, once no step is running."""
        self._session = None

    def _run(
        self, tokens: Sequence[int], state: State | None, *, each: bool
    ) -> tuple[npt.NDArray[np.float32], State]:
        inner = _inner(state)
        try:
            logits, after = self._open().forward(list(tokens), inner, each=each)
        except _native.ModelFileError as error:
            raise ModelCorrupt(str(error)) from error
        return logits, NativeState(after, self._shape)

    def _open(self) -> _native.Session:
        if self._session is None:
            raise ValueError("The engine is closed.")
        return self._session


def _inner(state: State | None) -> _native.State | None:
    if state is not None and not isinstance(state, NativeState):
        raise ValueError("The state belongs to another engine.")
    return None if state is None else state.inner
