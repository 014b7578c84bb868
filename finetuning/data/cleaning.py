"""Turns as the shipped corpus has them, from text as people and their programs write it.

The same steps as `corpus/README.md` lists for the corpus itself (but for repairing mojibake), so
that what a person brings looks to the model like what it learnt from.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
_RUN = re.compile(r"([!?.,;:*_~-])\1{3,}")
_SMILEY = re.compile(r"[:;=]['^-]?[()\[\]/\\|*]|[()]['^-]?[:;=]")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "}
)
_KEPT_INVISIBLE = {"\u200d", "\ufe0f"}  # they hold emoji together


def clean_turn(text: str) -> str:
    """One line without entities, web and mail addresses, control and invisible characters.

    Empty if no letter, digit, symbol (emoji) or smiley is left.
    """
    text = html.unescape(text).translate(_PLAIN)
    text = "".join(_visible(char) for char in text)
    text = _RUN.sub(r"\1\1\1", _ADDRESS.sub(" ", text))
    text = " ".join(text.split())
    says = any(unicodedata.category(char)[0] in "LNS" for char in text) or _SMILEY.search(text)
    return text if says else ""


def _visible(char: str) -> str:
    if char.isspace():
        return " "
    kind = unicodedata.category(char)
    return "" if kind in ("Cc", "Cf", "Cs", "Co") and char not in _KEPT_INVISIBLE else char


def join_turns(parts: Iterable[str]) -> str:
    """Several messages of one speaker as one turn; a sentence is ended where nothing ends it."""
    joined = ""
    for part in parts:
        if joined and joined[-1].isalnum():
            joined += "."
        joined = f"{joined} {part}" if joined else part
    return joined
