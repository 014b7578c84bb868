"""The chat window: a person types, friend's words stream back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

from prompt_toolkit.patch_stdout import patch_stdout

from bot.errors import FriendError
from bot.platforms.terminal import texts
from bot.platforms.terminal.commands import SlashCommand, UnknownCommand, read_command
from bot.platforms.terminal.exchange import Exchange
from bot.platforms.terminal.keyboard import Keyboard, Left
from bot.platforms.terminal.screen import Screen


class ChatWindow:
    """Runs until the person leaves.

    Args:
        cause: what the log last said about a failure, or "".
    """

    def __init__(
        self, *, exchange: Exchange, screen: Screen, keyboard: Keyboard, cause: Callable[[], str]
    ) -> None:
        self._exchange = exchange
        self._screen = screen
        self._keyboard = keyboard
        self._cause = cause

    async def run(self) -> None:
        """Take messages and commands until the person leaves."""
        while True:
            try:
                with patch_stdout(raw=True):
                    text = await self._keyboard.read()
            except Left:
                break
            self._screen.heard(text)
            try:
                command = read_command(text)
                if command is SlashCommand.QUIT:
                    break
                await self._do(command, text)
            except UnknownCommand as unknown:
                self._screen.notice(texts.unknown_command(unknown.word))
            except FriendError as error:
                self._screen.notice(str(error))
            self._screen.gap()
        self._screen.notice(texts.FAREWELL)

    async def _do(self, command: SlashCommand | None, text: str) -> None:
        match command:
            case None:
                await self._ask(text)
            case SlashCommand.AGAIN:
                await self._ask("again")
            case SlashCommand.RESET:
                self._screen.said(await self._exchange.reset())
            case SlashCommand.FORGET_ME:
                self._screen.said(await self._exchange.forget())
                self._keyboard.forget()
                self._screen.notice(texts.INPUT_FORGOTTEN)
            case SlashCommand.ABOUT:
                self._screen.said(self._exchange.about())
            case SlashCommand.HELP:
                self._screen.help()

    async def _ask(self, text: str) -> None:
        with _on_interrupt(self._exchange.stop), self._screen.waiting():
            answer = await self._exchange.ask(text)
        self._screen.end(answer)
        if answer.failed and (cause := self._cause()):
            self._screen.notice(texts.cause(cause))


@contextmanager
def _on_interrupt(stop: Callable[[], Coroutine[None, None, None]]) -> Iterator[None]:
    """Ctrl-C stops the reply instead of the program."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    stopping: list[asyncio.Task[None]] = []

    def interrupt() -> None:
        if not stopping:
            stopping.append(asyncio.create_task(stop()))

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
