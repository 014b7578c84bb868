"""The one place that touches httpx: a request out, an answer's bytes in, errors translated."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx

from .errors import BadAnswer, InferenceError, Refused, Unreachable
from .refusals import error_from_answer
from .settings import BearerAuth, ClientSettings, SigV4Auth
from .sigv4 import SigV4Signer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from .deadline import Deadline

__all__ = ["Answer", "Transport"]


class Answer:
    """A 2xx answer whose body is still to be read."""

    def __init__(self, response: httpx.Response, request_id: str, max_bytes: int) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self.request_id = request_id
        self.received = 0
        """Bytes of the body that have come."""

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it arrives, content encoding undone. Raises Unreachable, BadAnswer."""
        with _translated(self.request_id):
            async for chunk in self._response.aiter_bytes():
                self.received += len(chunk)
                if self.received > self._max_bytes:
                    raise BadAnswer(
                        f"The model's answer is larger than {self._max_bytes} bytes, "
                        "so the rest was not read.",
                        request_id=self.request_id,
                    )
                yield chunk

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Transport:
    """Keeps the connections to one model. Opened at the first request, closed by `aclose`."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._closed = False
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: Deadline,
        request_id: str,
        body: bytes | None = None,
        accept: str = "application/json",
    ) -> AsyncIterator[Answer]:
        """Send one request; give its answer if it is a success, else raise from our tree."""
        headers = {"Accept": accept, "Accept-Encoding": "identity", "X-Request-Id": request_id}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with _translated(request_id):
            client = await self._opened()
            try:
                response = await client.send(
                    client.build_request(method, url, content=body, headers=headers), stream=True
                )
            except (httpx.ConnectTimeout, httpx.PoolTimeout):
                raise deadline.expired("connect", self._settings.connect_timeout) from None
        request_id = _request_id(response.headers) or request_id
        try:
            answer = Answer(response, request_id, self._settings.max_answer_bytes)
            if not response.is_success:
                raise await self._error(response, answer)
            yield answer
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close all connections; for good."""
        async with self._opening:
            self._closed = True
            if self._client is not None:
                client, self._client = self._client, None
                await client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._closed:
                raise RuntimeError("This InferenceClient is closed.")
            if self._client is None:
                try:
                    # in a thread, because reading the CA certificates takes a while
                    self._client = await asyncio.to_thread(self._new_client)
                except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
                    # a proxy that httpx cannot use, or an SSL_CERT_FILE that is not there
                    raise Refused(
                        "The proxy or certificate settings of the environment "
                        f"do not work: {error}",
                        status=None,
                    ) from error
            return self._client

    def _new_client(self) -> httpx.AsyncClient:
        settings = self._settings
        headers = {"User-Agent": "friend"}
        if isinstance(settings.auth, BearerAuth):
            headers["Authorization"] = f"Bearer {settings.auth.key}"
        # Plain HTTP to this machine needs no CA certificates; without them TLS would only fail.
        plain = settings.loopback and settings.api_url.startswith("http:")
        return httpx.AsyncClient(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            auth=SigV4Signer(settings.auth) if isinstance(settings.auth, SigV4Auth) else None,
            headers=headers,
            follow_redirects=False,
            trust_env=not settings.loopback,
            timeout=httpx.Timeout(None, connect=settings.connect_timeout),
            limits=httpx.Limits(
                max_connections=settings.max_connections, max_keepalive_connections=20
            ),
        )

    async def _error(self, response: httpx.Response, answer: Answer) -> InferenceError:
        try:
            body = await answer.read()
        except InferenceError:
            body = b""  # the status says enough
        key = self._settings.auth.key if isinstance(self._settings.auth, BearerAuth) else None
        return error_from_answer(
            response.status_code,
            response.headers,
            body,
            request_id=answer.request_id,
            secret=key,
        )


def _request_id(headers: Mapping[str, str]) -> str | None:
    """The server's own id for the request: ours, OpenAI's or AWS's header."""
    for name in ("x-request-id", "x-amzn-requestid"):
        if value := headers.get(name, ""):
            return value[:200] if value.isprintable() else None
    return None


def _cause(error: BaseException) -> str:
    """The operating system's or TLS's own words, which httpx wraps several times over."""
    last: BaseException = error
    while (under := last.__cause__ or last.__context__) is not None:
        last = under.exceptions[-1] if isinstance(under, BaseExceptionGroup) else under
    if isinstance(last, ssl.SSLError):
        return f"TLS: {getattr(last, 'verify_message', '') or last.reason or last}"
    if isinstance(last, OSError) and last.strerror and last.errno:
        return os.strerror(last.errno) if last.errno > 0 else last.strerror
    return str(last) or type(last).__name__


@contextmanager
def _translated(request_id: str) -> Iterator[None]:
    """Turn what httpx raises into our tree."""
    try:
        yield
    except httpx.ProxyError as error:
        raise Unreachable(
            f"The proxy would not connect to the model ({error}); check HTTPS_PROXY and NO_PROXY.",
            request_id=request_id,
        ) from error
    except httpx.ConnectError as error:
        raise Unreachable(
            f"The model cannot be reached ({_cause(error)}). "
            "Is it running, and is its address right?",
            request_id=request_id,
        ) from error
    except httpx.DecodingError as error:
        raise BadAnswer(
            f"The model's answer is garbled ({error}).", request_id=request_id
        ) from error
    except httpx.HTTPError as error:
        raise Unreachable(
            f"The connection to the model broke ({error or type(error).__name__}).",
            request_id=request_id,
        ) from error
