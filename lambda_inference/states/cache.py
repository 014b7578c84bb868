"""Engine states of token prefixes, so that a conversation goes on where it ended.

A pure function of its key: a miss or an eviction makes a reply slower, never different. In memory
the least recently used states go first when the bound in bytes is reached; a shared store, such as
S3, may stand behind, and there a damaged or foreign entry is a miss.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from lambda_inference.engine import State
from lambda_inference.states.shared import SharedStates

_STORE_LOOKS = 4  # round trips a request may spend on the store


class PrefixHash:
    """The keys of growing prefixes of one token sequence, each in time of its new tokens."""

    def __init__(self, model: str) -> None:
        """`model` names weights and engine: a state fits no other."""
        self._hash = hashlib.blake2b(model.encode() + b"\0", digest_size=20)

    def extend(self, tokens: Sequence[int]) -> str:
        """The key of everything so far and `tokens`."""
        self._hash.update(struct.pack(f"<{len(tokens)}I", *tokens))
        return self._hash.copy().hexdigest()


def prefix_keys(model: str, turns: Iterable[Sequence[int]]) -> list[str]:
    """The key after each of `turns`."""
    prefix = PrefixHash(model)
    return [prefix.extend(turn) for turn in turns]


class StateCache:
    """A bounded, least-recently-used cache, with an optional store behind it."""

    def __init__(self, limit: int, *, shared: SharedStates | None = None) -> None:
        """`limit` in bytes; 0 keeps nothing in memory. `shared` stands behind."""
        self._limit = limit
        self._shared = shared
        self._states: OrderedDict[str, State] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._states)

    def longest(self, keys: Sequence[str]) -> tuple[int, State | None]:
        """The longest prefix at hand: how many of `keys` (shortest first) it covers, its state.

        Memory is asked for every key. The store costs a round trip a key, so it is asked for the
        last few only, and not at all if memory knows all but what was said last. The turn before
        the last comes first: there the last reply ended, wherever that was.
        """
        found: tuple[int, State | None] = (0, None)
        for count in range(len(keys), 0, -1):
            state = self._recall(keys[count - 1])
            if state is not None:
                found = (count, state)
                break
        if self._shared is None or len(keys) - found[0] <= 1:
            return found
        places = {key: count for count, key in enumerate(keys, 1)}
        last = [*reversed(keys[found[0] :])][:_STORE_LOOKS]
        hit = self._shared.find([*last[1:2], *last[:1], *last[2:]])
        if hit is None:
            return found
        self._keep(*hit)
        return places[hit[0]], hit[1]

    def put(self, key: str, state: State, *, share: bool = True) -> None:
        """Keep a state, in the store too if `share`. Nobody may change it afterwards."""
        self._keep(key, state)
        if share and self._shared is not None:
            self._shared.put(key, state)

    def settle(self, seconds: float) -> None:
        """Wait until the store has what was put, for at most `seconds`."""
        if self._shared is not None:
            self._shared.settle(seconds)

    def _recall(self, key: str) -> State | None:
        with self._lock:
            state = self._states.get(key)
            if state is not None:
                self._states.move_to_end(key)
            return state

    def _keep(self, key: str, state: State) -> None:
        size = state.nbytes
        with self._lock:
            old = self._states.pop(key, None)
            if old is not None:
                self._bytes -= old.nbytes
            if size > self._limit:
                return
            self._states[key] = state
            self._bytes += size
            while self._bytes > self._limit:
                _, gone = self._states.popitem(last=False)
                self._bytes -= gone.nbytes
