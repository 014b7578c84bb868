"""Application commands over REST: what ``CommandTree.sync`` and ``fetch_commands`` talk to.

https://discord.com/developers/docs/interactions/application-commands
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.discord.wire import Json, invalid_form, json_response, no_content, unknown

if TYPE_CHECKING:
    from tests.fakes.discord.world import World

_NAME = re.compile(r"^[-_'\w]{1,32}$")
MAX_GLOBAL_COMMANDS = 100


class Commands:
    """The registered global commands.

    Attributes:
        registered: payloads as Discord would list them, by name.
        writes: how many requests changed them.
    """

    def __init__(self, world: World) -> None:
        self.registered: dict[str, Json] = {}
        self.writes = 0
        self._world = world

    def routes(self, prefix: str) -> list[web.RouteDef]:
        base = prefix + "/applications/{application_id}/commands"
        return [
            web.get(base, self.list),
            web.put(base, self.overwrite),
            web.post(base, self.create),
            web.delete(base + "/{command_id}", self.delete),
        ]

    async def list(self, request: web.Request) -> web.Response:
        return json_response(list(self.registered.values()))

    async def overwrite(self, request: web.Request) -> web.Response:
        body = await request.json()
        if len(body) > MAX_GLOBAL_COMMANDS:
            raise invalid_form("commands", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer.")
        self.registered = {data["name"]: self._build(data) for data in body}
        self._written()
        return json_response(list(self.registered.values()))

    async def create(self, request: web.Request) -> web.Response:
        data = await request.json()
        self.registered[data["name"]] = built = self._build(data)
        self._written()
        return json_response(built, status=201)

    async def delete(self, request: web.Request) -> web.Response:
        for name, command in self.registered.items():
            if command["id"] == request.match_info["command_id"]:
                del self.registered[name]
                self._written()
                return no_content()
        raise unknown("Application Command")

    def _written(self) -> None:
        self.writes += 1
        self._world.changes.notify()

    def _build(self, data: Json) -> Json:
        """Check a command and list it as Discord does, which fills in the defaults."""
        kind = data.get("type", 1)
        name, description = data["name"], data.get("description", "")
        if kind == 1 and (not _NAME.match(name) or name != name.lower()):
            text = "Command name is invalid"
            raise invalid_form("0.name", "APPLICATION_COMMAND_INVALID_NAME", text)
        if kind == 1 and not 1 <= len(description) <= 100:
            text = "Must be between 1 and 100 in length."
            raise invalid_form("0.description", "BASE_TYPE_BAD_LENGTH", text)
        old = self.registered.get(name)
        built: Json = {
            "id": old["id"] if old else str(self._world.ids.next()),
            "application_id": str(self._world.application_id),
            "version": str(self._world.ids.next()),
            "name": name,
            "description": description,
            "type": kind,
            "default_member_permissions": data.get("default_member_permissions"),
            "nsfw": data.get("nsfw", False),
            "integration_types": data.get("integration_types") or [0],
            "contexts": data.get("contexts"),
            "dm_permission": data.get("dm_permission", True),
        }
        if data.get("options"):
            built["options"] = data["options"]
        return built
