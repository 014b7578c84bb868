"""One interface, several engines: tokens and a state in, logits and a state out.

RWKV is a recurrent network, so its whole memory of a conversation is one state of fixed size.
Engines take and give that state explicitly and never change the one they were given: that is what
makes it cacheable and lets concurrent requests share one set of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from lambda_inference.errors import EngineUnavailable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lambda_inference.gguf.checkpoint import Floats

EngineKind = Literal["auto", "native", "reference"]
S = TypeVar("S", bound="State")
Layers = Sequence[Mapping[str, "Floats"]]
"""A learnt state's parts, layer by layer, for `Engine.state_from_layers`."""


class State(Protocol):
    """What the network remembers; opaque outside the engine that made it."""

    @property
    def nbytes(self) -> int:
        """Size in memory, bytes: what a bounded cache counts."""

    def copy(self: S) -> S:
        """An independent state with the same values."""

    def to_bytes(self) -> bytes:
        """A form that `Engine.state_from_bytes` of the same model reads back exactly."""


class Engine(Protocol):
    """A loaded model. Safe to call from several threads at once."""

    @property
    def vocab_size(self) -> int:
        """Number of logits a step gives."""

    def new_state(self) -> State:
        """The state before the first token."""

    def forward(
        self, tokens: Sequence[int], state: State | None
    ) -> tuple[npt.NDArray[np.float32], State]:
        """Logits [vocab_size] after the last of `tokens` (at least one), and the new state.

        `state` None means a new one. The given state is left as it was.
        """

    def forward_batch(
        self, tokens: Sequence[Sequence[int]], states: Sequence[State | None]
    ) -> tuple[npt.NDArray[np.float32], list[State]]:
        """Logits [sequences, vocab_size] and new states of several sequences at once.

        Each is `tokens` (at least one; a reply's next one, or a piece of a prompt) after its state.
        A row and a state are those that `forward` gives for the sequence alone, to the bit for the
        native engine, which reads the weights once for all of them. States may be shared.
        """

    def state_from_bytes(self, data: bytes) -> State:
        """Read `State.to_bytes` back.

        Raises:
            StateCorrupt: the bytes are damaged or belong to another model.
        """

    def state_from_layers(self, layers: Layers) -> State:
        """A learnt initial state as an engine's; `layers` must be of this model's shape."""

    def close(self) -> None:
        """Give the weights back; the engine is not used afterwards."""


def load_engine(path: Path, *, kind: EngineKind = "auto", threads: int | None = None) -> Engine:
    """Open the weights at `path` (a .gguf, .safetensors or .pth file).

    `auto` takes the native engine for .gguf and the reference engine for the others. `threads`
    None means the CPUs this process was given, cgroup quota included.

    Raises:
        ModelError: missing, corrupt, or no engine for it is installed.
    """
    if kind == "auto":
        kind = "native" if path.suffix == ".gguf" else "reference"
    if kind == "native":
        try:
            from lambda_inference.engine.native import NativeEngine
        except ImportError as error:
            raise EngineUnavailable(
                f"The native engine is not built, so {path.name} cannot be served ({error}). "
                "Reinstall friend with a C++ compiler at hand."
            ) from error
        return NativeEngine(path, threads=threads)
    from lambda_inference.engine.reference import ReferenceEngine

    return ReferenceEngine(path, threads=threads)
