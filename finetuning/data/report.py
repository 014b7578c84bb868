"""What a reader did with every record of a file: used it, left it out by rule, or found it bad."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_BAD_NAMED = 20


class BadRecord(ValueError):
    """A record that cannot be used; says in a few words what is wrong with it."""


@dataclass(slots=True)
class ReadingReport:
    """Accounts for every record (a line, a row, a message): nothing vanishes without a word.

    For exports of a channel, `used` + all of `left_out` + all of `bad` is the number of messages.
    """

    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason; nothing wrong with them
    bad: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """By file: the line that a bad record begins on, counted from 1, and what is wrong with it."""

    def reject(self, file: str, line: int, reason: str) -> None:
        """Note a bad record: `line` of `file`, counted from 1, is where it begins."""
        self.bad.setdefault(file, []).append((line, reason))

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Note records that are in order but not wanted."""
        if count:
            self.left_out[reason] += count

    @property
    def bad_count(self) -> int:
        """Bad records in all files."""
        return sum(len(lines) for lines in self.bad.values())

    def text(self) -> str:
        """Words for a person, a line a file with bad records and one for the rest."""
        lines = []
        for file, bad in self.bad.items():
            named = "; ".join(f"line {n}: {why}" for n, why in bad[:_BAD_NAMED])
            more = len(bad) - _BAD_NAMED
            rest = f"; and {more} more" if more > 0 else ""
            lines.append(f"{file}: {len(bad)} bad record(s) left out: {named}{rest}")
        if self.left_out:
            reasons = "; ".join(f"{count} {why}" for why, count in self.left_out.most_common())
            lines.append(f"Left out by rule: {reasons}.")
        return "\n".join(lines)
