"""Signed HTTP: Slack calls the app's own endpoint and expects a 200 within three seconds.

Signature: https://docs.slack.dev/authentication/verifying-requests-from-slack (v0, HMAC
SHA-256 over `v0:timestamp:raw body`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp

if TYPE_CHECKING:
    from tests.fakes.slack.delivery import Delivery


class HttpPush:
    """Sends what happens to `target`, the app's request URL."""

    def __init__(
        self, *, signing_secret: str, ack_seconds: float, retry_delays: tuple[float, ...]
    ) -> None:
        self.target: str | None = None
        self.signing_secret = signing_secret
        self.ack_seconds = ack_seconds
        self.retry_delays = retry_delays
        self._session: aiohttp.ClientSession | None = None

    def sign(self, body: bytes, *, skew: float = 0.0, secret: str | None = None) -> dict[str, str]:
        """Headers for `body`; `skew` seconds off the true time, or another's secret."""
        timestamp = str(int(time.time() + skew))
        key = (secret or self.signing_secret).encode()
        digest = hmac.new(key, f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}"}

    async def post(
        self, body: bytes, content_type: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """One raw request: (status, JSON body or `{"text": …}`, headers in lower case)."""
        if self.target is None:
            raise AssertionError("set fake.http.target to the app's request URL first")
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=self.ack_seconds)
        all_headers = {**headers, "Content-Type": content_type, "User-Agent": "Slackbot 1.0"}
        async with self._session.post(
            self.target, data=body, headers=all_headers, timeout=timeout
        ) as response:
            text = await response.text()
            try:
                answer = json.loads(text) if text else {}
            except ValueError:
                answer = {"text": text}
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return response.status, answer, lowered

    async def verify_url(self) -> bool:
        """What Slack does when the request URL is saved: the challenge must come back."""
        body = json.dumps({"type": "url_verification", "challenge": "c0ffee"}).encode()
        status, answer, _ = await self.post(body, "application/json", self.sign(body))
        return status == 200 and answer.get("challenge", answer.get("text")) == "c0ffee"

    async def carry(self, delivery: Delivery) -> None:
        content_type, body = encode(delivery)
        delays = (0.0, *self.retry_delays) if delivery.retryable else (0.0,)
        reason = "first"
        for attempt, delay in enumerate(delays):
            await asyncio.sleep(delay)
            delivery.attempts.append(reason)
            headers = self.sign(body)
            if attempt:
                headers["X-Slack-Retry-Num"] = str(attempt)
                headers["X-Slack-Retry-Reason"] = reason
            try:
                status, answer, answered = await self.post(body, content_type, headers)
            except TimeoutError:
                reason = "http_timeout"
                continue
            except aiohttp.ClientError:
                reason = "connection_failed"
                continue
            if status == 200:
                delivery.acknowledge(answer)
                return
            reason = "http_error"
            if answered.get("x-slack-no-retry") == "1":
                break
        delivery.give_up()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def encode(delivery: Delivery) -> tuple[str, bytes]:
    """(content type, raw body) as Slack sends each kind."""
    if delivery.kind == "events_api":
        return "application/json", json.dumps(delivery.payload).encode()
    form = delivery.payload
    if delivery.kind == "interactive":
        form = {"payload": json.dumps(delivery.payload)}
    return "application/x-www-form-urlencoded", urlencode(form).encode()
