"""Fine-tuning as a person has it: train, be killed, go on, export, chat. `make finetune-smoke`.

Everything goes through the `friend` command, on made-up conversations and a tiny model.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from finetuning.data.sample import write_sample

ROOT = Path(__file__).parents[2]
TINY = ("--layers", "2", "--width", "64", "--vocab-size", "320", "--peak-rate", "1e-2")
SMALL = (
    "--row-length", "64", "--batch-size", "4", "--micro-batch", "2", "--validate-steps", "6",
    "--patience", "0", "--device", "cpu", "--checkpoint-seconds", "0",
)  # fmt: skip
WAIT = 90.0  # seconds for what takes one


class SmokeError(Exception):
    """A step of the way failed."""


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "friend", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], typed: str = "") -> str:
    """What the process prints; SmokeError if it fails."""
    out, errors = process.communicate(typed, timeout=2 * WAIT)
    if process.returncode:
        raise SmokeError(f"{process.args} ended with {process.returncode}:\n{out}\n{errors}")
    return out


def kill_after_a_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    """SIGKILL as soon as the run has something to go on from."""
    until = time.monotonic() + WAIT
    while not (run / "checkpoint.pt").exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            out, errors = process.communicate()
            raise SmokeError(f"no checkpoint was written:\n{out}\n{errors}")
        time.sleep(0.01)
    process.kill()
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise SmokeError("the run was over before it could be killed")


def curve(run: Path) -> list[tuple[str, str, str, str]]:
    """All of the curve that no clock decides."""
    with (run / "curve.csv").open(newline="") as file:
        return [
            (row["step"], row["tokens"], row["loss"], row["validation_loss"])
            for row in csv.DictReader(file)
        ]


def killed_and_gone_on(arguments: Sequence[object], run: Path) -> dict[str, Any]:
    """What `friend finetune` tells at the end of a run that was killed once."""
    process = start("finetune", *arguments, *SMALL, "--out", run)
    kill_after_a_checkpoint(process, run)
    summary: dict[str, Any] = json.loads(
        finish(start("finetune", *arguments, *SMALL, "--out", run, "--json"))
    )
    return summary


def chat(summary: dict[str, Any], folder: Path) -> str:
    """friend's reply to a line, spoken by the exported files."""
    files = summary["files"]
    process = start(
        "chat",
        FRIEND_MODEL_FILE=files["model"],
        FRIEND_MODEL_STATE=files.get("state", ""),
        FRIEND_STORE_URL=f"sqlite+aiosqlite:///{folder / 'history.sqlite3'}",
    )
    reply = finish(process, "do you like soup?\n").strip()
    if not reply:
        raise SmokeError(f"{files['model']} says nothing")
    return reply


def check_curves(run: Path, straight: Path) -> int:
    """Steps of both runs, which must have gone the same way."""
    if curve(run) != curve(straight):
        raise SmokeError(f"the killed run went another way: {curve(run)}, not {curve(straight)}")
    return len(curve(run))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="friend-smoke-") as name:
        folder = Path(name)
        data = write_sample(folder / "sample.jsonl", 300)
        began = time.monotonic()

        def tell(text: str) -> None:
            print(f"{time.monotonic() - began:5.1f} s  {text}", flush=True)

        scratch = ("--data", data, *TINY, "--steps", 30)
        straight = start("finetune", *scratch, *SMALL, "--out", folder / "straight")
        full = killed_and_gone_on(scratch, folder / "full")
        finish(straight)
        steps = check_curves(folder / "full", folder / "straight")
        tell(f"full: trained from scratch, killed, went on; all {steps} losses as without the kill")
        tell(f"full: exported; it says {chat(full, folder)!r}")

        def tune(method: str) -> None:
            tuning = ("--data", data, "--base", folder / "full", "--method", method, "--steps", 20)
            summary = killed_and_gone_on(tuning, folder / method)
            tell(f"{method}: trained, killed, went on to step {summary['steps']}")
            tell(f"{method}: exported; it says {chat(summary, folder / method)!r}")

        with ThreadPoolExecutor() as pool:
            list(pool.map(tune, ("lora", "state")))
        tell("all is well")


if __name__ == "__main__":
    try:
        main()
    except SmokeError as error:
        sys.exit(f"finetune-smoke: {error}")
