"""`friend talks`: checks conversations written for friend. The package finetuning does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("talks")(talks)


def talks(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A folder of talks.", show_default="those that come with friend"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check conversations written for friend: form, length and character.

    Exits with 1 if a rule is broken. docs/talks.md says how to write some.
    """
    from finetuning.data.talk_checks import faults
    from finetuning.data.talk_text import read_talks, shipped_talks
    from finetuning.errors import FinetuneError

    try:
        found = read_talks(folder or shipped_talks())
    except FinetuneError as error:
        typer.secho(f"friend: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    wrong = list(faults(found))
    replies = sum(len(one.lines) // 2 for one in found.talks)
    if as_json:
        import json

        rows = [
            {"kind": one.talk.kind, "line": one.talk.line, "said": one.said, "why": one.why}
            for one in wrong
        ]
        counts = {"talks": len(found.talks), "replies": replies}
        typer.echo(json.dumps(counts | {"faults": rows}, indent=2))
    else:
        for one in wrong[:_SHOWN]:
            typer.echo(f"{one.talk.kind}, the talk of line {one.talk.line}: {one.why}: {one.said}")
        if len(wrong) > _SHOWN:
            typer.echo(f"... and {len(wrong) - _SHOWN:,} more (--json shows all)")
        verdict = f"{len(wrong):,} faults" if wrong else "nothing wrong"
        typer.echo(f"{len(found.talks):,} talks with {replies:,} replies: {verdict}.")
    if wrong:
        raise typer.Exit(1)
