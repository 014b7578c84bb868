"""A slash and a known word is a command; everything else is talk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.terminal.commands import SlashCommand, UnknownCommand, read_command


@pytest.mark.parametrize("command", list(SlashCommand))
def test_each_command_is_read_and_explained(command: SlashCommand) -> None:
    assert read_command(f"  {command.upper()} ") is command
    assert command.meaning


@pytest.mark.parametrize(("word", "command"), [("/exit", "/quit"), ("/bye", "/quit")])
def test_other_words_for_leaving(word: str, command: str) -> None:
    assert read_command(word) == command


@pytest.mark.parametrize(
    "talk", ["hi", "/usr/bin is full", "//", "/", "/ reset", "1/2", "either /reset or not", "/2 of"]
)
def test_talk_is_not_a_command(talk: str) -> None:
    assert read_command(talk) is None


@pytest.mark.parametrize("typo", ["/rest", "/foo bar", "/reset please"])
def test_a_typo_is_not_sent_to_the_model(typo: str) -> None:
    with pytest.raises(UnknownCommand) as error:
        read_command(typo)
    assert error.value.word == typo.split(maxsplit=1)[0]


@given(st.text().filter(lambda text: not text.strip().startswith("/")))
def test_nothing_without_a_slash_is_a_command(text: str) -> None:
    assert read_command(text) is None
