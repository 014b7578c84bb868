"""Slash commands: `/reset`, `/forget-me`, `/about`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import discord
import structlog
from discord import app_commands

from bot import texts
from bot.errors import StoreFailed
from bot.platforms.discord.incoming import NAME, conversation_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bot.core.friend import Friend

_log = structlog.get_logger(__name__)

Interaction = discord.Interaction[Any]

_COMPARED = (
    "name",
    "type",
    "description",
    "options",
    "nsfw",
    "default_member_permissions",
    "contexts",
    "integration_types",
)


class FriendCommands(app_commands.CommandTree[Any]):
    """The commands, in servers and in DMs with friend, for servers that have added friend."""

    def __init__(self, client: discord.Client, friend: Friend) -> None:
        super().__init__(
            client,
            allowed_contexts=app_commands.AppCommandContext(
                guild=True, dm_channel=True, private_channel=False
            ),
            allowed_installs=app_commands.AppInstallationType(guild=True, user=False),
        )
        self._friend = friend
        self._add("reset", "Put our conversation here behind us and start afresh", self._reset)
        self._add("forget-me", "Erase what friend remembers of you, everywhere", self._forget_me)
        self._add("about", "What friend is, and what it keeps", self._about)

    async def sync_if_changed(self) -> bool:
        """Register the commands if Discord has others; return whether it had.

        A failure is only logged: friend works without slash commands, and the next start tries
        again. Discord allows 200 registrations a day.
        """
        try:
            registered = await self.client.http.get_global_commands(self._application_id)
            wanted = [command.to_dict(self) for command in self.get_commands()]
            if _normal(registered) == _normal(wanted):
                return False
            await self.sync()
        except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
            _log.warning("discord.commands_not_synced", error=str(error))
            return False
        _log.info("discord.commands_synced", commands=[command["name"] for command in wanted])
        return True

    async def on_error(self, interaction: Interaction, error: app_commands.AppCommandError) -> None:
        """Whatever went wrong, the log knows; the person has been told by Discord."""
        command = interaction.command.name if interaction.command else "unknown"
        _log.error("discord.command_failed", command=command, error=str(error), exc_info=error)

    @property
    def _application_id(self) -> int:
        application_id: int | None = self.client.application_id
        assert application_id is not None
        return application_id

    def _add(
        self, name: str, description: str, callback: Callable[[Interaction], Awaitable[None]]
    ) -> None:
        async def command(interaction: Interaction) -> None:
            await callback(interaction)

        self.add_command(app_commands.Command(name=name, description=description, callback=command))

    async def _reset(self, interaction: Interaction) -> None:
        """Seen by all, as it concerns all."""
        person = str(interaction.user.id)
        channel_id, guild_id = interaction.channel_id, interaction.guild_id

        async def reset() -> str:
            if channel_id is None:  # Discord described no channel that can be told apart
                return texts.WHERE_ARE_WE
            key = conversation_of(interaction.channel, channel_id, guild_id)
            return await self._friend.reset_for(key, person, is_direct=guild_id is None)

        await self._answer(interaction, reset, ephemeral=False)

    async def _forget_me(self, interaction: Interaction) -> None:
        person = str(interaction.user.id)
        await self._answer(interaction, lambda: self._friend.forget(NAME, person), ephemeral=True)

    async def _about(self, interaction: Interaction) -> None:
        async def about() -> str:
            return self._friend.about()

        await self._answer(interaction, about, ephemeral=True)

    async def _answer(
        self, interaction: Interaction, act: Callable[[], Awaitable[str]], *, ephemeral: bool
    ) -> None:
        """Acknowledge within Discord's 3 s, act, then say so.

        If the acknowledgement fails the command is still carried out: the person asked for it, and
        doing it twice does no harm.
        """
        try:
            await interaction.response.defer(ephemeral=ephemeral, thinking=True)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("discord.defer_failed", error=str(error))
        try:
            said = await act()
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            said = texts.HISTORY_DOWN
        try:
            await interaction.edit_original_response(
                content=said, allowed_mentions=discord.AllowedMentions.none()
            )
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.error("discord.command_unanswered", error=str(error))


def _normal(commands: Any) -> list[dict[str, object]]:
    """What of a command counts, without the ids and defaults that Discord adds when listing it."""
    rows = []
    for command in commands:
        row: dict[str, object] = {key: command.get(key) or None for key in _COMPARED}
        for key in ("contexts", "integration_types"):
            value = command.get(key)
            row[key] = sorted(value) if value is not None else None
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["name"]))
