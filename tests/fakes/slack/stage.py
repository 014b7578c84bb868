"""What people do: they join, talk, edit, delete, use commands, shortcuts and buttons."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.slack import payloads
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.state import State
from tests.fakes.slack.workspace import TEAM_ID

if TYPE_CHECKING:
    from tests.fakes.slack.workspace import Channel, ChannelType, Message, User

RESPONSE_URL_USES = 5
RESPONSE_URL_SECONDS = 30 * 60.0


class SlashUnavailableError(Exception):
    """Slack itself refuses the command here: in a thread, or in an agent's messages tab."""


@dataclass
class ResponseUrl:
    """Where the app may answer an interaction: five times within half an hour."""

    channel: Channel
    user: User
    thread_ts: str | None
    created: float
    uses: int = 0


class Stage(State):
    """The people's side of the workspace."""

    base_url: str

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._response_urls: dict[str, ResponseUrl] = {}
        self.agent_view = True

    # --- people and places ------------------------------------------------------------

    def add_user(self, name: str, display_name: str | None = None, *, team: str = TEAM_ID) -> User:
        return self.workspace.add_user(name, display_name, team=team)

    def add_bot(self, name: str) -> User:
        return self.workspace.add_bot(name)

    def add_channel(
        self, name: str, members: list[User] | None = None, *, kind: ChannelType = "channel"
    ) -> Channel:
        """A channel with `members`; the bot is in it unless members are given without it."""
        return self.workspace.add_channel(name, members or [self.bot], kind)

    def dm(self, user: User) -> Channel:
        """The one direct-message channel between `user` and the bot."""
        for channel in self.workspace.channels.values():
            if channel.type == "im" and user.id in channel.members:
                return channel
        return self.workspace.add_channel(user.name, [user, self.bot], "im")

    def join(self, channel: Channel, user: User) -> None:
        channel.members.add(user.id)

    # --- talking ----------------------------------------------------------------------

    async def say(
        self,
        channel: Channel,
        user: User,
        text: str,
        *,
        thread: Message | None = None,
        files: list[dict[str, Any]] | None = None,
        subtype: str | None = None,
        **more: Any,
    ) -> Message:
        """`user` posts; the app hears of it as `message` and, if named, `app_mention` too.

        `more` may be `blocks`, `attachments`, or an app's `username`.
        """
        channel.members.add(user.id)
        message = self.workspace.post(
            channel,
            user,
            text,
            thread_ts=thread.root_ts if thread else None,
            files=files or [],
            subtype="file_share" if files else subtype,
            **more,
        )
        self.statuses.person_spoke(message)
        self.announce(message)
        return message

    async def edit(self, message: Message, text: str) -> None:
        """Edit; an edit that names the app for the first time makes an app_mention too."""
        named_before = self.bot.id in message.pings
        self.change(message, text)
        names_now = self.bot.id in message.pings and message.channel.type != "im"
        if names_now and not named_before:
            self.emit(payloads.mentioned(message))

    async def share(
        self, channel: Channel, user: User, message: Message, text: str = "", **more: Any
    ) -> Message:
        """`user` shares a message, perhaps with words of their own."""
        return await self.say(channel, user, text, attachments=[payloads.shared(message)], **more)

    async def unfurl(self, message: Message, attachment: dict[str, Any] | None = None) -> None:
        """Slack attaches a link preview: message_changed with the same text, not edited."""
        self.change(
            message, message.text, edited=False, attachments=[attachment] if attachment else None
        )

    async def delete(self, message: Message) -> None:
        self.remove(message)

    async def open_home(self, user: User, tab: str = "home") -> None:
        self.emit(
            {
                "type": "app_home_opened",
                "user": user.id,
                "channel": self.dm(user).id,
                "tab": tab,
                "event_ts": self.clock.next_ts(),
            }
        )

    def deliveries_of(self, message: Message) -> list[Delivery]:
        return [
            delivery
            for delivery in self.deliveries
            if delivery.kind == "events_api"
            and delivery.payload["event"].get("ts") == message.ts
            and delivery.payload["event"].get("channel") == message.channel.id
        ]

    async def redeliver(self, message: Message) -> list[Delivery]:
        """Send the message's events once more, event ids unchanged, as after a lost ack."""
        again = [Delivery(old.kind, old.payload) for old in self.deliveries_of(message)]
        for delivery in again:
            self.send(delivery)
            await delivery.done.wait()
        return again

    # --- commands, shortcuts, buttons ---------------------------------------------------

    async def slash(
        self,
        channel: Channel,
        user: User,
        command: str,
        *,
        thread: Message | None = None,
    ) -> Delivery:
        """`user` types `/name text`; returns when the app has acknowledged, or has not.

        Raises SlashUnavailableError where Slack offers no commands.
        """
        name, _, text = command.partition(" ")
        if thread is not None or (channel.type == "im" and self.agent_view):
            raise SlashUnavailableError(f"{name} is not supported in threads. Sorry!")
        if self.commands is not None and name not in self.commands:
            raise SlashUnavailableError(f"{name} is not a valid command")
        url = self._response_url(channel, user, None)
        form = payloads.command(channel, user, name, text, url)
        return await self._interact(Delivery("slash_commands", form), channel, user, None)

    async def shortcut(self, message: Message, user: User, callback_id: str) -> Delivery:
        """`user` picks a message shortcut from the message's menu."""
        url = self._response_url(message.channel, user, message.thread_ts)
        body = payloads.message_shortcut(message, user, callback_id, url)
        return await self._interact(
            Delivery("interactive", body), message.channel, user, message.thread_ts
        )

    async def click(self, message: Message, user: User, action_id: str) -> Delivery:
        """`user` presses the button `action_id` that the message carries."""
        action = _find_button(message.blocks or [], action_id)
        if action is None:
            raise AssertionError(f"no button {action_id!r} in {message.blocks!r}")
        url = self._response_url(message.channel, user, message.thread_ts)
        body = payloads.button_click(message, user, action, url)
        return await self._interact(
            Delivery("interactive", body), message.channel, user, message.thread_ts
        )

    async def _interact(
        self, delivery: Delivery, channel: Channel, user: User, thread_ts: str | None
    ) -> Delivery:
        self.send(delivery)
        await delivery.done.wait()
        if delivery.answer:
            self._respond(delivery.answer, channel, user, thread_ts)
        return delivery

    def _response_url(self, channel: Channel, user: User, thread_ts: str | None) -> str:
        key = secrets.token_hex(8)
        self._response_urls[key] = ResponseUrl(channel, user, thread_ts, self.clock.now())
        return f"{self.base_url}/respond/{key}"

    async def handle_response_url(self, request: web.Request) -> web.Response:
        """Serve `POST /respond/<key>`."""
        where = self._response_urls.get(request.match_info["key"])
        if where is None or self.clock.now() - where.created > RESPONSE_URL_SECONDS:
            return web.json_response({"ok": False, "error": "expired_url"}, status=404)
        where.uses += 1
        if where.uses > RESPONSE_URL_USES:
            return web.json_response({"ok": False, "error": "used_url"}, status=404)
        self._respond(await request.json(), where.channel, where.user, where.thread_ts)
        return web.json_response({"ok": True})

    def _respond(
        self, answer: dict[str, Any], channel: Channel, user: User, thread_ts: str | None
    ) -> None:
        text = answer.get("text") or ""
        if answer.get("response_type") == "in_channel":
            fields = {"thread_ts": thread_ts, "blocks": answer.get("blocks")}
            self.bot_posted(self.workspace.post(channel, self.bot, text, **fields))
        else:
            self.keep_ephemeral(
                channel, user.id, text, thread_ts=thread_ts, blocks=answer.get("blocks")
            )


def _find_button(blocks: list[dict[str, Any]], action_id: str) -> dict[str, Any] | None:
    for block in blocks:
        for element in [*block.get("elements", []), block.get("accessory", {})]:
            if element.get("action_id") == action_id:
                return {
                    "type": element.get("type", "button"),
                    "action_id": action_id,
                    "block_id": block.get("block_id", ""),
                    "value": element.get("value", ""),
                    "action_ts": "0",
                }
    return None
