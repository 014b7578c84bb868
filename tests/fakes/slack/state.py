"""What every part of the fake shares: the workspace, its carriers, and the app's set-up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tests.fakes.slack import payloads
from tests.fakes.slack.clock import Clock
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.faults import Faults
from tests.fakes.slack.http_push import HttpPush
from tests.fakes.slack.limits import RateLimits
from tests.fakes.slack.methods.assistant import Statuses
from tests.fakes.slack.methods.registry import SlackError
from tests.fakes.slack.methods.streams import Streams
from tests.fakes.slack.socket_mode import SocketMode
from tests.fakes.slack.workspace import Channel, Message, User, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SIGNING_SECRET = "fake-signing-secret"

MESSAGE_EVENTS = {
    "channel": "message.channels",
    "group": "message.groups",
    "im": "message.im",
    "mpim": "message.mpim",
}

ALL_EVENTS = frozenset({"app_mention", "app_home_opened", *MESSAGE_EVENTS.values()})
ALL_SCOPES = frozenset(
    {
        "app_mentions:read",
        "assistant:write",
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "mpim:history",
        "mpim:read",
        "reactions:write",
        "team:read",
        "users:read",
    }
)


class State:
    """The workspace plus everything that a change in it sets off."""

    def __init__(
        self,
        *,
        transport: Literal["socket", "http"],
        ack_seconds: float,
        retry_delays: tuple[float, ...],
    ) -> None:
        self.clock = Clock()
        self.workspace = Workspace(self.clock)
        self.faults = Faults()
        self.limits = RateLimits(self.clock)
        self.statuses = Statuses(self.clock)
        self.streams = Streams()
        self.socket = SocketMode(ack_seconds=ack_seconds, retry_delays=retry_delays)
        self.http = HttpPush(
            signing_secret=SIGNING_SECRET, ack_seconds=ack_seconds, retry_delays=retry_delays
        )
        self.transport = transport
        self.events = set(ALL_EVENTS)
        self.scopes = set(ALL_SCOPES)
        self.commands: set[str] | None = None
        """Slash commands the app has registered; None allows any."""
        self.page_limit = 1000
        self.deliveries: list[Delivery] = []
        self.failures: list[str] = []
        self._carrying: set[asyncio.Task[None]] = set()
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def bot(self) -> User:
        return self.workspace.bot

    def install(self, manifest: dict[str, Any]) -> None:
        """Grant exactly what the app's manifest asks for, no scope or event more."""
        self.scopes = set(manifest["oauth_config"]["scopes"]["bot"])
        self.events = set(manifest["settings"]["event_subscriptions"]["bot_events"])
        self.commands = {
            entry["command"] for entry in manifest["features"].get("slash_commands", [])
        }

    def need_scope(self, *any_of: str) -> None:
        if self.scopes.isdisjoint(any_of):
            provided = ",".join(sorted(self.scopes))
            raise SlackError("missing_scope", needed=any_of[0], provided=provided)

    def fail(self, reason: str) -> None:
        """Remember something that must fail the test when the fake is closed."""
        self.failures.append(reason)

    # --- telling those who wait -----------------------------------------------------

    def tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(
        self, probe: Callable[[], T | None], timeout: float, what: Callable[[], str]
    ) -> T:
        """The first result of `probe` that is not None, or an AssertionError saying `what`."""
        try:
            async with asyncio.timeout(timeout):
                while (found := probe()) is None:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
                return found
        except TimeoutError:
            raise AssertionError(f"after {timeout} s: {what()}") from None

    # --- deliveries -----------------------------------------------------------------

    def send(self, delivery: Delivery) -> Delivery:
        """Start carrying `delivery` to the app."""
        self.deliveries.append(delivery)
        carrier = self.socket if self.transport == "socket" else self.http
        task = asyncio.get_running_loop().create_task(carrier.carry(delivery))
        self._carrying.add(task)
        task.add_done_callback(self._carried)
        return delivery

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._carrying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(f"a delivery could not be carried: {error!r}")
        self.tell()

    async def lose_deliveries(self) -> None:
        """Nobody was listening so far: what has not arrived yet never will."""
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def emit(self, event: dict[str, Any]) -> None:
        """Deliver `event` if the app is in the channel and subscribed to its kind."""
        kind = event["type"]
        channel = self.workspace.channels.get(event.get("channel", ""))
        if kind == "message" and channel is not None:
            kind = MESSAGE_EVENTS[channel.type]
        absent = channel is not None and self.bot.id not in channel.members
        if kind in self.events and not absent:
            body = payloads.event_callback(event, self.bot, self.clock.now())
            self.send(Delivery("events_api", body))

    def announce(self, message: Message) -> None:
        """The events of a new message: `message`, and `app_mention` beside it."""
        self.emit(payloads.posted(message))
        if self.bot.id in message.pings and message.channel.type != "im":
            self.emit(payloads.mentioned(message))
        self.tell()

    # --- what the app does to messages ------------------------------------------------

    def bot_posted(self, message: Message) -> None:
        self.statuses.app_posted(message)
        self.announce(message)

    def change(
        self,
        message: Message,
        text: str,
        *,
        markdown: bool | None = None,
        metadata: dict[str, Any] | None = None,
        edited: bool = True,
        attachments: list[dict[str, Any]] | None = None,
    ) -> None:
        previous = payloads.message_json(message)
        event_ts = self.clock.next_ts()
        message.text = text
        if attachments is not None:
            message.attachments = attachments
        if markdown is not None:
            message.markdown = markdown
        if metadata is not None:
            message.metadata = metadata
        if edited:
            message.edited_ts = event_ts
        self.emit(payloads.changed(message, previous, event_ts))
        self.tell()

    def remove(self, message: Message) -> None:
        message.deleted = True
        self.emit(payloads.deleted(message, self.clock.next_ts()))
        self.tell()

    def keep_ephemeral(self, channel: Channel, user_id: str, text: str, **fields: Any) -> Message:
        message = Message(
            channel, self.bot, self.clock.next_ts(), text, ephemeral_for=user_id, **fields
        )
        self.workspace.ephemerals.append(message)
        self.tell()
        return message
