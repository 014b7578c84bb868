"""`friend bench`: the figures in the docs, measured here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Picture = Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")]
Folder = Annotated[Path | None, typer.Option(help="Keep the model files here, and use them again.")]

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


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def many(context: typer.Context) -> None:
    """Tokens a second and waits of 1 to 16 conversations at once. See its --help."""
    from benchmarks.many import main

    main(context.args)


@app.command()
def history(
    model: Annotated[Path | None, typer.Option(help="Model file; empty: the shipped one.")] = None,
    size: Annotated[
        str, typer.Option(help="Random weights of a real model's shape instead: rwkv4-430m.")
    ] = "",
    threads: Annotated[int, typer.Option(help="0: the CPUs given.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")] = None,
) -> None:
    """Time to the first word against the length of the conversation, state cache on and off."""
    from benchmarks.history import main

    main(model, size, threads, as_json, picture)


@app.command()
def reply(
    replies: Annotated[int, typer.Option(help="Replies to measure on each platform.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """From a mention to the reply on Discord and Slack, over the tests' fakes."""
    _needs_fakes()
    from benchmarks.reply import main

    main(replies, as_json)


@app.command()
def warm(as_json: AsJson = False, picture: Picture = None, folder: Folder = None) -> None:
    """Cold replies and GB-seconds a month against the rate of warm pings, on AWS Lambda."""
    _needs_fakes()
    from benchmarks.keep_warm import main

    main(as_json, picture, folder)


@app.command()
def cost(as_json: AsJson = False, picture: Picture = None, folder: Folder = None) -> None:
    """What a reply costs on AWS Lambda, by memory size, beside the `rwkv` package."""
    _needs_fakes()
    from benchmarks.cost import main

    main(as_json, picture, folder)


@app.command()
def start(
    runs: Annotated[int, typer.Option(help="Starts of each kind.")] = 3,
    as_json: AsJson = False,
    folder: Folder = None,
) -> None:
    """From the start of the Lambda function's process to the first streamed token."""
    _needs_fakes()
    from benchmarks.cold_start import main

    main(runs, as_json, folder)


@app.command()
def hop(
    runs: Annotated[int, typer.Option(help="Conversations of each length.")] = 2,
    as_json: AsJson = False,
    folder: Folder = None,
) -> None:
    """What it saves that Lambda environments share the states of conversations in S3."""
    _needs_fakes()
    from benchmarks.state_hop import main

    main(runs, as_json, folder)


def _needs_fakes() -> None:
    """Some figures need the tests' stand-ins for Discord, Slack and AWS, which are not packaged."""
    try:
        import tests.fakes  # noqa: F401
    except ImportError:
        typer.secho(
            "friend: this benchmark uses the tests' stand-ins for other services. Run it in a "
            "checkout, after `make test`: python -m friend bench ...",
            err=True,
        )
        sys.exit(1)
