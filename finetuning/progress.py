"""What a person sees of a run: a progress bar with speed, time left and loss; and the curve.

On a terminal the bar is drawn by rich; into a file or pipe goes a plain line now and then.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

COLUMNS = ("step", "tokens", "seconds", "rate", "loss", "gradient_norm", "validation_loss")


class Curve:
    """The run as CSV, one line a step; loss in nats a token."""

    def __init__(self, path: Path, *, after_step: int = 0) -> None:
        """Go on after `after_step`; later lines are of a run that was cut off, and are dropped."""
        kept: list[list[str]] = []
        if after_step and path.exists():
            with path.open(newline="") as file:
                kept = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= after_step]
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._writer.writerows(kept)

    def add(
        self,
        step: int,
        tokens: int,
        seconds: float,
        rate: float,
        loss: float,
        norm: float,
        validation: float | None,
    ) -> None:
        shown = "" if validation is None else f"{validation:.5f}"
        row = (step, tokens, f"{seconds:.1f}", f"{rate:.3e}", f"{loss:.5f}", f"{norm:.3f}", shown)
        self._writer.writerow(row)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Reporter:
    """Shows a run while it goes."""

    def __init__(self, console: Console | None = None, *, line_seconds: float = 20.0) -> None:
        self._console = console or Console()
        self._line_seconds = line_seconds
        self._last_line = 0.0
        self._window: list[tuple[float, int]] = []
        self._smooth: float | None = None
        self._validation: float | None = None
        self._bar = Progress(
            BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=1.0)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def start(self, model: nn.Module, progress: float) -> None:
        size = sum(weight.numel() for weight in model.parameters())
        self.say(f"{size / 1e6:.2f} million parameters; {progress:.1%} of the run is done")
        self._began = (time.monotonic(), progress)
        self._bar.start()

    def stop(self) -> None:
        self._bar.stop()

    def step(
        self,
        step: int,
        tokens: int,
        progress: float,
        loss: float,
        rate: float,
        validation: float | None,
    ) -> None:
        now = time.monotonic()
        self._window = [*self._window[-30:], (now, tokens)]
        self._smooth = loss if self._smooth is None else 0.95 * self._smooth + 0.05 * loss
        self._validation = self._validation if validation is None else validation
        (began, first), elapsed = self._window[0], now - self._window[0][0]
        speed = (tokens - first) / elapsed if elapsed > 0 else 0.0
        held_out = "" if self._validation is None else f", held-out {self._validation:.3f}"
        text = (
            f"step {step}, {tokens / 1e6:.2f} M tokens, {speed:,.0f} tokens/s, "
            f"loss {self._smooth:.3f}{held_out}"
        )
        self._bar.update(self._task, completed=progress, description=text)
        if not self._console.is_terminal and now - self._last_line > self._line_seconds:
            self._last_line = now
            left = self._time_left(now, progress)
            self.say(f"{progress:6.1%}  {text}, rate {rate:.2e}, {left} left")

    def _time_left(self, now: float, progress: float) -> str:
        began, at = self._began
        if progress <= at:
            return "unknown time"
        seconds = (now - began) * (1 - progress) / (progress - at)
        return f"{seconds / 60:.0f} min"
