"""What the terminal keeps beside the history: what was typed, and a log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from bot.ops.logging import configure
from bot.ops.redaction import EventDict, secrets_of
from bot.settings import OpsSettings, Settings
from bot.stores import default_url

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


class Files:
    """Where they are: in the folder of an SQLite history, else in the user's data folder.

    Raises:
        StoreFailed: there is no folder for them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._history = _sqlite_file(settings.store.url.get_secret_value() or default_url())
        folder = (self._history or _sqlite_file(default_url()) or Path()).parent
        self.typed = folder / "typed"
        self.log = folder / "chat.log"

    @property
    def history_place(self) -> str:
        """Where the conversation is kept, as a person would write it."""
        if self._history is None:
            return "PostgreSQL"
        home, path = str(Path.home()), str(self._history)
        return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path

    @contextmanager
    def open_log(self) -> Iterator[ChatLog]:
        """Log to the file, or to standard error if a level is set by hand.

        Where the file cannot be written nothing is kept; the history, which lies beside it, has
        the same trouble and says so.
        """
        chat_log = ChatLog()
        secrets = secrets_of(self._settings)
        ops = self._settings.ops
        if "log_level" in ops.model_fields_set:
            configure(ops, secrets, tap=chat_log.hear)
            yield chat_log
            return
        ops = OpsSettings.model_construct(log_level="WARNING", log_format=ops.log_format)
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            is_long = self.log.exists() and self.log.stat().st_size > _LOG_BYTES
            file = self.log.open("w" if is_long else "a", encoding="utf-8", buffering=1)
        except OSError:
            file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        with file:
            configure(ops, secrets, stream=file, tap=chat_log.hear)
            try:
                yield chat_log
            finally:
                configure(ops, secrets)


def _sqlite_file(url: str) -> Path | None:
    try:
        address = make_url(url)
    except ArgumentError:
        return None
    if address.get_backend_name() != "sqlite" or address.database in {None, "", ":memory:"}:
        return None
    return Path(str(address.database)).expanduser()
