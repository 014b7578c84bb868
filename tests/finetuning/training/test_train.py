"""Training learns, survives being killed at any moment, and says what is wrong."""

from __future__ import annotations

import csv
import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.errors import CheckpointError, CorpusError, DivergedError
from finetuning.training.checkpoint import load_checkpoint, save_atomically
from finetuning.training.run_folder import CHECKPOINT, CURVE
from finetuning.training.settings import TrainSettings
from finetuning.training.train import train

ROOT = Path(__file__).parents[3]


def tiny(corpus: Path, out: Path) -> TrainSettings:
    return TrainSettings(
        data=(corpus,),
        valid=(corpus,),
        out=out,
        tokens=4 * 64 * 12,
        layers=2,
        width=64,
        vocab_size=300,
        row_length=64,
        batch_size=4,
        micro_batch=2,
        peak_rate=1e-2,
        checkpoint_seconds=0.0,
        validate_steps=5,
        validation_rows=4,
    )


def losses(out: Path) -> list[tuple[str, str, str, str]]:
    """Step, tokens, loss and held-out loss: all of the curve that no clock decides."""
    with (out / CURVE).open(newline="") as file:
        return [
            (row["step"], row["tokens"], row["loss"], row["validation_loss"])
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_falls(corpus: Path, tmp_path: Path, precision: str) -> None:
    train(dataclasses.replace(tiny(corpus, tmp_path / "run"), precision=precision))
    curve = losses(tmp_path / "run")
    assert len(curve) == 12
    assert float(curve[0][2]) > 5.5
    assert float(curve[-1][2]) < 0.8 * float(curve[0][2])
    assert [row[0] for row in curve if row[3]] == ["5", "10", "12"]


_KILLED_AT_STEP_7 = """
import dataclasses, os, pathlib, signal, sys
from finetuning.training.progress import Reporter
from finetuning.training.settings import TrainSettings
from finetuning.models.lora import LoraSettings
from finetuning.training.train import train

class Killer(Reporter):
    def step(self, record, progress):
        super().step(record, progress)
        if record.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

settings = eval(sys.argv[1], {**vars(pathlib), **globals()})
train(settings, Killer())
"""


def test_a_killed_run_goes_on_with_the_same_curve(corpus: Path, tmp_path: Path) -> None:
    straight = tiny(corpus, tmp_path / "straight")
    train(straight)
    killed = dataclasses.replace(straight, out=tmp_path / "killed")
    process = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_STEP_7, repr(killed)], cwd=ROOT, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert load_checkpoint(killed.out / CHECKPOINT)["position"]["step"] == 6

    train(killed)

    assert losses(killed.out) == losses(straight.out)


def test_adamw_alone_learns_too(corpus: Path, tmp_path: Path) -> None:
    train(dataclasses.replace(tiny(corpus, tmp_path / "run"), rule="adamw"))
    curve = losses(tmp_path / "run")
    assert float(curve[-1][2]) < 0.9 * float(curve[0][2])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"minutes": 1.0}, "either --minutes or --tokens"),
        ({"row_length": 65}, "--row-length must be a multiple"),
        ({"batch_size": 5}, "--batch-size must be a multiple"),
        ({"precision": "int3"}, "--precision is"),
    ],
)
def test_impossible_settings_name_the_option(
    corpus: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        train(dataclasses.replace(tiny(corpus, tmp_path / "run"), **change))


def test_the_number_of_workers_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    runs = [dataclasses.replace(tiny(corpus, tmp_path / str(n)), workers=n) for n in (1, 3)]
    for settings in runs:
        train(settings)
    assert losses(runs[0].out) == losses(runs[1].out)


def test_a_finished_run_trains_no_further(corpus: Path, tmp_path: Path) -> None:
    settings = tiny(corpus, tmp_path / "run")
    first = {name: weight.clone() for name, weight in train(settings).tuning.weights().items()}
    again = train(settings).tuning.weights()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(losses(settings.out)) == 12


def test_divergence_stops_the_run_with_advice(corpus: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(corpus, tmp_path / "run"), peak_rate=1e30)
    with pytest.raises(DivergedError, match="Lower --peak-rate"):
        train(settings)


def test_a_folder_of_another_run_is_refused(corpus: Path, tmp_path: Path) -> None:
    settings = tiny(corpus, tmp_path / "run")
    train(settings)
    with pytest.raises(CheckpointError, match="run with other settings"):
        train(dataclasses.replace(settings, width=128))


def test_too_little_text_is_refused(corpus: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(corpus, tmp_path / "run"), batch_size=4000)
    with pytest.raises(CorpusError, match="fewer than one batch"):
        train(settings)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_broken_checkpoint_gets_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / CHECKPOINT
    save_atomically({"model": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(CheckpointError, match=r"is broken: .* Delete it to start over"):
        load_checkpoint(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    save_atomically({"step": 1}, path)
    (tmp_path / (CHECKPOINT + ".part")).mkdir()
    with pytest.raises(CheckpointError, match="could not be written"):
        save_atomically({"step": 2}, path)
    assert load_checkpoint(path) == {"step": 1}
