"""An engine that says what a test wants, and remembers all it was fed."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lambda_inference.engine import State
from lambda_inference.errors import StateCorrupt

Script = Callable[[tuple[int, ...]], int]


class ScriptedState:
    """The tokens so far: exactly what a recurrent state stands for."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self.tokens = tokens

    @property
    def nbytes(self) -> int:
        return 1000

    def copy(self) -> ScriptedState:
        return ScriptedState(self.tokens)

    def to_bytes(self) -> bytes:
        return b"SCRIPT" + struct.pack(f"<{len(self.tokens)}I", *self.tokens)


class ScriptedEngine:
    """`script` gives the token that follows a history."""

    def __init__(self, vocab_size: int, script: Script) -> None:
        self.vocab_size = vocab_size
        self.script = script
        self.second: dict[tuple[int, ...], int] = {}
        """The second most likely token after histories that end so."""
        self.fed = 0
        self.calls: list[tuple[int, ...]] = []
        self.go = threading.Event()
        self.go.set()

    def new_state(self) -> State:
        return ScriptedState(())

    def forward(
        self, tokens: Sequence[int], state: State | None
    ) -> tuple[npt.NDArray[np.float32], State]:
        assert tokens
        self.go.wait(10)
        before = () if state is None else state.tokens  # type: ignore[attr-defined]
        self.fed += len(tokens)
        self.calls.append(tuple(tokens))
        after = ScriptedState((*before, *tokens))
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        logits[self.script(after.tokens)] = 30.0
        for end, token in self.second.items():
            if after.tokens[-len(end) :] == end:
                logits[token] = max(logits[token], 20.0)
        return logits, after

    def forward_batch(
        self, tokens: Sequence[Sequence[int]], states: Sequence[State | None]
    ) -> tuple[npt.NDArray[np.float32], list[State]]:
        done = [self.forward(one, state) for one, state in zip(tokens, states, strict=True)]
        return np.array([logits for logits, _ in done]), [state for _, state in done]

    def state_from_bytes(self, data: bytes) -> State:
        if not data.startswith(b"SCRIPT") or len(data) % 4 != 2:
            raise StateCorrupt("not a scripted state")
        return ScriptedState(struct.unpack(f"<{(len(data) - 6) // 4}I", data[6:]))

    def close(self) -> None:
        pass
