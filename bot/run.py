"""`friend run`, `friend discord`, `friend slack`: the long-running process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from bot.app import open_bot
from bot.core.platform import Platform
from bot.errors import SettingsInvalid
from bot.ops.health import Health, ops_server
from bot.ops.logging import configure
from bot.ops.metrics import Metrics
from bot.ops.redaction import secrets_of
from bot.ops.supervisor import Supervisor, stop_signals
from bot.settings import Settings

_log = structlog.get_logger(__name__)

_MISSING = {
    "discord": "DISCORD_TOKEN is empty.",
    "slack": "SLACK_BOT_TOKEN is empty, or SLACK_APP_TOKEN and SLACK_SIGNING_SECRET are.",
}


def with_credentials(settings: Settings) -> list[str]:
    """Names of the platforms whose credentials are set."""
    slack = settings.slack
    ready = {
        "discord": bool(settings.discord.token.get_secret_value()),
        "slack": bool(slack.bot_token.get_secret_value())
        and bool(slack.app_token.get_secret_value() or slack.signing_secret.get_secret_value()),
    }
    return [name for name, is_ready in ready.items() if is_ready]


@asynccontextmanager
async def _platform(name: str, settings: Settings) -> AsyncIterator[Platform]:
    """Build a platform; each is imported only where it is used."""
    if name == "discord":
        from bot.platforms.discord.platform import DiscordPlatform

        async with DiscordPlatform(settings.discord) as discord:
            yield discord
    else:
        from bot.platforms.slack import SlackPlatform

        async with SlackPlatform(settings.slack) as slack:
            yield slack


def run_platforms(settings: Settings, names: Sequence[str] = ()) -> int:
    """Answer on the named platforms, or on all that have credentials, until told to stop.

    Raises:
        SettingsInvalid: a named platform, or every platform, lacks credentials.
        PlatformFailed: no platform is left that could run.
    """
    ready = with_credentials(settings)
    lacking = [name for name in names if name not in ready]
    if lacking:
        raise SettingsInvalid(
            " ".join(_MISSING[name] for name in lacking) + " `friend doctor` says how to get them."
        )
    if not ready:
        raise SettingsInvalid(
            "No platform has credentials. `friend doctor` says how to get them; "
            "`friend chat` works without."
        )
    configure(settings.ops, secrets_of(settings))
    asyncio.run(_run(settings, names or ready))
    return 0


async def _run(settings: Settings, names: Sequence[str]) -> None:
    health, metrics = Health(), Metrics()
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_signals())
        for name in names:
            health.expect(name)  # looked at while the history and the model are still opened
        platforms = [await stack.enter_async_context(_platform(name, settings)) for name in names]
        if settings.ops.ops_port is not None:
            await stack.enter_async_context(ops_server(settings.ops.ops_port, health, metrics))
        # Left in the other order: first nothing more is heard, then the replies under way are
        # finished, which need their platforms to be delivered.
        bot = await stack.enter_async_context(open_bot(settings, platforms, observer=metrics))
        supervisor = await stack.enter_async_context(Supervisor(health, metrics))
        metrics.watch_queue(lambda: bot.queues.total_depth)
        for platform in platforms:
            supervisor.start(
                platform.name,
                partial(platform.run, bot.friend),
                connected=partial(getattr, platform, "is_connected"),
            )
        _log.info("listening", platforms=list(names))
        await supervisor.wait(stop)
