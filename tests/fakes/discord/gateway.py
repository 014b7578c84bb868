"""The gateway: websocket sessions with sequence numbers, resume, and every way they go wrong.

https://discord.com/developers/docs/events/gateway
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import WSMsgType, web

from tests.fakes.discord import intents
from tests.fakes.discord.session import Connection, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.discord.changes import Changes
    from tests.fakes.discord.wire import Json

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, RESUME = 0, 1, 2, 3, 6
RECONNECT, REQUEST_MEMBERS, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 7, 8, 9, 10, 11

UNKNOWN_OP, DECODE_ERROR, NOT_AUTHENTICATED, BAD_TOKEN = 4001, 4002, 4003, 4004
ALREADY_AUTHENTICATED, SHARDING_REQUIRED, DISALLOWED_INTENTS = 4005, 4011, 4014


class Backend(Protocol):
    """What the gateway asks the world when a client comes in."""

    token: str
    allowed_intents: int

    def ready_payload(self, session: Session) -> Json: ...
    def guild_payloads(self, session: Session) -> list[Json]: ...


class Gateway:
    """The gateway's server side, with handles for a test to break it.

    Attributes:
        sessions: every session that was identified, oldest first.
        identifies: payloads of all IDENTIFYs, refused ones included.
        resumes: payloads of all RESUMEs.
        heartbeats: sequence numbers the client sent.
        withhold_acks: leave heartbeats unanswered.
        refuse_connections: answer the websocket upgrade with 503; ``refused`` counts them.
        require_shards: close with 4011 when the client does not shard, as from 2500 guilds on.
        overlap_on_resume: how many events a RESUME repeats although the client has them.
    """

    def __init__(self, backend: Backend, problems: list[str], changes: Changes) -> None:
        self.sessions: list[Session] = []
        self.identifies: list[Json] = []
        self.resumes: list[Json] = []
        self.heartbeats: list[int | None] = []
        self.heartbeat_interval = 0.5
        self.withhold_acks = False
        self.refuse_connections = False
        self.refused = 0
        self.require_shards = False
        self.overlap_on_resume = 0
        self._backend = backend
        self._problems = problems
        self._changes = changes
        self._connections: set[Connection] = set()

    @property
    def connected(self) -> list[Session]:
        """Sessions that a client listens to now, after READY or RESUMED."""
        return [session for session in self.sessions if session.connection is not None]

    async def wait_connected(self, timeout: float = 20.0) -> Session:
        await self._changes.wait_for(lambda: self.connected, timeout, "a client on the gateway")
        return self.connected[-1]

    async def wait_resumed(self, session: Session, timeout: float = 20.0) -> None:
        await self._changes.wait_for(
            lambda: session.resumes and session.connection, timeout, "the session resumed"
        )

    def dispatch(
        self,
        event: str,
        data: Callable[[Session], Any],
        *,
        guild_id: int | None,
        in_guild: bool | None = None,
    ) -> None:
        """Give every session that wants ``event`` its payload, connected or waiting to resume."""
        inside = guild_id is not None if in_guild is None else in_guild
        bit = intents.needed(event, in_guild=inside)
        for session in self.sessions:
            if session.valid and session.wants(bit, guild_id):
                session.dispatch(event, data(session))

    def send_raw(self, event: str, data: Any) -> None:
        """Dispatch any payload, a malformed one too."""
        for session in self.connected:
            session.dispatch(event, data)

    async def drop(self) -> None:
        """Cut every connection with a TCP reset; the sessions can be resumed."""
        for connection in list(self._connections):
            connection.drop()
            connection.detach()

    async def close(self, code: int) -> None:
        for connection in list(self._connections):
            await connection.close(code)
            connection.detach()

    async def reconnect(self) -> None:
        """Op 7: the client must reconnect and resume."""
        self._send_to_all({"op": RECONNECT, "d": None})

    async def invalid_session(self, *, resumable: bool) -> None:
        """Op 9; not resumable means that the next RESUME fails too and IDENTIFY is needed."""
        for session in self.connected:
            session.valid = resumable
        self._send_to_all({"op": INVALID_SESSION, "d": resumable})

    async def request_heartbeat(self) -> None:
        self._send_to_all({"op": HEARTBEAT, "d": None})

    def _send_to_all(self, frame: Json) -> None:
        for session in self.connected:
            assert session.connection is not None
            session.connection.send(frame)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_connections:
            self.refused += 1
            self._changes.notify()
            return web.Response(status=503, text="upstream connect error")
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            self._problems.append(f"gateway connected with {dict(request.query)}")
        ws = web.WebSocketResponse(compress=False, timeout=1.0, max_msg_size=4096 * 4)
        await ws.prepare(request)
        connection = Connection(request, ws)
        self._connections.add(connection)
        interval = int(self.heartbeat_interval * 1000)
        connection.send({"op": HELLO, "d": {"heartbeat_interval": interval}})
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await self._receive(connection, message.data)
        finally:
            self._connections.discard(connection)
            connection.detach()
        return ws

    async def _receive(self, connection: Connection, text: str) -> None:
        try:
            frame = json.loads(text)
            op, data = frame["op"], frame.get("d")
        except (ValueError, KeyError, TypeError):
            await connection.close(DECODE_ERROR)
            return
        if op == HEARTBEAT:
            self.heartbeats.append(data)
            if not self.withhold_acks:
                connection.send({"op": HEARTBEAT_ACK})
            self._changes.notify()
        elif op == IDENTIFY:
            await self._identify(connection, data)
        elif op == RESUME:
            await self._resume(connection, data)
        elif connection.session is None:
            await connection.close(NOT_AUTHENTICATED)
        elif op not in (PRESENCE, REQUEST_MEMBERS):
            self._problems.append(f"gateway received op {op}")
            await connection.close(UNKNOWN_OP)

    async def _identify(self, connection: Connection, data: Json) -> None:
        self.identifies.append(data)
        if connection.session is not None:
            await connection.close(ALREADY_AUTHENTICATED)
            return
        if data["token"] != self._backend.token:
            await connection.close(BAD_TOKEN, "Authentication failed.")
            return
        asked = int(data["intents"])
        if asked & intents.PRIVILEGED & ~self._backend.allowed_intents:
            await connection.close(DISALLOWED_INTENTS, "Disallowed intent(s).")
            return
        shard = tuple(data["shard"]) if "shard" in data else None
        if shard is None and self.require_shards:
            await connection.close(SHARDING_REQUIRED, "Sharding required.")
            return
        session = Session(f"session{len(self.sessions) + 1}", asked, shard)
        session.connection, connection.session = connection, session
        self.sessions.append(session)
        session.dispatch("READY", self._backend.ready_payload(session))
        for payload in self._backend.guild_payloads(session):
            session.dispatch("GUILD_CREATE", payload)
        self._changes.notify()

    async def _resume(self, connection: Connection, data: Json) -> None:
        self.resumes.append(data)
        if data["token"] != self._backend.token:
            await connection.close(BAD_TOKEN, "Authentication failed.")
            return
        for session in self.sessions:
            if session.id == data["session_id"] and session.valid:
                break
        else:
            connection.send({"op": INVALID_SESSION, "d": False})
            return
        if session.connection is not None:
            session.connection.drop()
        session.connection, connection.session = connection, session
        session.replay(int(data["seq"] or 0), self.overlap_on_resume)
        self._changes.notify()

    async def shut_down(self) -> None:
        for connection in list(self._connections):
            connection.drop()
