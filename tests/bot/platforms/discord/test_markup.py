"""Ids become names, and friend's own mention goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.discord.markup import Names, is_to_others, mentioned_ids, readable

ME = 100000000000000001
BOB = 100000000000000002
COOKS = 100000000000000003
GENERAL = 100000000000000004
MY_ROLE = 100000000000000005

NAMES = Names(users={BOB: "Bob"}, roles={COOKS: "cooks"}, channels={GENERAL: "general"})


def read(content: str) -> str:
    return readable(content, NAMES, me=ME, my_name="friend", my_role=MY_ROLE)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"<@{ME}> hello", "hello"),
        (f"<@!{ME}>, hello", "hello"),
        (f"<@{ME}>: hello", "hello"),
        (f"  <@{ME}> <@{ME}> hello", "hello"),
        (f"<@&{MY_ROLE}> hello", "hello"),
        (f"hello <@{ME}>", "hello friend"),
        (f"who is <@{ME}>?", "who is friend?"),
        (f"who is cleverer, <@{ME}> or <@{BOB}>?", "who is cleverer, friend or @Bob?"),
        (f"this is <@{ME}>, our new pet", "this is friend, our new pet"),
        (f"see `<@{ME}>`, `<@{BOB}>` here", "see `friend`, `@Bob` here"),
        (f"hello, <@{ME}>!", "hello!"),
        (f"how are you, <@{ME}>?", "how are you?"),
        (f"<@{ME}>", ""),
        (f"<@{ME}>\n", ""),
        (f"is <@{ME}> a bot?", "is friend a bot?"),
        (f"<@{BOB}> <@!{BOB}>", "@Bob @Bob"),
        (f"<@&{COOKS}> in <#{GENERAL}>", "@cooks in #general"),
        ("<@200000000000000000>", "@someone"),
        ("<@&200000000000000000>", "@a group"),
        ("<#200000000000000000>", "#a channel"),
        ("<:blob:200000000000000000> <a:dance:200000000000000000>", ":blob: :dance:"),
        ("</reset:200000000000000000>", "/reset"),
        ("<t:0>", "1970-01-01 00:00 UTC"),
        ("<t:0:R>", "1970-01-01 00:00 UTC"),
        ("<t:0:f> <t:0:F>", "1970-01-01 00:00 UTC 1970-01-01 00:00 UTC"),
        ("<t:0:d> <t:0:D>", "1970-01-01 1970-01-01"),
        ("<t:0:t> <t:0:T>", "00:00 UTC 00:00 UTC"),
        ("<t:0:s> <t:0:S>", "1970-01-01 00:00 UTC 1970-01-01 00:00 UTC"),
        ("see <id:customize>, <id:browse>", "see Channels & Roles, Browse Channels"),
        ("<id:guide> <id:linked-roles>", "Server Guide Linked Roles"),
        ("<id:linked-roles:200000000000000000>", "Linked Roles"),
        ("<id:new-thing>", "a page of this server"),
        (f"https://discord.com/channels/200000000000000000/{GENERAL}", "#general"),
        (
            f"look: https://discord.com/channels/200000000000000000/{GENERAL}/200000000000000001",
            "look: a message in #general",
        ),
        (
            "<https://ptb.discord.com/channels/@me/200000000000000000/200000000000000001>",
            "a message in #a channel",
        ),
        ("<t:9999999999999>", "some time"),
        ("1 < 2 > 0 <@ nobody> <3", "1 < 2 > 0 <@ nobody> <3"),
        ("line one\nline two", "line one\nline two"),
    ],
)
def test_readable(content: str, expected: str) -> None:
    assert read(content) == expected


def test_a_name_is_taken_as_it_is() -> None:
    said = readable(f"a <@{ME}> b", NAMES, me=ME, my_name=r"fr\1iend\g<0>")
    assert said == r"a fr\1iend\g<0> b"


@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from([f"<@{ME}>", f"<@!{ME}>", f"<@&{MY_ROLE}>", f"<@{BOB}>", " ", "\n"]),
        )
    ).map("".join)
)
def test_no_mention_of_friend_is_left(content: str) -> None:
    said = read(content)
    assert f"<@{ME}>" not in said
    assert f"<@!{ME}>" not in said
    assert f"<@&{MY_ROLE}>" not in said
    assert f"<@{BOB}>" not in said


@given(st.text(alphabet="abc <>\n", max_size=60))
def test_text_without_markup_stays(content: str) -> None:
    assert read(content) == content


@pytest.mark.parametrize(
    ("content", "to_others"),
    [
        (f"<@{BOB}> could you bring the cake?", True),
        (f"hey <@{BOB}>, are you there?", True),
        (f"could you bring it, <@{BOB}>?", True),
        (f"<@&{COOKS}> dinner!", True),
        (f"ask <@{BOB}> about it", False),
        (f"<@{BOB}>'s cake is good", False),
        (f"<@{ME}> hello", False),
        (f"<@&{MY_ROLE}> hello", False),
        (f"`<@{BOB}>` is markup", False),
        ("@everyone lunch", False),
    ],
)
def test_words_to_others(content: str, to_others: bool) -> None:
    assert is_to_others(content, me=ME, my_role=MY_ROLE) is to_others


def test_mentions_in_code_mention_nobody() -> None:
    assert mentioned_ids(f"`<@{ME}>` and ```\n<@{BOB}>\n``` but <@&{COOKS}>") == {COOKS}
    assert mentioned_ids(f"a lone ` and <@{ME}>") == {ME}


def test_mentions_written_out() -> None:
    assert mentioned_ids(f"<@{ME}> <@!{BOB}> <@&{COOKS}> <#{GENERAL}> @everyone") == {
        ME,
        BOB,
        COOKS,
    }
