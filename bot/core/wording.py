"""What stands beside a message's words, put into words: the same ones for every platform.

The model reads them, so they are what a person would say, and never hold an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

SOMEONE = "someone"
"""Whose name cannot be learnt."""
A_GROUP = "a group"
A_CHANNEL = "a channel"

_QUOTED_CHARACTERS = 400
_PREVIEW_CHARACTERS = 300

Moment = Literal["date", "time", "both"]


def moment(seconds: float, kind: Moment = "both") -> str:
    """A point in time, for a reader in any place."""
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return "some time"
    if kind == "date":
        return f"{at:%Y-%m-%d}"
    return f"{at:%H:%M} UTC" if kind == "time" else f"{at:%Y-%m-%d %H:%M} UTC"


def place(channel: str, *, is_message: bool) -> str:
    """What a link to a channel, or to a message in it, points to."""
    return f"a message in #{channel}" if is_message else f"#{channel}"


def answering(speaker: str, text: str) -> str:
    """The message that another one answers."""
    return f'(in answer to {speaker}: "{shortened(text, _QUOTED_CHARACTERS)}")'


def forwarded(text: str, speaker: str = "") -> str:
    """A message from elsewhere, shown again."""
    by = f" from {speaker}" if speaker else ""
    return f'Forwarded message{by}: "{text}"'


def poll(question: str, answers: Iterable[str]) -> str:
    """A poll."""
    return f"Poll: {question} ({' / '.join(answers)})"


def preview(parts: Iterable[str]) -> str:
    """What is shown of a link, or the card that a program posts; "" if it has no words."""
    words = ". ".join(part.strip() for part in parts if part.strip())
    return f'Preview: "{shortened(words, _PREVIEW_CHARACTERS)}"' if words else ""


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table, a line a row."""
    return "\n".join(" | ".join(cell.strip() for cell in row) for row in rows)


def file(kind: str, name: str, description: str = "") -> str:
    """A file that came with a message.

    Args:
        kind: its media type; "" if it is not known.
        description: what the sender wrote about it.
    """
    what = {"image": "a picture", "video": "a video", "audio": "a recording"}
    words = what.get(kind.partition("/")[0], "a file")
    words += f", {name}" if name else ""
    return f'{words}: "{description}"' if description else words


def with_files(files: Sequence[str]) -> str:
    """That files came with the words before this."""
    return f"(with {'; '.join(files)})" if files else ""


def shortened(text: str, characters: int) -> str:
    """The beginning of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"
