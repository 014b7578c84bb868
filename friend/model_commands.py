"""`friend model`: convert a checkpoint, look into a model file, fetch one from a hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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


def _convert(
    source: Path, output: Path, type_: WeightType, tokenizer: Path | None, name: str | None
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lambda_inference.gguf.convert import convert as convert_model

    console = Console(stderr=True)
    with Progress(
        TextColumn(f"Converting to {type_.value}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        convert_model(
            source,
            output,
            quantization=type_.value,
            tokenizer=tokenizer,
            name=name,
            progress=lambda done, total, tensor: bar.update(
                task, completed=done, total=total, description=tensor
            ),
        )
    typer.echo(f"Written: {output} ({output.stat().st_size / 1e6:.1f} MB, {type_.value})")
