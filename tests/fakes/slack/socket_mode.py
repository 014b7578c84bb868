"""Socket Mode: single-use tickets, hello, envelopes, acks, and sockets that go wrong.

Protocol: https://docs.slack.dev/apis/events-api/using-socket-mode. Each envelope goes to
one of the open sockets; one that nobody acknowledged is sent again with `retry_attempt`.
A delivery made while no socket is open waits for the next one.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import WSMsgType, web

from tests.fakes.slack.faults import break_connection
from tests.fakes.slack.workspace import APP_ID

if TYPE_CHECKING:
    from tests.fakes.slack.delivery import Delivery

MAX_SOCKETS = 10
DisconnectReason = Literal["warning", "refresh_requested", "link_disabled"]


class SocketGoneError(Exception):
    """The socket closed while an envelope was waiting for its ack."""


class Link:
    """One open socket of the app."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        self.ws = ws
        self.request = request
        self.stalled = False
        self.deaf = False
        self.pings = 0
        self.waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def send(self, body: dict[str, Any]) -> None:
        if not (self.stalled or self.deaf):
            with suppress(ConnectionError):
                await self.ws.send_str(json.dumps(body))

    def forget_waiting(self) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(SocketGoneError())
        self.waiting.clear()


class SocketMode:
    """All sockets of the app, and the envelopes on them."""

    def __init__(self, *, ack_seconds: float, retry_delays: tuple[float, ...]) -> None:
        self.ack_seconds = ack_seconds
        self.retry_delays = retry_delays
        self.links: list[Link] = []
        self.base_url = ""
        self.connections = 0
        """How many sockets have ever been opened."""
        self.refused_tickets: list[str] = []
        self.envelopes: list[dict[str, Any]] = []
        self._tickets: set[str] = set()
        self._turn = 0
        self._connected = asyncio.Condition()

    # --- the app's side ------------------------------------------------------------

    def issue_url(self) -> str:
        """A WebSocket address that works once."""
        ticket = str(uuid.uuid4())
        self._tickets.add(ticket)
        return f"{self.base_url}/link/?ticket={ticket}&app_id={APP_ID}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until either side ends it."""
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            self.refused_tickets.append(ticket)
            return web.json_response({"ok": False, "error": "invalid_ticket"}, status=403)
        self._tickets.remove(ticket)
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        link = Link(ws, request)
        if len(self.links) >= MAX_SOCKETS:
            await link.send({"type": "disconnect", "reason": "too_many_websockets"})
            await ws.close()
            return ws
        await self._open(link)
        try:
            async for message in ws:
                if message.type == WSMsgType.PING:
                    link.pings += 1
                    if not link.stalled:
                        await ws.pong(message.data)
                elif message.type == WSMsgType.TEXT and not link.stalled:
                    self._acknowledged(link, json.loads(message.data))
        except ConnectionError:
            pass
        finally:
            if link in self.links:
                self.links.remove(link)
            link.forget_waiting()
        return ws

    async def _open(self, link: Link) -> None:
        self.connections += 1
        self.links.append(link)
        await link.send(
            {
                "type": "hello",
                "num_connections": len(self.links),
                "connection_info": {"app_id": APP_ID},
                "debug_info": {"host": "applink-fake", "approximate_connection_time": 18060},
            }
        )
        async with self._connected:
            self._connected.notify_all()

    def _acknowledged(self, link: Link, body: dict[str, Any]) -> None:
        future = link.waiting.pop(str(body.get("envelope_id")), None)
        if future is not None and not future.done():
            future.set_result(body.get("payload") or {})

    # --- carrying ------------------------------------------------------------------

    async def carry(self, delivery: Delivery) -> None:
        delays = (0.0, *self.retry_delays) if delivery.retryable else (0.0,)
        reason = "first"
        for attempt, delay in enumerate(delays):
            await asyncio.sleep(delay)
            link = await self._pick()
            delivery.attempts.append(reason)
            envelope: dict[str, Any] = {
                "envelope_id": str(uuid.uuid4()),
                "type": delivery.kind,
                "payload": delivery.payload,
                "accepts_response_payload": delivery.kind != "events_api",
            }
            if delivery.kind == "events_api":
                envelope["retry_attempt"] = attempt
                envelope["retry_reason"] = "" if attempt == 0 else reason
            try:
                delivery.acknowledge(await self._send(link, envelope))
                return
            except TimeoutError:
                reason = "timeout"
            except SocketGoneError:
                reason = "connection_closed"
        delivery.give_up()

    async def _send(self, link: Link, envelope: dict[str, Any]) -> dict[str, Any]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        link.waiting[envelope["envelope_id"]] = future
        self.envelopes.append(envelope)
        await link.send(envelope)
        try:
            async with asyncio.timeout(self.ack_seconds):
                return await future
        finally:
            link.waiting.pop(envelope["envelope_id"], None)

    async def _pick(self) -> Link:
        """One of the open sockets in turn, stalled ones included: Slack cannot tell."""
        async with self._connected:
            await self._connected.wait_for(lambda: bool(self.links))
            self._turn += 1
            return self.links[self._turn % len(self.links)]

    async def wait_connected(self, count: int = 1, timeout: float = 20.0) -> None:
        """Until `count` sockets have been opened in all."""
        async with asyncio.timeout(timeout), self._connected:
            await self._connected.wait_for(lambda: self.connections >= count)

    # --- trouble -------------------------------------------------------------------

    async def disconnect(self, reason: DisconnectReason, *, close_after: float = 10.0) -> None:
        """Tell the app to come back on a new socket; the old ones work for `close_after` s."""
        old = list(self.links)
        for link in old:
            await link.send(
                {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-fake"}}
            )
        if reason == "link_disabled":
            close_after = 0.0

        def close() -> None:
            for link in old:
                break_connection(link.request, reset=False)

        asyncio.get_running_loop().call_later(close_after, close)

    def drop(self) -> None:
        """Cut every socket without a word."""
        for link in list(self.links):
            break_connection(link.request, reset=True)

    def stall(self) -> None:
        """Open sockets stay open, and nothing passes any more, pongs included."""
        for link in self.links:
            link.stalled = True

    def deafen(self) -> None:
        """Open sockets still answer pings, and no envelope arrives on them."""
        for link in self.links:
            link.deaf = True

    async def close(self) -> None:
        for link in list(self.links):
            break_connection(link.request, reset=False)
