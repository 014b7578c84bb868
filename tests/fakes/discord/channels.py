"""Channels and messages over REST.

https://discord.com/developers/docs/resources/message
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.discord import mentions
from tests.fakes.discord.payloads import channel_payload, user_payload
from tests.fakes.discord.wire import (
    ApiError,
    Json,
    invalid_form,
    json_response,
    missing_access,
    missing_permissions,
    no_content,
    read_json,
    unknown,
)

if TYPE_CHECKING:
    from tests.fakes.discord.entities import Channel, Message
    from tests.fakes.discord.world import World

MAX_LENGTH = 2000
MAX_NONCE = 25


def check_content(content: object, *, empty_allowed: bool = False) -> str:
    """Discord's rules for a message's text: 50035 over 2000 characters, 50006 when empty."""
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise invalid_form("content", "BASE_TYPE_STRING", "Could not interpret as string.")
    if len(content) > MAX_LENGTH:
        text = f"Must be {MAX_LENGTH} or fewer in length."
        raise invalid_form("content", "BASE_TYPE_MAX_LENGTH", text)
    if not content.strip() and not empty_allowed:
        raise ApiError(400, 50006, "Cannot send an empty message")
    return content.strip()


class ChannelRoutes:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self, prefix: str) -> list[web.RouteDef]:
        one = prefix + "/channels/{channel_id}"
        messages = one + "/messages"
        return [
            web.get(prefix + "/users/@me", self.me),
            web.get(prefix + "/oauth2/applications/@me", self.application),
            web.get(prefix + "/gateway/bot", self.gateway_bot),
            web.post(prefix + "/users/@me/channels", self.open_dm),
            web.get(prefix + "/users/{user_id}", self.user),
            web.get(one, self.get_channel),
            web.post(one + "/typing", self.typing),
            web.put(one + "/thread-members/@me", self.join_thread),
            web.get(messages, self.history),
            web.post(messages, self.create),
            web.get(messages + "/{message_id}", self.get_message),
            web.patch(messages + "/{message_id}", self.edit),
            web.delete(messages + "/{message_id}", self.delete),
        ]

    async def me(self, request: web.Request) -> web.Response:
        return json_response({**user_payload(self._world.bot), "mfa_enabled": True})

    async def application(self, request: web.Request) -> web.Response:
        world = self._world
        body: Json = {
            "id": str(world.application_id),
            "name": world.bot.name,
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "0" * 64,
            "flags": world.application_flags,
            "owner": user_payload(world.owner),
            "team": None,
        }
        return json_response(body)

    async def gateway_bot(self, request: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
        url = self._world.base_url.replace("http", "ws") + "/gateway"
        return json_response({"url": url, "shards": 1, "session_start_limit": limit})

    async def user(self, request: web.Request) -> web.Response:
        found = self._world.users.get(int(request.match_info["user_id"]))
        if found is None:
            raise unknown("User")
        return json_response(user_payload(found))

    async def open_dm(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        recipient = self._world.users.get(int(body["recipient_id"]))
        if recipient is None:
            raise unknown("User")
        return json_response(channel_payload(self._world.dm(recipient), self._world.bot))

    async def get_channel(self, request: web.Request) -> web.Response:
        return json_response(channel_payload(self._channel(request), self._world.bot))

    async def typing(self, request: web.Request) -> web.Response:
        channel = self._sendable(request)
        self._world.typing.append((channel, self._world.bot, time.monotonic()))
        self._world.changes.notify()
        return no_content()

    async def join_thread(self, request: web.Request) -> web.Response:
        thread = self._channel(request)
        if self._world.bot not in thread.members:
            self._world.join_thread(thread, self._world.bot)
        return no_content()

    async def history(self, request: web.Request) -> web.Response:
        """Newest first, at most 100; ``after`` takes the oldest ones behind its id.

        Without the permission there is no error, only nothing. Nonces are not stored.
        """
        query = request.query
        limit = int(query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise invalid_form("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 100.")
        channel = self._channel(request)
        readable = [] if "history" in channel.denied else channel.posted()
        newest_first = sorted((m for m in readable if not m.ephemeral), key=lambda m: -m.id)
        if "before" in query:
            page = [m for m in newest_first if m.id < int(query["before"])][:limit]
        elif "after" in query:
            page = [m for m in newest_first if m.id > int(query["after"])][-limit:]
        elif "around" in query:
            page = around(newest_first, int(query["around"]), limit)
        else:
            page = newest_first[:limit]
        return json_response([self._world.rest_message(message) for message in page])

    async def create(self, request: web.Request) -> web.Response:
        channel = self._sendable(request)
        body = await read_json(request)
        content = check_content(body.get("content"))
        allowed = body.get("allowed_mentions")
        mentions.validate(allowed)
        nonce = body.get("nonce")
        if nonce is not None and len(str(nonce)) > MAX_NONCE:
            text = f"Must be {MAX_NONCE} or fewer in length."
            raise invalid_form("nonce", "NONCE_TYPE_MAX_LENGTH", text)
        message = self._with_nonce(channel, nonce) if body.get("enforce_nonce") else None
        if message is None:
            reference = self._reference(channel, body.get("message_reference"))
            message = self._world.post(
                channel,
                self._world.bot,
                content,
                nonce=None if nonce is None else str(nonce),
                reference=reference,
                allowed=allowed,
                flags=int(body.get("flags", 0)),
            )
        return json_response({**self._world.rest_message(message), **_nonce(nonce)})

    def _with_nonce(self, channel: Channel, nonce: object) -> Message | None:
        """An earlier message of the bot's with this nonce, if it is recent: no second post.

        If it was deleted meanwhile there is still no second post, but an error:
        https://github.com/discord/discord-api-docs/pull/6647
        """
        since = time.monotonic() - self._world.nonce_memory
        for message in channel.messages.values():
            recent = message.versions[0][0] >= since
            if recent and message.nonce is not None and message.nonce == str(nonce):
                if message.deleted:
                    raise unknown("Message")
                return message
        return None

    def _reference(self, channel: Channel, data: Json | None) -> Message | None:
        if data is None:
            return None
        if "history" in channel.denied:
            text = "Cannot reply without permission to read message history"
            raise ApiError(403, 160002, text)
        message = channel.messages.get(int(data["message_id"]))
        if message is not None and not message.deleted:
            return message
        if data.get("fail_if_not_exists", True):
            raise invalid_form("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
        return None

    async def get_message(self, request: web.Request) -> web.Response:
        return json_response(self._world.rest_message(self._message(request)))

    async def edit(self, request: web.Request) -> web.Response:
        message = self._message(request)
        if message.author is not self._world.bot:
            raise ApiError(403, 50005, "Cannot edit a message authored by another user")
        body = await read_json(request)
        allowed = body.get("allowed_mentions")
        mentions.validate(allowed)
        if "content" in body:
            self._world.edit(message, check_content(body["content"]), allowed)
        return json_response(self._world.rest_message(message))

    async def delete(self, request: web.Request) -> web.Response:
        message = self._message(request)
        if message.author is not self._world.bot:
            raise missing_permissions()
        self._world.delete(message)
        return no_content()

    def _channel(self, request: web.Request) -> Channel:
        channel = self._world.channel(int(request.match_info["channel_id"]))
        if channel is None:
            raise unknown("Channel")
        if "view" in channel.denied:
            raise missing_access()
        return channel

    def _sendable(self, request: web.Request) -> Channel:
        channel = self._channel(request)
        if "send" in channel.denied:
            raise missing_permissions()
        if channel.recipient is not None and channel.recipient.dms_closed:
            raise ApiError(403, 50007, "Cannot send messages to this user")
        return channel

    def _message(self, request: web.Request) -> Message:
        message = self._channel(request).messages.get(int(request.match_info["message_id"]))
        if message is None or message.deleted:
            raise unknown("Message")
        return message


def _nonce(nonce: object) -> Json:
    return {} if nonce is None else {"nonce": nonce}


def around(newest_first: list[Message], target: int, limit: int) -> list[Message]:
    """Half the limit on each side of ``target``, newest first."""
    newer = [m for m in newest_first if m.id > target]
    rest = [m for m in newest_first if m.id <= target]
    half = limit // 2
    return ((newer[-half:] if half else []) + rest)[:limit]
