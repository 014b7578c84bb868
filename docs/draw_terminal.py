"""Draws docs/terminal.svg: the terminal, as it looks after a real conversation with friend.

    python docs/draw_terminal.py [LINE ...]

Needs tmux. Each line is typed into `friend chat` as a person would, in an empty history.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH, HEIGHT = 76, 15
LINES = ("hi friend!", "my dog is sick today", "what is your name?")
_SESSION = f"friend-picture-{os.getpid()}"


def tmux(*arguments: str) -> str:
    """Run tmux on a server of its own."""
    done = subprocess.run(  # noqa: S603
        ["tmux", "-L", _SESSION, *arguments],  # noqa: S607
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def screen(*options: str) -> str:
    """What the terminal shows."""
    return tmux("capture-pane", "-p", "-t", _SESSION, *options)


def wait_for(ready: str, count: int, seconds: float = 60) -> None:
    """Wait until the screen shows `ready` at least `count` times, and holds still."""
    end, last = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        shown = screen()
        if shown.count(ready) >= count and shown == last and "thinking" not in shown:
            return
        last = shown
        time.sleep(0.7)
    raise SystemExit(f"The terminal never showed {ready!r}:\n{screen()}")


def main(lines: tuple[str, ...]) -> None:
    """Talk, and draw."""
    with tempfile.TemporaryDirectory() as home:
        chat = f"env XDG_DATA_HOME={home} TERM=xterm-256color COLORTERM=truecolor"
        chat += f" {shlex.quote(sys.executable)} -m friend chat"
        size = ("-x", str(WIDTH), "-y", str(HEIGHT))
        tmux("new-session", "-d", "-s", _SESSION, *size, chat)
        try:
            wait_for("you ›", 1)
            for number, line in enumerate(lines, 1):
                tmux("send-keys", "-t", _SESSION, "-l", line)
                tmux("send-keys", "-t", _SESSION, "Enter")
                wait_for("you ›", number + 1)
            shown = screen("-e")
        finally:
            tmux("kill-server")
    console = Console(width=WIDTH, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(shown.replace(home, "~/.local/share").rstrip()))
    console.save_svg(str(Path(__file__).with_name("terminal.svg")), title="friend chat")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or LINES)
