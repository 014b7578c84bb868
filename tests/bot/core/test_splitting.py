from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.splitting import split

words = st.text(
    alphabet=st.sampled_from("ab .!?\n\té中🙂\u200d👩\u0301🇩🇪`"), min_size=0, max_size=400
)


@given(words, st.integers(20, 80))
def test_parts_fit_and_lose_nothing_but_white_space(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(0 < len(part) <= limit for part in parts)
    if "```" not in text:
        assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


@given(words, st.integers(20, 80))
def test_every_part_is_valid_unicode_by_utf16_length(text: str, limit: int) -> None:
    def utf16(part: str) -> int:
        return len(part.encode("utf-16-le")) // 2

    for part in split(text, limit, utf16):
        assert utf16(part) <= limit
        part.encode("utf-8")


def test_short_text_is_one_part_and_blank_text_none() -> None:
    assert split("hello", 20) == ["hello"]
    assert split(" \n ", 20) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one two three.\n\nfour five six seven", "one two three."),
        ("one two three\nfour five six seven eight", "one two three"),
        ("One two three. Four five six seven.", "One two three."),
        ("one two three four five six", "one two three four"),
    ],
)
def test_cuts_at_the_best_place(text: str, first: str) -> None:
    assert split(text, 22)[0] == first


def test_a_cut_code_block_is_closed_and_opened_again() -> None:
    lines = "\n".join(f"print({number})" for number in range(30))
    parts = split(f"```python\n{lines}\n```", 100)
    assert len(parts) > 2
    for part in parts:
        assert len(part) <= 100
        assert part.startswith("```python\n")
        assert part.endswith("\n```")
    inside = [line for part in parts for line in part.splitlines() if "print" in line]
    assert inside == lines.splitlines()


def test_cuts_before_a_code_block_rather_than_in_it() -> None:
    text = "a" * 40 + " text\n```\nshort\ncode\n```"
    parts = split(text, 60)
    assert parts == ["a" * 40 + " text", "```\nshort\ncode\n```"]


def test_joined_characters_stay_whole() -> None:
    family = "👩\u200d👩\u200d👧"
    for part in split(family * 20, 22):
        assert part.replace(family, "") == ""
    for part in split("🇩🇪" * 30, 21):
        assert len(part) % 2 == 0


def test_a_limit_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        split("text", 5)
