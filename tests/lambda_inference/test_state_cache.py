"""A pure function of its key: bounded, and never wrong, whatever the store behind does."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.errors import StateCorrupt
from lambda_inference.state_cache import StateCache, prefix_keys, seal, unseal
from tests.lambda_inference.scripted import ScriptedEngine, ScriptedState

READ = ScriptedEngine(4, lambda _: 0).state_from_bytes


class DictStore:
    """A shared store in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.gets = 0

    def get(self, key: str) -> bytes | None:
        self.gets += 1
        return self.entries.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.entries[key] = data


class BrokenStore:
    """A store that is down."""

    def get(self, key: str) -> bytes | None:
        raise ConnectionError(key)

    def put(self, key: str, data: bytes) -> None:
        raise ConnectionError(key)


TURNS = st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), max_size=6)


@given(turns=TURNS)
def test_keys_depend_on_the_tokens_and_not_on_where_turns_end(turns: list[list[int]]) -> None:
    keys = prefix_keys("m", turns)
    joined = [token for turn in turns for token in turn]
    assert len(set(keys)) == len(turns)
    assert keys[-1:] == prefix_keys("m", [joined] if joined else [])[-1:]
    assert not set(keys) & set(prefix_keys("other model", turns))


def test_the_longest_known_prefix_is_found() -> None:
    cache = StateCache(10_000)
    keys = prefix_keys("m", [[1], [2], [3], [4]])
    assert cache.longest(keys) == (0, None)
    first, third = ScriptedState((1,)), ScriptedState((1, 2, 3))
    cache.put(keys[0], first)
    cache.put(keys[2], third)
    assert cache.longest(keys) == (3, third)
    assert cache.longest(keys[:2]) == (1, first)


def test_the_least_recently_used_go_first() -> None:
    cache = StateCache(3000)  # a scripted state counts 1000 bytes
    for number in range(3):
        cache.put(f"k{number}", ScriptedState((number,)))
    cache.longest(["k0"])
    cache.put("k3", ScriptedState((3,)))
    assert cache.longest(["k1"]) == (0, None)
    assert cache.longest(["k0"])[0] == 1
    assert (len(cache), cache.nbytes) == (3, 3000)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60), st.integers(0, 5000))
def test_the_bound_holds_and_hits_are_right(steps: list[tuple[int, bool]], limit: int) -> None:
    cache = StateCache(limit)
    for number, write in steps:
        if write:
            cache.put(str(number), ScriptedState((number,)))
        else:
            _, state = cache.longest([str(number)])
            assert state is None or (isinstance(state, ScriptedState) and state.tokens == (number,))
        assert cache.nbytes <= limit
        assert cache.nbytes == 1000 * len(cache)


def test_a_store_behind_serves_another_process() -> None:
    store = DictStore()
    here, there = (StateCache(10_000, store=store, read=READ) for _ in range(2))
    keys = prefix_keys("m", [[1], [2]])
    here.put(keys[1], ScriptedState((1, 2)))
    count, state = there.longest(keys)
    assert count == 2
    assert isinstance(state, ScriptedState)
    assert state.tokens == (1, 2)
    looks = store.gets
    assert there.longest(keys)[0] == 2
    assert store.gets == looks, "a state found in the store is kept in memory"


def test_states_of_the_way_are_not_shared() -> None:
    store = DictStore()
    StateCache(10_000, store=store, read=READ).put("k", ScriptedState((1,)), share=False)
    assert store.entries == {}


def test_a_store_is_asked_for_the_last_few_turns_only() -> None:
    store = DictStore()
    StateCache(0, store=store, read=READ).longest([f"k{number}" for number in range(400)])
    assert store.gets == 4


@given(damage=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_entry_is_a_miss(damage: int, value: int) -> None:
    store = DictStore()
    entry = bytearray(seal("k", ScriptedState((1, 2)).to_bytes()))
    entry[damage % len(entry)] ^= value
    store.entries["k"] = bytes(entry)
    assert StateCache(10_000, store=store, read=READ).longest(["k"]) == (0, None)


@given(st.binary(max_size=60))
def test_a_foreign_entry_is_a_miss(data: bytes) -> None:
    with pytest.raises(StateCorrupt):
        unseal("k", data)


@pytest.mark.parametrize("cut", [0, 5, 20, 24, 30])
def test_a_cut_or_misplaced_entry_is_a_miss(cut: int) -> None:
    store = DictStore()
    entry = seal("k", ScriptedState((1, 2)).to_bytes())
    store.entries = {"k": entry[:cut], "other": entry}
    cache = StateCache(10_000, store=store, read=READ)
    assert cache.longest(["k"]) == (0, None)
    assert cache.longest(["other"]) == (0, None)
    assert unseal("k", entry) == ScriptedState((1, 2)).to_bytes()


def test_a_state_of_another_model_is_a_miss() -> None:
    store = DictStore()
    store.entries["k"] = seal("k", b"whole, but nothing this engine can read")
    assert StateCache(10_000, store=store, read=READ).longest(["k"]) == (0, None)


def test_a_store_that_is_down_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    cache = StateCache(10_000, store=BrokenStore(), read=READ)
    with caplog.at_level(logging.WARNING):
        assert cache.longest(["k"]) == (0, None)
        cache.put("k", ScriptedState((1,)))
    assert cache.longest(["k"])[0] == 1
    assert len(caplog.records) == 2
