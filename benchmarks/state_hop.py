"""What it saves that environments share the states of conversations.

    python -m benchmarks.state_hop [--json] [--folder FOLDER]

A conversation of some turns, then its next message: to the environment that had the last one, to
another that finds the state in S3, and to one without a bucket, which reads the whole conversation
again. The real runtime in the tests' Lambda emulator, RWKV-4 430M in Q8_0 on one CPU; S3 is moto's
server on loopback, so a real bucket adds its own milliseconds to a hop. The time is the client's,
to the first token of a streamed reply; turns have about 16 tokens.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.chat_models import chat_model
from benchmarks.function_figures import client, function_of, run
from benchmarks.keep_warm import models_in
from inference_client import ChatMessage, SamplingOptions
from tests.fakes.aws_lambda import LambdaEmulator
from tests.fakes.s3 import fake_s3

TURNS = (2, 10, 20, 50, 100)
_BUCKET = "states"
_SAID = (
    "I went to the market this morning and bought some apples.",
    "Oh nice, did you get the red ones or the green ones?",
)


def conversation(number: int, turns: int) -> list[ChatMessage]:
    """`turns` messages and one more, a person's; those of different numbers share nothing."""
    return [
        ChatMessage(("user", "assistant")[at % 2], f"{number}. {_SAID[at % 2]} ({at})")
        for at in range(turns + 1)
    ]


async def first_token(function: LambdaEmulator, said: list[ChatMessage]) -> tuple[float, int]:
    """Seconds to it, and the tokens that were cached."""
    options = SamplingOptions(
        max_tokens=2,
        seed=1,
        extra={"logit_bias": {str(n): -100 for n in range(4)}, "best_of": 1},
    )
    async with client(function) as model:
        begun = time.perf_counter()
        async with model.stream(said, options) as reply:
            await anext(reply)
            taken = time.perf_counter() - begun
            async for _ in reply:
                pass
    await function.settle()
    return taken, reply.final.usage.cached_tokens


async def measure(model: Path, endpoint: str, runs: int) -> list[dict[str, Any]]:
    """A row a length; medians, seconds."""
    shared = {
        "FRIEND_SERVER_STATE_BUCKET": _BUCKET,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    rows = []
    numbers = itertools.count()
    async with (
        function_of(model, shared) as here,
        function_of(model, shared) as there,
        function_of(model, {}) as alone,
    ):
        for function in (here, there, alone):  # so that nothing below waits for a start
            await first_token(function, [ChatMessage("user", "hello")])
        for turns in TURNS:
            times: dict[str, list[float]] = {"stays": [], "hops": [], "no_bucket": []}
            for _ in range(runs):
                for name, function in (("hops", there), ("stays", here), ("no_bucket", alone)):
                    said = conversation(next(numbers), turns)
                    if name != "no_bucket":
                        await first_token(here, said[:-2])
                    taken, cached = await first_token(function, said)
                    if bool(cached) is (name == "no_bucket"):
                        raise RuntimeError(f"{name}: {cached} tokens were cached")
                    times[name].append(taken)
            rows.append({"turns": turns} | {f"{n}_s": median(t) for n, t in times.items()})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    heads = ("turns", "same environment", "another, by S3", "another, no bucket", "gain")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [
        f"| {row['turns']} | {row['stays_s']:.2f} | {row['hops_s']:.2f} "
        f"| {row['no_bucket_s']:.2f} | {row['no_bucket_s'] / row['hops_s']:.1f} times |"
        for row in rows
    ]
    return "\n".join(lines)


def main(
    runs: Annotated[int, typer.Option(help="Conversations of each length.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the model file here, and use it again.")
    ] = None,
) -> None:
    """Measure and print."""
    with models_in(folder) as place, fake_s3(_BUCKET) as endpoint:
        rows = run(measure(chat_model(place, "Q8_0"), endpoint, runs))
    typer.echo(json.dumps(rows, indent=1) if as_json else table(rows))


if __name__ == "__main__":
    typer.run(main)
