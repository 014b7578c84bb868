"""What the rate of warm pings buys: the share of cold replies, and GB-seconds a month.

    python -m benchmarks.keep_warm [--json] [--plot FILE] [--folder FOLDER]

Months are simulated (`benchmarks.traffic` says how) for several amounts of traffic, ping rates and
times for which Lambda might keep an unused environment, a number that AWS does not give. What a
cold start, a reply and a ping take is measured first, in the same run: the real runtime in the
tests' Lambda emulator, RWKV-4 430M in Q8_0 on one CPU.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from benchmarks.chat_models import chat_model
from benchmarks.function_figures import VCPU_MB, Figures, measure_all
from benchmarks.traffic import MONTH, Times, messages, pings, simulate
from deploy.cost import FREE_REQUESTS, gb_seconds

REPLIES_A_DAY = {5: 6, 50: 1, 500: 1, 2000: 1}
"""Amounts of traffic, and the months simulated of each: little traffic needs more."""
RATES = (0, 1, 2, 3, 4, 5, 10, 15)
"""Minutes between pings; 0 for none."""
IDLE_MINUTES = (5, 7, 10, 15, 30, 45)
"""For which Lambda may keep an unused environment."""
LIFETIME_HOURS = 2.0
"""After which it replaces a used one too; "every few hours" in Lambda's developer guide."""
LATE_SECONDS = 60.0
"""EventBridge Scheduler's precision is a minute."""

_NEAR = 0.01  # of all replies: how far from the least cold share a rate may be


@dataclass(frozen=True)
class Row:
    """Simulated months. `rate` and `idle_minutes` in minutes, pings and GB-seconds a month."""

    replies_a_day: int
    rate: int
    idle_minutes: int
    replies: int
    cold_share: float
    pings: int
    gb_seconds: float


def months(
    times: Times, *, traffic: Mapping[int, int] = REPLIES_A_DAY, rates: Sequence[int] = RATES,
    idle: Sequence[int] = IDLE_MINUTES,
) -> Iterator[Row]:  # fmt: skip
    """Every combination, simulated. `traffic`: months by replies a day."""
    for amount, count in traffic.items():
        seconds = count * MONTH
        asked = messages(amount, seconds, answer_s=times.reply)
        for rate in rates:
            pinged = pings(rate, seconds, late_s=LATE_SECONDS)
            for minutes in idle:
                found = simulate(
                    asked, pinged, times, idle_s=60 * minutes, lifetime_s=3600 * LIFETIME_HOURS
                )
                yield Row(
                    amount, rate, minutes, found.replies, found.cold_share,
                    round(found.pings / count), gb_seconds(VCPU_MB, found.billed_s) / count,
                )  # fmt: skip


def best_rate(rows: Iterable[Row]) -> int:
    """The rate to choose when nobody knows how long Lambda keeps an unused environment.

    Of the rates whose share of cold replies, averaged over the amounts of traffic, is within one
    percent of all replies of the least at every idle time: the one that takes the fewest
    GB-seconds at the idle time that is worst for it.
    """
    shares: dict[tuple[int, int], list[float]] = defaultdict(list)
    used: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows:
        shares[row.rate, row.idle_minutes].append(row.cold_share)
        used[row.rate, row.idle_minutes] += row.gb_seconds
    rates, idles = ({key[place] for key in used} for place in (0, 1))
    least = {idle: min(fmean(shares[rate, idle]) for rate in rates) for idle in idles}
    good = [
        rate for rate in rates
        if all(fmean(shares[rate, idle]) <= least[idle] + _NEAR for idle in idles)
    ]  # fmt: skip
    return min(good, key=lambda rate: max(used[rate, idle] for idle in idles))


