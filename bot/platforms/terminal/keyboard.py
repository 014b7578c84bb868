"""Reading what a person types: prompt-toolkit, set up for a chat."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from bot.platforms.terminal.commands import SlashCommand

_STYLE = Style.from_dict(
    {
        "you": "bold ansicyan",
        "bottom-toolbar": "noreverse ansibrightblack",
        "completion-menu": "noreverse bg:default",
        "completion-menu.completion": "bg:default ansicyan",
        "completion-menu.completion.current": "bg:ansicyan ansiblack noreverse",
        "completion-menu.meta.completion": "bg:default ansibrightblack",
        "completion-menu.meta.completion.current": "bg:default default",
    }
)
_KEPT_ENTRIES = 1000


class Left(Exception):
    """The person has left: Ctrl-D, or Ctrl-C on an empty line."""


class Keyboard:
    """Asks for one message after another; what was typed leaves the screen when it is sent.

    Args:
        label: stands before what is typed.
        toolbar: the line at the bottom.
        history_file: keeps what was typed for the next time; None keeps it in memory.
    """

    def __init__(
        self,
        *,
        label: str,
        toolbar: Callable[[], str],
        history_file: Path | None = None,
        keys: Input | None = None,
        screen: Output | None = None,
    ) -> None:
        self._file = history_file
        self._session: PromptSession[str] = PromptSession(
            message=FormattedText([("class:you", label)]),
            prompt_continuation=lambda width, line, wraps: " " * width,
            multiline=True,
            history=_history(history_file),
            completer=_Commands(),
            complete_while_typing=Condition(self._is_command),
            key_bindings=_bindings(),
            bottom_toolbar=lambda: FormattedText([("", " " * len(label) + toolbar())]),
            style=_STYLE,
            erase_when_done=True,
            input=keys,
            output=screen,
        )

    async def read(self) -> str:
        """The next message.

        Raises:
            Left: there is none.
        """
        try:
            return await self._session.prompt_async()
        except (EOFError, KeyboardInterrupt):
            raise Left from None

    def forget(self) -> None:
        """Erase what was typed, here and in the file."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        self._session.history = self._session.default_buffer.history = _history(self._file)
        self._session.default_buffer.reset()

    def _is_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")


class _Commands(Completer):
    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        typed = document.text_before_cursor
        if document.text == typed:
            for command in _offers(typed):
                yield Completion(command, start_position=-len(typed), display_meta=command.meaning)


def _offers(typed: str) -> Iterator[SlashCommand]:
    """Commands that begin with what is typed."""
    if typed.startswith("/"):
        yield from (command for command in SlashCommand if command.startswith(typed.casefold()))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        if event.current_buffer.text.strip():
            event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("tab", filter=Condition(lambda: get_app().current_buffer.text.startswith("/")))
    def complete(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        offers = list(_offers(buffer.text))
        if len(offers) == 1:
            buffer.document = Document(offers[0])
        elif buffer.complete_state is not None:
            buffer.complete_next()
        else:
            buffer.start_completion(select_first=True)

    @bindings.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError)

    return bindings


def _history(file: Path | None) -> History:
    if file is None:
        return InMemoryHistory()
    try:
        file.touch(mode=0o600)
        _shorten(file)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))


def _shorten(file: Path) -> None:
    """Keep the newest entries; each begins with a comment line that has its time."""
    text = file.read_text(encoding="utf-8", errors="replace")
    entries = text.split("\n# ")
    if len(entries) > 2 * _KEPT_ENTRIES:
        file.write_text("\n# " + "\n# ".join(entries[-_KEPT_ENTRIES:]), encoding="utf-8")


@contextmanager
def silent_keys() -> Iterator[None]:
    """Outside a prompt, keys make no mark on the screen; they are kept for the next prompt.

    For a whole chat, not reply by reply: in a moment of line mode between the two, the system takes
    Ctrl-D for itself and turns Enter into another key. Ctrl-C still is a signal.
    """
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        yield
        return
    quiet = [*before[:6], list(before[6])]
    quiet[0] = before[0] & ~termios.ICRNL
    quiet[3] = before[3] & ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)
