"""Triggers, access lists and rate limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.core.access import Pace, RateLimits, permitted
from bot.core.conversation import ConversationKey, IncomingMessage, Person, Quote
from bot.core.triggers import Reason, decide
from bot.settings import AccessSettings, TriggerSettings

PLAIN = IncomingMessage(
    event_id="1",
    conversation=ConversationKey("discord", "guild", "general"),
    message_id="1",
    author=Person("ann", "Ann"),
    text="hello there",
    sent_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("facts", "settings", "reason"),
    [
        ({}, {}, None),
        ({"mentions_friend": True}, {}, Reason.MENTION),
        ({"is_direct": True}, {}, Reason.DIRECT),
        ({"is_direct": True}, {"direct_messages": False}, None),
        ({"replies_to_friend": True}, {}, Reason.REPLY),
        ({"replies_to_friend": True}, {"replies": False}, None),
        ({"in_friend_thread": True}, {}, Reason.THREAD),
        ({"in_friend_thread": True}, {"threads": False}, None),
        ({"from_bot": True, "mentions_friend": True}, {}, None),
        ({"text": "Friend, are you there?"}, {"name": "friend"}, Reason.NAME),
        ({"text": "friendship"}, {"name": "friend"}, None),
        ({}, {"interject_probability": 0.5}, Reason.INTERJECTION),
        ({"text": " "}, {"interject_probability": 1.0}, None),
        ({"in_friend_thread": True, "to_others": True}, {}, None),
        ({"is_direct": True, "to_others": True}, {}, Reason.DIRECT),
        ({"mentions_friend": True, "to_others": True}, {}, Reason.MENTION),
        ({"text": "", "beside": 'Preview: "Friend"'}, {"name": "friend"}, Reason.NAME),
        ({"text": "", "beside": "Poll"}, {"interject_probability": 1.0}, Reason.INTERJECTION),
        ({"quote": Quote("0", "Bob", "my friend")}, {"name": "friend"}, None),
    ],
)
def test_triggers(facts: dict[str, Any], settings: dict[str, Any], reason: Reason | None) -> None:
    assert decide(replace(PLAIN, **facts), TriggerSettings(**settings), chance=0.4) is reason


def test_no_interjection_above_the_probability() -> None:
    assert decide(PLAIN, TriggerSettings(interject_probability=0.3), chance=0.4) is None


def hears(message: IncomingMessage, settings: AccessSettings) -> bool:
    return permitted(message.conversation, message.author.id, settings, is_direct=message.is_direct)


@pytest.mark.parametrize(
    ("settings", "heard"),
    [
        ({}, True),
        ({"allow_people": {"ann"}}, True),
        ({"allow_people": {"bob"}}, False),
        ({"block_people": {"ann"}}, False),
        ({"allow_people": {"ann"}, "block_people": {"ann"}}, False),
        ({"allow_channels": {"general"}}, True),
        ({"allow_channels": {"other"}}, False),
        ({"block_spaces": {"guild"}}, False),
    ],
)
def test_access_lists(settings: dict[str, Any], heard: bool) -> None:
    assert hears(PLAIN, AccessSettings(**settings)) is heard


def test_channel_lists_do_not_close_direct_messages() -> None:
    direct = replace(PLAIN, is_direct=True)
    assert hears(direct, AccessSettings(allow_channels={"other"}, allow_spaces={"g"}))


def test_a_thread_in_an_allowed_channel_is_allowed() -> None:
    thread = replace(PLAIN, conversation=ConversationKey("discord", "guild", "general", "t"))
    assert hears(thread, AccessSettings(allow_channels={"general"}))
    assert not hears(thread, AccessSettings(block_channels={"general"}))


def test_limits_count_people_and_channels_and_tell_once() -> None:
    limits = RateLimits(AccessSettings(person_per_minute=2, channel_per_minute=3))
    key, ann, bob = PLAIN.conversation, Person("ann", "Ann"), Person("bob", "Bob")
    assert [limits.take(key, ann) for _ in range(4)] == [
        Pace.FINE,
        Pace.FINE,
        Pace.TOO_FAST,
        Pace.STILL_TOO_FAST,
    ]
    assert [limits.take(key, bob) for _ in range(2)] == [Pace.FINE, Pace.TOO_FAST]
    elsewhere = replace(key, channel="elsewhere")
    assert limits.take(elsewhere, bob) is Pace.FINE


def test_zero_means_no_limit() -> None:
    limits = RateLimits(AccessSettings(person_per_minute=0, channel_per_minute=0))
    assert {limits.take(PLAIN.conversation, PLAIN.author) for _ in range(200)} == {Pace.FINE}
