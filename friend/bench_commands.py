"""`friend bench`: the figures in the docs, measured here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Measure speed on this machine. Let nothing else run meanwhile.", no_args_is_help=True
)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def engine(context: typer.Context) -> None:
    """Decode, prefill, start and memory of the engine, beside its peers. See its --help."""
    from benchmarks.engine import main

    main(context.args)


@app.command()
def history(
    model: Annotated[Path | None, typer.Option(help="Model file; empty: the shipped one.")] = None,
    threads: Annotated[int, typer.Option(help="0: the CPUs given.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")] = None,
) -> None:
    """Time to the first word against the length of the conversation, state cache on and off."""
    from benchmarks.history import main

    main(model, threads, as_json, picture)


@app.command()
def reply(
    replies: Annotated[int, typer.Option(help="Replies to measure on each platform.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """From a mention to the reply on Discord and Slack, over the tests' fakes."""
    try:
        import tests.fakes  # noqa: F401
    except ImportError:
        typer.secho(
            "friend bench reply uses the tests' fakes: run it as `python -m "
            "benchmarks.reply` in a checkout, after `make test`.",
            err=True,
        )
        sys.exit(1)
    from benchmarks.reply import main

    main(replies, as_json)
