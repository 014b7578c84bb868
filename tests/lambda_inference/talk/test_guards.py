"""No stop text is ever shown, no reply speaks for somebody, no loop goes on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_inference.talk.guards import Marks, ReplyGuard, StopTexts, letters, loop_bans

CHUNKS = st.lists(st.text("ab\nU:s er", max_size=6), max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def run(stops: StopTexts, chunks: list[str]) -> str:
    return "".join([*map(stops.feed, chunks), stops.finish()])


@given(chunks=CHUNKS, stops=STOPS)
@example(chunks=["a", "b", "a", "b", "b"], stops=["abb"])
def test_a_reply_ends_at_the_first_stop_however_it_is_cut(
    chunks: list[str], stops: list[str]
) -> None:
    text = "".join(chunks)
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    # Of two stops, the one completed first ends the reply, and may hide one that began before.
    out = run(StopTexts(stops), chunks)
    assert out == text if not ends else text.startswith(out)
    assert not any(stop in out for stop in stops)
    assert len(out) >= min(ends, default=len(text))


@given(chunks=CHUNKS)
def test_a_label_ends_it_only_at_the_start_of_a_line(chunks: list[str]) -> None:
    text = "".join(chunks)
    found = re.search(r"^ ?user:", text, re.MULTILINE | re.IGNORECASE)
    assert run(StopTexts((), ("User:",)), chunks) == (text[: found.start()] if found else text)


def test_what_could_become_a_stop_is_withheld() -> None:
    stops = StopTexts(["STOP"])
    assert stops.feed("one S") == "one "
    assert stops.feed("T") == ""
    assert stops.feed("AY ST") == "STAY "
    assert stops.finish() == "ST"
    assert stops.stopped_by is None


def test_a_label_is_withheld_until_it_is_decided() -> None:
    stops = StopTexts((), ("User:", "Ann:"))
    assert [stops.feed(part) for part in ("Us", "ually", " yes\n", " A", "n")] == [
        "", "Usually", " yes\n", "", "",
    ]  # fmt: skip
    assert stops.feed("n: hi") == ""
    assert stops.stopped_by == "Ann:"
    assert stops.feed("more") == ""
    assert stops.finish() == ""


def test_a_label_inside_a_sentence_may_be_meant() -> None:
    text = "the field is called User: and it is empty"
    assert run(StopTexts((), ("User:",)), [text]) == text


@given(
    lines=st.lists(st.sampled_from(["```", "```yaml", "~~~", "User: x", "  User: y", "a"])),
    size=st.integers(1, 9),
)
def test_a_label_in_a_code_block_is_code(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    end, opened, at = len(text), "", 0
    for line in lines:
        mark = line[:3]
        if mark in {"```", "~~~"}:
            if not opened:
                opened = mark
            elif mark == opened == line:
                opened = ""
        elif line.startswith("User:") and not opened:
            end = at
            break
        at += len(line) + 1
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert run(StopTexts((), ("User:",)), chunks) == text[:end]


@pytest.mark.parametrize(
    ("phrase", "times"),
    [("a", 6), ("ab", 4), ("abc", 4), ("abcd", 3), ("abcdefghijklmno", 3)],
)
def test_a_phrase_may_be_said_so_often_and_no_more(phrase: str, times: int) -> None:
    letters = [ord(letter) for letter in phrase]
    said = [0, *letters * times, *letters[:-1]]
    assert loop_bans(said) == {letters[-1]}
    assert loop_bans(said[:-1]) == set()


def test_a_long_sentence_may_be_said_twice() -> None:
    sentence = list(range(100, 130))
    assert loop_bans([*sentence, *sentence]) == set()
    assert loop_bans([*sentence, *sentence, *sentence[:-1]]) == {129}


@given(st.lists(st.integers(0, 3), max_size=300))
def test_following_the_bans_ends_every_loop(wishes: list[int]) -> None:
    said: list[int] = []
    for wish in wishes:
        bans = loop_bans(said)
        token = wish if wish not in bans else next(t for t in range(20) if t not in bans)
        said.append(token)
    assert not re.search(rb"(.)\1{6}|(..)\2{4}|(.{4,15})\3{3}", bytes(said), re.DOTALL)


def words(tokens: Sequence[int]) -> str:
    """Fifty words that differ, then marks."""
    return " ".join(f"w{token}" if token < 50 else "!" for token in tokens)


REPLIES = ((10, 11), tuple(range(20, 40)))
MARKS = Marks(breaks=frozenset({4}), others=frozenset({50, 51, 52}))
GUARD = ReplyGuard(
    start_bans=frozenset({1, 2, 3}),
    ends=frozenset({3}),
    previous=REPLIES,
    said=frozenset(letters(words(reply)) for reply in REPLIES),
    marks=lambda: MARKS,
)


def bans(*tokens: int) -> set[int]:
    return GUARD.bans(tokens, words(tokens))


def test_a_reply_does_not_begin_with_its_end_or_a_label() -> None:
    assert bans() == {1, 2, 3}
    assert bans(45) == set()


def test_a_short_reply_said_before_goes_on() -> None:
    assert bans(10) == set()
    assert bans(10, 11) == {1, 2, 3, 4}
    assert bans(10, 11, 12) == set()


def test_marks_and_capitals_do_not_make_another_reply() -> None:
    assert bans(10, 11, 52) == {1, 2, 3, 4, 50, 51, 52}
    assert bans(50, 10, 51, 11) == {1, 2, 3, 4}
    assert GUARD.bans([7, 8], "W10, w11!") == {1, 2, 3, 4, 50, 51, 52}
    assert GUARD.bans([7, 8], "w10 w1") == set()


def test_a_long_reply_said_before_is_left() -> None:
    assert bans(*range(20, 27)) == set()
    assert bans(*range(20, 28)) == {28}
    assert bans(*range(20, 28), 5) == set()


def test_letters_are_what_two_replies_have_in_common() -> None:
    assert letters("I don't KNOW!") == letters(" i dont know...") == "idontknow"
    assert letters("Stra\u00dfe_9") == letters("STRASSE 9")
    assert letters(" \U0001f44b ") == "\U0001f44b" != letters("\U0001f600")
    assert letters("!?") == "!?"


def test_marks_of_a_vocabulary() -> None:
    found = Marks.of(["a", "!", " ", "\n", ".\n\n", "x\n", "", "9", "\u00e9"])
    assert found == Marks(frozenset({3, 4}), frozenset({1, 2, 6}))
