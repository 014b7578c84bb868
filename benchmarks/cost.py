"""What a reply costs on Lambda, and how many a month are free, by memory size.

    python -m benchmarks.cost [--json] [--plot FILE] [--folder FOLDER]

Measured in the same run: cold start and reply (60 new tokens of prompt, 40 of reply) of the real
runtime in the tests' Lambda emulator, on RWKV-4 430M by friend's engine and by the `rwkv` package
behind the very same handler, pinned to one CPU and to two.

Lambda gives a virtual CPU for each 1769 MB. Below one, everything takes as much longer as the share
is smaller; above, whole CPUs count, up to those of this machine. The share of cold replies is the
simulated one (`benchmarks.keep_warm`) at the deployed ping rate, 50 replies a day and environments
kept for ten minutes; the init of each cold start is billed, and so are the pings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.chat_models import REFERENCE, chat_model
from benchmarks.function_figures import VCPU_MB, Figures, cpus_here, measure_all
from benchmarks.keep_warm import models_in, months, times_of
from deploy.cost import FREE_GB_SECONDS, FREE_REQUESTS, gb_seconds, pings_a_month
from deploy.settings import DeploySettings

MEMORY_MB = (1024, 1280, 1536, 1769, 2048, 3008, 3538, 5307, 7076, 8845, 10240)
LABELS = {"Q8_0": "friend Q8_0", "Q4_0": "friend Q4_0", REFERENCE: "rwkv package fp32"}
_TRAFFIC = 50  # replies a day, of the cold share
_IDLE_MINUTES = 10


@dataclass(frozen=True)
class Row:
    """One engine at one memory size. `cpus`: virtual ones; `threads`: those that were measured."""

    engine: str
    memory_mb: int
    cpus: float
    threads: int
    fits: bool
    """Whether the memory is there at all."""
    reply_s: float
    cold_start_s: float
    """To the end of init."""
    cold_share: float
    gb_seconds: float
    """Of a reply, its part of the cold starts included."""
    free_replies: int
    """A month, beside the warm pings."""


def rows_of(
    figures: Iterable[Figures],
    cold_share: float,
    *,
    memory: Sequence[int] = MEMORY_MB,
    ping_minutes: int | None = None,
) -> Iterator[Row]:
    """Rows by engine and memory size. `ping_minutes` None: those of the deployment."""
    if ping_minutes is None:
        ping_minutes = DeploySettings().keep_warm_minutes
    pings = pings_a_month(ping_minutes)
    measured = {(one.name, one.cpus): one for one in figures}
    for name in dict.fromkeys(one.name for one in measured.values()):
        for size in memory:
            cpus = size / VCPU_MB
            threads = max(count for known, count in measured if known == name and
                          (count <= cpus or count == 1))  # fmt: skip
            here = measured[name, threads]
            slower = max(1.0, 1 / cpus)
            warm, cold = here.reply_s * slower, (here.init_s + here.cold_reply_s) * slower
            used = gb_seconds(size, (1 - cold_share) * warm + cold_share * cold)
            left = FREE_GB_SECONDS - gb_seconds(size, pings * max(here.ping_s * slower, 0.001))
            yield Row(
                LABELS[name], size, cpus, threads, here.memory_mb <= size, warm,
                here.init_s * slower, cold_share, used,
                int(min(left / used, FREE_REQUESTS - pings)),
            )  # fmt: skip


def cold_share_of(figures: Figures, ping_minutes: int | None = None) -> float:
    """Of replies, at the deployed ping rate."""
    if ping_minutes is None:
        ping_minutes = DeploySettings().keep_warm_minutes
    (row,) = months(
        times_of(figures), traffic={_TRAFFIC: 6}, rates=(ping_minutes,), idle=(_IDLE_MINUTES,)
    )
    return row.cold_share


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    heads = (
        "engine", "MB", "vCPUs", "threads", "reply s", "init s", "GB-s a reply",
        "free replies a month",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        about = f"| {row.engine} | {row.memory_mb} | {row.cpus:.2f} | {row.threads} "
        figures = f"| {row.reply_s:.2f} | {row.cold_start_s:.2f} | {row.gb_seconds:.2f} "
        lines.append(
            about + figures + f"| {row.free_replies:,} |" if row.fits
            else about + "| does not fit | | | |"
        )  # fmt: skip
    return "\n".join(lines)


def best(rows: Iterable[Row], engine: str) -> Row:
    """The memory size with the most free replies."""
    return max(
        (row for row in rows if row.engine == engine and row.fits), key=lambda row: row.free_replies
    )


def summary(rows: Sequence[Row]) -> str:
    """The figures to remember, in words."""
    peer = best(rows, LABELS[REFERENCE])
    lines = [f"{peer.engine}: at most {peer.free_replies:,} free replies ({peer.memory_mb} MB)."]
    for name in (label for key, label in LABELS.items() if key != REFERENCE):
        found = [row for row in rows if (row.engine, row.memory_mb) == (name, VCPU_MB)]
        lines += [
            f"{name}: {row.free_replies:,} at {VCPU_MB} MB, "
            f"{row.free_replies / peer.free_replies:.1f} times as many."
            for row in found
        ]
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Free replies by memory size, a line an engine."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for engine in dict.fromkeys(row.engine for row in rows):
        here = [row for row in rows if row.engine == engine and row.fits]
        axes.plot(
            [row.memory_mb for row in here], [row.free_replies for row in here],
            marker="o", label=engine,
        )  # fmt: skip
    axes.axvline(VCPU_MB, color="grey", linestyle=":", label="one virtual CPU")
    axes.set_xlabel("memory of the function, MB")
    axes.set_ylabel("free replies a month")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the model files here, and use them again.")
    ] = None,
) -> None:
    """Measure and print."""
    counts = range(1, min(2, cpus_here()) + 1)
    with models_in(folder) as place:
        models = {name: chat_model(place, name) for name in LABELS}
        figures = measure_all(
            [(name, model, count) for name, model in models.items() for count in counts],
            starts=2, replies=3,
        )  # fmt: skip
    share = cold_share_of(figures[0])
    rows = list(rows_of(figures, share))
    if picture is not None:
        plot(rows, picture)
    if as_json:
        about = {"measured": [asdict(one) for one in figures], "cold_share": share}
        typer.echo(json.dumps(about | {"rows": [asdict(row) for row in rows]}, indent=1))
        return
    heads = (
        "engine", "CPUs", "init s", "first reply s", "reply s", "prefill s", "decode s",
        "ping ms", "memory MB",
    )  # fmt: skip
    typer.echo(f"| {' | '.join(heads)} |\n" + "|---" * len(heads) + "|")
    for one in figures:
        typer.echo(
            f"| {LABELS[one.name]} | {one.cpus} | {one.init_s:.2f} | {one.cold_reply_s:.2f} "
            f"| {one.reply_s:.2f} | {one.prefill_s:.2f} | {one.decode_s:.2f} "
            f"| {1000 * one.ping_s:.1f} | {one.memory_mb:.0f} |"
        )
    typer.echo(f"\nCold replies: {share:.1%}.\n\n{table(rows)}\n\n{summary(rows)}")


if __name__ == "__main__":
    typer.run(main)
