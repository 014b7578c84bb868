"""The manifest asks for what the code uses, and for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import bot.platforms.slack as slack
from bot.platforms.slack import app_manifest
from tests.fakes.slack.methods import METHODS
from tests.fakes.slack.state import MESSAGE_EVENTS

SOURCES = "\n".join(path.read_text() for path in Path(str(slack.__file__)).parent.glob("*.py"))

EVENT_SCOPES = {
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "message.mpim": "mpim:history",
}


def test_scopes_are_exactly_those_the_code_needs() -> None:
    called = {name for name in METHODS if re.search(rf"\.{name.replace('.', '_')}\(", SOURCES)}
    assert {"chat.postMessage", "conversations.replies", "users.info"} <= called
    needed = {METHODS[name].scopes[0] for name in called if METHODS[name].scopes}
    needed -= {"connections:write"}
    manifest = app_manifest()
    needed |= {
        EVENT_SCOPES[name]
        for name in manifest["settings"]["event_subscriptions"]["bot_events"]
        if name != "app_home_opened"  # which needs none
    }
    needed |= {"commands"}  # slash commands and the shortcut
    needed |= {"assistant:write"}  # what agent_view itself requires
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == needed


def test_every_kind_of_conversation_is_heard() -> None:
    events = set(app_manifest()["settings"]["event_subscriptions"]["bot_events"])
    assert events == {"app_home_opened", "app_mention", *MESSAGE_EVENTS.values()}


def test_agent_view_and_socket_mode_by_default() -> None:
    manifest = app_manifest()
    assert "agent_view" in manifest["features"]
    assert "assistant_view" not in manifest["features"]
    assert manifest["settings"]["socket_mode_enabled"] is True
    assert "request_url" not in json.dumps(manifest)


def test_signed_http_names_its_address_everywhere() -> None:
    url = "https://friend.example.org/slack/events"
    manifest = app_manifest(request_url=url)
    settings = manifest["settings"]
    assert settings["socket_mode_enabled"] is False
    assert settings["event_subscriptions"]["request_url"] == url
    assert settings["interactivity"]["request_url"] == url
    assert all(command["url"] == url for command in manifest["features"]["slash_commands"])


def test_lengths_stay_within_slacks_limits() -> None:
    """https://docs.slack.dev/reference/app-manifest"""
    manifest = app_manifest()
    information = manifest["display_information"]
    assert len(information["name"]) <= 35
    assert len(information["description"]) <= 140
    for shortcut in manifest["features"]["shortcuts"]:
        assert len(shortcut["name"]) <= 24
        assert len(shortcut["description"]) <= 150
