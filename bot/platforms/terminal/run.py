"""`friend chat`: opens a bot with the terminal as its platform, and picks the way to talk."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from dataclasses import replace

from bot.app import open_bot
from bot.core.conversation import Person
from bot.platforms.terminal.exchange import Exchange, Outcomes
from bot.platforms.terminal.outlet import TerminalPlatform
from bot.platforms.terminal.plain import read_lines, talk_plainly
from bot.settings import AccessSettings, Settings, TriggerSettings


def run_chat(settings: Settings, *, session: str = "default") -> int:
    """Talk until the person leaves or the input ends; return the exit status.

    Raises:
        FriendError: friend could not be opened.
    """
    settings = for_one_person(settings)
    try:
        return asyncio.run(_plain(settings, session))
    except BrokenPipeError:
        # Whoever read our output has left; spare the interpreter another try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def for_one_person(settings: Settings) -> Settings:
    """Without the lists, limits and triggers that are meant for company."""
    access = AccessSettings.model_construct(person_per_minute=0, channel_per_minute=0)
    return replace(settings, access=access, trigger=TriggerSettings.model_construct())


def whoever_is_here() -> Person:
    """The person at the terminal, by the name the system knows."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "you"
    return Person(name, name)


async def _plain(settings: Settings, session: str) -> int:
    platform = TerminalPlatform(session=session, person=whoever_is_here())
    outcomes = Outcomes()
    async with open_bot(settings, [platform], observer=outcomes) as bot:
        exchange = Exchange(
            friend=bot.friend, queues=bot.queues, store=bot.store, platform=platform,
            outcomes=outcomes,
        )
        lines = read_lines(sys.stdin.fileno())
        return await talk_plainly(
            exchange, lines, out=sys.stdout, err=sys.stderr, cause=lambda: ""
        )
