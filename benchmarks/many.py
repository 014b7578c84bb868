"""Conversations at once: tokens a second and waits, beside llama.cpp's server.

    python -m benchmarks.many [--size rwkv7-0.4b] [--llama-server PATH] [--json]

Every server is a process of its own on the same file with the same threads. For each number of
conversations, as many clients ask at once, again and again, each for a streamed reply to words that
no cache has seen. The end of a reply is banned, so that all have one length. llama.cpp's server has
as many slots as there are conversations at most, and runs RWKV-7 only. The last line of ours, "best
of N", is one conversation whose reply is the best of so many drafts.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import httpx

from benchmarks.synthetic import SIZES, write_model
from lambda_inference.model import describe, shipped_model

_ROOT = Path(__file__).parents[1]
_START_SECONDS = 60
_REPLY_SECONDS = 600
_WORDS = ("what", "do", "you", "think", "of", "the", "weather", "today", "and", "music", "sea")


@dataclass(frozen=True)
class Row:
    """Figures of one server with some conversations at once."""

    model: str
    server: str
    threads: int
    conversations: int
    drafts: int
    tokens_s: float
    """Of replies that were given, all conversations together."""
    reply_s: float
    """A whole reply, on average."""
    first_word_s: float
    """The median."""
    first_word_p95_s: float
    most_over_mean: float
    """The longest wait for a first word over the mean."""


@dataclass(frozen=True)
class _Reply:
    first_word: float
    whole: float
    tokens: int


def measure(
    file: Path,
    name: str,
    *,
    threads: int,
    conversations: Sequence[int],
    drafts: Sequence[int],
    tokens: int,
    rounds: int,
    llama_server: Path | None,
) -> Iterator[Row]:
    """Rows as they are measured."""
    ends = _ends(file)
    numbers = itertools.count()
    most = max(conversations)
    servers: list[tuple[str, Any]] = [("friend", lambda: _friend(file, threads, most))]
    if llama_server is not None:
        servers.append(("llama.cpp", lambda: _llama(llama_server, file, threads, most)))
    for server, start in servers:
        with start() as url, httpx.Client(base_url=url, timeout=_REPLY_SECONDS) as client:
            plans = [(count, 1) for count in conversations]
            if server == "friend":
                plans += [(1, count) for count in drafts]
            _ask(client, next(numbers), 4, 1, ends)
            for count, best_of in plans:
                with ThreadPoolExecutor(count) as pool:

                    def talk(_: int, best_of: int = best_of) -> list[_Reply]:
                        return [
                            _ask(client, next(numbers), tokens, best_of, ends)
                            for _ in range(rounds)
                        ]

                    started = time.perf_counter()
                    replies = [one for some in pool.map(talk, range(count)) for one in some]
                    seconds = time.perf_counter() - started
                yield _row(name, server, threads, count, best_of, replies, seconds)


def _row(
    model: str,
    server: str,
    threads: int,
    conversations: int,
    drafts: int,
    replies: Sequence[_Reply],
    seconds: float,
) -> Row:
    waits = sorted(one.first_word for one in replies)
    cuts = quantiles(waits, n=20, method="inclusive") if len(waits) > 1 else waits * 19
    return Row(
        model, server, threads, conversations, drafts,
        tokens_s=sum(one.tokens for one in replies) / drafts / seconds,
        reply_s=median(one.whole for one in replies),
        first_word_s=cuts[9],
        first_word_p95_s=cuts[18],
        most_over_mean=waits[-1] / mean(waits),
    )  # fmt: skip


def _ask(
    client: httpx.Client, number: int, tokens: int, drafts: int, ends: Sequence[int]
) -> _Reply:
    words = [_WORDS[(number * 7 + at * (number % 5 + 1)) % len(_WORDS)] for at in range(20)]
    body = {
        "model": "any",
        "messages": [{"role": "user", "content": f"{number} {' '.join(words)}"}],
        "max_tokens": tokens,
        "temperature": 1,
        "seed": number,
        "best_of": drafts,
        "logit_bias": {str(token): -100 for token in ends},
        "ignore_eos": True,  # llama.cpp's way
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    first, made = 0.0, 0
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            response.read()
            raise RuntimeError(f"{response.status_code}: {response.text[:500]}")
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if not first and any(one["delta"].get("content") for one in event["choices"]):
                first = time.perf_counter() - started
            made = (event.get("usage") or {}).get("completion_tokens", made)
    whole = time.perf_counter() - started
    return _Reply(first or whole, whole, made)


def _ends(file: Path) -> list[int]:
    """Tokens that may end a reply."""
    description = describe(file)
    tokenizer, template = description.tokenizer(), description.template
    labels = [template.user, template.assistant, template.separator]
    found = {tokenizer.reserved(text) for text in labels if text}
    if isinstance(template.end_of_text, str):
        found.add(tokenizer.reserved(template.end_of_text))
    marks = {*b"\n:"}
    found |= {
        token
        for token in range(tokenizer.vocab_size)
        if marks & {*tokenizer.token_bytes(token)} or token == 0
    }
    return sorted(token for token in found if token is not None)


@contextlib.contextmanager
def _friend(file: Path, threads: int, parallel: int) -> Iterator[str]:
    variables = {
        "FRIEND_SERVER_PARALLEL": str(parallel),
        "FRIEND_SERVER_MAX_BODY_BYTES": str(8 << 20),
        "FRIEND_SERVER_REPLY_SECONDS": str(_REPLY_SECONDS),
    }
    command = [sys.executable, "-m", "lambda_inference", "serve", "--port", "0", "--announce",
               "--exit-with-stdin", "--log-level", "error", "--model", str(file),
               "--threads", str(threads)]  # fmt: skip
    with subprocess.Popen(  # noqa: S603
        command, cwd=_ROOT, env=os.environ | variables, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        url = json.loads(process.stdout.readline())["url"]
        try:
            _wait(url + "/healthz", process)
            yield url
        finally:
            process.stdin.close()


@contextlib.contextmanager
def _llama(program: Path, file: Path, threads: int, parallel: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program), "--model", str(file), "--host", "127.0.0.1", "--port", str(port),
               "--parallel", str(parallel), "--ctx-size", str(2048 * parallel), "--cont-batching",
               "--threads", str(threads), "--threads-batch", str(threads)]  # fmt: skip
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url + "/health", process)
            yield url
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} does not serve.")
        time.sleep(0.05)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    columns = (
        "model", "server", "threads", "conversations", "tokens/s", "times one", "reply s",
        "first word s, median / 95%", "longest wait / mean",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        single = next(one for one in rows if one.server == row.server and one.drafts == 1)
        how = f"{row.conversations}" if row.drafts == 1 else f"1, best of {row.drafts}"
        ratio = (
            f"{row.tokens_s / single.tokens_s:.2f}"
            if row.drafts == 1
            else f"{row.reply_s / single.reply_s:.2f} of its time"
        )
        lines.append(
            f"| {row.model} | {row.server} | {row.threads} | {how} | {row.tokens_s:.1f} | {ratio} "
            f"| {row.reply_s:.2f} | {row.first_word_s:.2f} / {row.first_word_p95_s:.2f} "
            f"| {row.most_over_mean:.2f} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Tokens a second against conversations, a line a server."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for server in dict.fromkeys(row.server for row in rows):
        here = [row for row in rows if row.server == server and row.drafts == 1]
        panel.plot(
            [row.conversations for row in here], [row.tokens_s for row in here], "o-", label=server
        )
    panel.set_xlabel("conversations at once")
    panel.set_ylabel("tokens a second, together")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="friend bench many", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--model", type=Path, help="model file; empty: the shipped one")
    parser.add_argument(
        "--size", choices=tuple(SIZES), help="random weights of a real model's shape"
    )
    parser.add_argument("--format", default="Q8_0", help="of those: Q8_0, Q4_0, F16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--conversations", default="1,2,4,8,16", help="comma-separated")
    parser.add_argument("--drafts", default="8", help="comma-separated; empty: none")
    parser.add_argument("--tokens", type=int, default=32, help="of a reply")
    parser.add_argument("--rounds", type=int, default=4, help="replies of each conversation")
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's llama-server")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="friend-bench-") as folder:
        file, name = options.model or shipped_model(), options.size or ""
        if options.size:
            file = Path(folder) / "model.gguf"
            write_model(file, SIZES[options.size], options.format)
        for row in measure(
            file,
            name or describe(file).id,
            threads=options.threads,
            conversations=[int(count) for count in options.conversations.split(",")],
            drafts=[int(count) for count in options.drafts.split(",") if count],
            tokens=options.tokens,
            rounds=options.rounds,
            llama_server=options.llama_server,
        ):
            rows.append(row)
            print(json.dumps(asdict(row)), file=sys.stderr)
    if options.plot is not None:
        plot(rows, options.plot)
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
