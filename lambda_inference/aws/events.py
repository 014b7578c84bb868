"""Lambda's events as requests, and responses as its results.

The events of a Function URL and of an API Gateway HTTP API (payload format 2.0, which both share),
and `{"warm": true}`. A further kind of event, as API Gateway's payload format 1.0, belongs here.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from lambda_inference.errors import BadRequest, Unauthorized
from lambda_inference.serving.service import HttpRequest, HttpResponse, asks_for_warmth


def is_ping(event: Any) -> bool:
    """Whether it is `{"warm": true}`, by itself or posted to the Function URL's root."""
    if not isinstance(event, dict):
        return False
    if event.get("rawPath") != "/" or event.get("warm") is not None:
        return event.get("warm") is True
    try:
        return asks_for_warmth(_body(event))
    except BadRequest:
        return False


def is_by_url(event: Mapping[str, Any]) -> bool:
    """Whether it came through a Function URL, whose names are <id>.lambda-url.<region>.on.aws."""
    about = event.get("requestContext")
    return isinstance(about, dict) and ".lambda-url." in str(about.get("domainName"))


def request_of(event: Mapping[str, Any], *, has_key: bool, deadline: float | None) -> HttpRequest:
    """The request that an event carries; trusted if its sender signed it.

    Raises:
        BadRequest: it is no event of a kind that is known here.
        Unauthorized: nobody signed it, and the server has no key to ask for.
    """
    about = event.get("requestContext")
    http = about.get("http") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(http, dict):
        raise BadRequest(
            'The event is neither a Function URL or API Gateway v2 request nor {"warm": true}.',
            code="unknown_event",
        )
    # Lambda itself fills in who signed the request; a client cannot.
    authorizer = about.get("authorizer")
    signed = isinstance(authorizer, dict) and bool(authorizer.get("iam"))
    if not signed and not has_key:
        raise Unauthorized(
            "This function has neither IAM authorisation nor a key. Set the Function URL's "
            "auth type to AWS_IAM, or FRIEND_SERVER_KEY in the function's environment.",
            code="no_authorisation",
        )
    return HttpRequest(
        method=str(http.get("method", "GET")),
        path=_path(event, about),
        headers=headers_of(event),
        body=_body(event),
        trusted=signed,
        deadline=deadline,
    )


def headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """An event's headers, names in lower case."""
    headers = event.get("headers")
    if not isinstance(headers, dict):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _path(event: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The path, without API Gateway's stage before it."""
    path, stage = str(event.get("rawPath") or "/"), about.get("stage")
    if isinstance(stage, str) and stage != "$default" and path.startswith(f"/{stage}/"):
        return path[len(stage) + 1 :]
    return path


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise BadRequest("The event's body is not text.", code="unknown_event")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The event's body is not base64.", code="unknown_event") from error


def result_of(response: HttpResponse) -> dict[str, Any]:
    """A response as the result of the handler; an event stream comes whole."""
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": body.decode(),
        "isBase64Encoded": False,
    }
