"""Engine states of token prefixes, so that a conversation goes on where it ended.

A pure function of its key: a miss or an eviction makes a reply slower, never different. In memory
the least recently used states go first when the bound in bytes is reached; a shared store, such as
S3, may stand behind, and there a damaged or foreign entry is a miss.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from lambda_inference.engine import State
from lambda_inference.errors import StateCorrupt

_log = logging.getLogger(__name__)
_MAGIC = b"FRSTATE1"
_DIGEST = 16  # bytes
_STORE_LOOKS = 4  # round trips a request may spend on the store


class StateStore(Protocol):
    """Bytes by key, shared between processes. May raise anything; that is a miss."""

    def get(self, key: str) -> bytes | None:
        """The entry, or None."""

    def put(self, key: str, data: bytes) -> None:
        """Write an entry; the last writer wins, and all writers of a key write the same."""


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

    def __init__(
        self,
        limit: int,
        *,
        store: StateStore | None = None,
        read: Callable[[bytes], State] | None = None,
    ) -> None:
        """`limit` in bytes; 0 keeps nothing in memory. `read` is `Engine.state_from_bytes`."""
        self._limit = limit
        self._store = store if read is not None else None
        self._read = read
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

        Memory is asked for every key, the store only for the last few: each miss there is a round
        trip, and a conversation that went on elsewhere is found at its last turns or not at all.
        """
        found: tuple[int, State | None] = (0, None)
        for count in range(len(keys), 0, -1):
            state = self._recall(keys[count - 1])
            if state is not None:
                found = (count, state)
                break
        for count in range(len(keys), max(found[0], len(keys) - _STORE_LOOKS), -1):
            state = self._fetch(keys[count - 1])
            if state is not None:
                self._keep(keys[count - 1], state)
                return count, state
        return found

    def put(self, key: str, state: State, *, share: bool = True) -> None:
        """Keep a state, in the store too if `share`. Nobody may change it afterwards."""
        self._keep(key, state)
        if share and self._store is not None:
            try:
                self._store.put(key, seal(key, state.to_bytes()))
            except Exception:  # noqa: BLE001
                _log.warning("a state was not stored; a later reply may be slower", exc_info=True)

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

    def _fetch(self, key: str) -> State | None:
        if self._store is None or self._read is None:
            return None
        try:
            data = self._store.get(key)
            return None if data is None else self._read(unseal(key, data))
        except StateCorrupt as error:
            _log.warning("a stored state is not usable and counts as a miss: %s", error)
        except Exception:  # noqa: BLE001
            _log.warning("the state store failed, which counts as a miss", exc_info=True)
        return None


def seal(key: str, data: bytes) -> bytes:
    """An entry as it is stored: magic, digest of key and data, data."""
    return _MAGIC + _digest(key, data) + data


def unseal(key: str, entry: bytes) -> bytes:
    """The data of a stored entry.

    Raises:
        StateCorrupt: not an entry, damaged, or stored under another key.
    """
    head = len(_MAGIC) + _DIGEST
    if len(entry) < head or not entry.startswith(_MAGIC):
        raise StateCorrupt("not an entry of this cache")
    data = entry[head:]
    if entry[len(_MAGIC) : head] != _digest(key, data):
        raise StateCorrupt("the entry is damaged")
    return data


def _digest(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST, key=key.encode()[:64]).digest()
