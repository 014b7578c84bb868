"""Cleaning, commands, keys: small pure functions on text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.cleaning import clean_incoming, clean_reply
from bot.core.commands import Command, parse_command
from bot.core.conversation import ConversationKey


@given(st.text())
def test_cleaning_is_idempotent_and_sayable(text: str) -> None:
    once = clean_incoming(text)
    assert clean_incoming(once) == once
    assert "\x00" not in once
    once.encode("utf-8")


def test_emoji_and_right_to_left_text_survive() -> None:
    for text in ("👩‍👩‍👧 ok", "שלום \u200fעולם", "مرحبا", "e\u0301"):
        assert clean_incoming(text) == text


def test_a_lone_surrogate_is_dropped() -> None:
    assert clean_incoming("a\ud83db") == "ab"


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("Friend: hello", "hello"),
        (" assistant:  hi\n\n\n\nthere ", "hi\n\nthere"),
        ("I like it.\nUser: me too\nFriend: ok", "I like it."),
        ("My friend: a poem", "My friend: a poem"),
        ("  ", ""),
    ],
)
def test_replies_are_made_messages(said: str, cleaned: str) -> None:
    assert clean_reply(said) == cleaned


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("reset", Command.RESET),
        (" Reset! ", Command.RESET),
        ("/reset", Command.RESET),
        ("again", Command.AGAIN),
        ("Forget  me.", Command.FORGET_ME),
        ("about", Command.ABOUT),
        ("how do I reset my phone", None),
        ("again and again", None),
        ("", None),
    ],
)
def test_commands_are_whole_messages(said: str, command: Command | None) -> None:
    assert parse_command(said) is command


@given(st.builds(ConversationKey, st.text(), st.text(), st.text(), st.text()))
def test_keys_round_trip(key: ConversationKey) -> None:
    assert ConversationKey.parse(str(key)) == key


def test_a_bad_key_is_refused() -> None:
    with pytest.raises(ValueError, match="not a conversation key"):
        ConversationKey.parse("a/b")
