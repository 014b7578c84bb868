"""Slack's markup, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.slack.markup import escape, mentioned, readable
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
        (f"hey <@{ME}|friend>, how are you?", "hey how are you?"),
        (f"<@{ME}>", ""),
        (f"is <@{ME}> here", "is here"),
        ("ask <@U1ANN> or <@U2BOB|bobby>", "ask @Ann or @Bob"),
        ("who is <@U3EVE>, <@U3EVE|eve>", "who is @U3EVE, @eve"),
        ("in <#C1|general> or <#C2>", "in #general or #C2"),
        ("<!channel> <!here|here> <!everyone>", "@channel @here @everyone"),
        ("<!subteam^S1|@crew> <!subteam^S2>", "@crew @S2"),
        ("at <!date^1392734382^{date}|18 Feb>", "at 18 Feb"),
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
    assert readable(raw, names=NAMES, own_id=ME) == words


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
    readable(text, names=NAMES, own_id=ME)
    mentioned(text)


def test_addresses_keep_their_ampersands() -> None:
    assert escape("https://e.org/?a=1&b=2") == "https://e.org/?a=1&b=2"
    assert escape("AT&T &lt;") == "AT&T &amp;lt;"
