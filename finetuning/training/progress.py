"""What a person sees of a run: a progress bar with speed, time left and loss; and the curve.

On a terminal the bar is drawn by rich; into a file or pipe goes a plain line now and then.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: a line of the curve."""

    step: int
    tokens: int  # learnt from, since the start
    seconds: float  # of computing, since the start
    rate: float
    loss: float  # nats a token
    gradient_norm: float
    validation_loss: float | None


COLUMNS = tuple(field.name for field in fields(StepRecord))


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

    def add(self, record: StepRecord) -> None:
        """Write a line."""
        held_out = record.validation_loss
        self._writer.writerow(
            (
                record.step,
                record.tokens,
                f"{record.seconds:.1f}",
                f"{record.rate:.3e}",
                f"{record.loss:.5f}",
                f"{record.gradient_norm:.3f}",
                "" if held_out is None else f"{held_out:.5f}",
            )
        )

    def flush(self) -> None:
        """Hand all lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()


class Reporter:
    """Shows a run while it goes."""

    def __init__(self, console: Console | None = None, *, line_seconds: float = 20.0) -> None:
        self._console = console or Console()
        self._line_seconds = line_seconds
        self._last_line = 0.0
        self._window: list[tuple[float, int]] = []
        self._began = (0.0, 0.0)
        self._smooth: float | None = None
        self._validation: float | None = None
        self._bar = Progress(
            BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=1.0)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False)

    def start(self, model: nn.Module, progress: float) -> None:
        """Show what is trained, and begin to measure."""
        size = sum(weight.numel() for weight in model.parameters())
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        part = "" if trained == size else f", {trained / 1e6:.2f} million of them trained"
        self.say(f"{size / 1e6:.2f} million parameters{part}; {progress:.1%} of the run is done")
        self._began = (time.monotonic(), progress)
        self._bar.start()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    def step(self, record: StepRecord, progress: float) -> None:
        """Show a step; `progress`: share of the run done, 0 to 1."""
        now = time.monotonic()
        self._window = [*self._window[-30:], (now, record.tokens)]
        smooth = record.loss if self._smooth is None else self._smooth
        self._smooth = 0.95 * smooth + 0.05 * record.loss
        if record.validation_loss is not None:
            self._validation = record.validation_loss
        began, first = self._window[0]
        speed = (record.tokens - first) / (now - began) if now > began else 0.0
        held_out = "" if self._validation is None else f", held-out {self._validation:.3f}"
        rate = f"{speed:,.0f} tokens/s, " if speed else ""
        text = (
            f"step {record.step}, {record.tokens / 1e6:.2f} M tokens, {rate}"
            f"loss {self._smooth:.3f}{held_out}"
        )
        self._bar.update(self._task, completed=progress, description=text)
        if not self._console.is_terminal and now - self._last_line > self._line_seconds:
            self._last_line = now
            left = self._time_left(now, progress)
            self.say(f"{progress:6.1%}  {text}, rate {record.rate:.2e}, {left} left")

    def _time_left(self, now: float, progress: float) -> str:
        began, at = self._began
        if progress <= at:
            return "unknown time"
        seconds = (now - began) * (1 - progress) / (progress - at)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
