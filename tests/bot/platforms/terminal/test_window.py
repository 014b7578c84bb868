"""The chat window, with real key presses."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from bot.core.conversation import Role, Turn
from bot.platforms.terminal import texts
from bot.platforms.terminal.keyboard import Keyboard
from bot.platforms.terminal.screen import Screen
from bot.platforms.terminal.window import ChatWindow
from tests.bot.platforms.terminal.conftest import Desk, SitDown
from tests.fakes.model import FakeModel

ROOT = Path(__file__).parents[4]
ENTER, ESCAPE, CTRL_C, CTRL_D, UP, TAB = "\r", "\x1b", "\x03", "\x04", "\x1b[A", "\t"
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Sitter:
    """Presses keys and reads the screen."""

    def __init__(self, keys: PipeInput, screen: io.StringIO, window: asyncio.Task[None]) -> None:
        self._keys = keys
        self._screen = screen
        self.window = window

    def press(self, *keys: str) -> None:
        self._keys.send_text("".join(keys))

    @property
    def shown(self) -> str:
        return _CODES.sub("", self._screen.getvalue())

    async def sees(self, words: str | Callable[[], bool]) -> None:
        seen = words if callable(words) else lambda: words in self.shown
        async with asyncio.timeout(20):
            while not seen():
                if self.window.done():
                    self.window.result()
                await asyncio.sleep(0.01)


def _screen(width: int = 60, encoding: str = "utf-8") -> tuple[Screen, io.StringIO]:
    class Terminal(io.StringIO):
        pass

    Terminal.encoding = encoding
    file = Terminal()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    return Screen(console), file


@asynccontextmanager
async def _window(
    sit_down: SitDown, typed: Path | None = None
) -> AsyncIterator[tuple[Sitter, Desk]]:
    screen, file = _screen()
    async with sit_down(screen) as desk:
        with create_pipe_input() as keys:
            keyboard = Keyboard(
                label=screen.label.you,
                toolbar=lambda: "",
                history_file=typed,
                keys=keys,
                screen=DummyOutput(),
            )
            window = ChatWindow(
                exchange=desk.exchange, screen=screen, keyboard=keyboard, cause=lambda: "a reason"
            )
            task = asyncio.create_task(window.run())
            yield Sitter(keys, file, task), desk
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_message_and_its_reply(sit_down: SitDown) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("hi there", ENTER)
        await sitter.sees("friend › I heard: hi there\n")
        assert "   you › hi there\n" in sitter.shown
        sitter.press(CTRL_D)
        await asyncio.wait_for(sitter.window, 20)
        assert texts.FAREWELL in sitter.shown


async def test_what_is_typed_while_friend_speaks_is_sent_next(
    sit_down: SitDown, model: FakeModel
) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("one", ENTER, "two", ENTER)
        await sitter.sees("I heard: two\n")
        assert sitter.shown.index("I heard: one") < sitter.shown.index("you › two")


async def test_a_pasted_text_of_several_lines_is_one_message(
    sit_down: SitDown, model: FakeModel
) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("\x1b[200~first\nsecond\x1b[201~", ENTER)
        await sitter.sees("I heard: first\n         second\n")
    assert model.requests[-1]["messages"][-1]["content"] == "first\nsecond"


async def test_alt_enter_makes_a_new_line(sit_down: SitDown, model: FakeModel) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("first", ESCAPE + ENTER, "second", ENTER)
        await sitter.sees("I heard:")
    assert model.requests[-1]["messages"][-1]["content"] == "first\nsecond"


async def test_enter_on_an_empty_line_sends_nothing(sit_down: SitDown, model: FakeModel) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press(ENTER, "  ", ENTER, "x", ENTER)
        await sitter.sees("I heard: x")
    assert len(model.requests) == 1


async def test_tab_completes_a_command(sit_down: SitDown) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("/ab", TAB, ENTER)
        await sitter.sees("friend › I'm friend")


async def test_up_brings_back_what_was_typed_also_next_time(
    sit_down: SitDown, tmp_path: Path, model: FakeModel
) -> None:
    typed = tmp_path / "typed"
    async with _window(sit_down, typed) as (sitter, _):
        sitter.press("remember me", ENTER)
        await sitter.sees("I heard: remember me\n")
    assert typed.stat().st_mode & 0o077 == 0
    async with _window(sit_down, typed) as (sitter, _):
        await asyncio.sleep(0.2)  # the history file is read in the background
        sitter.press(UP, ENTER)
        await sitter.sees("I heard: remember me\n")


async def test_forget_me_erases_what_was_typed_too(sit_down: SitDown, tmp_path: Path) -> None:
    typed = tmp_path / "typed"
    async with _window(sit_down, typed) as (sitter, _):
        sitter.press("my secret", ENTER)
        await sitter.sees("I heard: my secret\n")
        sitter.press("/forget-me", ENTER)
        await sitter.sees("What you typed here is erased")
        assert "my secret" not in typed.read_text()
        sitter.press("harmless", ENTER)
        await sitter.sees("I heard: harmless\n")
        assert "harmless" in typed.read_text()


async def test_ctrl_c_stops_a_reply_then_leaves(sit_down: SitDown, model: FakeModel) -> None:
    model.reply_with("one two three four")
    model.faults.silence(after_words=3)
    async with _window(sit_down) as (sitter, desk):
        sitter.press("count", ENTER)
        await sitter.sees("friend › one two")
        os.kill(os.getpid(), signal.SIGINT)
        await sitter.sees("friend › one two three (stopped)\n")
        assert await desk.turns() == [("user", "count"), ("assistant", "one two three")]
        sitter.press("half a line", CTRL_C, CTRL_C)
        await asyncio.wait_for(sitter.window, 20)
        assert len(model.requests) == 1


async def test_ctrl_c_before_the_first_word(sit_down: SitDown, model: FakeModel) -> None:
    model.faults.hang()
    async with _window(sit_down) as (sitter, _):
        sitter.press("hello?", ENTER)
        await sitter.sees(lambda: len(model.requests) == 1)
        os.kill(os.getpid(), signal.SIGINT)
        await sitter.sees(f"\n         {texts.STOPPED}\n")
        sitter.press("again", ENTER)
        await sitter.sees("I heard: hello?")


async def test_a_failure_shows_its_cause_and_the_chat_goes_on(
    sit_down: SitDown, model: FakeModel
) -> None:
    model.faults.status(400)
    async with _window(sit_down) as (sitter, _):
        sitter.press("are you there?", ENTER)
        await sitter.sees("cause: a reason")
        assert "friend › I can't think just now." in sitter.shown
        sitter.press("/again", ENTER)
        await sitter.sees("I heard: are you there?")


async def test_commands(sit_down: SitDown) -> None:
    async with _window(sit_down) as (sitter, _):
        sitter.press("x", ENTER)
        await sitter.sees("I heard: x")
        sitter.press("/help", ENTER)
        await sitter.sees("Alt-Enter")
        sitter.press("/rest", ENTER)
        await sitter.sees(texts.unknown_command("/rest"))
        sitter.press("/reset", ENTER)
        await sitter.sees("friend › Done.")
        sitter.press("/quit", ENTER)
        await asyncio.wait_for(sitter.window, 20)


def _turn(number: int, role: Role, text: str) -> Turn:
    return Turn(number, role, text, str(number))


def test_the_end_of_the_last_conversation_is_shown() -> None:
    screen, file = _screen()
    turns = [
        _turn(1, Role.USER, "long ago"),
        _turn(2, Role.FRIEND, "old reply"),
        _turn(3, Role.USER, "recent"),
        _turn(4, Role.FRIEND, "x" * 500),
        _turn(5, Role.USER, "unanswered [bold]"),
    ]
    screen.earlier(turns)
    shown = _CODES.sub("", file.getvalue())
    assert "old reply" not in shown
    assert "   you › recent" in shown
    assert shown.count("x") == 240
    assert "unanswered [bold]" in shown
    assert texts.STILL_OWED in shown


def test_nothing_is_said_of_an_empty_past() -> None:
    screen, file = _screen()
    screen.earlier([])
    assert file.getvalue().strip() == ""


def test_a_terminal_without_unicode_gets_plain_marks() -> None:
    screen, file = _screen(encoding="ascii")
    screen.said("hi")
    with screen.waiting():
        pass
    assert "friend > hi" in file.getvalue()
    _CODES.sub("", file.getvalue()).encode("ascii")


class RealTerminal:
    """`friend chat` on a pseudo-terminal."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._ours = ours
        self._shown = bytearray()

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read(self) -> None:
        with contextlib.suppress(OSError):
            self._shown.extend(os.read(self._ours, 65536))

    async def sees(self, words: str) -> None:
        async with asyncio.timeout(60):
            while words not in _CODES.sub("", self._shown.decode("utf-8", "replace")):
                assert self.process.returncode is None
                await asyncio.sleep(0.02)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)


