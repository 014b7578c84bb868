"""The process in operation: its health, its log, and what it does not ask for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bot.platforms.slack import SlackPlatform
from tests.e2e.health import watched
from tests.e2e.slack.harness import BRISK

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.settings import Settings
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e


def _platform(stage: Stage) -> Callable[[Settings], SlackPlatform]:
    return lambda settings: SlackPlatform(
        settings.slack, api_url=stage.slack.api_url, socket_times=BRISK
    )


async def test_19_health_is_not_well_before_the_platform_is(stage: Stage) -> None:
    async with watched(stage, "slack", _platform(stage)) as watch:
        early = await watch.until(503)
        assert early["parts"]["slack"]["state"] == "starting"
        watch.let_it_open()
        assert (await watch.until(200))["ok"] is True


async def test_23_a_refused_status_is_not_asked_for_again_there(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    slack.faults.next("assistant.threads.setStatus", ok_false="channel_type_not_supported", times=9)
    async with stage.bot():
        for number in range(3):
            await slack.say(general, alice, f"{slack.bot.mention} {number}")
            await slack.wait_for_message(general)
        await slack.wait_quiet()
        assert len([c for c in slack.faults.applied if "setStatus" in c[0]]) == 1
        slack.faults.clear()
        await slack.say(slack.dm(alice), alice, "hello")
        await slack.wait_for_message(slack.dm(alice))
        await slack.wait_quiet()
    assert slack.calls("assistant.threads.setStatus"), "elsewhere it is"


@pytest.mark.parametrize("fault", [{"status": 500}, {"ok_false": "thread_not_found"}])
async def test_23_a_status_that_failed_once_is_asked_for_again(
    stage: Stage, general: Channel, alice: User, fault: dict[str, Any]
) -> None:
    slack = stage.slack
    slack.faults.next("assistant.threads.setStatus", **fault)
    async with stage.bot():
        for number in range(2):
            await slack.say(general, alice, f"{slack.bot.mention} {number}")
            await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert slack.statuses.shown


@pytest.mark.parametrize("method", ["auth.test", "apps.connections.open"])
async def test_23_slack_out_of_reach_is_a_line_each_time(
    stage: Stage, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.platforms.slack.client.CALL_SECONDS", 1.0)
    stage.slack.faults.next(method, reset=True, times=12)
    async with watched(stage, "slack", _platform(stage)) as watch:
        watch.let_it_open()
        log = await watch.logged("platform.stopped")
        assert (await watch.until(503))["parts"]["slack"]["detail"].startswith(
            "Restarting: Slack cannot be reached"
        )
        stage.slack.faults.clear()
        await watch.until(200)
    assert "Traceback" not in log
    assert len(log.splitlines()) < 20
