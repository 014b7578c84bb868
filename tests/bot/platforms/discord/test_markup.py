"""Ids become names, and friend's own mention goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.discord.markup import Names, mentioned_ids, readable

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
        (f"hello <@{ME}>", "hello"),
        (f"hello, <@{ME}>!", "hello!"),
        (f"how are you, <@{ME}>?", "how are you?"),
        (f"<@{ME}>", ""),
        (f"<@{ME}>\n", ""),
        (f"is <@{ME}> a bot?", "is friend a bot?"),
        (f"<@{BOB}> <@!{BOB}>", "@Bob @Bob"),
        (f"<@&{COOKS}> in <#{GENERAL}>", "@cooks in #general"),
        ("<@200000000000000000>", "@someone"),
        ("<@&200000000000000000>", "@a role"),
        ("<#200000000000000000>", "#a channel"),
        ("<:blob:200000000000000000> <a:dance:200000000000000000>", ":blob: :dance:"),
        ("</reset:200000000000000000>", "/reset"),
        ("<t:0:R>", "1970-01-01 00:00 UTC"),
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


def test_mentions_written_out() -> None:
    assert mentioned_ids(f"<@{ME}> <@!{BOB}> <@&{COOKS}> <#{GENERAL}> @everyone") == {
        ME,
        BOB,
        COOKS,
    }
