"""`friend eval`: how well a model predicts and talks. The package finetuning does it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID


class Format(StrEnum):
    """What computes, and from which weights."""

    TORCH = "torch"
    F32 = "F32"
    F16 = "F16"
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


class Measure(StrEnum):
    """What of sense is measured."""

    PICK = "pick"
    WHO = "who"
    MEMORY = "memory"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Held-out conversations, as `friend finetune` reads; or `talks`, of friend's own "
            "those that nothing learns from. May be repeated."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model folder, a checkpoint in one, or a .gguf file.",
            show_default="the shipped one",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            case_sensitive=False,
            help="torch: the float weights in PyTorch; the others: the engine that serves, on a "
            "file made on the spot. May be repeated.",
            show_default="torch, F32, Q8_0, Q4_0; a .gguf file's own",
        ),
    ] = None,
    floor: Annotated[
        Path | None,
        typer.Option(
            metavar="TRAIN_FILE",
            help="Also measure an interpolated Kneser-Ney 5-gram learnt from these conversations.",
            show_default="none",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Also sample so many conversations, and count.")
    ] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Replies in a sampled conversation.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampled conversations.")] = 0,
    show: Annotated[bool, typer.Option("--show", help="Print the sampled conversations.")] = False,
    measure: Annotated[
        list[Measure] | None,
        typer.Option(
            help="Of sense. pick: find the true reply among twenty; who: answer for friend's "
            "character; memory: name what was told. May be repeated.",
            show_default="all with talks",
        ),
    ] = None,
    drafts: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Drafts of which a judged reply is the best. May be repeated.",
            show_default="1",
        ),
    ] = None,
    imitate: Annotated[
        str | None,
        typer.Option(
            help="Exports of a channel: name or id of the person to sound like.",
            show_default="none",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Exports: a name that is an everyday word too, and stays.", show_default="none"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Use so many conversations of a file, spread evenly: a quick look.",
            show_default="all",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: the CPUs given.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model: bits per byte and word perplexity of held-out conversations, and sense.

    A row a data file, format and source; of talks also whether the model picks the right reply,
    knows who it is, and remembers. --samples adds what sampled conversations are like.
    """
    _require({"zstandard"})
    from finetuning.errors import FinetuneError
    from finetuning.evaluation.run import Plan, candidate, needs, run

    formats = tuple(one.value for one in dict.fromkeys(format_ or ()))
    plan = Plan(
        tuple(data), formats, floor, limit, threads or None, samples or (1 if show else 0), turns,
        seed, imitate, tuple(keep or ()),
        None if measure is None else tuple(one.value for one in measure), tuple(drafts or (1,)),
    )  # fmt: skip
    try:
        found = candidate(model)
        _require(needs(found, formats or found.formats))
        with _progress() as watch:
            report = run(found, plan, watch)
    except FinetuneError as error:
        typer.secho(f"friend: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    for sentence in report.bad:
        typer.echo(sentence, err=True)
    if as_json:
        import json

        document = report.as_json()
        if show:
            document["talks"] = [
                [{"user": one.user, "friend": one.reply} for one in talk] for talk in report.talks
            ]
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from friend.eval_report import show as print_report

    print_report(report, talks=show)


def _require(packages: Iterable[str]) -> None:
    missing = sorted(name for name in packages if importlib.util.find_spec(name) is None)
    if missing:
        typer.secho(
            f"friend: Measuring a model so needs packages that are not installed "
            f"({', '.join(missing)}). Install them with: {sys.executable} -m pip install "
            "'friend-bot[training]' (in a checkout of friend: --editable '.[training]').",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage on a terminal's standard error; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield watch