@asynccontextmanager
async def _real_terminal(
    *arguments: str, program: Sequence[str] = ("-m", "friend")
) -> AsyncIterator[RealTerminal]:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        "chat",
        *arguments,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    terminal = RealTerminal(ours, process)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, terminal.read)
    try:
        yield terminal
        assert process.stderr is not None
        assert await process.stderr.read() == b""
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(theirs)
        os.close(ours)


@pytest.mark.usefixtures("settings")
async def test_the_command_on_a_real_terminal() -> None:
    async with _real_terminal("--session", "work") as terminal:
        await terminal.sees("fake-model at 127.0.0.1 · session work · history in")
        terminal.press(b"hi there\r")
        await terminal.sees("friend › I heard: hi there")
        terminal.press(b"\x04")
        assert await asyncio.wait_for(terminal.process.wait(), 60) == 0
        assert terminal.echoes


_SLOW_TO_ASK_AGAIN = """
import time
from bot.platforms.terminal.screen import Screen
from friend.cli import main

gap = Screen.gap
Screen.gap = lambda screen: (gap(screen), time.sleep(1))
main()
"""


@pytest.mark.usefixtures("settings")
async def test_keys_between_a_reply_and_the_next_prompt_count() -> None:
    """In line mode the system would take Ctrl-D for itself, and the prompt never see it."""
    async with _real_terminal(program=("-c", _SLOW_TO_ASK_AGAIN)) as terminal:
        await terminal.sees("history in")
        terminal.press(b"hi there\r")
        await terminal.sees("friend › I heard: hi there")
        assert not terminal.echoes
        terminal.press(b"\x04")
        assert await asyncio.wait_for(terminal.process.wait(), 60) == 0
        assert terminal.echoes


