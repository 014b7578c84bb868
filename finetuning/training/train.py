"""A training run: from settings to weights, through any number of interruptions.

`friend finetune` is the command. A run is a folder (see `run_folder`); the same settings on the
same folder go on where the last checkpoint was, with the same losses that an uninterrupted run has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from finetuning.data.packing import IGNORED, batches
from finetuning.errors import CheckpointError, CorpusError, DivergedError, FinetuneError
from finetuning.training.allocator import keep_memory
from finetuning.training.checkpoint import load_checkpoint, save_atomically
from finetuning.training.learner import Batch, Learner, operand_type
from finetuning.training.memory import is_out_of_memory, out_of_memory
from finetuning.training.methods import Tuning
from finetuning.training.optimizer import make_optimizers, scheduled_rate, set_learning_rate
from finetuning.training.preparation import Prepared, prepare
from finetuning.training.progress import Curve, Reporter, StepRecord
from finetuning.training.run_folder import BEST, CHECKPOINT, CURVE
from finetuning.training.settings import TrainSettings
from finetuning.training.trackers import Tracker

Ending = Literal["done", "no better", "finished early", "asked to"]
"""Why a run stopped: its length, --patience, --finish, or somebody's wish."""


@dataclass(slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    row: int = 0
    best_loss: float | None = None  # held out, nats a token
    best_step: int = 0
    no_better: int = 0  # validations since the best one
    last_validation: int = 0  # step

    def progress(self, settings: TrainSettings, steps_in_epoch: int) -> float:
        """Share of the budget used: 0 to 1."""
        if settings.tokens is not None:
            return min(1.0, self.tokens / settings.tokens)
        if settings.steps is not None:
            return min(1.0, self.step / settings.steps)
        if settings.epochs is not None:
            return min(1.0, self.step / max(1, round(settings.epochs * steps_in_epoch)))
        assert settings.minutes is not None
        return min(1.0, self.seconds / (settings.minutes * 60))


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to."""

    tuning: Tuning
    position: Position
    ending: Ending


def train(
    settings: TrainSettings,
    reporter: Reporter | None = None,
    *,
    tracker: Tracker | None = None,
    stop: Callable[[], bool] = lambda: False,
    finish: bool = False,
) -> Trained:
    """Run, or go on with, the training that `settings` describes.

    `tracker` is told each step. `stop` is asked after each; if it says so, the run writes a
    checkpoint and ends. `finish` only loads what was trained so far.

    Raises:
        CorpusError: a data file is missing, broken, or too small for one batch.
        CheckpointError: the base or its tokenizer is missing or broken; or the folder holds a run
            of another shape, or a broken checkpoint.
        DivergedError: the loss is not a finite number any more.
        OutOfMemoryError: the run does not fit into memory.
        ValueError: settings that make no sense; the text names the option.
    """
    settings.validate()
    reporter = reporter or Reporter()
    if settings.device == "cpu":
        keep_memory()
        torch.set_num_threads(1)  # a core each to the workers; and sums in one order everywhere
    try:
        run = _Run(settings, prepare(settings, reporter.say), reporter, tracker)
        try:
            ending: Ending = "finished early" if finish else run.through(stop)
            if not run.position.step:
                raise CheckpointError(f"{settings.out} holds nothing yet to finish.")
            return Trained(run.tuning, run.position, ending)
        finally:
            run.close()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(settings) from error
        raise


class _Run:
    """The parts of a run while it goes."""

    def __init__(
        self,
        settings: TrainSettings,
        prepared: Prepared,
        reporter: Reporter,
        tracker: Tracker | None,
    ) -> None:
        self._settings = settings
        self._reporter = reporter
        self._tracker = tracker
        self._packer, self._valid_rows = prepared.packer, prepared.valid_rows
        self._steps_in_epoch = 0
        if settings.epochs is not None or not settings.validate_steps:
            self._steps_in_epoch = len(self._packer.epoch(0)) // settings.batch_size
        self._validate_steps = settings.validate_steps or min(100, max(10, self._steps_in_epoch))
        self.tuning = prepared.tuning
        self._optimizers = make_optimizers(
            self.tuning.module,
            rule=settings.rule,
            weight_decay=settings.weight_decay,
            dtype=operand_type(settings.precision, torch.device(settings.device)),
        )
        self.position = _resume(settings, self.tuning, self._optimizers)
        self._curve = Curve(settings.out / CURVE, after_step=self.position.step)
        self._learner = Learner(self.tuning, settings)

    @property
    def _progress(self) -> float:
        return self.position.progress(self._settings, self._steps_in_epoch)

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self._settings.patience <= self.position.no_better

    def through(self, stop: Callable[[], bool]) -> Ending:
        """Train to the end, or until `stop` says so."""
        settings, position = self._settings, self.position
        self._reporter.start(self.tuning.module, self._progress)
        saved = started = time.monotonic()
        seconds_before = position.seconds
        asked = False
        for batch in self._batches():
            rate, loss, norm = self._step(batch)
            position.step += 1
            position.tokens += self._tokens_in(batch)
            position.seconds = seconds_before + time.monotonic() - started
            over = self._progress >= 1.0
            validation = None
            if len(self._valid_rows) and (over or position.step % self._validate_steps == 0):
                validation = self._validate()
            record = StepRecord(
                position.step, position.tokens, position.seconds, rate, loss, norm, validation
            )
            self._curve.add(record)
            self._reporter.step(record, self._progress)
            if self._tracker is not None:
                self._tracker.add(record)
            if time.monotonic() - saved > settings.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            asked = stop()
            if over or asked or self._out_of_patience:
                self._save()
                break
        if self._progress >= 1.0:
            return "done"
        return "asked to" if asked else "no better"

    def close(self) -> None:
        """End threads, the curve's file and the progress bar."""
        self._learner.close()
        self._curve.close()
        self._reporter.stop()

    def _tokens_in(self, batch: Batch) -> int:
        """Positions of a batch; without the padding, where that is left out of the computing."""
        padded = self._settings.method == "state"
        return int((batch[1] != IGNORED).sum()) if padded else batch[0].size

    def _step(self, batch: Batch) -> tuple[float, float, float]:
        """Learn from a batch; the rate, the loss before, and the gradient's norm."""
        settings = self._settings
        rate = scheduled_rate(self._progress, peak=settings.peak_rate, final=settings.final_rate)
        set_learning_rate(self._optimizers, rate)
        loss = self._learner.loss_and_gradients(batch, self.position.step)
        weights = self.tuning.parameters()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, settings.clip))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise DivergedError(
                f"The loss is {loss} at step {self.position.step}. Lower --peak-rate and run again "
                "from the last checkpoint, which is still sound."
            )
        self._learner.update(self._optimizers)
        return rate, loss, norm

    def _validate(self) -> float:
        position = self.position
        loss = self._learner.loss(self._valid_rows)
        position.last_validation = position.step
        if position.best_loss is None or loss < position.best_loss:
            position.best_loss, position.best_step, position.no_better = loss, position.step, 0
            save_atomically(self._content(), self._settings.out / BEST)
        else:
            position.no_better += 1
        return loss

    def _save(self) -> None:
        self._curve.flush()
        content = self._content()
        content["optimizers"] = [optimizer.state_dict() for optimizer in self._optimizers]
        save_atomically(content, self._settings.out / CHECKPOINT)

    def _content(self) -> dict[str, Any]:
        return {
            "method": self._settings.method,
            "architecture": self.tuning.architecture,
            "shape": self.tuning.shape(),
            "row_length": self._settings.row_length,
            "model": self.tuning.weights(),
            "position": asdict(self.position),
        }

    def _batches(self) -> Iterator[Batch]:
        """Batches from the position on, until the run is over; keeps epoch and row up to date."""
        settings, position = self._settings, self.position
        while self._progress < 1.0 and not self._out_of_patience:
            rows = self._packer.epoch(position.epoch)
            if len(rows) < settings.batch_size:
                raise CorpusError(
                    f"The conversations fill {len(rows)} rows, fewer than one batch. "
                    "Lower --batch-size or --row-length, or bring more text."
                )
            for batch in batches(rows, settings.batch_size, start=position.row):
                position.row += settings.batch_size
                yield batch
            position.epoch += 1
            position.row = 0


def _resume(
    settings: TrainSettings, tuning: Tuning, optimizers: Sequence[torch.optim.Optimizer]
) -> Position:
    path = settings.out / CHECKPOINT
    if not path.exists():
        return Position()
    content = load_checkpoint(path)
    try:
        tuning.load(content["model"])
        for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return Position(**content["position"])
    except (KeyError, ValueError, RuntimeError, TypeError, FinetuneError) as error:
        raise CheckpointError(
            f"{path} is of a run with other settings ({error}). "
            "Choose another --out, or the settings it was made with."
        ) from error
