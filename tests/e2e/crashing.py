"""A process that dies at a chosen moment, played within the tests' own process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from bot import texts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.e2e.harness import Running

ANSWERS = {
    "reset": texts.RESET_DONE,
    "forget me": texts.forgot(1),
    "again": "I heard: plums",
    "about": texts.ABOUT,
    "": texts.LISTENING,
}
"""What is asked for in words ("" is a bare mention), and what friend says after "plums"."""


def dies_before_it_acts(running: Running[Any], patch: pytest.MonkeyPatch) -> None:
    """What this bot would queue from now on it never gets to: only what is stored is left."""

    def nothing(reply: object, **how: object) -> None:
        return None

    patch.setattr(running.bot.queues, "put", nothing)


def dies_within_the_deed(patch: pytest.MonkeyPatch) -> list[str]:
    """The first promise that is written down breaks its transaction; returns a list that fills."""
    import bot.stores.promises as module

    real, broke = module.add_reply, list[str]()

    async def breaks_once(connection: Any, conversation_id: int, reply: Any) -> None:
        if not broke:
            broke.append(reply.key)
            raise RuntimeError("killed here")
        await real(connection, conversation_id, reply)

    patch.setattr(module, "add_reply", breaks_once)
    return broke


def promises(folder: Path) -> list[str]:
    """The states of all promises in the history file, sorted."""
    with closing(sqlite3.connect(folder / "history.sqlite3")) as history:
        return sorted(state for (state,) in history.execute("SELECT state FROM replies"))


def make_old(folder: Path) -> None:
    """Let everything that is owed have been promised two hours ago."""
    with closing(sqlite3.connect(folder / "history.sqlite3")) as history, history:
        history.execute("UPDATE replies SET created_at = datetime(created_at, '-2 hours')")
