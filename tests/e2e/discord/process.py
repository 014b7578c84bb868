"""The bot on Discord as a process of its own, discord.py turned to the fake."""

from __future__ import annotations

import asyncio

from bot.app import open_bot
from bot.platforms.discord.platform import DiscordPlatform
from bot.settings import load_settings
from tests.e2e.discord.harness import Log
from tests.fakes.discord import apply_environment


async def main() -> None:
    """Run until killed."""
    apply_environment()
    settings = load_settings()
    platform = DiscordPlatform(settings.discord)
    async with platform, open_bot(settings, [platform], observer=Log()) as bot:
        await platform.run(bot.friend)


if __name__ == "__main__":
    asyncio.run(main())
