"""Turns what a database reports into a sentence for a person, and says whether to try again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bot.errors import StoreFailed

_SQLITE = {
    sqlite3.SQLITE_BUSY: "is locked by another program. Close what else has it open, then try "
    "again",
    sqlite3.SQLITE_LOCKED: "is locked by another program. Close what else has it open, then try "
    "again",
    sqlite3.SQLITE_FULL: "cannot grow: the disk, or the space friend is given, is full. Free some "
    "space, then try again",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error, or is full. "
    "Check the disk and its free space",
    sqlite3.SQLITE_CORRUPT: "is damaged. Move it away (friend then starts with an empty history) "
    "or put back a copy",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database. Move it away, or point FRIEND_STORE_URL at "
    "another file",
    sqlite3.SQLITE_READONLY: "may not be written. Give friend's user the right to write it and "
    "its folder",
    sqlite3.SQLITE_PERM: "may not be opened. Give friend's user the right to read and write it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder exists and that friend's "
    "user may write there",
}

_POSTGRESQL = {
    "28": "refuses the user or the password. Check FRIEND_STORE_URL",
    "3D": "does not exist. Create it (`createdb`), or check FRIEND_STORE_URL",
    "42": "does not let friend do what it must, or its tables are not friend's. Grant friend's "
    "user the right to create tables, or give it a database of its own",
    "53": "is out of space, memory or connections. Make room, then try again",
    "57": "is shutting down or starting up. Try again in a moment",
    "08": "broke the connection. Check that the server runs, then try again",
    "25": "is read-only. Point FRIEND_STORE_URL at the primary server",
}

_ROLLED_BACK = {"40001", "40P01", "55P03"}
"""Serialization failure, deadlock, lock not available: the server undid the transaction."""
_PASSES_BY = {"57P01", "57P02", "57P03", "53300"}
"""Shutting down, crashed, starting up, too many clients."""


def place(url: URL) -> str:
    """The history's place in words, without a password."""
    if url.get_backend_name() == "sqlite":
        if url.database in {None, "", ":memory:"}:
            return "The history (in memory)"
        return f"The history file {Path(str(url.database)).absolute()}"
    server = url.host or "localhost"
    if url.port:
        server += f":{url.port}"
    return f"The history database {url.database or url.username or ''} at {server}"


def is_rolled_back(error: BaseException) -> bool:
    """Whether the database has certainly undone the transaction, and it may work in a moment."""
    return (
        _sqlite_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        or _sqlstate(error) in _ROLLED_BACK
    )


def is_transient(error: BaseException) -> bool:
    """Whether the database was away but may be back in a moment.

    If the commit was under way, it may or may not have happened.
    """
    return (
        isinstance(error, ConnectionError)
        or (isinstance(error, DBAPIError) and error.connection_invalidated)
        or _sqlstate(error) in _PASSES_BY
    )


def explain(error: BaseException, url: URL) -> StoreFailed:
    """The error for a person; the original belongs in the log as its cause."""
    return StoreFailed(f"{place(url)} {_problem(error)}.")


def is_database_error(error: BaseException) -> bool:
    """Whether `error` says something of the database rather than of our code."""
    return isinstance(error, (SQLAlchemyError, OSError, TimeoutError)) or _sqlstate(error) != ""


def _problem(error: BaseException) -> str:
    if isinstance(error, PoolTimeout):
        return "is too busy: a request waited too long for its turn. Try again in a moment"
    code = _sqlite_code(error)
    if code is not None:
        return _SQLITE.get(code, f"cannot be used ({_first_line(error)})")
    state = _sqlstate(error)
    if state:
        return _POSTGRESQL.get(state[:2], f"reports an error ({state}: {_first_line(error)})")
    if isinstance(error, TimeoutError):
        return "does not answer. Check that the server runs and can be reached, then try again"
    if isinstance(error, OSError):
        return (
            f"cannot be reached ({error.strerror or type(error).__name__}). Check that the server "
            "runs, and the address in FRIEND_STORE_URL"
        )
    return f"cannot be used ({_first_line(error)})"


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code, e.g. SQLITE_IOERR for SQLITE_IOERR_WRITE."""
    source = error.orig if isinstance(error, DBAPIError) else error
    extended: int | None = getattr(source, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _sqlstate(error: BaseException) -> str:
    source = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(source, "sqlstate", None) or "")


def _first_line(error: BaseException) -> str:
    source = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return (str(source).splitlines() or [type(source).__name__])[0]
