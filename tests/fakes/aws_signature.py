"""Checks AWS Signature Version 4 the way AWS does, written from its specification.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
Shares no code with botocore, so that it can judge what botocore signs.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHM = "AWS4-HMAC-SHA256"
_MAX_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class AwsKeys:
    """The one identity that the server knows."""

    access_key: str = "AKIAFAKEFAKEFAKEFAKE"
    secret_key: str = "fake/secret+key"
    session_token: str | None = None
    region: str = "eu-west-1"
    service: str = "lambda"


def signature_problem(
    keys: AwsKeys,
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime | None = None,
) -> str | None:
    """Why the request's signature is not good, or None if it is.

    path and query as they were on the wire; headers with lower-case names.
    """
    algorithm, _, rest = headers.get("authorization", "").partition(" ")
    if algorithm != _ALGORITHM:
        return "no AWS4-HMAC-SHA256 authorization"
    parts = dict(p.strip().split("=", 1) for p in rest.split(",") if "=" in p)
    scope = parts.get("Credential", "").split("/")
    stamp = headers.get("x-amz-date", "")
    try:
        when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "no X-Amz-Date"
    if abs((now or datetime.now(UTC)) - when) > _MAX_SKEW:
        return "signature expired"
    if scope != [keys.access_key, stamp[:8], keys.region, keys.service, "aws4_request"]:
        return "wrong credential scope"
    if headers.get("x-amz-security-token") != keys.session_token:
        return "wrong session token"
    signed = parts.get("SignedHeaders", "").split(";")
    must = {"host", "x-amz-date"} | ({"x-amz-security-token"} if keys.session_token else set())
    if not must <= set(signed) or signed != sorted(signed):
        return "a header that must be signed is not"
    payload_hash = hashlib.sha256(body).hexdigest()
    if headers.get("x-amz-content-sha256", payload_hash) != payload_hash:
        return "wrong body hash"
    canonical = "\n".join(
        [
            method,
            quote(quote(unquote(path), safe="/~"), safe="/~") or "/",
            _canonical_query(query),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            ";".join(signed),
            payload_hash,
        ]
    )
    to_sign = "\n".join(
        [
            _ALGORITHM,
            stamp,
            "/".join(scope[1:]),
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = b"AWS4" + keys.secret_key.encode()
    for part in scope[1:]:
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return None if hmac.compare_digest(expected, parts.get("Signature", "")) else "wrong signature"


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(pairs))
