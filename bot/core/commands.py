"""Commands said in plain words, for places where slash commands don't work."""

from __future__ import annotations

from enum import StrEnum


class Command(StrEnum):
    """What a person can ask friend to do rather than to answer."""

    RESET = "reset"
    AGAIN = "again"
    FORGET_ME = "forget me"
    ABOUT = "about"


_WORDS = {
    "reset": Command.RESET,
    "start over": Command.RESET,
    "again": Command.AGAIN,
    "try again": Command.AGAIN,
    "retry": Command.AGAIN,
    "forget me": Command.FORGET_ME,
    "forget-me": Command.FORGET_ME,
    "about": Command.ABOUT,
}


def parse_command(text: str) -> Command | None:
    """Read a command; the whole text must be one, so that talk about resetting stays talk."""
    return _WORDS.get(" ".join(text.casefold().split()).strip("/!. "))
