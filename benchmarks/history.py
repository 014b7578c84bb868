"""Time to the first word against the length of the conversation, state cache on and off.

    python -m benchmarks.history [--model FILE | --size NAME] [--json] [--plot FILE]

The real model server over HTTP. With the cache a conversation grows turn by turn, as it does in a
channel, and the turns in between are sent but not timed; without it each length is asked cold.

`--size` makes a model file of a real checkpoint's shape on the spot, random weights under the
shipped model's tokenizer: of the shipped model's few milliseconds a good part is chance.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.synthetic import SIZES, write_model
from bot.local_server import LocalServer, serve_command
from bot.ops.logging import configure
from bot.settings import ModelSettings, OpsSettings
from inference_client import ChatMessage, ClientSettings, InferenceClient, SamplingOptions
from lambda_inference.model import shipped_model

LENGTHS = (2, 4, 10, 20, 50, 100, 200, 300, 400)
_SAID = (
    "I went to the market this morning and bought some apples.",
    "Oh nice, did you get the red ones or the green ones?",
    "The red ones, they are sweeter. Do you like apples?",
    "I do, I like them best in a pie with a little cinnamon.",
)
_REPEATS = 3
_ENOUGH_MS = 2000.0  # what takes this long need not be measured again


def conversation(turns: int) -> list[ChatMessage]:
    """`turns` messages, the last one a person's; all about as long, whatever their number."""
    first = (turns + 1) % 2  # so that turn number `turns` is the person's
    return [
        ChatMessage(
            "user" if (turns - number) % 2 == 1 else "assistant",
            f"{_SAID[(number + first) % 4]} ({100 + number})",
        )
        for number in range(turns)
    ]


async def first_word_ms(client: InferenceClient, messages: Sequence[ChatMessage]) -> float:
    """What the server needs to read the prompt and make the first token."""
    reply = await client.chat(messages, SamplingOptions(max_tokens=1, temperature=0))
    if reply.timings is None:
        raise RuntimeError("the model server did not say how long it took")
    return reply.timings.prefill_ms + reply.timings.decode_ms


async def measure(model: Path | None, threads: int, *, cached: bool) -> dict[int, float]:
    """Milliseconds to the first word by number of turns, medians of a few."""
    command = serve_command(ModelSettings.model_construct(file=model, threads=threads))
    megabytes = "1024" if cached else "0"
    limits = (f"FRIEND_SERVER_STATE_CACHE_MB={megabytes}", "FRIEND_SERVER_MAX_PROMPT_TOKENS=20000")
    command = ["env", *limits, *command]
    found: dict[int, float] = {}
    async with LocalServer(command) as server:
        settings = ClientSettings(
            base_url=server.url,
            model="friend",
            answer_timeout=300,
            total_timeout=600,
            max_connections=1,
        )
        async with InferenceClient(settings) as client:
            await first_word_ms(client, conversation(2))
            with Progress(console=Console(stderr=True)) as progress:
                task = progress.add_task("cache on" if cached else "cache off", total=max(LENGTHS))
                if cached:
                    found = await _growing(client, progress, task)
                else:
                    for turns in LENGTHS:
                        times: list[float] = []
                        while len(times) < _REPEATS and sum(times) < _ENOUGH_MS:
                            times.append(await first_word_ms(client, conversation(turns)))
                        found[turns] = median(times)
                        progress.update(task, completed=turns)
    return found


async def _growing(client: InferenceClient, progress: Progress, task: object) -> dict[int, float]:
    """One long conversation, every exchange sent; the timed ones with their neighbours' median."""
    times: dict[int, float] = {}
    messages = conversation(max(LENGTHS) + 2 * _REPEATS)
    if messages[0].role != "user":
        messages = messages[1:]
    for end in range(1, len(messages) + 1, 2):
        times[end + 1] = await first_word_ms(client, messages[:end])
        progress.update(task, completed=end)  # type: ignore[arg-type]
    return {
        turns: median(times[turns + 2 * offset] for offset in range(_REPEATS)) for turns in LENGTHS
    }


def plot(rows: dict[str, dict[int, float]], path: Path) -> None:
    """Draw both curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in rows.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=name)
    axes.set_xlabel("turns in the conversation")
    axes.set_ylabel("time to the first word, ms")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main(
    model: Annotated[Path | None, typer.Option(help="Model file; empty: the shipped one.")] = None,
    size: Annotated[
        str, typer.Option(help=f"Random weights of this shape instead: {', '.join(SIZES)}.")
    ] = "",
    threads: Annotated[int, typer.Option(help="0: the CPUs given.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")] = None,
) -> None:
    """Measure with the cache and without, and print both."""
    configure(OpsSettings.model_construct(log_level="ERROR"))
    if size and (model is not None or size not in SIZES):
        raise typer.BadParameter(f"--size is one of {', '.join(SIZES)}, and without --model")
    with tempfile.TemporaryDirectory(prefix="friend-bench-") as folder:
        if size:
            model = write_model(
                Path(folder) / f"{size}.gguf", SIZES[size], talks_like=shipped_model()
            )
        rows = {
            "state cache on": asyncio.run(measure(model, threads, cached=True)),
            "state cache off": asyncio.run(measure(model, threads, cached=False)),
        }
    if picture is not None:
        plot(rows, picture)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("turns", *rows, title="Milliseconds to the first word")
    for turns in LENGTHS:
        table.add_row(str(turns), *(f"{curve[turns]:.1f}" for curve in rows.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
