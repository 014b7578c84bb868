"""What `friend eval` prints for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from finetuning.evaluation.run import Report

_SAYINGS = {
    "spoken_for_user": "turns spoken for the user",
    "repeated_replies": "repeated replies",
    "not_english": "replies not in English",
    "empty_replies": "empty replies",
    "cut_off": "cut off by the limit",
    "distinct_replies": "distinct replies",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "repeated_4_grams": "repeated 4-grams",
    "ascii_characters": "ASCII characters",
    "known_words": "words the data has too",
}


_MEASURED = {
    "pick": (0, "picks the reply", "hits_at_1"),
    "who": (1, "knows who it is", "right"),
    "memory": (2, "remembers", "remembered"),
}
"""Order, words and main figure of the measures of sense."""


def show(report: Report, *, talks: bool) -> None:
    """Print the rows, the statistics of the sampled conversations and, if asked, these."""
    console = Console()
    console.print(Text.assemble((report.model, "bold"), f" ({report.weights})"))
    for file in dict.fromkeys(row["file"] for row in report.rows):
        console.print(_rows(file, [row for row in report.rows if row["file"] == file]))
    if report.floor is not None:
        floor = report.floor
        console.print(
            f"{floor['order']}-gram: interpolated Kneser-Ney on {floor['tokens']:,} tokens of "
            f"{floor['file']}, {floor['n_grams']:,} n-grams.",
            highlight=False,
        )
    if report.sense:
        console.print(_sense(report.sense))
    if report.sampled is not None:
        console.print(_statistics(report.sampled))
    if talks:
        _print_talks(console, report)


def _rows(file: str, rows: list[dict[str, Any]]) -> Table:
    """One data file's rows, a source's formats below each other: they are what one compares."""
    table = Table(box=box.SIMPLE, pad_edge=False, title=Text(file), title_justify="left")
    longest = max(len(row["name"]) for row in rows)
    table.add_column("conversations of", overflow="fold", min_width=min(longest, 30))
    table.add_column("format", no_wrap=True)
    for name in ("bits per\nbyte", "from\nF32", "word\nperplexity", "turns"):
        table.add_column(name, justify="right")
    for source in dict.fromkeys(row["name"] for row in rows):
        for place, row in enumerate(one for one in rows if one["name"] == source):
            change = row.get("change_from_f32_percent")
            table.add_row(
                Text("" if place else source),
                row["format"],
                f"{row['bits_per_byte']:.4f}",
                "" if change is None else f"{round(change, 2) + 0.0:+.2f}%",
                f"{row['word_perplexity']:.1f}",
                f"{row['turns']:,}",
            )
    return table


def _sense(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, title="sense", title_justify="left")
    table.add_column("measure")
    table.add_column("format", no_wrap=True)
    table.add_column("drafts", justify="right")
    table.add_column("", justify="right")
    table.add_column("of")
    for row in sorted(rows, key=lambda one: _MEASURED[one["measure"]][0]):
        _, words, share = _MEASURED[row["measure"]]
        if row["measure"] == "pick":
            of = f"{row['cases']} replies, {row['candidates']} candidates: {row['of']}"
        elif row["measure"] == "who":
            of = f"{row['answers']} answers to {row['questions']} questions"
        else:
            after = ", ".join(f"{one:.0%}" for one in row["after"].values())
            of = f"{row['facts']} facts; after 0, 1, 2, 3 exchanges {after}"
        drafts = str(row["drafts"]) if "drafts" in row else ""
        table.add_row(words, row["format"], drafts, f"{row[share]:.1%}", Text(of))
    return table


def _statistics(sampled: dict[str, Any]) -> Table:
    table = Table(
        box=box.SIMPLE,
        show_header=False,
        pad_edge=False,
        title=f"{sampled['conversations']} sampled conversations of {sampled['turns']} replies, "
        f"{sampled['format']}, seed {sampled['seed']}",
        title_justify="left",
    )
    for key, words in _SAYINGS.items():
        value = sampled[key]
        table.add_row(words, f"{value:.1%}" if isinstance(value, float) else f"{value:,}")
    length = sampled["words"]
    table.add_row(
        "words a reply",
        f"mean {length['mean']:.1f}; {length['least']} to {length['most']}, a tenth up to "
        f"{length['tenth']}, half up to {length['median']}, nine tenths up to "
        f"{length['ninetieth']}",
    )
    return table


def _print_talks(console: Console, report: Report) -> None:
    for number, talk in enumerate(report.talks, 1):
        console.print(Text(f"\nConversation {number}", style="bold"))
        for exchange in talk:
            console.print(Text.assemble(("User: ", "dim"), exchange.user))
            end = " [...]" if exchange.cut_off else ""
            console.print(Text.assemble(("Friend: ", "dim"), exchange.reply, end))
