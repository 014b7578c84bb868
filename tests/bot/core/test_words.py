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


@pytest.mark.parametrize("emoji", ["\U0001fa77", "\U0001fae8", "\U0001fae9", "\U0001fadf"])
def test_emoji_newer_than_this_python_survive(emoji: str) -> None:
    assert clean_incoming(f"I {emoji} it") == f"I {emoji} it"
    assert clean_reply(f"I {emoji} it") == f"I {emoji} it"


@given(st.characters())
def test_only_controls_surrogates_and_noncharacters_go(char: str) -> None:
    """By the ranges of the Unicode standard, whatever this Python's tables know."""
    code = ord(char)
    control = code < 0x20 or 0x7F <= code <= 0x9F
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code % 0x10000 >= 0xFFFE
    goes = (control and char not in "\n\t\r") or 0xD800 <= code <= 0xDFFF or noncharacter
    kept = "\n" if char == "\r" else char
    assert clean_incoming(f"a{char}b") == ("ab" if goes else f"a{kept}b")


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
        ("A joke:\nYou: knock\nMe: who?", "A joke:\nYou: knock\nMe: who?"),
        (
            '```yaml\nrun:\nuser: "1000"\n```\nSo.\nUser: ok',
            '```yaml\nrun:\nuser: "1000"\n```\nSo.',
        ),
        ("~~~\nfriend: x\n~~~", "~~~\nfriend: x\n~~~"),
        ('As YAML:\n  user: "1000"', 'As YAML:\n  user: "1000"'),
        ('```\nuser: "1000"', '```\nuser: "1000"'),
        ("Nice!\nAlice: thanks", "Nice!"),
        ("Nice!\nalice b.  carter: thanks", "Nice!"),
        ("Nice!\nMarvin: and you?", "Nice!"),
        ("Marvin: hello", "hello"),
        ("Alice: thanks for that", "Alice: thanks for that"),
        ("Nice!\nTip: thanks", "Nice!\nTip: thanks"),
    ],
)
def test_replies_are_made_messages(said: str, cleaned: str) -> None:
    assert clean_reply(said, speakers={"Alice", "Alice B. Carter"}, own={"Marvin"}) == cleaned


@given(
    st.lists(
        st.sampled_from(["```", "~~~", "```py", "User: a", "Alice: b", "You: c", "text", ""]),
        max_size=12,
    ).map("\n".join)
)
def test_what_is_shown_of_a_growing_reply_is_a_part_of_it(reply: str) -> None:
    whole = clean_reply(reply, speakers={"Alice"})
    assert whole in clean_incoming(reply) or "\n\n\n" in reply
    for end in range(len(reply)):
        shown = clean_reply(reply[:end], speakers={"Alice"})
        kept = min(len(shown), len(whole))
        assert shown[:kept].rstrip("`~py") == whole[:kept].rstrip("`~py") or not whole


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
