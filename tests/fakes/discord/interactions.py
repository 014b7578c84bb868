"""Slash commands: the event, the three seconds to acknowledge it, the token's fifteen minutes.

https://discord.com/developers/docs/interactions/receiving-and-responding
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.discord import mentions
from tests.fakes.discord.channels import check_content
from tests.fakes.discord.payloads import (
    ALL_PERMISSIONS,
    channel_payload,
    member_payload,
    user_payload,
)
from tests.fakes.discord.wire import (
    ApiError,
    Json,
    json_response,
    no_content,
    read_json,
    unknown,
)

if TYPE_CHECKING:
    from tests.fakes.discord.commands import Commands
    from tests.fakes.discord.entities import Channel, Message, User
    from tests.fakes.discord.world import World

APPLICATION_COMMAND = 2
PONG, CHANNEL_MESSAGE, DEFERRED_MESSAGE = 1, 4, 5
EPHEMERAL, LOADING = 64, 128
GUILD_CONTEXT, BOT_DM_CONTEXT = 0, 1


@dataclass(eq=False)
class Interaction:
    """One use of a slash command, as the person sees it.

    Attributes:
        response_type: None until acknowledged, then 4 (a message) or 5 (deferred).
        acknowledged_after: seconds from the event to the acknowledgement.
        ephemeral: only the person sees the answer.
        original: the answer; None while the bot "is thinking".
        followups: messages after the answer.
        opened: monotonic seconds of the event.
    """

    id: int
    token: str
    name: str
    channel: Channel
    user: User
    world: World = field(repr=False)
    opened: float = field(default_factory=time.monotonic)
    response_type: int | None = None
    acknowledged_after: float | None = None
    ephemeral: bool = False
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)

    @property
    def deferred(self) -> bool:
        return self.response_type == DEFERRED_MESSAGE

    async def wait_for_response(self, timeout: float = 20.0) -> Message:
        """The answer's message, once there is one."""
        return await self.world.changes.wait_for(
            lambda: self.original, timeout, f"an answer to /{self.name}"
        )


