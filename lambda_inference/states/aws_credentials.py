"""Credentials and signatures for AWS, without an SDK where none is needed.

Importing botocore took 0.5 s and making its S3 client another 0.3 s on the machine this was written
on: more than the whole cold start of a function. Inside Lambda and containers the credentials are
at hand, and Signature Version 4 is three hashes; botocore finds them everywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from lambda_inference.errors import SettingsError

_ALGORITHM = "AWS4-HMAC-SHA256"
_CONTAINER = "http://169.254.170.2"  # where ECS answers for AWS_CONTAINER_CREDENTIALS_RELATIVE_URI
_RENEW_SECONDS = 300.0  # before they end
_TIMEOUT = 1.0  # seconds for the local endpoint that hands out credentials


@dataclass(frozen=True)
class Credentials:
    """Keys of an AWS identity."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class CredentialChain:
    """The environment's keys, a container's (ECS, Lambda with SnapStart), or botocore's finding."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._lock = threading.Lock()
        self._kept: Credentials | None = None
        self._until = 0.0

    def get(self) -> Credentials:
        """Keys that are good now.

        Raises:
            SettingsError: there are none; says where they may stand.
            OSError: the container's endpoint does not answer.
        """
        with self._lock:
            if self._kept is None or time.time() > self._until - _RENEW_SECONDS:
                self._kept, self._until = self._find()
            return self._kept

    def _find(self) -> tuple[Credentials, float]:
        given = self._environment.get
        if (access := given("AWS_ACCESS_KEY_ID")) and (secret := given("AWS_SECRET_ACCESS_KEY")):
            token = given("AWS_SESSION_TOKEN", "")
            return Credentials(access, secret, token), float("inf")
        url = given("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        if relative := given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            url = _CONTAINER + relative
        return self._from_container(url) if url else _from_botocore()

    def _from_container(self, url: str) -> tuple[Credentials, float]:
        """https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html."""
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        token = self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if file := self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            with open(file, encoding="utf-8") as stream:  # noqa: PTH123
                token = stream.read().strip()
        parts = urlsplit(url)
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = connect(parts.netloc, timeout=_TIMEOUT)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"
            connection.request("GET", path, headers={"Authorization": token} if token else {})
            response = connection.getresponse()
            body = response.read(1 << 16)
            if response.status != 200:
                raise OSError(f"the endpoint for credentials answered {response.status}")
            found = json.loads(body)
            end = datetime.fromisoformat(found["Expiration"]).timestamp()
            keys = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
        except (HTTPException, ValueError, KeyError, TypeError) as error:
            raise OSError("the endpoint for credentials answered nonsense") from error
        finally:
            connection.close()
        return keys, end


def _from_botocore() -> tuple[Credentials, float]:
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise SettingsError(_NONE) from error
    try:
        found = Session().get_credentials()
        if found is None:
            raise SettingsError(_NONE)
        keys = found.get_frozen_credentials()
    except BotoCoreError as error:
        raise SettingsError(f"{_NONE} ({error})") from error
    # botocore renews keys that end when it is asked again.
    return Credentials(keys.access_key, keys.secret_key, keys.token or ""), time.time() + 600


_NONE = (
    "There are no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
    "machine a role or a profile."
)


def sign(
    credentials: Credentials,
    *,
    method: str,
    host: str,
    path: str,
    region: str,
    body: bytes = b"",
    service: str = "s3",
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers that make a request without a query good, `Host` left out.

    `path` is as it goes over the wire. See
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"x-amz-content-sha256": digest, "x-amz-date": stamp}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    signed = sorted({**headers, "host": host}.items())
    names = ";".join(name for name, _ in signed)
    canonical = "\n".join(
        [method, path, "", *(f"{name}:{value}" for name, value in signed), "", names, digest]
    )
    scope = [stamp[:8], region, service, "aws4_request"]
    text = "\n".join(
        [_ALGORITHM, stamp, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = b"AWS4" + credentials.secret_key.encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{'/'.join(scope)}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return headers


def quoted(path: str) -> str:
    """A path as S3 wants it on the wire and in the signature."""
    return quote(path, safe="/~")
