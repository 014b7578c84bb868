"""Logs: structlog for us and for the libraries, one line an event, on standard error.

Events are named `part.what_happened`. Ids come from structlog's contextvars; a conversation's key
is bound or given as it is, and written as a hash: a log shows which events belong together, not
where people talk.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

import aiohttp
import structlog
from structlog.typing import Processor

from bot.core.conversation import ConversationKey
from bot.ops.redaction import EventDict, Redactor
from bot.settings import OpsSettings

_WORDS_OF_PEOPLE = frozenset({"text", "content", "prompt", "reply_text", "messages", "turns"})
"""Keys under which an event may carry what somebody said; shown at DEBUG only."""
_LOUD_LIBRARIES = (
    "aiosqlite",
    "asyncio",
    "botocore",
    "discord",
    "httpcore",
    "httpx",
    "slack_bolt",
    "slack_sdk",
    "sqlalchemy",
    "urllib3",
    "uvicorn.access",
)

_UNREACHABLE = (
    ConnectionError,
    TimeoutError,
    aiohttp.ClientError,
    socket.gaierror,
    ssl.SSLError,
)
_NO_WAY = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})
_TRYING_AGAIN = ("Attempting a reconnect", "Failed to connect")
"""How the libraries' lines begin when a connection is lost or not to be had."""

Tap = Callable[[EventDict], None]


def configure(
    settings: OpsSettings,
    secrets: Iterable[str] = (),
    *,
    stream: TextIO | None = None,
    tap: Tap | None = None,
) -> None:
    """Set up logging for the whole process; may be called again.

    Args:
        secrets: values that must never be seen; known shapes of tokens are masked anyway.
        stream: where to write; standard error by default, whatever it is at the time.
        tap: also gets every event at or above the level, redacted.
    """
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not (stream or sys.stderr).isatty()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        say_unreachable_in_a_line,
        structlog.processors.format_exc_info,
        hash_conversations,
        keep_words_private,
        Redactor(secrets),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:2],
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared[3:],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    ending: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if tap is not None:
        ending.append(_tapped(tap))
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared[:2], _name_the_library, *shared[2:]],
        processors=[*ending, _renderer(as_json, stream or sys.stderr)],
    )
    handler = _LateStderr() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [old for old in root.handlers if getattr(old, "of_friend", False)]:
        root.removeHandler(old)
    handler.of_friend = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    libraries = logging.NOTSET if root.level == logging.DEBUG else max(logging.WARNING, root.level)
    for name in _LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(libraries)
    logging.captureWarnings(True)


def conversation_hash(conversation: ConversationKey) -> str:
    """Twelve hex digits that stand for a conversation in logs."""
    return hashlib.blake2b(str(conversation).encode(), digest_size=6).hexdigest()


def hash_conversations(logger: object, method: str, event: EventDict) -> EventDict:
    """A structlog processor: a conversation's key becomes its hash and its platform."""
    key = event.get("conversation")
    if isinstance(key, ConversationKey):
        event["conversation"] = conversation_hash(key)
        event.setdefault("platform", key.platform)
    return event


def keep_words_private(logger: object, method: str, event: EventDict) -> EventDict:
    """A structlog processor: above DEBUG, what people said becomes its length."""
    if event.get("level") != "debug":
        for key in _WORDS_OF_PEOPLE & event.keys():
            value = event[key]
            length = len(value) if hasattr(value, "__len__") else "?"
            event[key] = f"({length} {'characters' if isinstance(value, str) else 'items'})"
    return event


def is_unreachable(error: BaseException) -> bool:
    """Whether somebody on the network could not be reached: nothing that a traceback explains."""
    if isinstance(error, _UNREACHABLE):
        return True
    return isinstance(error, OSError) and error.errno in _NO_WAY


def say_unreachable_in_a_line(logger: object, method: str, event: EventDict) -> EventDict:
    """A structlog processor: an outage is a line, though a library shows where it met it."""
    found = event.get("exc_info")
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return event
    if is_unreachable(error) or str(event.get("event", "")).startswith(_TRYING_AGAIN):
        del event["exc_info"]
        event.setdefault("error", f"{type(error).__name__}: {error}")
    return event


def _name_the_library(logger: object, method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["library"] = record.name
    return event


def _tapped(tap: Tap) -> Processor:
    def process(logger: object, method: str, event: EventDict) -> EventDict:
        tap(dict(event))
        return event

    return process


def _renderer(as_json: bool, stream: TextIO) -> Processor:
    if as_json:
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class _LateStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is now, as a chat window redirects it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        pass
