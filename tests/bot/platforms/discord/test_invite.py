"""The invitation is made from the token alone."""

from __future__ import annotations

import pytest
import yarl

from bot.errors import SettingsInvalid
from bot.platforms.discord.invite import application_id, invite_link
from bot.settings import DiscordSettings, load_settings
from tests.fakes.discord import FakeDiscord


def settings(token: str, monkeypatch: pytest.MonkeyPatch) -> DiscordSettings:
    monkeypatch.setenv("DISCORD_TOKEN", token)
    return load_settings().discord


def test_link_names_the_bot_and_asks_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDiscord()
    query = yarl.URL(invite_link(settings(fake.token, monkeypatch))).query
    assert query["client_id"] == str(fake.bot.id)
    assert query["scope"].split() == ["bot", "applications.commands"]
    view, send, history, threads = 1 << 10, 1 << 11, 1 << 16, 1 << 38
    assert int(query["permissions"]) == view | send | history | threads
    assert fake.token not in str(query)


@pytest.mark.parametrize("token", ["", "abc", "ä.b.c", "bm90IGEgbnVtYmVy.x.y", "a" * 64])
def test_wrong_tokens_are_explained_and_not_repeated(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsInvalid, match="developer portal") as caught:
        invite_link(settings(token, monkeypatch))
    assert not token or token not in str(caught.value)


def test_application_id() -> None:
    assert application_id("MTIz.x.y") == 123
