"""Discord's JSON answers: the exact content type, the error envelope, its error codes.

Codes: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

Json = dict[str, Any]

# discord.py compares the whole header, so a charset parameter would make it read text.
JSON_TYPE = "application/json"

# Cloudflare stands before the API: discord.py takes an answer without this for a ban.
VIA = {"Via": "1.1 google"}


class ApiError(Exception):
    """An error Discord itself answers, as opposed to Cloudflare or the network.

    Attributes:
        status: HTTP status.
        code: Discord's JSON error code, 0 for a general error.
    """

    def __init__(self, status: int, code: int, message: str, errors: Json | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.errors = errors

    def response(self) -> web.Response:
        body: Json = {"message": self.message, "code": self.code}
        if self.errors is not None:
            body["errors"] = self.errors
        return json_response(body, status=self.status)


def json_response(body: Any, *, status: int = 200, headers: Json | None = None) -> web.Response:
    """A response whose content type is exactly ``application/json``."""
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers={**VIA, **(headers or {}), "Content-Type": JSON_TYPE},
    )


def no_content() -> web.Response:
    return web.Response(status=204, headers=VIA)


def unauthorized() -> ApiError:
    return ApiError(401, 0, "401: Unauthorized")


def unknown(what: str) -> ApiError:
    codes = {
        "Application Command": 10063,
        "Channel": 10003,
        "Interaction": 10062,
        "Message": 10008,
        "User": 10013,
        "Webhook": 10015,
    }
    return ApiError(404, codes[what], f"Unknown {what}")


def missing_access() -> ApiError:
    return ApiError(403, 50001, "Missing Access")


def missing_permissions() -> ApiError:
    return ApiError(403, 50013, "Missing Permissions")


def invalid_form(field: str, code: str, message: str) -> ApiError:
    """``50035 Invalid Form Body`` with the field's own error inside, as Discord nests it."""
    errors: Json = {"_errors": [{"code": code, "message": message}]}
    for part in reversed(field.split(".")):
        errors = {part: errors}
    return ApiError(400, 50035, "Invalid Form Body", errors)


async def read_json(request: web.Request) -> Json:
    """The request's JSON object; bad JSON and lone surrogates get Discord's 50109."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()
    except ValueError:
        raise ApiError(400, 50109, "The request body contains invalid JSON.") from None
    if not isinstance(body, dict):
        raise ApiError(400, 50109, "The request body contains invalid JSON.")
    return body
