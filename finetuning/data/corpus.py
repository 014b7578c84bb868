"""Readers of conversation files: JSON Lines, plain or compressed with zstd.

A line is `{"source": ..., "turns": [...]}`, turns alternating between two speakers; other keys
are kept out of the way. A bad line never stops a run and never vanishes: it is counted and
reported with its number and what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from finetuning.data.compressed import read_lines
from finetuning.errors import CorpusError

_BAD_LINES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: `turns[0]`, `turns[2]`, ... are one speaker, the rest the other."""

    source: str
    turns: tuple[str, ...]
    sub: str = ""
    roles: bool = False
    """Whether the second speaker is the one to imitate, and not just another person."""


@dataclass(slots=True)
class BadLines:
    """What was not usable in a file: `(line number, reason)`, lines counted from 1."""

    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Note a bad line."""
        self.found.append((line, reason))

    def __len__(self) -> int:
        return len(self.found)

    def report(self, path: Path) -> str:
        """Words for a person: how many, which, and why."""
        named = "; ".join(f"line {n}: {why}" for n, why in self.found[:_BAD_LINES_NAMED])
        more = len(self.found) - _BAD_LINES_NAMED
        rest = f"; and {more} more" if more > 0 else ""
        return f"{path.name}: {len(self.found)} bad line(s) left out: {named}{rest}"


def read_conversations(path: Path, bad: BadLines | None = None) -> Iterator[Conversation]:
    """Yield the conversations of `path` (.jsonl or .jsonl.zst), adding bad lines to `bad`.

    Raises:
        CorpusError: the file is missing, unreadable, or broken as a whole (a cut-off archive).
    """
    bad = BadLines() if bad is None else bad
    number = 0
    try:
        for number, line in enumerate(read_lines(path), start=1):
            try:
                yield _parse(line)
            except ValueError as error:
                bad.add(number, str(error))
    except FileNotFoundError:
        raise CorpusError(
            f"There is no file {path}. Give the path of a .jsonl or .jsonl.zst file."
        ) from None
    except (OSError, zstandard.ZstdError) as error:
        raise CorpusError(
            f"{path} cannot be read after line {number}: {error}. Fetch the file again."
        ) from error


def _parse(line: bytes) -> Conversation:
    """One line as a conversation; ValueError says in a few words what is wrong."""
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("not JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a fault of the data
    turns = entry.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise ValueError('"turns" is not a list of texts')
    if len(turns) < 2:
        raise ValueError("fewer than two turns")
    clean = tuple(" ".join(turn.split()) for turn in turns)
    if not all(clean):
        raise ValueError("an empty turn")
    return Conversation(str(entry.get("source", "")), clean, str(entry.get("sub", "")))
