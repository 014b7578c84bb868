"""Training: tokens a second of the shipped model's size, memory of a step of a large one.

    python -m benchmarks.finetune speed
    python -m benchmarks.finetune memory --size rwkv4-430m --method lora

Speed is that of `friend finetune` from scratch with its defaults (5.6 million parameters) on
made-up conversations, the first steps left out. Memory is the peak of one step of `friend finetune`
on a checkpoint with a real one's shape and random weights, which is made on the spot.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Measure training on this machine.", no_args_is_help=True)
_WARM_UP = 3  # steps


@app.command()
def speed(
    steps: Annotated[int, typer.Option(help="Steps to measure, after 3 that are not.")] = 10,
    row_length: int = 512,
    batch_size: int = 16,
    micro_batch: int = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tokens a second of training from scratch, with the defaults of `friend finetune`."""
    from finetuning.data.sample import write_sample

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Vocabulary and rows of full length: as much work as with a real corpus.
        data = write_sample(folder / "sample.jsonl", row_length * batch_size)
        summary = _finetune(
            "--data", data, "--out", folder / "run", "--held-out", "0",
            "--steps", steps + _WARM_UP, "--row-length", row_length,
            "--batch-size", batch_size, "--micro-batch", micro_batch,
        )  # fmt: skip
        with (folder / "run" / "curve.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    began = rows[_WARM_UP - 1]
    seconds = float(rows[-1]["seconds"]) - float(began["seconds"])
    result = {
        "parameters": summary["parameters"],
        "tokens_per_second": round((int(rows[-1]["tokens"]) - int(began["tokens"])) / seconds),
        "seconds_per_step": round(seconds / steps, 2),
        "peak_memory_gb": round(summary["peak_memory_bytes"] / 1e9, 2),
    }
    _show(result, as_json)


@app.command()
def memory(
    size: Annotated[str, typer.Option(help="rwkv4-430m, rwkv7-0.4b or rwkv7-0.1b.")] = "rwkv4-430m",
    method: Annotated[str, typer.Option(help="full, lora or state.")] = "full",
    row_length: int = 512,
    checkpointing: bool = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the made checkpoint here, and use it again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Peak memory and time of one step of one row of a large model."""
    with tempfile.TemporaryDirectory() as name:
        base = _base(folder or Path(name), size)
        arguments = ["--checkpointing"] if checkpointing else []
        summary = _finetune(
            "--base", base, "--data", base.with_name("sample.jsonl"), "--out", Path(name) / "run",
            "--method", method, "--steps", 1, "--held-out", "0", "--patience", 0,
            "--batch-size", 1, "--micro-batch", 1, "--row-length", row_length, *arguments,
        )  # fmt: skip
    result = {
        "size": size,
        "method": method,
        "parameters": summary["parameters"],
        "trained_parameters": summary["trained_parameters"],
        "seconds_of_the_step": summary["seconds"],
        "peak_memory_gb": round(summary["peak_memory_bytes"] / 1e9, 2),
    }
    _show(result, as_json)


def _base(folder: Path, size: str) -> Path:
    """A checkpoint of random weights; beside it a small vocabulary and sample conversations."""
    from benchmarks.synthetic import SIZES, write_checkpoint
    from finetuning.data.sample import sample_conversations, write_sample
    from finetuning.data.tokenizer import train_tokenizer

    if size not in SIZES:
        raise typer.BadParameter(f"--size is one of {', '.join(SIZES)}.")
    path = folder / f"{size}.pth"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_sample(folder / "sample.jsonl", 500)
        turns = (turn["content"] for one in sample_conversations(500) for turn in one)
        train_tokenizer(turns, 512).save(str(folder / "tokenizer.json"))
        part = path.with_name(path.name + ".part")
        write_checkpoint(part, SIZES[size])
        part.replace(path)
    return path


def _finetune(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "friend", "finetune", "--json", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise typer.Exit(done.returncode)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        typer.echo(f"{name.replace('_', ' '):20} {value:,}" if isinstance(value, int | float)
                   else f"{name:20} {value}")  # fmt: skip


if __name__ == "__main__":
    app()
