"""`friend chat`: opens a bot with the terminal as its platform, and picks the way to talk."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from bot.app import Bot, open_bot
from bot.core.conversation import Person
from bot.platforms.terminal import texts
from bot.platforms.terminal.exchange import Exchange, Outcomes
from bot.platforms.terminal.files import Files, open_log
from bot.platforms.terminal.keyboard import Keyboard, silent_keys
from bot.platforms.terminal.outlet import TerminalPlatform
from bot.platforms.terminal.plain import read_lines, talk_plainly
from bot.platforms.terminal.screen import Screen
from bot.platforms.terminal.window import ChatWindow
from bot.settings import AccessSettings, Settings, TriggerSettings
from bot.stores import default_url

_NAME_SECONDS = 5.0


def run_chat(settings: Settings, *, session: str = "default") -> int:
    """Talk until the person leaves or the input ends; return the exit status.

    Raises:
        FriendError: friend could not be opened.
    """
    settings = for_one_person(settings)
    on_screen = sys.stdin.isatty() and sys.stdout.isatty()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a reply may have what the terminal has not
    talk = _in_window if on_screen else _in_pipe
    try:
        return asyncio.run(_until_told(talk(settings, session)))
    except BrokenPipeError:
        # Whoever read our output has left; spare the interpreter another try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _until_told(talk: Coroutine[Any, Any, int]) -> int:
    """Talk until a signal says to leave, and unwind, so that the terminal is as it was found.

    The signal cancels the talk rather than raise wherever the program happens to be; the status
    is the shell's custom.
    """
    loop, told = asyncio.get_running_loop(), list[int]()
    talking = asyncio.ensure_future(talk)

    def leave(number: int) -> None:
        told.append(number)
        talking.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave, number)
    try:
        return await talking
    except asyncio.CancelledError:
        if not told:
            raise
        return 128 + told[0]


def for_one_person(settings: Settings) -> Settings:
    """Without the lists, limits and triggers that are meant for company.

    Nothing is drained either: whoever has left the terminal reads no reply.
    """
    return replace(
        settings,
        access=AccessSettings.model_construct(person_per_minute=0, channel_per_minute=0),
        trigger=TriggerSettings.model_construct(),
        ops=settings.ops.model_copy(update={"drain_seconds": 0.0}),
    )


def whoever_is_here() -> Person:
    """The person at the terminal, by the name the system knows."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "you"
    return Person(name, name)


async def _in_pipe(settings: Settings, session: str) -> int:
    platform = TerminalPlatform(session=session, person=whoever_is_here())
    outcomes = Outcomes()
    with open_log(_files(settings), settings) as log:
        async with open_bot(settings, [platform], observer=outcomes) as bot:
            exchange = _exchange(bot, platform, outcomes)
            await exchange.take_up()
            return await talk_plainly(
                exchange,
                read_lines(sys.stdin.fileno()),
                out=sys.stdout,
                err=sys.stderr,
                cause=log.last_error,
            )


async def _in_window(settings: Settings, session: str) -> int:
    screen = Screen(Console(highlight=False))
    platform = TerminalPlatform(session=session, person=whoever_is_here(), view=screen)
    outcomes = Outcomes()
    files = _files(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(silent_keys())
        log = stack.enter_context(open_log(files, settings))
        with screen.waiting(texts.WAKING):
            bot = await stack.enter_async_context(open_bot(settings, [platform], observer=outcomes))
            model = await _model_name(bot, settings)
            exchange = _exchange(bot, platform, outcomes)
            await exchange.take_up()
            turns = await bot.store.window(platform.conversation)
        screen.opening(texts.starting(model, files.history_place, session))
        screen.earlier(turns)
        keyboard = Keyboard(
            label=screen.label.you,
            toolbar=lambda: f"{model} · {texts.TOOLBAR}",
            history_file=files.typed,
        )
        window = ChatWindow(
            exchange=exchange, screen=screen, keyboard=keyboard, cause=log.last_error
        )
        await window.run()
    return 0


def _files(settings: Settings) -> Files:
    """Beside an SQLite history, else in the user's data folder."""
    history = _sqlite_file(settings.store.url.get_secret_value() or default_url())
    folder = (history or _sqlite_file(default_url()) or Path()).parent
    return Files(folder, history)


def _exchange(bot: Bot, platform: TerminalPlatform, outcomes: Outcomes) -> Exchange:
    return Exchange(
        friend=bot.friend,
        queues=bot.queues,
        store=bot.store,
        platform=platform,
        outcomes=outcomes,
    )


async def _model_name(bot: Bot, settings: Settings) -> str:
    """What to call the model; only our own server is asked, as another may have to wake first."""
    if settings.model.url:
        host = urlsplit(settings.model.url).hostname or settings.model.url
        return f"{settings.model.name} at {host}"
    try:
        async with asyncio.timeout(_NAME_SECONDS):
            health = await bot.model.health()
    except TimeoutError:
        return texts.SOME_MODEL
    return health.models[0] if health.models else texts.SOME_MODEL


def _sqlite_file(url: str) -> Path | None:
    try:
        address = make_url(url)
    except ArgumentError:
        return None
    if address.get_backend_name() != "sqlite" or address.database in {None, "", ":memory:"}:
        return None
    return Path(str(address.database)).expanduser()
