"""Gateway sessions: a sequence of events that outlives the connections that carry it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from tests.fakes.discord.wire import Json


def compressor(kind: str | None) -> Callable[[str], str | bytes]:
    """One connection's transport compression: None (text), zlib-stream or zstd-stream.

    The context is shared by all messages of a connection and flushed after each.
    https://discord.com/developers/docs/events/gateway#transport-compression
    """
    if kind == "zlib-stream":
        deflate = zlib.compressobj()
        return lambda text: deflate.compress(text.encode()) + deflate.flush(zlib.Z_SYNC_FLUSH)
    if kind == "zstd-stream":
        stream = zstandard.ZstdCompressor().compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return lambda text: stream.compress(text.encode()) + stream.flush(flush)
    if kind is None:
        return lambda text: text
    raise ValueError(f"no transport compression called {kind!r}")


def cut(transport: asyncio.BaseTransport | None) -> None:
    """Break a TCP connection at once, so that the peer sees a reset and not a close."""
    if not isinstance(transport, asyncio.WriteTransport):
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Connection:
    """One websocket; frames leave in order through a queue, so that dispatching never blocks."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self.ws = ws
        self.path = request.path
        self.session: Session | None = None
        self._transport = request.transport
        self._pack = compressor(request.query.get("compress"))
        self._frames: asyncio.Queue[Json] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write())

    def send(self, frame: Json) -> None:
        self._frames.put_nowait(frame)

    async def _write(self) -> None:
        while True:
            packed = self._pack(json.dumps(await self._frames.get()))
            try:
                if isinstance(packed, bytes):
                    await self.ws.send_bytes(packed)
                else:
                    await self.ws.send_str(packed)
            except (ConnectionError, RuntimeError):
                return

    async def close(self, code: int, reason: str = "") -> None:
        self._writer.cancel()
        await self.ws.close(code=code, message=reason.encode())

    def drop(self) -> None:
        """As when a cable is pulled: no close frame, nothing more is written."""
        self._writer.cancel()
        cut(self._transport)

    def detach(self) -> None:
        self._writer.cancel()
        if self.session is not None and self.session.connection is self:
            self.session.connection = None


@dataclass(eq=False)
class Session:
    """What RESUME goes on with: every event since IDENTIFY, sent or not.

    Attributes:
        shard: (this shard, number of shards); None when the client does not shard.
        valid: False once invalidated; RESUME then gets op 9 false.
    """

    id: str
    intents: int
    shard: tuple[int, int] | None
    events: list[Json] = field(default_factory=list)
    connection: Connection | None = None
    valid: bool = True
    resumes: int = 0

    def wants(self, intent: int, guild_id: int | None) -> bool:
        if intent and not self.intents & intent:
            return False
        if self.shard is None:
            return True
        index, count = self.shard
        return ((guild_id or 0) >> 22) % count == index

    def dispatch(self, event: str, data: Any) -> None:
        frame: Json = {"op": 0, "t": event, "s": len(self.events) + 1, "d": data}
        self.events.append(frame)
        if self.connection is not None:
            self.connection.send(frame)

    def replay(self, after: int, overlap: int) -> None:
        """Send again what the client missed, and ``overlap`` events that it did not miss."""
        if self.connection is None:
            return
        self.resumes += 1
        missed = self.events[max(0, after - overlap) :]
        for frame in missed:
            if frame["t"] not in ("READY", "RESUMED"):
                self.connection.send(frame)
        self.dispatch("RESUMED", {"_trace": ["fake"]})
