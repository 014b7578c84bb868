from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.core.conversation import Person, Role, Turn
from bot.core.window import first_kept, fit, size, to_messages


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


def test_a_very_long_message_costs_what_is_given_of_it() -> None:
    turns = [*turns_of([100] * 4), Turn(5, Role.USER, "x" * 100_000, "5")]
    first, messages = fit(turns, persona="", window_characters=6000, message_characters=2000)
    assert first == 0
    assert [len(message.content) for message in messages] == [100, 100, 100, 100, 2001]


_SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=40)


@given(_SIZES, st.sampled_from(["", "Be kind." * 10]))
def test_each_refusal_halves_the_prompt_until_nothing_is_left_to_take(
    sizes: list[int], persona: str
) -> None:
    turns = turns_of(sizes)
    limits = {"persona": persona, "window_characters": 6000, "message_characters": 2000}
    _, messages = fit(turns, **limits)
    fixed = size(messages[: len(persona) > 0])
    while True:
        _, shorter = fit(turns, **limits, most=size(messages) - 1)
        assert shorter[-1].content[:16] == messages[-1].content[:16], "the last turn stays"
        if size(shorter) >= size(messages):
            break
        assert size(shorter) - fixed <= max((size(messages) - fixed) // 2 + 2, 60)
        messages = shorter
    assert size(messages) - fixed <= 60


@given(_SIZES, st.integers(200, 5000))
def test_what_the_model_reads_is_not_passed(sizes: list[int], most: int) -> None:
    turns = turns_of(sizes)
    _, messages = fit(
        turns, persona="Be kind.", window_characters=6000, message_characters=2000, most=most
    )
    assert size(messages) <= most
    assert messages[-1].content[:16] == turns[-1].text[:16]
