"""Showing a person where a deployment is. Everything goes to standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from deploy.errors import DeployError


class Progress:
    """Steps, one line each when done; on a terminal the current one turns."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._title = ""
        self._results: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step; an error that leaves it carries its title."""
        started = time.monotonic()
        self._title, self._results = title, []
        self._status = self.console.status(f"{title}…")
        try:
            with self._status:
                yield
        except DeployError as error:
            error.step = error.step or title
            self._line("✗", "red", title, "failed")
            raise
        finally:
            self._status = None
        took = time.monotonic() - started
        result = ", ".join(self._results) or "done"
        self._line("✓", "green", title, result + (f" ({took:.0f} s)" if took >= 1 else ""))

    def result(self, text: str) -> None:
        """What came of the current step."""
        self._results.append(text)

    def now(self, text: str) -> None:
        """What the current step is doing."""
        if self._status is not None:
            self._status.update(Text(f"{self._title}: {text}"[: self.console.width - 4]))

    def warn(self, text: str) -> None:
        """Something a person should know, though it stops nothing."""
        self._line("!", "yellow", text, "")

    def say(self, text: str) -> None:
        """A plain line."""
        self.console.print(Text(text))

    def _line(self, mark: str, colour: str, title: str, result: str) -> None:
        line = Text.assemble((mark, colour), " ", (title, "bold" if result else ""), "  ", result)
        line.rstrip()
        self.console.print(line)
