"""One line an event, ours and the libraries', without secrets and without people's words."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import structlog

from bot.core.conversation import ConversationKey
from bot.ops.logging import configure, conversation_hash
from bot.settings import OpsSettings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [h for h in root.handlers if getattr(h, "of_friend", False)]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def _logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _configure(level: str = "INFO", log_format: str = "auto", **kwargs: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(OpsSettings(log_level=level, log_format=log_format), stream=stream, **kwargs)
    return stream


def test_json_where_nobody_watches() -> None:
    stream = _configure()
    structlog.get_logger("x").info("thing.happened", count=2)
    (event,) = _logged(stream)
    assert (event["event"], event["level"], event["count"]) == ("thing.happened", "info", 2)
    assert event["timestamp"].endswith("Z")


def test_for_people_on_request() -> None:
    stream = _configure(log_format="console")
    structlog.get_logger("x").warning("thing.happened", count=2)
    assert "thing.happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_a_library_logs_the_same_way() -> None:
    stream = _configure()
    logging.getLogger("discord.gateway").warning("shard %s is gone", 3)
    (event,) = _logged(stream)
    assert event["event"] == "shard 3 is gone"
    assert event["library"] == "discord.gateway"


def test_chatty_libraries_are_heard_at_debug_only() -> None:
    stream = _configure()
    logging.getLogger("discord.client").info("connected")
    assert not stream.getvalue()
    stream = _configure("DEBUG")
    logging.getLogger("discord.client").info("connected")
    assert stream.getvalue()


def test_secrets_are_masked_in_tracebacks_and_library_lines() -> None:
    stream = _configure(secrets=["my-secret-key"])
    try:
        raise ValueError("bad key my-secret-key")
    except ValueError:
        structlog.get_logger("x").exception("it.broke")
    logging.getLogger("slack_sdk").error("refused my-secret-key")
    assert "my-secret-key" not in stream.getvalue()
    assert "ValueError: bad key [secret]" in _logged(stream)[0]["exception"]


def test_what_people_say_is_shown_at_debug_only() -> None:
    stream = _configure("DEBUG")
    log = structlog.get_logger("x")
    log.info("message.received", text="my diary")
    log.debug("message.received", text="my diary")
    above, below = _logged(stream)
    assert above["text"] == "(8 characters)"
    assert below["text"] == "my diary"


def test_ids_are_bound_and_conversations_hashed() -> None:
    stream = _configure()
    here = ConversationKey("slack", "T1", "C_SECRET_PLANS")
    bound = structlog.contextvars.bound_contextvars
    with bound(conversation=here, message_id="m1", error_id="e1"):
        structlog.get_logger("x").info("inside")
    structlog.get_logger("x").info("outside")
    inside, outside = _logged(stream)
    assert inside["conversation"] == conversation_hash(here)
    assert (inside["platform"], inside["message_id"], inside["error_id"]) == ("slack", "m1", "e1")
    assert "C_SECRET_PLANS" not in stream.getvalue()
    assert "conversation" not in outside


def test_conversations_have_different_hashes() -> None:
    assert conversation_hash(ConversationKey("a", "b", "c")) != conversation_hash(
        ConversationKey("a", "b", "c", "d")
    )


def test_a_tap_hears_what_is_logged() -> None:
    heard: list[Any] = []
    _configure("WARNING", tap=heard.append, secrets=["my-secret-key"])
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").error("loud", error="my-secret-key")
    assert [(event["event"], event["error"]) for event in heard] == [("loud", "[secret]")]


def test_configuring_twice_does_not_log_twice() -> None:
    _configure()
    stream = _configure()
    structlog.get_logger("x").info("once")
    assert len(_logged(stream)) == 1


def test_standard_error_is_the_default_whatever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure(OpsSettings())
    structlog.get_logger("x").warning("to.stderr")
    captured = capsys.readouterr()
    assert "to.stderr" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        aiohttp.ClientPayloadError("cut"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_outage_is_a_line(error: Exception, log_format: str) -> None:
    stream = _configure(log_format=log_format)
    try:
        raise error
    except Exception:
        logging.getLogger("discord.client").exception("Attempting a reconnect in 1.00s")
        structlog.get_logger("x").exception("it.broke")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(type(error).__name__ in line for line in lines)


def test_a_defect_is_a_traceback() -> None:
    stream = _configure()
    for error in (ValueError("oops"), FileNotFoundError(2, "gone")):
        try:
            raise error
        except Exception:
            structlog.get_logger("x").exception("it.broke")
    assert [("Traceback" in event["exception"]) for event in _logged(stream)] == [True, True]


def test_a_library_that_tries_again_needs_a_line() -> None:
    stream = _configure()
    try:
        raise RuntimeError("closed with 1006")
    except RuntimeError:
        logging.getLogger("discord.client").exception("Attempting a reconnect in 1.00s")
    (event,) = _logged(stream)
    assert event["error"] == "RuntimeError: closed with 1006"
    assert "exception" not in event
