"""What a message says in all, in one text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.core import wording
from bot.core.conversation import ConversationKey, IncomingMessage, Person, Quote, Role, Turn
from bot.core.heard import cleaned, in_words

PLAIN = IncomingMessage(
    event_id="9",
    conversation=ConversationKey("discord", "guild", "general"),
    message_id="9",
    author=Person("ann", "Ann"),
    text="where is that?",
    sent_at=datetime(2026, 1, 1, tzinfo=UTC),
)
BAKERY = Quote("5", "Bob", "I left it at the bakery")


def said(message: IncomingMessage, *turns: Turn) -> str:
    told = in_words(cleaned(message), turns)
    assert (told.beside, told.quote) == ("", None)
    return told.text


def test_words_alone_stay_as_they_are() -> None:
    assert said(PLAIN) == "where is that?"


def test_what_is_answered_stands_before_the_words() -> None:
    assert said(replace(PLAIN, quote=BAKERY)) == (
        '(in answer to Bob: "I left it at the bakery")\nwhere is that?'
    )
    own = replace(BAKERY, speaker=None)
    assert said(replace(PLAIN, quote=own)).startswith('(in answer to you: "I left')


@pytest.mark.parametrize(
    ("quote", "last"),
    [
        (BAKERY, Turn(1, Role.USER, "I left it", "5", Person("bob", "Bob"))),
        (
            replace(BAKERY, speaker=None),
            Turn(1, Role.FRIEND, "Hm. I left it at the bakery. Sorry!", "4"),
        ),
    ],
)
def test_what_was_said_last_is_not_repeated(quote: Quote, last: Turn) -> None:
    message = replace(PLAIN, quote=quote)
    assert said(message, last) == "where is that?"
    own_turn = Turn(3, Role.USER, "where is that?", "9", PLAIN.author)
    assert said(message, last, own_turn) == "where is that?"
    later = Turn(2, Role.USER, "I left it at the bakery", "6", Person("eve", "Eve"))
    assert said(message, last, later).startswith("(in answer to")


def test_files_are_told_of_only_beside_words() -> None:
    files = (wording.file("image/png", "cat.png", "a cat asleep"), wording.file("", "notes"))
    told = said(replace(PLAIN, files=files))
    assert told == 'where is that?\n(with a picture, cat.png: "a cat asleep"; a file, notes)'
    assert said(replace(PLAIN, text="", files=files)) == ""


def test_what_stands_beside_is_said_too() -> None:
    shared = replace(PLAIN, text="", beside=wording.forwarded("the shop\nis closed", "Bob"))
    assert shared.heard == said(shared) == 'Forwarded message from Bob: "the shop\nis closed"'


def test_a_long_quote_is_shortened() -> None:
    told = said(replace(PLAIN, quote=replace(BAKERY, text="word " * 500)))
    assert len(told) < 500
    assert "…" in told


def test_nothing_unsayable_is_left() -> None:
    told = said(replace(PLAIN, beside="a\x00b", quote=replace(BAKERY, text="c\x07d")))
    assert told == '(in answer to Bob: "cd")\nwhere is that?\nab'


def test_other_things_in_words() -> None:
    assert wording.poll("Lunch?", ["Pizza", "Soup"]) == "Poll: Lunch? (Pizza / Soup)"
    assert wording.table([["a", "b"], ["1", " 2"]]) == "a | b\n1 | 2"
    assert wording.preview(["A page", "", "about it"]) == 'Preview: "A page. about it"'
    assert wording.preview(["", " "]) == ""
    assert wording.moment(10**20) == "some time"
