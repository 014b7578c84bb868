"""Trouble on request: the next answer of a method is an error, a silence or a lost reply."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Fault:
    """What happens to one call. Exactly one of the fields below describes it.

    `lost`: Slack does the work, and the connection breaks before the answer. `slow`: Slack
    takes so many seconds, then does the work and answers as it should.
    """

    status: int | None = None
    retry_after: int | None = None
    ok_false: str | None = None
    html: int | None = None
    reset: bool = False
    hang: float | None = None
    lost: bool = False
    slow: float | None = None


class Faults:
    """A queue of faults for each Web API method; `*` stands for any method."""

    def __init__(self) -> None:
        self._queued: dict[str, list[Fault]] = {}
        self.applied: list[tuple[str, Fault]] = []

    def next(
        self,
        method: str,
        *,
        times: int = 1,
        status: int | None = None,
        retry_after: int | None = None,
        ok_false: str | None = None,
        html: int | None = None,
        reset: bool = False,
        hang: float | None = None,
        lost: bool = False,
        slow: float | None = None,
    ) -> None:
        """Let the next `times` calls of `method` fail in the way described."""
        fault = Fault(status, retry_after, ok_false, html, reset, hang, lost, slow)
        if fault == Fault():
            raise ValueError("a fault needs one of status, ok_false, html, reset, hang, lost, slow")
        self._queued.setdefault(method, []).extend([fault] * times)

    def clear(self) -> None:
        self._queued.clear()

    @property
    def pending(self) -> int:
        return sum(len(queue) for queue in self._queued.values())

    def take(self, method: str) -> Fault | None:
        for key in (method, "*"):
            queue = self._queued.get(key)
            if queue:
                fault = queue.pop(0)
                self.applied.append((method, fault))
                return fault
        return None


def break_connection(request: web.Request, *, reset: bool) -> None:
    """Cut the TCP connection under `request`; with `reset`, by RST instead of FIN."""
    transport = request.transport
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if reset and raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def answer_with(fault: Fault, request: web.Request) -> web.Response:
    """The response for a fault that replaces the method's own work."""
    if fault.hang is not None:
        await asyncio.sleep(fault.hang)
        break_connection(request, reset=False)
        return web.Response()
    if fault.reset:
        break_connection(request, reset=True)
        return web.Response()
    if fault.ok_false is not None:
        return web.json_response({"ok": False, "error": fault.ok_false})
    if fault.html is not None:
        page = "<html><body><h1>Slack is having trouble</h1></body></html>"
        return web.Response(status=fault.html, text=page, content_type="text/html")
    status = fault.status or 500
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    error = "ratelimited" if status == 429 else "internal_error"
    return web.json_response({"ok": False, "error": error}, status=status, headers=headers)
