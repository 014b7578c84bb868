"""Conversation states in an S3 bucket, so that any environment goes on with any conversation.

States are stored as they are, in float32. Half precision would halve them, but the reply would not
stay the same: with the shipped model in Q8_0, 32 of 600 greedy replies change (none of 600 in F32);
`python -m benchmarks.half_states` counts them. Nor is lossless compression worth it: zlib saves 13%
of a state and takes longer than the network.
"""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lambda_inference.errors import SettingsError, StateStoreFailed
from lambda_inference.states.aws_credentials import CredentialChain, quoted, sign

_TIMEOUT = 1.5  # seconds for connecting, and for each answer of the network after that
_IDLE_SECONDS = 5.0  # after which a connection is not trusted to be open still
_LARGEST = 128 << 20  # bytes; an entry beyond that is none of ours
_STALE = (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError)


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket is."""

    host: str
    """With the port, if it is not the scheme's own."""
    secure: bool
    path: str
    """Quoted, with a slash at its end; an entry's key comes after it."""
    region: str


def endpoint_of(bucket: str, prefix: str, environment: Mapping[str, str]) -> Endpoint:
    """A bucket's place, from the variables that all AWS SDKs read.

    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL name another server than Amazon's.

    Raises:
        SettingsError: no region.
    """
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
    url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")
    if url:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingsError(f"AWS_ENDPOINT_URL is {url!r}, but must be a URL of http(s).")
        path = f"{parts.path.rstrip('/')}/{bucket}/{prefix}"
        return Endpoint(parts.netloc, parts.scheme == "https", quoted(path), region or "us-east-1")
    if not region:
        raise SettingsError("FRIEND_SERVER_STATE_BUCKET is set, so AWS_REGION is needed too.")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:  # Amazon's certificates hold for names without dots
        return Endpoint(f"s3.{region}.{domain}", True, quoted(f"/{bucket}/{prefix}"), region)
    return Endpoint(f"{bucket}.s3.{region}.{domain}", True, quoted(f"/{prefix}"), region)


class S3StateStore:
    """A `StateStore` in a bucket. Safe to use from several threads."""

    def __init__(
        self, bucket: str, prefix: str = "", *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Nothing is connected to yet.

        Raises:
            SettingsError: the region or the endpoint cannot be used.
        """
        environment = os.environ if environment is None else environment
        self._bucket = bucket
        self._endpoint = endpoint_of(bucket, prefix, environment)
        self._credentials = CredentialChain(environment)
        self._context = ssl.create_default_context() if self._endpoint.secure else None
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The entry, or None if there is none.

        Raises:
            StateStoreFailed: S3 refused; says what to do.
            OSError: it cannot be reached, or not in time.
        """
        status, body = self._request("GET", key, b"")
        if status == 404 and b"NoSuchBucket" not in body:
            return None
        if status != 200:
            raise self._refused(status, body)
        return body

    def put(self, key: str, data: bytes) -> None:
        """Write an entry. Raises as `get` does."""
        status, body = self._request("PUT", key, data)
        if status != 200:
            raise self._refused(status, body)

    def close(self) -> None:
        """Close the connections that lie idle."""
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()

    def _request(self, method: str, key: str, data: bytes) -> tuple[int, bytes]:
        path = self._endpoint.path + quoted(key)
        headers = sign(
            self._credentials.get(), method=method, host=self._endpoint.host, path=path,
            region=self._endpoint.region, body=data,
        )  # fmt: skip
        connection = self._kept()
        if connection is not None:
            try:
                return self._exchange(connection, method, path, data, headers)
            except _STALE:  # it was closed while it lay idle, or Lambda was frozen
                pass
        return self._exchange(self._new(), method, path, data, headers)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        try:
            connection.request(method, path, data or None, dict(headers))
            response = connection.getresponse()
            if (response.length or 0) > _LARGEST:
                raise StateStoreFailed(f"S3 has {response.length} bytes under {path}: none of ours")
            body = response.read()
        except http.client.RemoteDisconnected:
            connection.close()
            raise
        except http.client.HTTPException as error:
            connection.close()
            raise StateStoreFailed(f"S3's answer broke off ({error!r})") from error
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((time.monotonic(), connection))
        return response.status, body

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < _IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    def _new(self) -> http.client.HTTPConnection:
        host = self._endpoint.host
        if self._context is None:
            return http.client.HTTPConnection(host, timeout=_TIMEOUT)
        return http.client.HTTPSConnection(host, timeout=_TIMEOUT, context=self._context)

    def _refused(self, status: int, body: bytes) -> StateStoreFailed:
        code = body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode("ascii", "replace")
        text = f"S3 answered {status} {code[:60]} for the bucket {self._bucket}."
        if status == 403:
            text += " It needs s3:GetObject and s3:PutObject, and s3:ListBucket on the bucket."
        elif status in (301, 307, 400):
            text += f" Is it in the region {self._endpoint.region}?"
        elif status == 404:
            text += " Create it, or change FRIEND_SERVER_STATE_BUCKET."
        return StateStoreFailed(text)
