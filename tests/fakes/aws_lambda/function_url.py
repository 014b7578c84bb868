"""HTTP to a Function URL's event (payload format 2.0), and the function's answer back to HTTP.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = b"\0" * 8
_ID = "abcdefghijklmnopqrstuvwxyz012345"
_DOMAIN = f"{_ID}.lambda-url.eu-west-1.on.aws"
_TEXT = ("text/", "application/json", "application/xml", "application/javascript")
_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive", "upgrade", "trailer"}


class BadAnswer(Exception):
    """The function's answer is none that a Function URL understands."""


@dataclass(frozen=True)
class HttpAnswer:
    """An answer's head."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()


def url_event(
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    source: str,
    request_id: str,
    access_key: str | None,
) -> dict[str, Any]:
    """The event. `path` and `query` as on the wire, `headers` with lower-case names.

    access_key: who signed, when the URL's AuthType is AWS_IAM.
    """
    now = time.time()
    sent = {name: value for name, value in headers.items() if name != "cookie"}
    if access_key is not None:
        sent.pop("authorization", None)
    text = headers.get("content-type", "").startswith(_TEXT)
    about: dict[str, Any] = {
        "accountId": "anonymous" if access_key is None else "123456789012",
        "apiId": _ID,
        "domainName": _DOMAIN,
        "domainPrefix": _ID,
        "http": {
            "method": method,
            "path": unquote(path),
            "protocol": "HTTP/1.1",
            "sourceIp": source,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "timeEpoch": int(now * 1000),
    }
    if access_key is not None:
        about["authorizer"] = {
            "iam": {
                "accessKey": access_key,
                "accountId": "123456789012",
                "callerId": "AIDACALLER",
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": "arn:aws:iam::123456789012:user/friend",
                "userId": "AIDACALLER",
            }
        }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": sent | {"host": _DOMAIN},
        "requestContext": about,
        "isBase64Encoded": bool(body) and not text,
    }
    if query:
        event["queryStringParameters"] = dict(parse_qsl(query, keep_blank_values=True))
    if cookies := headers.get("cookie"):
        event["cookies"] = cookies.split("; ")
    if body:
        event["body"] = body.decode("utf-8", "replace") if text else base64.b64encode(body).decode()
    return event


async def read_prelude(parts: AsyncIterator[bytes]) -> tuple[HttpAnswer, bytes]:
    """The head of a streamed answer, and what came of the body with it. Raises BadAnswer."""
    data = b""
    async for part in parts:
        data += part
        prelude, separator, rest = data.partition(_SEPARATOR)
        if separator:
            return _head(prelude), rest
    raise BadAnswer("the stream ended before its prelude did")


def read_answer(payload: bytes) -> tuple[HttpAnswer, bytes]:
    """A whole answer: the 2.0 format, or any other JSON as it is. Raises BadAnswer."""
    try:
        document = json.loads(payload)
    except ValueError as error:
        raise BadAnswer(f"the answer is not JSON ({error})") from error
    if not isinstance(document, dict) or "statusCode" not in document:
        body = document if isinstance(document, str) else json.dumps(document)
        return HttpAnswer(200, {"content-type": "application/json"}), body.encode()
    body = str(document.get("body", ""))
    raw = base64.b64decode(body) if document.get("isBase64Encoded") else body.encode()
    return _head(payload), raw


def _head(document: bytes) -> HttpAnswer:
    try:
        head = json.loads(document)
        headers = {
            str(name).lower(): str(value)
            for name, value in (head.get("headers") or {}).items()
            if str(name).lower() not in _OWN
        }
        return HttpAnswer(
            int(head.get("statusCode", 200)),
            {"content-type": "application/octet-stream"} | headers,
            tuple(head.get("cookies") or ()),
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise BadAnswer(f"the answer's head cannot be read ({error})") from error
