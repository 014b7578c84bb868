"""The curve of a run in TensorBoard or Weights & Biases, where those packages are installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Literal, Protocol

from finetuning.errors import TrackerError
from finetuning.training.progress import StepRecord

TrackerName = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    """Takes the steps of a run."""

    def add(self, record: StepRecord) -> None:
        """Note a step."""

    def close(self) -> None:
        """End the record."""


def open_tracker(name: TrackerName, run: Path, settings: dict[str, Any]) -> Tracker:
    """Begin, or go on with, a record of the run in folder `run`.

    Raises:
        TrackerError: the package is not installed, or will not start.
    """
    if importlib.util.find_spec(name) is None:
        raise TrackerError(
            f"--log {name} needs the package {name}: pip install {name}. Without it, the curve is "
            "in curve.csv and curve.png."
        )
    try:
        return _TensorBoard(run) if name == "tensorboard" else _WandB(run, settings)
    except Exception as error:  # whatever a foreign package meets
        raise TrackerError(f"{name} does not start: {error}") from error


def _scalars(record: StepRecord) -> dict[str, float]:
    values = {
        "loss/training": record.loss,
        "rate": record.rate,
        "gradient_norm": record.gradient_norm,
        "tokens": float(record.tokens),
    }
    if record.validation_loss is not None:
        values["loss/held_out"] = record.validation_loss
    return values


class _TensorBoard:
    def __init__(self, run: Path) -> None:
        module = importlib.import_module("torch.utils.tensorboard")
        self._writer = module.SummaryWriter(str(run / "tensorboard"))

    def add(self, record: StepRecord) -> None:
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, record.step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, run: Path, settings: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(
            project="friend", name=run.name, id=run.name, resume="allow", config=settings
        )

    def add(self, record: StepRecord) -> None:
        self._run.log(_scalars(record), step=record.step)

    def close(self) -> None:
        self._run.finish()
