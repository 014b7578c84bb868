"""Platforms are kept running each for itself, given up on when only a person can help."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import structlog

from bot.errors import BadToken, FriendError
from bot.ops.health import Health
from bot.ops.metrics import Metrics
from bot.ops.supervisor import Supervisor, stop_signals


def _supervisor(**kwargs: float) -> tuple[Supervisor, Health]:
    health = Health()
    options = {"first_pause": 0.02, "longest_pause": 0.08, **kwargs}
    return Supervisor(health, Metrics(), **options), health


def _state(health: Health, name: str) -> str:
    return health.snapshot()["parts"][name]["state"]


async def _until(condition, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_crash_is_restarted_ever_later_and_the_others_go_on() -> None:
    starts = calm_starts = 0

    async def crashing() -> None:
        nonlocal starts
        starts += 1
        if starts < 6:
            raise ValueError("oops")
        await asyncio.Event().wait()

    async def calm() -> None:
        nonlocal calm_starts
        calm_starts += 1
        await asyncio.Event().wait()

    supervisor, health = _supervisor()
    with structlog.testing.capture_logs() as logs:
        async with supervisor:
            supervisor.start("crashing", crashing)
            supervisor.start("calm", calm)
            await _until(lambda: starts == 6 and health.ok)
    pauses = [log["in_seconds"] for log in logs if log["event"] == "platform.restarting"]
    assert calm_starts == 1
    for pause, base in zip(pauses, [0.02, 0.04, 0.08, 0.08, 0.08], strict=True):
        assert base * 0.5 <= pause <= base * 1.5
    counted = 'friend_platform_restarts_total{platform="crashing"} 5.0'
    assert counted in supervisor._metrics.text().decode()


async def test_while_it_waits_to_restart_health_says_why() -> None:
    async def crashing() -> None:
        raise ValueError("oops")

    supervisor, health = _supervisor(first_pause=30.0)
    async with supervisor:
        supervisor.start("discord", crashing)
        await _until(lambda: _state(health, "discord") == "down")
        detail = health.snapshot()["parts"]["discord"]["detail"]
    assert detail == "Restarting: ValueError; see the log."


async def test_an_ended_platform_is_started_again() -> None:
    starts = 0

    async def ending() -> None:
        nonlocal starts
        starts += 1

    supervisor, _ = _supervisor()
    async with supervisor:
        supervisor.start("slack", ending)
        await _until(lambda: starts >= 3)


async def test_a_steady_run_clears_the_record() -> None:
    starts = 0

    async def crashing() -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(0.03)
        raise ValueError("oops")

    supervisor, _ = _supervisor(first_pause=0.01, longest_pause=60.0, steady_seconds=0.02)
    with structlog.testing.capture_logs() as logs:
        async with supervisor:
            supervisor.start("slack", crashing)
            await _until(lambda: starts >= 12)
    pauses = [log["in_seconds"] for log in logs if log["event"] == "platform.restarting"]
    assert len(pauses) >= 11
    assert max(pauses) <= 0.015


async def test_a_bad_token_is_not_tried_again_but_the_others_go_on() -> None:
    tries = 0

    async def refused() -> None:
        nonlocal tries
        tries += 1
        raise BadToken("The token is wrong.")

    async def calm() -> None:
        await asyncio.Event().wait()

    supervisor, health = _supervisor()
    stop = asyncio.Event()
    async with supervisor:
        supervisor.start("discord", refused)
        supervisor.start("slack", calm)
        waiting = asyncio.create_task(supervisor.wait(stop))
        await _until(lambda: _state(health, "discord") == "failed")
        await asyncio.sleep(0.1)
        assert (tries, waiting.done(), _state(health, "slack")) == (1, False, "up")
        stop.set()
        await asyncio.wait_for(waiting, 20)


async def test_when_every_platform_has_failed_the_first_reason_is_given() -> None:
    async def refused() -> None:
        raise BadToken("The token is wrong.")

    supervisor, _ = _supervisor()
    async with supervisor:
        supervisor.start("discord", refused)
        with pytest.raises(BadToken, match="The token is wrong"):
            await asyncio.wait_for(supervisor.wait(asyncio.Event()), 20)


async def test_leaving_cancels_and_waits() -> None:
    cleaned = False

    async def platform() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned = True

    supervisor, health = _supervisor()
    async with supervisor:
        supervisor.start("slack", platform)
        await _until(lambda: health.ok)
        await asyncio.sleep(0.01)
    assert cleaned


async def test_a_platform_that_is_not_connected_is_not_up() -> None:
    connected = False

    async def platform() -> None:
        await asyncio.Event().wait()

    supervisor, health = _supervisor()
    async with supervisor:
        supervisor.start("discord", platform, connected=lambda: connected)
        await asyncio.sleep(0.01)
        assert not health.ok
        connected = True
        assert health.ok


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop_and_a_second_one_insists(number: signal.Signals) -> None:
    second: list[int] = []
    before = signal.signal(number, lambda n, frame: second.append(n))
    try:
        async with stop_signals() as stop:
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stop.wait(), 20)
            assert not second
            os.kill(os.getpid(), number)
            await _until(lambda: second == [number])
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (FriendError("Slack cannot be reached."), "Restarting: Slack cannot be reached."),
        (ConnectionResetError(), "Restarting: ConnectionResetError; see the log."),
    ],
)
async def test_an_unreachable_platform_is_a_line_and_no_traceback(
    error: Exception, detail: str
) -> None:
    async def unreachable() -> None:
        raise error

    supervisor, health = _supervisor(first_pause=30.0)
    with structlog.testing.capture_logs() as logs:
        async with supervisor:
            supervisor.start("slack", unreachable)
            await _until(lambda: _state(health, "slack") == "down")
    assert health.snapshot()["parts"]["slack"]["detail"] == detail
    assert not any("exc_info" in log for log in logs)
    assert len([log for log in logs if log["log_level"] == "warning"]) == 1
