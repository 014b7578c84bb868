"""Pointing discord.py at the fake: in this process, or in a child through its environment."""

from __future__ import annotations

import os
from typing import Any, Protocol

import yarl

VARIABLE = "FAKE_DISCORD_URL"


class Patcher(Protocol):
    """What is used of pytest's MonkeyPatch."""

    def setattr(self, target: object, name: str, value: object) -> None: ...


class _Plain:
    def setattr(self, target: object, name: str, value: object) -> None:
        setattr(target, name, value)


def patch(patcher: Patcher | Any, base_url: str) -> None:
    """Redirect REST, the gateway and the CDN to ``base_url`` (http://host:port)."""
    import discord.asset
    import discord.gateway
    import discord.http

    gateway = yarl.URL(base_url.replace("http", "ws") + "/gateway")
    patcher.setattr(discord.http.Route, "BASE", base_url + "/api/v10")
    patcher.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
    patcher.setattr(discord.asset.Asset, "BASE", base_url + "/cdn")


def apply_environment() -> None:
    """In a child process: redirect discord.py to what ``FakeDiscord.environment`` names."""
    patch(_Plain(), os.environ[VARIABLE])
