"""From the start of the function's process to the first streamed token.

    python -m benchmarks.cold_start [--runs 3] [--json] [--folder FOLDER]

The real runtime in the tests' Lambda emulator on one CPU, RWKV-4 430M in Q8_0 and Q4_0, asked by a
signing client through the Function URL with a short prompt and one of 60 tokens. Warm: all files
in the page cache. Dropped: none of those that no other program holds; that needs root, without it
the model file alone is dropped.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.chat_models import chat_model
from benchmarks.function_figures import cold_starts, drop_page_cache, run
from benchmarks.keep_warm import models_in

FORMATS = ("Q8_0", "Q4_0")
PROMPTS = (10, 60)
"""Tokens; ten are five or six words."""


def measure(folder: Path, runs: int) -> list[dict[str, Any]]:
    """A row a format and state of the page cache; medians, seconds."""
    rows: list[dict[str, Any]] = []
    for name in FORMATS:
        model = chat_model(folder, name)
        for dropped, prompt in product((False, True), PROMPTS):
            starts = run(cold_starts(name, model, runs, dropped=dropped, prompt=prompt))
            rows.append(
                {
                    "format": name,
                    "page_cache": "dropped" if dropped else "warm",
                    "prompt_tokens": prompt,
                    "init_s": median(one.init_s for one in starts),
                    "prefill_s": median(one.call.prefill_s for one in starts),
                    "first_token_s": median(one.call.first_token_s for one in starts),
                    "first_token_best_s": min(one.call.first_token_s for one in starts),
                }
            )
    return rows


def main(
    runs: Annotated[int, typer.Option(help="Starts of each kind.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the model files here, and use them again.")
    ] = None,
) -> None:
    """Measure and print."""
    with models_in(folder) as place:
        reach = drop_page_cache(chat_model(place, FORMATS[0]))
        rows = measure(place, runs)
    if as_json:
        typer.echo(json.dumps({"dropped": reach, "rows": rows}, indent=1))
        return
    heads = ("format", "page cache", "prompt", "init s", "prefill s", "first token s (best)")
    typer.echo(f"| {' | '.join(heads)} |\n" + "|---" * len(heads) + "|")
    for row in rows:
        typer.echo(
            f"| {row['format']} | {row['page_cache']} | {row['prompt_tokens']} "
            f"| {row['init_s']:.2f} "
            f"| {row['prefill_s']:.2f} | {row['first_token_s']:.2f} "
            f"({row['first_token_best_s']:.2f}) |"
        )
    typer.echo(f"\nMedians of {runs}. Dropped from the page cache: {reach}.")


if __name__ == "__main__":
    typer.run(main)
