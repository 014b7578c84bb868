"""What can be asked of the chat window with a slash."""

from __future__ import annotations

import re
from enum import StrEnum

_WORD = re.compile(r"/[A-Za-z][A-Za-z-]*(?=\s|$)")


class SlashCommand(StrEnum):
    """A command, by the word that is typed."""

    RESET = "/reset"
    AGAIN = "/again"
    FORGET_ME = "/forget-me"
    ABOUT = "/about"
    HELP = "/help"
    QUIT = "/quit"

    @property
    def meaning(self) -> str:
        """What it does, for the list of commands and the completion menu."""
        return _MEANINGS[self]


_MEANINGS = {
    SlashCommand.RESET: "put this conversation behind us and start afresh",
    SlashCommand.AGAIN: "make me answer once more",
    SlashCommand.FORGET_ME: "erase everything you said in any terminal session",
    SlashCommand.ABOUT: "what I am",
    SlashCommand.HELP: "this list",
    SlashCommand.QUIT: "leave",
}
_ALSO = {"/exit": SlashCommand.QUIT, "/bye": SlashCommand.QUIT, "/?": SlashCommand.HELP}


class UnknownCommand(ValueError):
    """A slash and a word that is no command; `word` has both."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def read_command(text: str) -> SlashCommand | None:
    """Read a command; None for talk, which paths like `/usr/bin` are too.

    Raises:
        UnknownCommand: it looks like a command, but there is none of the name.
    """
    text = text.strip()
    folded = text.casefold()
    if folded in _ALSO:
        return _ALSO[folded]
    if folded in set(SlashCommand):
        return SlashCommand(folded)
    if (found := _WORD.match(text)) is not None:
        raise UnknownCommand(found.group())
    return None
