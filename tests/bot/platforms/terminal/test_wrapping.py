"""Words stream without being cut at the edge, taken back or lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from bot.platforms.terminal.wrapping import WrappedStream

_TEXT = st.text(st.sampled_from("abcdé 好、😀\n\tלא"), max_size=120)


def _streamed(text: str, steps: list[int], *, width: int = 30, indent: int = 4) -> str:
    stream = WrappedStream(width=width, indent=indent)
    shown = "".join(stream.grow(text[:step]) for step in sorted(steps))
    return shown + stream.finish(text)


@given(_TEXT, st.lists(st.integers(0, 120)))
def test_how_it_comes_makes_no_difference(text: str, steps: list[int]) -> None:
    assert _streamed(text, steps) == _streamed(text, [])


@given(_TEXT)
def test_every_character_but_white_space_is_there_in_order(text: str) -> None:
    assert "".join(_streamed(text, []).split()) == "".join(text.split())


@given(_TEXT)
def test_no_line_is_wider_than_the_window(text: str) -> None:
    first, *others = _streamed(text, []).split("\n")
    assert cell_len(first.rstrip()) <= 26
    assert all(cell_len(line.rstrip()) <= 30 for line in others)


def test_lines_hang_under_the_first() -> None:
    shown = _streamed("one two three four five six seven", [], width=20, indent=4)
    assert shown == "one two three\n    four five six\n    seven"


def test_the_last_word_waits_until_it_is_whole() -> None:
    stream = WrappedStream(width=40, indent=0)
    assert stream.grow("I lov") == "I"
    assert stream.grow("I love mus") == " love"
    assert stream.finish("I love music") == " music"


def test_scripts_without_spaces_stream_too() -> None:
    assert WrappedStream(width=40, indent=0).grow("你好吗我") == "你好吗"


def test_a_reply_that_ends_otherwise_is_said_again_whole() -> None:
    stream = WrappedStream(width=40, indent=2)
    assert stream.grow("Well, I think so.\nUser: ") == "Well, I think so.\n  User:"
    assert stream.finish("Well, I thought so.") == "\n  Well, I thought so."


def test_a_reply_that_ends_sooner_stays_as_it_is() -> None:
    stream = WrappedStream(width=40, indent=2)
    stream.grow("Well, I think so. And ")
    assert stream.finish("Well, I think") == ""
