"""Rules for every test: no network but loopback, and nothing of the person who runs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_socket import enable_socket, socket_allow_hosts

hypothesis_settings.register_profile(
    "friend", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("friend")

_SETTINGS = ("FRIEND_", "DISCORD_", "SLACK_", "AWS_")


def pytest_configure(config: pytest.Config) -> None:
    """Let a websocket's last ping go: aiohttp sends it by itself, also as its loop is ending."""
    config.addinivalue_line(
        "filterwarnings",
        "ignore:coroutine 'WebSocketWriter.send_frame' was never awaited:RuntimeWarning",
    )


def pytest_runtest_setup() -> None:
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty environment and home, so that no `.env`, token or history leaks in."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