def times_of(figures: Figures) -> Times:
    """For the simulation."""
    return Times(figures.init_s, figures.cold_reply_s, figures.reply_s, figures.ping_s)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    idles = sorted({row.idle_minutes for row in rows})
    heads = ["replies a day", "ping each", "pings a month"]
    heads += [f"cold, kept {idle} min" for idle in idles]
    heads += [f"GB-s, kept {idle} min" for idle in (idles[0], idles[-1])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for amount, rate in dict.fromkeys((row.replies_a_day, row.rate) for row in rows):
        here = {r.idle_minutes: r for r in rows if (r.replies_a_day, r.rate) == (amount, rate)}
        cells = [str(amount), f"{rate} min" if rate else "never", str(here[idles[0]].pings)]
        cells += [f"{here[idle].cold_share:.1%}" for idle in idles]
        cells += [f"{here[idle].gb_seconds:,.0f}" for idle in (idles[0], idles[-1])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """By ping rate; a line an amount of traffic, a column an idle time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    idles = sorted({row.idle_minutes for row in rows})
    idles = [idles[0], idles[len(idles) // 2 - 1], idles[-1]] if len(idles) > 3 else idles
    rates = sorted({row.rate for row in rows}, key=lambda rate: rate or 1e9)
    figure, panels = plt.subplots(
        2, len(idles), figsize=(4 * len(idles), 6), layout="constrained", squeeze=False,
        sharex=True, sharey="row",
    )  # fmt: skip
    for column, idle in enumerate(idles):
        for amount in dict.fromkeys(row.replies_a_day for row in rows):
            here = {
                row.rate: row for row in rows
                if (row.replies_a_day, row.idle_minutes) == (amount, idle)
            }  # fmt: skip
            label = f"{amount} replies a day"
            at = range(len(rates))
            shares = [100 * here[rate].cold_share for rate in rates]
            panels[0][column].plot(at, shares, marker="o", label=label)
            used = [here[rate].gb_seconds for rate in rates]
            panels[1][column].plot(at, used, marker="o", label=label)
        panels[0][column].set_title(f"environments kept {idle} minutes")
        panels[1][column].set_xticks(range(len(rates)), [str(r) if r else "none" for r in rates])
        panels[1][column].set_xlabel("minutes between warm pings")
        panels[1][column].set_yscale("log")
        for panel in panels[:, column]:
            panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("cold replies, %")
    panels[0][0].set_ylim(bottom=0)
    panels[1][0].set_ylabel("GB-s a month (400,000 are free)")
    panels[0][-1].legend()
    figure.savefig(path, dpi=110)


@contextmanager
def models_in(folder: Path | None) -> Iterator[Path]:
    """The folder for model files, or one for this run alone."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="friend-bench-") as temporary:
        yield Path(temporary)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a PNG.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the model file here, and use it again.")
    ] = None,
) -> None:
    """Measure, simulate, print."""
    with models_in(folder) as place:
        (figures,) = measure_all(
            [("Q8_0", chat_model(place, "Q8_0"), 1)], starts=3, replies=5
        )  # fmt: skip
    rows = list(months(times_of(figures)))
    best = best_rate(rows)
    if picture is not None:
        plot(rows, picture)
    if as_json:
        about: dict[str, object] = {"measured": asdict(figures), "best_rate_minutes": best}
        about["months"] = [asdict(row) for row in rows]
        typer.echo(json.dumps(about, indent=1))
        return
    typer.echo(
        f"Measured: init {figures.init_s:.2f} s, then the reply {figures.cold_reply_s:.2f} s; a "
        f"reply when warm {figures.reply_s:.2f} s; a warm ping {1000 * figures.ping_s:.1f} ms "
        f"(RWKV-4 430M Q8_0, {VCPU_MB} MB, one CPU).\n"
    )
    typer.echo(table(rows))
    count = max((row.pings for row in rows if row.rate == best), default=0)
    typer.echo(
        f"\nTo choose: {f'a ping every {best} min' if best else 'no pings'} "
        f"({count / FREE_REQUESTS:.1%} of the free requests). No rate has one percent fewer "
        "cold replies, however long Lambda keeps unused environments, and those as good take more."
    )


if __name__ == "__main__":
    typer.run(main)
