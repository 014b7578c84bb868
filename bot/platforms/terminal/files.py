"""What the terminal keeps beside the history: what was typed, and a log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.ops.logging import configure
from bot.ops.redaction import EventDict, secrets_of
from bot.platforms.terminal import texts
from bot.settings import OpsSettings, Settings

_LOG_BYTES = 1_000_000


class ChatLog:
    """The log of a chat, as far as the window tells of it."""

    def __init__(self) -> None:
        self._error = ""

    def hear(self, event: EventDict) -> None:
        """Take in an event that was logged."""
        if event.get("level") in {"error", "critical"} and (error := event.get("error")):
            self._error = str(error)

    def last_error(self) -> str:
        """What went wrong since last asked, or ""."""
        error, self._error = self._error, ""
        return error


@dataclass(frozen=True, slots=True)
class Files:
    """Where they are.

    Attributes:
        folder: of both.
        history: the SQLite file of the conversations; None if they are in a database server.
    """

    folder: Path
    history: Path | None

    @property
    def typed(self) -> Path:
        """What was typed, for the Up key."""
        return self.folder / "typed"

    @property
    def history_place(self) -> str:
        """Where the conversation is kept, as a person would write it."""
        if self.history is None:
            return texts.DATABASE_SERVER
        home, path = str(Path.home()), str(self.history)
        return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path


@contextmanager
def open_log(files: Files, settings: Settings) -> Iterator[ChatLog]:
    """Log to a file, or to standard error if a level is set by hand.

    Where the file cannot be written nothing is kept; the history, which lies beside it, has the
    same trouble and says so.
    """
    chat_log = ChatLog()
    secrets = secrets_of(settings)
    ops = settings.ops
    if "log_level" in ops.model_fields_set:
        configure(ops, secrets, tap=chat_log.hear)
        yield chat_log
        return
    path = files.folder / "chat.log"
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        is_long = path.exists() and path.stat().st_size > _LOG_BYTES
        file = path.open("w" if is_long else "a", encoding="utf-8", buffering=1)
    except OSError:
        file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    ops = OpsSettings.model_construct(log_level="WARNING", log_format=ops.log_format)
    with file:
        configure(ops, secrets, stream=file, tap=chat_log.hear)
        try:
            yield chat_log
        finally:
            configure(ops, secrets)
