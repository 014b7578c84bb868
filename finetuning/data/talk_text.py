"""Talks: conversations written for friend, as plain text that a person can read and mend.

    U: i lost my {thing} | my {thing} is gone
    F: Oh no, your {thing}! Where did you see it last?

A line is what one of the two says, `U:` the user and `F:` friend, by turns, the user first and
friend last; a blank line ends a conversation. Where ` | ` parts alternatives, each of them fits
each alternative of the other lines. `{thing}` is a slot: one filler of that name from `slots.txt`,
the same wherever it stands in the conversation; a digit (`{thing2}`) makes another one.

A folder of talks holds `slots.txt` and text files in folders, whose first name is the kind of what
is in them: `memory/memory-01.txt` holds memory talks, everything under `patterns` is patterns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from finetuning.errors import CorpusError

NAME = "talks"
"""What `--data` calls the talks that come with friend."""

SLOTS = "slots.txt"
SLOT = re.compile(r"\{([a-z]+)(\d?)\}")
Split = Literal["train", "valid", "test"]
_HELD_OUT: tuple[Split, ...] = ("valid", "test")
_SHARE = 25  # one talk in so many is held out, for each of the two
_ALTERNATIVES = " | "


@dataclass(frozen=True, slots=True)
class BadTalk(ValueError):
    """A line that breaks the form; says in a few words how."""

    line: int
    why: str


@dataclass(frozen=True)
class Talk:
    """A conversation as it is written, or a pattern of many."""

    kind: str
    """Of what folder it is: openers, memory, patterns, ..."""
    part: str
    """The folder within that: patterns are of asks, says, recall, ..."""
    lines: tuple[tuple[str, ...], ...]
    """What is said, by turns, the user first: the alternatives of each line."""
    line: int = 1
    """Where in its file it begins."""

    @cached_property
    def slots(self) -> frozenset[str]:
        """Names of its slots, with their digits."""
        return frozenset(
            "".join(found) for line in self.lines for text in line for found in SLOT.findall(text)
        )

    @cached_property
    def split(self) -> Split:
        """What it is for: it follows from the words, so a talk keeps it when others are added."""
        words = "\n".join(_ALTERNATIVES.join(line) for line in self.lines)
        drawn = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4]) % _SHARE
        return _HELD_OUT[drawn] if drawn < len(_HELD_OUT) else "train"


@dataclass(frozen=True, slots=True)
class Talks:
    """A folder of talks."""

    talks: tuple[Talk, ...]
    fillers: Mapping[str, tuple[str, ...]]

    def of(self, split: Split) -> Talks:
        """Those that are for one purpose."""
        return Talks(tuple(one for one in self.talks if one.split == split), self.fillers)


def shipped_talks() -> Path:
    """The folder of the talks that come with friend."""
    return Path(__file__).parents[1] / "talks"


def is_talks(path: Path) -> bool:
    """Whether a folder is one of talks."""
    return any(path.glob(f"**/{SLOTS}"))


def read_talks(folder: Path) -> Talks:
    """All talks of a folder.

    Raises:
        CorpusError: no such folder, a file breaks the form, or a slot has no fillers; the text
            names file and line.
    """
    try:
        [slots] = folder.glob(f"**/{SLOTS}")
        fillers = read_fillers(slots)
        files = sorted(path for path in folder.glob("*/**/*.txt") if path != slots)
        talks = tuple(talk for file in files for talk in _of_file(file, folder, fillers))
    except ValueError as error:
        if isinstance(error, BadTalk):
            raise
        raise CorpusError(f"{folder} holds no talks: there should be one {SLOTS}.") from None
    except OSError as error:
        raise CorpusError(f"{folder} cannot be read: {error}.") from error
    if not talks:
        raise CorpusError(f"{folder} holds no talks: there is no conversation in a .txt file.")
    return Talks(talks, fillers)


def _of_file(file: Path, folder: Path, fillers: Mapping[str, tuple[str, ...]]) -> Iterator[Talk]:
    kind, *parts, _ = file.relative_to(folder).parts
    try:
        for talk in parse_talks(file.read_text("utf-8"), kind, parts[0] if parts else ""):
            for slot in talk.slots:
                if slot.rstrip("0123456789") not in fillers:
                    raise BadTalk(talk.line, f"{{{slot}}} has no fillers in {SLOTS}")
            yield talk
    except (BadTalk, UnicodeDecodeError) as error:
        line = f", line {error.line}" if isinstance(error, BadTalk) else ""
        why = error.why if isinstance(error, BadTalk) else "not UTF-8"
        raise CorpusError(f"{file}{line}: {why}.") from None


def parse_talks(text: str, kind: str, part: str = "") -> Iterator[Talk]:
    """The talks of a file's text.

    Raises:
        BadTalk: a line breaks the form.
    """
    said: list[tuple[str, ...]] = []
    began = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            if not said:
                began = number
            said.append(_alternatives(line, number, "F" if len(said) % 2 else "U"))
        elif said:
            if len(said) % 2:
                raise BadTalk(number - 1, "friend has no answer to this")
            yield Talk(kind, part, tuple(said), began)
            said = []


def _alternatives(line: str, number: int, speaker: str) -> tuple[str, ...]:
    label = f"{speaker}: "
    if not line.startswith(label):
        raise BadTalk(number, f"{label.strip()!r} was to come, not {line[:20]!r}")
    found = tuple(text.strip() for text in line.removeprefix(label).split(_ALTERNATIVES))
    if not all(found):
        raise BadTalk(number, "nothing is said")
    for text in found:
        if "{" in SLOT.sub("", text) or "}" in SLOT.sub("", text):
            raise BadTalk(number, "a brace that belongs to no slot")
    return found


def read_fillers(path: Path) -> dict[str, tuple[str, ...]]:
    """What fills each slot: a line `name: one, another, a third`; `#` begins a remark."""
    fillers: dict[str, tuple[str, ...]] = {}
    for line in path.read_text("utf-8").splitlines():
        name, colon, rest = line.partition(":")
        if colon and not line.startswith("#"):
            words = tuple(dict.fromkeys(word.strip() for word in rest.split(",") if word.strip()))
            fillers[name.strip()] = fillers.get(name.strip(), ()) + words
    return fillers
