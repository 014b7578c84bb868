"""Rules of strict model servers, in their own words; for `FakeModel.rules`."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from aiohttp import web

from tests.fakes.model import Rule

Body = dict[str, Any]


def alternating_roles(body: Body) -> web.Response | None:
    """llama.cpp with a strict template: after a system message, user and assistant in turn."""
    roles = [turn["role"] for turn in body["messages"]]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if roles[:1] == ["user"] and all(one != other for one, other in itertools.pairwise(roles)):
        return None
    words = "Conversation roles must alternate user/assistant/user/assistant/..."
    return _refuse(500, {"code": 500, "message": words, "type": "server_error"})


def no_system(body: Body) -> web.Response | None:
    """A template that knows no system message (Gemma's)."""
    if all(turn["role"] != "system" for turn in body["messages"]):
        return None
    return _refuse(500, {"code": 500, "message": "System role not supported"})


def plain_names(body: Body) -> web.Response | None:
    """OpenAI's pattern for `name`."""
    for number, turn in enumerate(body["messages"]):
        if not re.fullmatch(r"[^\s<|\\/>]+", turn.get("name", "x")):
            field = f"messages[{number}].name"
            words = (
                f"Invalid '{field}': string does not match pattern. Expected a string that "
                r"matches the pattern '^[^\s<|\\/>]+$'."
            )
            return _refuse(400, {"message": words, "param": field, "code": "invalid_value"})
    return None


def known_fields(*names: str) -> Rule:
    """A server that takes these fields and no others, and names one at a time."""

    def rule(body: Body) -> web.Response | None:
        for name in body:
            if name not in names:
                words = f"Unrecognized request argument supplied: {name}"
                return _refuse(400, {"message": words, "type": "invalid_request_error"})
        return None

    return rule


def openai_length(limit: int) -> Rule:
    """OpenAI's refusal of a long prompt; a character is a token."""

    def rule(body: Body) -> web.Response | None:
        long = characters(body["messages"])
        words = f"This model's maximum context length is {limit} tokens. However, your "
        words += f"messages resulted in {long} tokens. Please reduce the length of the messages."
        error = {"message": words, "param": "messages", "code": "context_length_exceeded"}
        return _refuse(400, error) if long > limit else None

    return rule


def llama_cpp_length(limit: int) -> Rule:
    """llama.cpp's."""

    def rule(body: Body) -> web.Response | None:
        long = characters(body["messages"])
        words = f"request ({long} tokens) exceeds the available context size ({limit} tokens)"
        error = {"code": 400, "message": words, "type": "exceed_context_size_error"}
        return _refuse(400, error) if long > limit else None

    return rule


def own_length(limit: int) -> Rule:
    """Our own server's; a Chinese character is three tokens, any other one."""

    def rule(body: Body) -> web.Response | None:
        long = tokens(body["messages"])
        words = f"The messages are {long} tokens long; {limit} are read."
        error = {"message": words, "param": "messages", "code": "context_length_exceeded"}
        return _refuse(413, error) if long > limit else None

    return rule


def tokens(messages: list[dict[str, Any]]) -> int:
    """As many as UTF-8 has bytes: what a small vocabulary makes of Chinese, too."""
    return sum(len(turn["content"].encode()) for turn in messages)


def characters(messages: list[dict[str, Any]]) -> int:
    """As many as characters."""
    return sum(len(turn["content"]) for turn in messages)


def _refuse(status: int, error: dict[str, Any]) -> web.Response:
    text = json.dumps({"error": error})
    return web.Response(status=status, text=text, content_type="application/json")
