"""What a person sees of a run, and what is left of it afterwards."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

from finetuning.errors import CorpusError
from finetuning.training.plot import plot_curve
from finetuning.training.progress import Curve, Reporter, StepRecord


def record(step: int, validation: float | None = None) -> StepRecord:
    return StepRecord(step, step * 1000, step * 0.5, 1e-3, 5.0 - step / 10, 0.4, validation)


def write(path: Path, steps: range, *, after_step: int = 0) -> None:
    curve = Curve(path, after_step=after_step)
    for step in steps:
        curve.add(record(step, 4.5 if step % 2 == 0 else None))
    curve.close()


def test_a_resumed_curve_drops_what_the_cut_off_run_wrote_too_much(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    write(path, range(1, 8))
    write(path, range(5, 10), after_step=4)
    with path.open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 10))


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    write(tmp_path / "curve.csv", range(1, 30))
    plot_curve(tmp_path / "curve.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_curve_gets_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "curve.csv", range(0))
    with pytest.raises(CorpusError, match="nothing to draw"):
        plot_curve(tmp_path / "curve.csv", tmp_path / "curve.png")


def test_a_pipe_gets_lines_with_speed_loss_and_time_left() -> None:
    output = io.StringIO()
    reporter = Reporter(Console(file=output, width=200), line_seconds=0.0)
    reporter.start(nn.Linear(1000, 2000), 0.25)
    for step in range(1, 4):
        reporter.step(record(step, 4.25), 0.25 + step / 10)
    reporter.stop()
    first, *steps = output.getvalue().splitlines()
    assert first == "2.00 million parameters; 25.0% of the run is done"
    assert len(steps) == 3
    for part in ("step 3", "tokens/s", "loss 4.8", "held-out 4.250", "rate 1.00e-03", "left"):
        assert part in steps[-1]
