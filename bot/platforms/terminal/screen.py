"""The look of the chat window."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bot.core.conversation import Role, Turn
from bot.platforms.terminal import texts
from bot.platforms.terminal.commands import SlashCommand
from bot.platforms.terminal.exchange import Answer
from bot.platforms.terminal.wrapping import WrappedStream

FRIEND_STYLE = "bold magenta"
YOU_STYLE = "bold cyan"
_LONG_SECONDS = 2.0
_EARLIER_TURNS = 4
_EARLIER_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class Label:
    """Names at the left, as wide as each other, so that what is said lines up."""

    arrow: str

    @property
    def width(self) -> int:
        """Cells of a label."""
        return len(self.friend)

    @property
    def friend(self) -> str:
        """Before friend's words."""
        return f"{texts.FRIEND} {self.arrow} "

    @property
    def you(self) -> str:
        """Before the person's."""
        return f"{texts.YOU:>{len(texts.FRIEND)}} {self.arrow} "


class Screen:
    """Prints a conversation; a `View` for the reply under way."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._unicode = (console.encoding or "").lower().startswith("utf")
        self.label = Label("›" if self._unicode else ">")
        self._live: Live | None = None
        self._stream: WrappedStream | None = None

    def opening(self, hint: str) -> None:
        """The line at the start."""
        self.console.print(Text(hint, style="dim"))

    def earlier(self, turns: Sequence[Turn]) -> None:
        """The end of what was said before, faintly; with a word if a reply is still owed."""
        turns = turns[-_EARLIER_TURNS:]
        if len(turns) > 1 and turns[0].role is Role.FRIEND:
            turns = turns[1:]
        if not turns:
            self.console.print()
            return
        self.console.print(Text(f"\n{'':>{self.label.width}}{texts.EARLIER}", style="dim italic"))
        for turn in turns:
            is_friend = turn.role is Role.FRIEND
            text = turn.text
            if len(text) > _EARLIER_CHARACTERS:
                text = text[:_EARLIER_CHARACTERS].rstrip() + "…"
            self._say(self.label.friend if is_friend else self.label.you, text, "dim")
        if turns[-1].role is Role.USER:
            self.notice(texts.STILL_OWED)
        self.console.print()

    @contextmanager
    def waiting(self, what: str = texts.THINKING) -> Iterator[None]:
        """Show that friend is at it, until the first word or the end."""
        name = "dots" if self._unicode else "line"
        waiting = _Waiting(self.label.friend, Spinner(name, style="dim"), what, self.console)
        self._live = Live(
            get_renderable=waiting.look,
            console=self.console,
            transient=True,
            refresh_per_second=12,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        try:
            yield
        finally:
            self._stop_waiting()

    def show(self, text: str) -> bool:
        """See `View`."""
        stream = self._stream or WrappedStream(width=self.console.width, indent=self.label.width)
        if more := stream.grow(text):
            if self._stream is None:
                self._start_saying(stream)
            self._print(more)
        return self._stream is not None

    def end(self, answer: Answer) -> None:
        """Complete the reply."""
        if self._stream is None:
            if answer.stopped:
                self.notice(texts.STOPPED)
                return
            if answer.failed:
                self._say(self.label.friend, answer.text, "yellow")
                return
            self._start_saying(WrappedStream(width=self.console.width, indent=self.label.width))
        if self._stream is not None:
            style = "yellow" if answer.failed else ""
            self._print(Text(self._stream.finish(answer.text), style=style))
        if answer.stopped:
            self._print(Text(f" {texts.STOPPED}", style="dim"))
        self._print("\n")
        self._stream = None

    def _stop_waiting(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def said(self, text: str) -> None:
        """Something of friend's own, whole."""
        self._say(self.label.friend, text, "")

    def heard(self, text: str) -> None:
        """What the person has sent; a terminal that cannot erase still shows it as typed."""
        if not self.console.is_dumb_terminal:
            self._say(self.label.you, text.strip(), "")

    def gap(self) -> None:
        """A line free between one exchange and the next."""
        self.console.print()

    def notice(self, text: str) -> None:
        """A remark of the window, in line with what is said."""
        self._say(" " * self.label.width, text, "dim italic")

    def help(self) -> None:
        """The commands and the keys."""
        table = Table.grid(padding=(0, 2))
        for command in SlashCommand:
            table.add_row(Text(command, style="cyan"), command.meaning)
        table.add_row()
        for key, meaning in texts.HELP_KEYS:
            table.add_row(Text(key, style="cyan"), meaning)
        self.console.print(Padding(table, (0, 0, 0, self.label.width)))

    def _start_saying(self, stream: WrappedStream) -> None:
        self._stop_waiting()
        self._stream = stream
        self._print(Text(self.label.friend, style=FRIEND_STYLE))

    def _say(self, label: str, text: str, style: str) -> None:
        stream = WrappedStream(width=self.console.width, indent=self.label.width)
        name = FRIEND_STYLE if label == self.label.friend else YOU_STYLE
        self._print(Text(label, style=f"{name} dim" if style == "dim" else name))
        self._print(Text(stream.finish(text) + "\n", style=style))

    def _print(self, text: str | Text) -> None:
        """Print as it is: no markup, no wrapping of rich's own."""
        shown = text if isinstance(text, Text) else Text(text)
        self.console.print(shown, end="", soft_wrap=True, highlight=False)


class _Waiting:
    """A label, a spinner, and after a while how to stop."""

    def __init__(self, label: str, spinner: Spinner, what: str, console: Console) -> None:
        self._label = label
        self._spinner = spinner
        self._what = what
        self._console = console
        self._since = time.monotonic()

    def look(self) -> Text:
        """What to show now."""
        waited = time.monotonic() - self._since
        frame = self._spinner.render(self._console.get_time())
        words = self._what
        if words == texts.THINKING and waited > _LONG_SECONDS:
            words = f"{texts.THINKING_LONG} · {waited:.0f} s"
        spun = frame if isinstance(frame, Text) else Text("")
        return Text.assemble((self._label, FRIEND_STYLE), spun, (f" {words}", "dim"), no_wrap=True)
