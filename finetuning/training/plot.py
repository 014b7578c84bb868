"""The training curve as a picture.

python -m finetuning.training.plot runs/pocket/curve.csv curve.png
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from finetuning.errors import CorpusError

_SMOOTHING = 0.97


def plot_curve(curve: Path, picture: Path) -> None:
    """Draw the losses of `curve` (the CSV of a run) over the tokens learnt from, as PNG or SVG.

    Raises:
        CorpusError: the curve has no line yet.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with curve.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise CorpusError(f"{curve} has no line yet: nothing to draw.")
    millions = [int(row["tokens"]) / 1e6 for row in rows]
    losses = [float(row["loss"]) for row in rows]
    held_out = [
        (x, float(row["validation_loss"]))
        for x, row in zip(millions, rows, strict=True)
        if row["validation_loss"]
    ]
    figure, axes = plt.subplots(figsize=(7, 4), dpi=110)
    axes.plot(millions, losses, color="0.85", linewidth=0.6)
    axes.plot(millions, _smooth(losses), label="training (smoothed)")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", markersize=3, label="held out")
    axes.set_xlabel("tokens, millions")
    axes.set_ylabel("loss, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(picture)
    plt.close(figure)


def _smooth(values: list[float]) -> list[float]:
    """Running mean that forgets, corrected for its start."""
    total = weight = 0.0
    smooth = []
    for value in values:
        total = _SMOOTHING * total + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        smooth.append(total / weight)
    return smooth


def command(
    curve: Annotated[Path, typer.Argument(help="curve.csv of a run.")],
    picture: Annotated[Path, typer.Argument(help="Picture to write, .png or .svg.")],
) -> None:
    """Draw the curve of a run."""
    plot_curve(curve, picture)


if __name__ == "__main__":
    typer.run(command)
