"""States shared between servers: what a store may cost a request, and what its failures mean.

A reply waits for the store for a bounded time at two places: before the first word, while a state
is looked for, and after the last, until what was stored is stored (Lambda freezes a process whose
answer is complete). Everything that goes wrong is a miss; after a failure the store is left alone
for a while.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from lambda_inference.engine import State
from lambda_inference.errors import InferenceError, StateCorrupt

_log = logging.getLogger(__name__)
_MAGIC = b"FRSTATE1"
_DIGEST = 16  # bytes
_LOOK_SECONDS = 2.0  # a request waits for the store before its first word
_PAUSE_SECONDS = 20.0  # without the store after it failed
_LOG_SECONDS = 60.0  # between two lines of the log about failures
_WRITES = 8  # states that may wait to be written; more are dropped


class StateStore(Protocol):
    """Bytes by key, shared between processes. May raise anything; that is a miss."""

    def get(self, key: str) -> bytes | None:
        """The entry, or None."""

    def put(self, key: str, data: bytes) -> None:
        """Write an entry; the last writer wins, and all writers of a key write the same."""


class SharedStates:
    """A store with bounds around it. Safe to use from several threads."""

    def __init__(
        self,
        store: StateStore,
        read: Callable[[bytes], State],
        *,
        look_seconds: float = _LOOK_SECONDS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """`read` is `Engine.state_from_bytes`."""
        self._store = store
        self._read = read
        self._look_seconds = look_seconds
        self._failures = _Failures(pause_seconds)
        self._writes: queue.Queue[tuple[str, State]] = queue.Queue(_WRITES)
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def failures(self) -> int:
        """Looks and writes that failed, and entries that could not be used."""
        return self._failures.count

    def find(self, keys: Iterable[str]) -> tuple[str, State] | None:
        """The first of `keys` that the store has, if it answers in time.

        The looking is done in a thread that may be left behind: a name server, say, can keep a
        call for longer than any timeout of ours.
        """
        if self._failures.paused:
            return None
        found: list[tuple[str, State]] = []
        late = threading.Event()

        def look() -> None:
            for key in keys:
                if late.is_set():
                    return
                state = self._fetch(key)
                if state is not None:
                    found.append((key, state))
                if found or self._failures.paused:
                    return

        thread = threading.Thread(target=look, name="look-for-state", daemon=True)
        thread.start()
        thread.join(self._look_seconds)
        if thread.is_alive():
            late.set()
            self._failures.note(f"no answer within {self._look_seconds:.1f} s", pause=True)
        return found[0] if found else None

    def put(self, key: str, state: State) -> None:
        """Write in the background; nobody may change the state afterwards."""
        if self._failures.paused:
            return
        with self._lock:
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write, name="store-states", daemon=True
                )
                self._writer.start()
        try:
            self._writes.put_nowait((key, state))
        except queue.Full:
            self._failures.note("the store is slower than the replies")

    def settle(self, seconds: float) -> bool:
        """Wait until all is written, for at most `seconds`; False if that was too short."""
        with self._writes.all_tasks_done:
            return self._writes.all_tasks_done.wait_for(
                lambda: not self._writes.unfinished_tasks, max(0.0, seconds)
            )

    def _write(self) -> None:
        while True:
            key, state = self._writes.get()
            try:
                if not self._failures.paused:
                    self._store.put(key, seal(key, state.to_bytes()))
            except Exception as error:  # noqa: BLE001
                self._failures.note(error, pause=True)
            finally:
                self._writes.task_done()

    def _fetch(self, key: str) -> State | None:
        try:
            data = self._store.get(key)
            return None if data is None else self._read(unseal(key, data))
        except StateCorrupt as error:
            self._failures.note(f"a stored state cannot be used: {error}")
        except Exception as error:  # noqa: BLE001
            self._failures.note(error, pause=True)
        return None


class _Failures:
    """Counts what goes wrong, tells the log now and then, and says when to leave the store be."""

    def __init__(self, pause_seconds: float) -> None:
        self.count = 0
        self._told = 0
        self._silent_until = 0.0
        self._pause_seconds = pause_seconds
        self._paused_until = 0.0
        self._lock = threading.Lock()

    @property
    def paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def note(self, error: Exception | str, *, pause: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            self.count += 1
            if pause:
                self._paused_until = now + self._pause_seconds
            if now < self._silent_until:
                return
            self._silent_until = now + _LOG_SECONDS
            new, self._told = self.count - self._told, self.count
        known = isinstance(error, str | InferenceError | OSError)
        _log.warning(
            "the shared state store failed (%d times since last told): %s. Replies may be slower, "
            "not different.",
            new, str(error) or repr(error), exc_info=None if known else error,  # type: ignore[arg-type]
        )  # fmt: skip


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
