"""Making text fit to be remembered, and fit to be said."""

from __future__ import annotations

import re
import unicodedata

_LABELS = re.compile(r"^\s*(?:friend|assistant|bot)\s*:\s*", re.IGNORECASE)
_SPEAKS_FOR_USER = re.compile(r"\n\s*(?:user|human|you|me)\s*:", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")
_KEPT_CONTROLS = {"\n", "\t"}


def clean_incoming(text: str) -> str:
    """Drop what no model should read: control characters and stray surrogates; trim the ends.

    Joiners and direction marks stay: emoji and right-to-left scripts need them.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if _is_sayable(char)).strip()


def clean_reply(text: str) -> str:
    """Make the model's words a message: no speaker labels, no turn of the person's, tidy ends."""
    text = clean_incoming(text)
    text = _LABELS.sub("", text, count=1)
    if (found := _SPEAKS_FOR_USER.search(text)) is not None:
        text = text[: found.start()]
    return _BLANK_LINES.sub("\n\n", text).strip()


def _is_sayable(char: str) -> bool:
    return char in _KEPT_CONTROLS or unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"}