@pytest.mark.usefixtures("settings")
async def test_the_terminal_is_left_as_it_was_found(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at once: nobody is there any more to read the reply under way."""
    monkeypatch.setenv("FRIEND_DRAIN_SECONDS", "600")
    model.faults.hang()
    async with _real_terminal() as terminal:
        assert terminal.echoes
        await terminal.sees("history in")
        terminal.press(b"hi there\r")
        await terminal.sees("thinking")
        assert not terminal.echoes
        terminal.process.terminate()
        assert await asyncio.wait_for(terminal.process.wait(), 60) == 128 + signal.SIGTERM
        assert terminal.echoes


@pytest.mark.usefixtures("settings")
async def test_what_a_killed_chat_owed_is_answered_when_asked_for(model: FakeModel) -> None:
    model.faults.hang()
    async with _real_terminal() as terminal:
        await terminal.sees("history in")
        terminal.press(b"hi there\r")
        await terminal.sees("thinking")
        async with asyncio.timeout(20):
            while not model.requests:
                await asyncio.sleep(0.01)
        terminal.process.kill()
    async with _real_terminal() as terminal:
        await terminal.sees("you › hi there")
        await terminal.sees(texts.STILL_OWED)
        assert len(model.requests) == 1
        terminal.press(b"/again\r")
        await terminal.sees("friend › I heard: hi there")
        terminal.press(b"\x04")
        assert await asyncio.wait_for(terminal.process.wait(), 60) == 0
    assert len(model.requests) == 2
