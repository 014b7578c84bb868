from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.core.conversation import Person, Role, Turn
from bot.core.window import first_kept, to_messages


def turns_of(sizes: list[int]) -> list[Turn]:
    roles = (Role.USER, Role.FRIEND)
    return [Turn(n, roles[n % 2], "x" * size, str(n)) for n, size in enumerate(sizes)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(200, 2000))
def test_the_window_fits_and_keeps_the_last_turn(sizes: list[int], limit: int) -> None:
    turns = turns_of(sizes)
    kept = turns[first_kept(turns, limit) :]
    assert kept
    assert kept[-1] is turns[-1]
    if sum(sizes) <= limit:
        assert len(kept) == len(turns)
    else:
        assert len(kept) == 1 or sum(len(turn.text) for turn in kept) <= limit // 2


@given(st.lists(st.integers(1, 100), min_size=50, max_size=200))
def test_the_window_moves_in_hops(sizes: list[int]) -> None:
    """Most replies keep the start of the last one's window, and with it the cached state."""
    limit, start, moves = 1000, 0, 0
    turns = turns_of(sizes)
    for end in range(1, len(turns) + 1):
        moved = first_kept(turns[start:end], limit)
        start += moved
        moves += bool(moved)
    assert moves <= sum(sizes) / (limit / 2 - 200) + 1


def test_a_trimmed_window_starts_with_a_person() -> None:
    turns = turns_of([100] * 11)
    assert turns[first_kept(turns, 1000)].role is Role.USER


def test_messages_carry_names_and_cut_long_turns() -> None:
    turns = [
        Turn(1, Role.USER, "hello " * 50, "1", Person("7", "Ann")),
        Turn(2, Role.FRIEND, "hi", "2"),
        Turn(3, Role.USER, "  ", "3", Person("7", "Ann")),
    ]
    persona, first, second = to_messages(turns, persona="Be kind.", message_characters=60)
    assert (persona.role, persona.content) == ("system", "Be kind.")
    assert (first.role, first.name) == ("user", "Ann")
    assert first.content.endswith("hello…")
    assert len(first.content) <= 61
    assert (second.role, second.content, second.name) == ("assistant", "hi", None)
