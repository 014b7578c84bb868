"""`friend finetune` as a person has it: killed and gone on with, exported, talked to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from finetuning.data.sample import sample_conversations, write_sample
from finetuning.data.tokenizer import train_tokenizer
from friend import finetune_commands
from friend.cli import app
from tests.finetuning import smoke
from tests.lambda_inference import checkpoints

WIDTH, ROWS = 64, 320


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "talk.jsonl", 80)


@pytest.fixture
def rwkv4(tmp_path: Path) -> Path:
    """A checkpoint as they are published, with a tokenizer beside it."""
    folder = tmp_path / "rwkv4"
    folder.mkdir()
    turns = (turn["content"] for one in sample_conversations(80) for turn in one)
    train_tokenizer(turns, ROWS).save(str(folder / "tokenizer.json"))
    weights = checkpoints.rwkv4(layers=2, width=WIDTH, vocab=ROWS)
    return checkpoints.save(weights, folder / "model.pth")


@pytest.fixture
def rwkv7(tmp_path: Path) -> Path:
    """The same of RWKV-7, with ranks that do not follow from its width."""
    folder = tmp_path / "rwkv7"
    folder.mkdir()
    turns = (turn["content"] for one in sample_conversations(80) for turn in one)
    train_tokenizer(turns, ROWS).save(str(folder / "tokenizer.json"))
    weights = checkpoints.rwkv7(layers=2, width=WIDTH, vocab=ROWS, ranks=(32, 64, 32, 96))
    return checkpoints.save(weights, folder / "model.safetensors")


def finetune(*arguments: object) -> Any:
    """Exit status and output of the command, run in this process."""
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)])


def summary_of(*arguments: object) -> dict[str, Any]:
    done = finetune(*arguments, *smoke.SMALL, "--json")
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("base", "method", "more"),
    [
        ("rwkv4", "full", ["--peak-rate", "1e-3"]),
        ("rwkv7", "lora", ["--dropout", "0.1", "--lora-dropout", "0.2", "--checkpointing"]),
        ("rwkv7", "state", []),
    ],
)
def test_a_killed_run_ends_as_any_other_and_chats(
    base: str,
    method: str,
    more: list[str],
    data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    arguments = [
        "--data", data, "--base", request.getfixturevalue(base), "--method", method,
        "--steps", 12, *more,
    ]  # fmt: skip
    straight = summary_of(*arguments, "--out", tmp_path / "straight")
    run = tmp_path / "killed"
    process = smoke.start("finetune", *arguments, *smoke.SMALL, "--out", run)
    smoke.kill_after_a_checkpoint(process, run)
    summary = summary_of(*arguments, "--out", run)

    assert smoke.check_curves(run, tmp_path / "straight") == 12
    assert summary["held_out_loss"] == straight["held_out_loss"]
    assert (summary["method"], summary["architecture"]) == (method, base)
    assert summary["peak_memory_bytes"] > 0
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert f"FRIEND_MODEL_FILE={run / 'killed.Q8_0.gguf'}" in summary["talk"]
    assert smoke.chat(summary, tmp_path)


def test_a_person_reads_what_was_read_and_what_to_type_next(data: Path, tmp_path: Path) -> None:
    with data.open("a") as file:
        file.write('{"messages": 3}\nnot json\n')
    out = tmp_path / "run"
    done = finetune(
        "--data", data, *smoke.TINY, *smoke.SMALL, "--steps", 2, "--out", out,
        "--mixture", "chat=0.5", "--type", "Q4_0", "--name", "tiny",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (
        'talk.jsonl: 2 bad record(s) left out: line 81: "messages" is not a list; ' in done.stdout
    )
    assert "line 82: not JSON" in done.stdout
    assert "talk.jsonl: 80 conversations, 320 turns" in done.stdout
    assert "An epoch holds 0.5 x chat." in done.stdout
    assert "peak memory" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        f"To talk with it: FRIEND_MODEL_FILE={out / 'tiny.Q4_0.gguf'} friend chat"
    )


def test_a_run_is_a_base_for_the_next(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    summary_of("--data", data, *smoke.TINY, "--steps", 6, "--out", first)
    more = ("--data", data, "--base", first, "--steps", 2, "--peak-rate", "1e-9")
    summary = summary_of(*more, "--out", tmp_path / "second")
    before, after = (float(smoke.curve(tmp_path / run)[-1][3]) for run in ("first", "second"))
    assert after == pytest.approx(before, abs=2e-3)  # float16 lies between
    assert summary["parameters"] > 0


def test_ctrl_c_ends_a_run_softly_and_finish_exports_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", data, *smoke.TINY, *smoke.SMALL, "--steps", 100_000, "--out", out)
    process = smoke.start("finetune", *arguments)
    until = time.monotonic() + smoke.WAIT
    while not (out / "checkpoint.pt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=smoke.WAIT)
    assert process.returncode == 130, errors
    assert "Stopped as asked" in told
    assert "--finish" in told
    assert not list(out.glob("*.gguf"))

    done = finetune(*arguments, "--finish")
    assert done.exit_code == 0, done.output
    assert "Finished as it is" in done.stdout
    assert list(out.glob("*.gguf"))


def test_patience_ends_a_run_and_the_best_is_exported(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = finetune(
        "--data", data, *smoke.TINY, *smoke.SMALL, "--steps", 400, "--out", out,
        "--peak-rate", "0.3", "--patience", 2, "--validate-steps", 1, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["ending"] == "no better"
    assert summary["steps"] == summary["best_step"] + 2
    losses = [float(row[3]) for row in smoke.curve(out)]
    assert min(losses) == losses[summary["best_step"] - 1]
    assert summary["held_out_loss"] == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "lora"], "needs a model to start from: give --base"),
        (["--base", "nowhere.pth"], "There is no model at nowhere.pth"),
        (["--data", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
        (["--batch-size", "5", "--micro-batch", "2"], "--batch-size must be a multiple"),
        (["--steps", "1", "--minutes", "1"], "Give either --minutes or --tokens"),
        (["--width", "100"], "--width must be a multiple of 64"),
        (["--mixture", "chat=0"], "leaves out every source"),
        (["--mixture", "chat"], "write SOURCE=WEIGHT"),
        (["--device", "abacus"], "--device is cpu, cuda or auto"),
        (["--log", "wandb"], "--log wandb needs the package wandb: pip install wandb"),
        (["--row-length", "31"], "--row-length must be a multiple"),
        (["--finish"], "holds nothing yet to finish"),
    ],
)
def test_what_cannot_be_gets_a_sentence(
    arguments: list[str], sentence: str, data: Path, tmp_path: Path
) -> None:
    done = finetune("--data", data, "--out", tmp_path / "run", *smoke.TINY, *arguments)
    assert done.exit_code in (1, 2)
    assert sentence in " ".join(done.output.replace("│", " ").split())
    assert "Traceback" not in done.output


def test_a_base_without_a_tokenizer_asks_for_one(rwkv4: Path, data: Path, tmp_path: Path) -> None:
    rwkv4.with_name("tokenizer.json").unlink()
    done = finetune("--data", data, "--base", rwkv4, "--out", tmp_path / "run", *smoke.SMALL)
    assert done.exit_code == 1
    assert "Name one with --tokenizer" in done.output


def test_a_changed_base_is_refused_by_its_run(rwkv7: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("--data", data, "--base", rwkv7, "--method", "state", "--out", tmp_path / "run")
    summary_of(*arguments, "--steps", 1)
    other = checkpoints.rwkv7(layers=2, width=WIDTH, vocab=ROWS, ranks=(32, 64, 32, 96), seed=2)
    checkpoints.save(other, rwkv7)
    done = finetune(*arguments, *smoke.SMALL, "--steps", 2)
    assert done.exit_code == 1
    assert "has changed since" in done.output


def test_without_the_packages_it_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune_commands, "_PACKAGES", ("torch", "package_that_nobody_has"))
    done = finetune("--data", data, "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert "(package_that_nobody_has)" in done.output
    assert f"{sys.executable} -m pip install 'friend-bot[training]'" in done.output


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as on Linux")
def test_too_little_memory_says_which_setting_to_lower(data: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, runpy, sys\n"
        "import torch, matplotlib, gguf, finetuning.training.session\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20),) * 2)\n"
        "sys.argv[0] = 'friend'\n"
        "runpy.run_module('friend', run_name='__main__')\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-c", limited, "finetune", "--data", str(data), *smoke.TINY,
            *smoke.SMALL, "--out", str(tmp_path / "run"), "--steps", "1", "--row-length", "8192",
            "--batch-size", "1", "--micro-batch", "1", "--width", "512",
        ],
        cwd=smoke.ROOT, capture_output=True, text=True, timeout=smoke.WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "The memory of this machine is not enough" in done.stderr
    assert "--checkpointing" in done.stderr
    assert "lower --row-length (it is 8192)" in done.stderr


def test_the_curve_goes_to_wandb_where_it_is_installed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages"
    package.mkdir()
    (package / "wandb.py").write_text(
        "import json, pathlib\n"
        "class Run:\n"
        "    def __init__(self, name): self.lines = [name]\n"
        "    def log(self, values, step): self.lines.append([step, values])\n"
        f"    def finish(self): pathlib.Path({str(tmp_path / 'log.json')!r}).write_text("
        "json.dumps(self.lines))\n"
        "def init(*, name, config, **_): assert config['method'] == 'full'; return Run(name)\n"
    )
    monkeypatch.syspath_prepend(str(package))
    summary_of(
        "--data", data, *smoke.TINY, "--steps", 6, "--out", tmp_path / "run", "--log", "wandb"
    )
    name, *steps = json.loads((tmp_path / "log.json").read_text())
    assert name == "run"
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[5][1]["loss/training"] == pytest.approx(
        float(smoke.curve(tmp_path / "run")[5][2]), abs=1e-5
    )
    assert "loss/held_out" in steps[5][1]
