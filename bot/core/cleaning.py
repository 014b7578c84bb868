"""Making text fit to be remembered, and fit to be said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from bot.core.code import fences

_ROLES = ("user", "human", "assistant", "friend")
"""Labels that models write before turns, whatever anybody is called."""
_LONGEST_LABEL = 32
"""Characters of a name that a model server puts into a label."""
_BLANK_LINES = re.compile(r"\n{3,}")
_KEPT_CONTROLS = {"\n", "\t"}


def clean_incoming(text: str) -> str:
    """Drop what no model should read: controls, stray surrogates, noncharacters; trim the ends.

    All else stays, so also what this Python's Unicode does not know yet: each year brings emoji.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if _is_sayable(char)).strip()


def clean_reply(text: str, *, speakers: Collection[str] = (), own: Collection[str] = ()) -> str:
    """Make the model's words a message: no speaker labels, no turn of the person's, tidy ends.

    A line under somebody's label ends the reply, unless it stands in a code block. "You:" and
    "Me:" are nobody's: such lines may be a joke or a scene.

    Args:
        speakers: the names of those who speak in the conversation.
        own: what friend is called there.
    """
    text = clean_incoming(text)
    text = re.sub(rf"^\s*{_any_of(['friend', 'assistant', 'bot', *own])}\s*:\s*", "", text, count=1)
    blocks = [range(start, end) for start, end, _ in fences(text)]
    label = re.compile(rf"\n ?{_any_of([*_ROLES, *speakers, *own])} ?:")
    for found in label.finditer(text):
        if not any(found.start() in block for block in blocks):
            text = text[: found.start()]
            break
    return _BLANK_LINES.sub("\n\n", text).strip()


def _any_of(names: Iterable[str]) -> str:
    """Matches one of these names, in any case and however its words are set apart."""
    words = (name.replace(":", " ").split() for name in names)
    spelled = {" ".join(name) for name in words if name}
    spelled |= {name[:_LONGEST_LABEL].strip() for name in spelled}
    longest_first = sorted(spelled, key=lambda name: (-len(name), name))
    patterns = (r"[ \t]+".join(map(re.escape, name.split())) for name in longest_first)
    return f"(?i:{'|'.join(patterns)})"


def _is_sayable(char: str) -> bool:
    if char in _KEPT_CONTROLS:
        return True
    return unicodedata.category(char) not in {"Cc", "Cs"} and not _is_noncharacter(ord(char))


def _is_noncharacter(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
