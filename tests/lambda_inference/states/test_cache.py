"""A pure function of its key: bounded, and never wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.states.cache import StateCache, prefix_keys
from lambda_inference.states.shared import SharedStates, StateStore
from tests.lambda_inference.scripted import ScriptedEngine, ScriptedState

READ = ScriptedEngine(4, lambda _: 0).state_from_bytes


class DictStore:
    """A shared store in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.looks: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.looks.append(key)
        return self.entries.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.entries[key] = data


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


def shared(store: StateStore) -> SharedStates:
    return SharedStates(store, READ)


def test_a_store_behind_serves_another_process() -> None:
    store = DictStore()
    here, there = (StateCache(10_000, shared=shared(store)) for _ in range(2))
    keys = prefix_keys("m", [[1], [2]])
    here.put(keys[1], ScriptedState((1, 2)))
    here.settle(10)
    count, state = there.longest(keys)
    assert count == 2
    assert isinstance(state, ScriptedState)
    assert state.tokens == (1, 2)
    looks = len(store.looks)
    assert there.longest(keys)[0] == 2
    assert len(store.looks) == looks, "a state found in the store is kept in memory"


def test_states_of_the_way_are_not_shared() -> None:
    store = DictStore()
    cache = StateCache(10_000, shared=shared(store))
    cache.put("k", ScriptedState((1,)), share=False)
    cache.settle(10)
    assert store.entries == {}


def test_a_store_is_asked_for_the_last_few_turns_only_the_last_reply_first() -> None:
    store = DictStore()
    StateCache(0, shared=shared(store)).longest([f"k{number}" for number in range(400)])
    assert store.looks == ["k398", "k399", "k397", "k396"]


def test_a_store_is_not_asked_when_memory_knows_all_but_the_last_turn() -> None:
    store = DictStore()
    cache = StateCache(10_000, shared=shared(store))
    cache.put("k1", ScriptedState((1,)), share=False)
    assert cache.longest(["k0", "k1", "k2"])[0] == 2
    assert cache.longest(["k0", "k1"])[0] == 2
    assert cache.longest(["new"])[0] == 0
    assert store.looks == []
    assert cache.longest(["k0", "k1", "k2", "k3"])[0] == 2
    assert store.looks == ["k2", "k3"]
