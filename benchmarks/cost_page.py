"""Measure everything in docs/cost.md anew, and write it there.

    python -m benchmarks.cost_page [SECTION...] [--folder FOLDER]

Sections: cost, warm, start, hop; all of them if none is named. Each takes one to three minutes, in
which nothing else should run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.keep_warm import models_in

_DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = {
    "cost": ["benchmarks.cost", "--plot", str(_DOCS / "cost.png")],
    "warm": ["benchmarks.keep_warm", "--plot", str(_DOCS / "keep-warm.png")],
    "start": ["benchmarks.cold_start"],
    "hop": ["benchmarks.state_hop"],
}


def put(page: str, section: str, text: str) -> str:
    """The page with `text` between the section's marks. Raises ValueError if there are none."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    found, count = pattern.subn(lambda _: f"{begin}\n{text.strip()}\n{end}", page)
    if count != 1:
        raise ValueError(f"docs/cost.md has no section between {begin} and {end}")
    return found


def main(
    sections: Annotated[list[str] | None, typer.Argument(help="Which; all if none.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the model files here, and use them again.")
    ] = None,
) -> None:
    """Measure, section by section; each is written when it is done."""
    chosen = sections or list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        raise typer.BadParameter(f"{unknown.pop()} is none of {', '.join(SECTIONS)}.")
    page = _DOCS / "cost.md"
    with models_in(folder) as place:
        for section in chosen:
            command = [sys.executable, "-m", *SECTIONS[section], "--folder", str(place)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
            page.write_text(put(page.read_text("utf-8"), section, done.stdout), "utf-8")
            typer.echo(f"## {section}\n\n{done.stdout}")


if __name__ == "__main__":
    typer.run(main)
