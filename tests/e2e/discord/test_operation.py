"""The process in operation: its health, its log, and what it does not ask for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot.platforms.discord.platform import DiscordPlatform
from tests.e2e.discord.harness import PROMPT
from tests.e2e.health import watched
from tests.fakes.discord import Reset

if TYPE_CHECKING:
    from bot.settings import Settings
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e


def _platform(settings: Settings) -> DiscordPlatform:
    return DiscordPlatform(settings.discord, patience=PROMPT, restart_seconds=(0.05, 0.2))


async def test_19_health_is_not_well_before_the_platform_is(stage: Stage) -> None:
    async with watched(stage, "discord", _platform) as watch:
        early = await watch.until(503)
        assert early["parts"]["discord"]["state"] == "starting"
        watch.let_it_open()
        assert (await watch.until(200))["ok"] is True


async def test_23_refused_typing_is_not_asked_for_again_there(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next("POST", "/channels/*/typing", status=403, times=9)
    async with stage.bot() as running:
        for number in range(3):
            await stage.ask(general, alice, f"{number}")
        await running.idle()
    asked = [r for r in stage.discord.requests if r.path.endswith("/typing")]
    assert len(asked) == 1


async def test_23_discord_out_of_reach_is_a_line_each_time(stage: Stage) -> None:
    stage.discord.faults.next("GET", "/users/@me", Reset(), times=99)
    async with watched(stage, "discord", _platform) as watch:
        watch.let_it_open()
        await watch.logged("discord.login_failed")
        stage.discord.faults.clear()
        await watch.until(200)
        stage.discord.gateway.refuse_connections = True
        await stage.discord.gateway.drop()
        log = await watch.logged("Attempting a reconnect")
        stage.discord.gateway.refuse_connections = False
        await watch.until(200)
    assert "Traceback" not in log
    assert len(log.splitlines()) < 20
