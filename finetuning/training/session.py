"""A run from start to end for a person at a terminal: train, draw, export, say what next."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from finetuning.training.export import Exported, export_run
from finetuning.training.memory import peak_memory
from finetuning.training.plot import plot_curve
from finetuning.training.progress import Reporter
from finetuning.training.run_folder import CURVE, PICTURE
from finetuning.training.settings import TrainSettings, as_json
from finetuning.training.trackers import TrackerName, open_tracker
from finetuning.training.train import Trained, train
from lambda_inference.gguf.convert import Quantization


class _Wish:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        return self.made


def run_session(
    settings: TrainSettings,
    *,
    name: str,
    quantization: Quantization,
    finish: bool = False,
    log: TrackerName | None = None,
    quiet_stdout: bool = False,
) -> dict[str, Any]:
    """Train and export; returns what came of it, as JSON can hold it.

    A first Ctrl-C or SIGTERM ends the step, writes a checkpoint and stops; a second one stops at
    once. `finish` trains no further. `quiet_stdout` leaves stdout to the caller.

    Raises:
        FinetuneError: see `train`; a person can read the text.
        ValueError: settings that make no sense; the text names the option.
    """
    console = Console(stderr=quiet_stdout, soft_wrap=True)
    reporter = Reporter(console)
    settings.validate()
    tracker = None if log is None else open_tracker(log, settings.out, as_json(settings))
    began = time.monotonic()
    try:
        with _stoppable(reporter) as wish:
            trained = train(settings, reporter, tracker=tracker, stop=wish, finish=finish)
    finally:
        if tracker is not None:
            tracker.close()
    seconds = time.monotonic() - began
    curve = settings.out / CURVE
    if trained.position.step:
        plot_curve(curve, settings.out / PICTURE)
    memory = peak_memory(torch.device(settings.device))
    exported = None
    if trained.ending != "asked to":
        exported = export_run(trained.tuning, settings.out, name=name, quantization=quantization)
    _say(reporter, trained, settings, exported, memory)
    return _summary(trained, settings, exported, memory, seconds)


@contextmanager
def _stoppable(reporter: Reporter) -> Iterator[_Wish]:
    wish = _Wish()

    def ask(number: int, _: FrameType | None) -> None:
        if wish.made:
            raise KeyboardInterrupt
        wish.made = True
        reporter.say("Stopping after this step; once more stops at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(
    reporter: Reporter,
    trained: Trained,
    settings: TrainSettings,
    exported: Exported | None,
    memory: int,
) -> None:
    position = trained.position
    endings = {
        "done": "The run is complete",
        "no better": f"The held-out loss got no better {settings.patience} times",
        "finished early": "Finished as it is",
        "asked to": "Stopped as asked",
    }
    reporter.say(
        f"{endings[trained.ending]}: {position.step:,} steps, {position.tokens:,} tokens, "
        f"{position.seconds / 60:.1f} min; peak memory {memory / 1e9:.2f} GB."
    )
    if position.best_loss is not None:
        reporter.say(
            f"Best held-out loss: {position.best_loss:.4f} nats a token, at step "
            f"{position.best_step}."
        )
    if exported is None:
        reporter.say("Run the same command again to go on, or with --finish to export the best.")
        return
    reporter.say(f"Model folder: {exported.folder}")
    reporter.say(f"Model file:   {exported.model} ({exported.model.stat().st_size / 1e6:.1f} MB)")
    if exported.state is not None:
        size = exported.state.stat().st_size / 1e3
        reporter.say(f"Voice:        {exported.state} ({size:.0f} kB)")
    reporter.say(f"Curve:        {settings.out / PICTURE}")
    reporter.say(f"\nTo talk with it: {exported.next_line}")


def _summary(
    trained: Trained,
    settings: TrainSettings,
    exported: Exported | None,
    memory: int,
    seconds: float,
) -> dict[str, Any]:
    position = trained.position
    parameters = list(trained.tuning.module.parameters())
    files = {"run": settings.out, "curve": settings.out / CURVE}
    if exported is not None:
        files |= {"folder": exported.folder, "model": exported.model}
        if exported.state is not None:
            files["state"] = exported.state
    return {
        "ending": trained.ending,
        "method": settings.method,
        "architecture": trained.tuning.architecture,
        "parameters": sum(weight.numel() for weight in parameters),
        "trained_parameters": sum(w.numel() for w in parameters if w.requires_grad),
        "steps": position.step,
        "tokens": position.tokens,
        "seconds": round(position.seconds, 2),  # of training, all parts of the run
        "session_seconds": round(seconds, 2),
        "tokens_per_second": round(position.tokens / position.seconds, 1)
        if position.seconds
        else None,
        "best_step": position.best_step if position.best_loss is not None else None,
        "held_out_loss": position.best_loss,
        "device": settings.device,
        "peak_memory_bytes": memory,
        "files": {key: str(path) for key, path in files.items()},
        "talk": None if exported is None else exported.next_line,
    }
