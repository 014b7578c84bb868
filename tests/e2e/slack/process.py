"""A bot in a process of its own: `python -m tests.e2e.slack.process API_URL`."""

from __future__ import annotations

import asyncio
import sys

from bot.app import open_bot
from bot.platforms.slack import SlackPlatform
from bot.settings import load_settings
from tests.e2e.harness import Log
from tests.e2e.slack.harness import BRISK


async def main(api_url: str) -> None:
    settings = load_settings()
    platform = SlackPlatform(settings.slack, api_url=api_url, socket_times=BRISK)
    async with platform, open_bot(settings, [platform], observer=Log()) as bot:
        await platform.run(bot.friend)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