class Interactions:
    """Attributes: ``ack_seconds`` and ``token_seconds`` are Discord's limits, for tests to cut."""

    def __init__(self, world: World, commands: Commands) -> None:
        self.ack_seconds = 3.0
        self.token_seconds = 900.0
        self.opened: list[Interaction] = []
        self._world = world
        self._commands = commands

    def routes(self, prefix: str) -> list[web.RouteDef]:
        hook = prefix + "/webhooks/{application_id}/{token}"
        one = hook + "/messages/{message_id}"
        return [
            web.post(prefix + "/interactions/{interaction_id}/{token}/callback", self.callback),
            web.post(hook, self.followup),
            web.get(one, self.get_message),
            web.patch(one, self.edit_message),
            web.delete(one, self.delete_message),
        ]

    async def use(self, channel: Channel, user: User, name: str) -> Interaction:
        """A person picks the command from the list; it has to be registered to be there."""
        command = self._commands.registered.get(name)
        assert command is not None, f"/{name} is not registered, nobody can pick it"
        interaction = Interaction(
            self._world.ids.next(), secrets.token_hex(16), name, channel, user, self._world
        )
        self.opened.append(interaction)
        payload = self._payload(interaction, command)
        guild_id = channel.guild.id if channel.guild is not None else None
        self._world.gateway.dispatch(
            "INTERACTION_CREATE", lambda session: payload, guild_id=guild_id
        )
        await asyncio.sleep(0)
        return interaction

    def _payload(self, interaction: Interaction, command: Json) -> Json:
        world, channel, user = self._world, interaction.channel, interaction.user
        payload: Json = {
            "id": str(interaction.id),
            "application_id": str(world.application_id),
            "type": APPLICATION_COMMAND,
            "token": interaction.token,
            "version": 1,
            "data": {"id": command["id"], "name": command["name"], "type": command["type"]},
            "channel": channel_payload(channel, world.bot),
            "channel_id": str(channel.id),
            "app_permissions": ALL_PERMISSIONS,
            "locale": "en-US",
            "entitlements": [],
            "attachment_size_limit": 10 * 1024 * 1024,
        }
        if channel.guild is None:
            payload["user"] = user_payload(user)
            payload["context"] = BOT_DM_CONTEXT
            payload["authorizing_integration_owners"] = {"0": "0"}
            return payload
        guild_id = str(channel.guild.id)
        payload["guild_id"] = guild_id
        payload["guild"] = {"id": guild_id, "locale": "en-US", "features": []}
        payload["guild_locale"] = "en-US"
        payload["member"] = {**member_payload(user), "permissions": ALL_PERMISSIONS}
        payload["context"] = GUILD_CONTEXT
        payload["authorizing_integration_owners"] = {"0": guild_id}
        return payload

    async def callback(self, request: web.Request) -> web.Response:
        interaction = self._by_token(request.match_info["token"])
        waited = time.monotonic() - (interaction.opened if interaction else 0.0)
        if interaction is None or str(interaction.id) != request.match_info["interaction_id"]:
            raise unknown("Interaction")
        if interaction.response_type is not None:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        if waited > self.ack_seconds:
            raise unknown("Interaction")
        body = await read_json(request)
        data = body.get("data") or {}
        kind = int(body["type"])
        if kind not in (CHANNEL_MESSAGE, DEFERRED_MESSAGE):
            self._world.problems.append(f"interaction answered with type {kind}")
            raise ApiError(400, 50035, "Invalid Form Body")
        interaction.ephemeral = bool(int(data.get("flags", 0)) & EPHEMERAL)
        if kind == CHANNEL_MESSAGE:
            interaction.original = self._post(interaction, data)
        interaction.response_type = kind
        interaction.acknowledged_after = waited
        self._world.changes.notify()
        if request.query.get("with_response") not in ("1", "true"):
            return no_content()
        return json_response(self._callback_response(interaction, kind))

    def _callback_response(self, interaction: Interaction, kind: int) -> Json:
        about: Json = {"id": str(interaction.id), "type": APPLICATION_COMMAND}
        about["response_message_ephemeral"] = interaction.ephemeral
        about["response_message_loading"] = kind == DEFERRED_MESSAGE
        resource: Json = {"type": kind}
        if interaction.original is not None:
            about["response_message_id"] = str(interaction.original.id)
            resource["message"] = self._world.rest_message(interaction.original)
        return {"interaction": about, "resource": resource}

    def _post(
        self, interaction: Interaction, data: Json, *, ephemeral: bool | None = None
    ) -> Message:
        content = check_content(data.get("content"))
        allowed = data.get("allowed_mentions")
        mentions.validate(allowed)
        hidden = interaction.ephemeral if ephemeral is None else ephemeral
        return self._world.post(
            interaction.channel,
            self._world.bot,
            content,
            allowed=allowed,
            flags=EPHEMERAL if hidden else 0,
            interaction={
                "application_id": str(self._world.application_id),
                "metadata": {
                    "id": str(interaction.id),
                    "type": APPLICATION_COMMAND,
                    "user": user_payload(interaction.user),
                    "authorizing_integration_owners": {},
                },
            },
        )

    async def followup(self, request: web.Request) -> web.Response:
        """A further message; after a deferral the first one takes the answer's place."""
        interaction = self._live(request)
        body = await read_json(request)
        if interaction.original is None:
            message = interaction.original = self._post(interaction, body)
        else:
            flags = int(body.get("flags", 0))
            message = self._post(interaction, body, ephemeral=bool(flags & EPHEMERAL))
            interaction.followups.append(message)
        self._world.changes.notify()
        if request.query.get("wait") not in ("1", "true"):
            return no_content()
        return json_response(self._world.rest_message(message))

    async def get_message(self, request: web.Request) -> web.Response:
        return json_response(self._world.rest_message(self._message(self._live(request), request)))

    async def edit_message(self, request: web.Request) -> web.Response:
        interaction = self._live(request)
        body = await read_json(request)
        original = request.match_info["message_id"] == "@original"
        if original and interaction.original is None and interaction.deferred:
            interaction.original = self._post(interaction, body)
        elif "content" in body:
            message = self._message(interaction, request)
            content = check_content(body["content"])
            self._world.edit(message, content, body.get("allowed_mentions"))
        self._world.changes.notify()
        return json_response(self._world.rest_message(self._message(interaction, request)))

    async def delete_message(self, request: web.Request) -> web.Response:
        self._world.delete(self._message(self._live(request), request))
        return no_content()

    def _by_token(self, token: str) -> Interaction | None:
        return next((one for one in self.opened if one.token == token), None)

    def _live(self, request: web.Request) -> Interaction:
        interaction = self._by_token(request.match_info["token"])
        if interaction is None or interaction.response_type is None:
            raise unknown("Webhook")
        if time.monotonic() - interaction.opened > self.token_seconds:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        return interaction

    def _message(self, interaction: Interaction, request: web.Request) -> Message:
        wanted = request.match_info["message_id"]
        for message in (interaction.original, *interaction.followups):
            if message is None or message.deleted:
                continue
            if str(message.id) == wanted or (
                wanted == "@original" and message is interaction.original
            ):
                return message
        raise unknown("Message")
