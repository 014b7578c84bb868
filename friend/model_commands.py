"""`friend model`: convert a checkpoint, look into a model file, fetch one from a hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

app = typer.Typer(
    name="model",
    help="Convert, inspect and fetch model files.",
    no_args_is_help=True,
    add_completion=False,
)


class WeightType(StrEnum):
    """How the matrices are stored."""

    F32 = "F32"
    F16 = "F16"
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


Type = Annotated[
    WeightType,
    typer.Option("--type", case_sensitive=False, help="How the matrices are stored."),
]


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(help="A checkpoint (.pth, .safetensors; RWKV-4, RWKV-7) or its folder."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .gguf file to write.")],
    type_: Type = WeightType.Q8_0,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="tokenizer.json or the RWKV World vocabulary; else the one beside the checkpoint."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; else config.json's or the file's.")
    ] = None,
) -> None:
    """Make a model file from a checkpoint."""
    _convert(source, output, type_, tokenizer, name)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A .gguf file, or a learnt initial state.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List the tensors too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what a model file holds and whether it runs here.

    Of a learnt initial state: what it was learnt with, and whether it fits the model in use.
    """
    from friend.model_summary import show, summarize, summarize_state
    from lambda_inference.states.learnt import is_learnt_state

    summary = summarize_state(file) if is_learnt_state(file) else summarize(file, tensors=tensors)
    if json:
        import json as json_package

        typer.echo(json_package.dumps(summary, indent=2, ensure_ascii=False))
    else:
        show(summary)


@app.command()
def pull(
    repository: Annotated[
        str, typer.Argument(metavar="REPO[:FILE]", help="OWNER/NAME on the hub, and a file in it.")
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; else the main branch.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    type_: Type = WeightType.Q8_0,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="For a checkpoint that is published without its tokenizer."),
    ] = None,
) -> None:
    """Fetch a model from the Hugging Face Hub (or HF_ENDPOINT); a checkpoint is converted.

    What was cut off goes on where it stopped, and every file's checksum is compared with the hub's.
    """
    from lambda_inference.gguf.hub import pull as pull_model

    repo, _, file = repository.partition(":")
    with _bar("[progress.percentage]{task.percentage:>3.0f}%", transfer=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=size)
            bar.update(tasks[name], completed=done)

        path = pull_model(repo, file or None, to=to, revision=revision, progress=progress)
    if path.suffix != ".gguf":
        typer.echo(f"Fetched: {path}")
        path = _convert(path, None, type_, tokenizer, None)
    else:
        typer.echo(f"Fetched: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    typer.echo(f"To talk with it: FRIEND_MODEL_FILE={path} friend chat")


def _convert(
    source: Path,
    output: Path | None,
    type_: WeightType,
    tokenizer: Path | None,
    name: str | None,
) -> Path:
    from lambda_inference.gguf.convert import convert as convert_model
    from lambda_inference.gguf.convert import name_of

    if output is None:
        output = source.with_name(f"{name or name_of(source)}.{type_.value}.gguf")
    with _bar("{task.completed}/{task.total} tensors") as bar:
        task = bar.add_task(f"Converting to {type_.value}", total=None)
        convert_model(
            source,
            output,
            quantization=type_.value,
            tokenizer=tokenizer,
            name=name,
            progress=lambda done, total, _: bar.update(task, completed=done, total=total),
        )
    typer.echo(f"Written: {output} ({output.stat().st_size / 1e6:.1f} MB, {type_.value})")
    return output


def _bar(figures: str, *, transfer: bool = False) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    speed = (DownloadColumn(), TransferSpeedColumn()) if transfer else ()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(figures),
        *speed,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
