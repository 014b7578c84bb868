"""The user's lines as people type them: in a hurry, on a phone, with or without capitals.

A model that reads only tidy lines is lost at the first "dont u like soup". Each line is made rough
anew, in a way that follows from the random generator alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np

from finetuning.data.chance import one_of

_WORD = re.compile(r"[A-Za-z']+")
_SHORT = {
    "you": "u", "are": "r", "your": "ur", "you're": "youre", "please": "pls", "thanks": "thx",
    "because": "cause", "though": "tho", "tomorrow": "tmrw", "really": "rly", "okay": "ok",
    "what": "wat", "people": "ppl", "something": "smth", "i'm": "im", "don't": "dont",
    "probably": "prob", "right": "rite", "tonight": "tonite", "know": "kno",
}  # fmt: skip
_JOINED = [(r"\bgoing to\b(?! the)", "gonna"), (r"\bwant to\b", "wanna"), (r"\bgot to\b", "gotta"),
           (r"\bkind of\b", "kinda"), (r"\bi do not know\b|\bi don't know\b", "idk"),
           (r"\blet me\b", "lemme"), (r"\bto be honest\b", "tbh")]  # fmt: skip
_AFTER = (" lol", " haha", " :)", " :(", "!!", "...", " tbh", " lol.", " x", "!")

Change = Callable[[str, np.random.Generator, Collection[str]], str]


def roughened(line: str, random: np.random.Generator, keep: Collection[str] = ()) -> str:
    """`line` as somebody may have typed it; the words in `keep` are never misspelt."""
    for chance, change in _CHANGES:
        if random.random() < chance:
            line = change(line, random, keep)
    return line or "."


def _tidy(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    """As a telephone writes it: a capital first, and I for i."""
    line = re.sub(r"\bi(?=\b|')", "I", line)
    line = re.sub(r"([.!?] )([a-z])", lambda found: found[1] + found[2].upper(), line)
    return line[:1].upper() + line[1:]


def _ended(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    return f"{line}." if line[-1:].isalnum() else line


def _lower(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    return line.lower()


def _without_apostrophes(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    return line.replace("'", "")


def _unended(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    return line.rstrip("?!.") or line


def _without_commas(line: str, _: np.random.Generator, __: Collection[str]) -> str:
    return line.replace(",", "")


def _shortened(line: str, random: np.random.Generator, keep: Collection[str]) -> str:
    for pattern, joined in _JOINED:
        line = re.sub(pattern, joined, line)

    def short(found: re.Match[str]) -> str:
        word = found[0]
        if word in keep or word.lower() not in _SHORT or random.random() < 0.5:
            return word
        return _SHORT[word.lower()]

    return _WORD.sub(short, line)


def _misspelt(line: str, random: np.random.Generator, keep: Collection[str]) -> str:
    """One word with a letter lost, doubled, or changed with its neighbour."""
    kept = {part for word in keep for part in word.split()}
    words = [found for found in _WORD.finditer(line) if len(found[0]) > 3 and found[0] not in kept]
    if not words:
        return line
    found = one_of(words, random)
    word, at = found[0], int(random.integers(1, len(found[0]) - 1))
    kind = random.random()
    if kind < 0.4:
        word = word[:at] + word[at + 1 :]
    elif kind < 0.6:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return line[: found.start()] + word + line[found.end() :]


def _with_more(line: str, random: np.random.Generator, _: Collection[str]) -> str:
    if line[-1:] in "?)(" or len(line) > 80:
        return line
    return line.rstrip(".!") + one_of(_AFTER, random)


_CHANGES: tuple[tuple[float, Change], ...] = (
    (0.12, _shortened),
    (0.06, _misspelt),
    (0.25, _tidy),
    (0.12, _ended),
    (0.15, _lower),
    (0.20, _without_apostrophes),
    (0.15, _unended),
    (0.05, _without_commas),
    (0.05, _with_more),
)
