"""Whatever the store does, a state that comes out is right, and the wait for it is short."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.errors import StateCorrupt, StateStoreFailed
from lambda_inference.states.shared import SharedStates, seal, unseal
from tests.lambda_inference.scripted import ScriptedEngine, ScriptedState

READ = ScriptedEngine(4, lambda _: 0).state_from_bytes
STATE = ScriptedState((1, 2))


class Store:
    """A store in memory that does `before` each look or write."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.entries: dict[str, bytes] = {}
        self.calls = 0
        self.before = before

    def get(self, key: str) -> bytes | None:
        self.calls += 1
        self.before()
        return self.entries.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.calls += 1
        self.before()
        self.entries[key] = data


def fail() -> None:
    raise ConnectionError("nobody there")


def test_what_one_writes_another_finds() -> None:
    store = Store()
    here = SharedStates(store, READ)
    here.put("k2", ScriptedState((1, 2, 3)))
    assert here.settle(10)
    found = SharedStates(store, READ).find(["none", "k2", "k"])
    assert found is not None
    key, state = found
    assert key == "k2"
    assert isinstance(state, ScriptedState)
    assert state.tokens == (1, 2, 3)


@given(damage=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_entry_is_a_miss(damage: int, value: int) -> None:
    store = Store()
    entry = bytearray(seal("k", STATE.to_bytes()))
    entry[damage % len(entry)] ^= value
    store.entries["k"] = bytes(entry)
    states = SharedStates(store, READ)
    assert states.find(["k"]) is None
    assert states.failures == 1


@given(st.binary(max_size=60))
def test_a_foreign_entry_is_a_miss(data: bytes) -> None:
    with pytest.raises(StateCorrupt):
        unseal("k", data)


@pytest.mark.parametrize("cut", [0, 5, 20, 24, 30])
def test_a_cut_or_misplaced_entry_is_a_miss(cut: int) -> None:
    store = Store()
    entry = seal("k", STATE.to_bytes())
    store.entries = {"k": entry[:cut], "other": entry}
    states = SharedStates(store, READ)
    assert states.find(["k"]) is None
    assert states.find(["other"]) is None
    assert unseal("k", entry) == STATE.to_bytes()


def test_a_state_of_another_model_is_a_miss_and_the_next_key_is_tried() -> None:
    store = Store()
    store.entries["k"] = seal("k", b"whole, but nothing this engine can read")
    store.entries["k0"] = seal("k0", STATE.to_bytes())
    found = SharedStates(store, READ).find(["k", "k0"])
    assert found is not None
    assert found[0] == "k0"


def test_a_store_that_is_down_is_left_alone_for_a_while() -> None:
    store = Store(fail)
    states = SharedStates(store, READ, pause_seconds=0.3)
    assert states.find(["a", "b", "c"]) is None
    assert store.calls == 1, "after a failure there is no next look"
    states.put("k", STATE)
    assert states.settle(10)
    assert states.find(["a"]) is None
    assert (store.calls, states.failures) == (1, 1)
    store.before = lambda: None
    end = time.monotonic() + 10
    while not store.entries:
        assert time.monotonic() < end
        states.put("k", STATE)
        states.settle(10)
    assert states.find(["k"]) is not None


def test_failures_are_told_once_a_minute_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    states = SharedStates(Store(fail), READ, pause_seconds=0)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            states.find(["k"])
            states.put("k", STATE)
            states.settle(10)
    assert states.failures == 10
    assert len(caplog.records) == 1
    assert (
        caplog.records[0]
        .getMessage()
        .startswith("the shared state store failed (1 times since last told): nobody there.")
    )
    assert caplog.records[0].exc_info is None


def test_a_bug_in_a_store_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    def bug() -> None:
        raise KeyError("x")

    with caplog.at_level(logging.WARNING):
        assert SharedStates(Store(bug), READ).find(["k"]) is None
    assert caplog.records[0].exc_info is not None


def test_a_store_that_hangs_costs_a_bounded_time_once() -> None:
    go = threading.Event()
    store = Store(lambda: [None, go.wait(30)][0])
    states = SharedStates(store, READ, look_seconds=0.2)
    try:
        started = time.monotonic()
        assert states.find([f"k{number}" for number in range(9)]) is None
        first = time.monotonic() - started
        assert states.find(["k"]) is None
        assert 0.2 <= first < 5
        assert store.calls == 1
    finally:
        go.set()


def test_writes_wait_in_the_background_and_are_bounded() -> None:
    go = threading.Event()
    store = Store(lambda: [None, go.wait(30)][0])
    states = SharedStates(store, READ)
    for number in range(30):
        states.put(f"k{number}", STATE)
    assert not states.settle(0.05)
    assert not states.settle(-1)
    go.set()
    assert states.settle(10)
    assert 1 <= len(store.entries) <= 9
    assert states.failures == 30 - len(store.entries)


def test_a_store_that_refuses_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise StateStoreFailed("S3 answered 403.")

    with caplog.at_level(logging.WARNING):
        SharedStates(Store(refuse), READ).find(["k"])
    assert "S3 answered 403" in caplog.text
