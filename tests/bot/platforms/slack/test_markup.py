"""Slack's markup, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.slack.markup import escape, is_to_others, mentioned, readable
from tests.fakes.slack import Channel, Message, User

ME = "U0FRIENDBOT"
NAMES = {"U1ANN": "Ann", "U2BOB": "Bob"}

pieces = st.sampled_from(
    ["<!channel>", "<!here|x>", "<@U1ANN>", "<!subteam^S1>", "&lt;", "&amp;", "&", "<", ">", "a"]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (f"<@{ME}> hello", "hello"),
        (f"<@{ME}>: hello", "hello"),
        (f"hey <@{ME}|friend>, how are you?", "hey friend, how are you?"),
        (f"<@{ME}>", ""),
        (f"is <@{ME}> here", "is friend here"),
        (f"who is <@{ME}>?", "who is friend?"),
        (f"who is cleverer, <@{ME}> or <@U2BOB>?", "who is cleverer, friend or @Bob?"),
        (f"this is <@{ME}>, our new pet", "this is friend, our new pet"),
        (f"how are you, <@{ME}>?", "how are you?"),
        (f"see `<@{ME}>`, `<@U2BOB>` here", "see `friend`, `@Bob` here"),
        ("ask <@U1ANN> or <@U2BOB|bobby>", "ask @Ann or @Bob"),
        ("who is <@U3EVE>, <@U3EVE|eve>", "who is @someone, @eve"),
        ("in <#C1|general> or <#C2> or <#C3|>", "in #general or #a channel or #a channel"),
        ("<!channel> <!here|here> <!everyone>", "@channel @here @everyone"),
        ("<!subteam^S1|@crew> <!subteam^S2>", "@crew @a group"),
        ("at <!date^1392734382^{date}|18 Feb>", "at 18 Feb"),
        ("at <!date^0^{date_short}>", "at 1970-01-01"),
        ("at <!date^0^{time_secs}|>", "at 00:00 UTC"),
        ("at <!date^0^{date_num} {time}^https://e.org>", "at 1970-01-01 00:00 UTC"),
        ("at <!date^x^{ago}>", "at some time"),
        ("<https://we.slack.com/archives/C1>", "#a channel"),
        ("<https://we.slack.com/archives/C1/p1724966776474889>", "a message in #a channel"),
        ("<https://example.org>", "https://example.org"),
        ("<https://example.org/|example.org>", "example.org"),
        ("<https://e.org/?a=1&amp;b=2|this>", "this (https://e.org/?a=1&b=2)"),
        ("<mailto:a@b.org|a@b.org> <tel:+1|call>", "a@b.org call (+1)"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2 &amp;lt;", "1 < 2 && 3 > 2 &lt;"),
        ("&lt;@U1ANN&gt;", "<@U1ANN>"),
        ("", ""),
    ],
)
def test_incoming_markup_becomes_words(raw: str, words: str) -> None:
    assert readable(raw, names=NAMES, own_id=ME, own_name="friend") == words


@pytest.mark.parametrize(
    ("raw", "to_others"),
    [
        ("<@U2BOB> could you bring the cake?", True),
        ("hey <@U2BOB|bob>, are you there?", True),
        ("could you bring it, <@U2BOB>?", True),
        ("<!subteam^S1|@cooks> dinner!", True),
        ("ask <@U2BOB> about it", False),
        (f"<@{ME}> hello", False),
        ("<!here> lunch", False),
    ],
)
def test_words_to_others(raw: str, to_others: bool) -> None:
    assert is_to_others(raw, own_id=ME) is to_others


def test_mentions_in_code_mention_nobody() -> None:
    assert mentioned(f"`<@{ME}>` and ```<@U2BOB>``` but <@U1ANN>") == {"U1ANN"}


@given(texts)
def test_nothing_escaped_pings_and_everything_reads_as_written(text: str) -> None:
    escaped = escape(text)
    channel = Channel("C1", "general", "channel")
    assert Message(channel, User(ME, "friend", "friend"), "1.0", escaped).pings == set()
    assert "<" not in escaped
    assert ">" not in escaped
    shown = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shown == text


@given(texts, texts)
def test_escaping_grows_with_the_text(start: str, rest: str) -> None:
    assert len(escape(start + rest)) >= len(escape(start))


@given(texts)
def test_any_text_can_be_read(text: str) -> None:
    readable(text, names=NAMES, own_id=ME, own_name="friend")
    mentioned(text)


def test_addresses_keep_their_ampersands() -> None:
    assert escape("https://e.org/?a=1&b=2") == "https://e.org/?a=1&b=2"
    assert escape("AT&T &lt;") == "AT&T &amp;lt;"
