"""Mentions in a platform's markup: whom they call, and which are words of a sentence."""

from __future__ import annotations

import re

from bot.core.code import ticked

_SET_OFF = r"(?=\s*(?:$|[.!?…;:)\n]|,(?!\s*(?:and|or|&)\b)))"
"""What follows a name that is called out: the end of a sentence, or a comma."""


def take_out(text: str, own: str, name: str) -> str:
    """Take friend's own mention out where it only says who is meant.

    That is at the beginning, or set off by a comma, or as a last sentence of its own. Elsewhere it
    is a word of its sentence, and becomes friend's name.

    Args:
        own: a regular expression for the mention.
        name: what the others call friend.
    """
    text = re.sub(rf"^(?:\s*{own}(?!['’]s\b)(?:\s*[,:;]+|[.!?…]+)?\s*)+", "", text)
    text = _outside_code(rf"(?:\s*,\s*{own})+{_SET_OFF}", "", text)
    text = _outside_code(rf"(?<=[.!?…\n])\s*{own}[.!?…]*\s*$", "", text)
    return re.sub(own, lambda match: name, text)


def is_addressed(text: str, mention: str) -> bool:
    """Whether the words are spoken to whom `mention` matches, not only of them.

    They are if the mention begins the text, perhaps after a word or two of greeting, or if it is
    set off by a comma.
    """
    called = rf"^\s*{mention}(?!['’]s\b)|^\s*(?:\w+\s+){{1,2}}{mention}\s*[,:!]"
    return re.search(rf"{called}|,\s*{mention}{_SET_OFF}", text) is not None


def _outside_code(pattern: str, new: str, text: str) -> str:
    code = ticked(text)

    def put(match: re.Match[str]) -> str:
        return match[0] if any(match.start() in span for span in code) else new

    return re.sub(pattern, put, text)
