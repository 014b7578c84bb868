"""What was said in a channel, read over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discord.abc import MessageableChannel

_log = structlog.get_logger(__name__)

_PAGE = 100


async def read_history(
    client: discord.Client, channel: MessageableChannel, *, after: int, limit: int
) -> list[discord.Message]:
    """The messages of a channel after one, oldest first, `limit` at most.

    A message that discord.py cannot parse is left out, which its own `history` would end over.

    Raises:
        discord.HTTPException: Discord does not give them.
    """
    found: list[discord.Message] = []
    seen = 0
    while seen < limit:
        wanted = min(_PAGE, limit - seen)
        page = await client.http.logs_from(channel.id, wanted, after=after)
        found += _parsed(client, channel, page)
        seen += len(page)
        if len(page) < wanted:
            break
        after = max(int(raw["id"]) for raw in page)
    return found


async def read_earlier(
    client: discord.Client, channel: MessageableChannel, *, before: int, limit: int
) -> list[discord.Message]:
    """The last messages before one, oldest first, `limit` (up to 100) at most, read likewise."""
    page = await client.http.logs_from(channel.id, limit, before=before)
    return _parsed(client, channel, page)


def _parsed(
    client: discord.Client, channel: MessageableChannel, page: Sequence[Any]
) -> list[discord.Message]:
    found: list[discord.Message] = []
    for raw in sorted(page, key=lambda raw: int(raw["id"])):
        try:
            message = client._connection.create_message(channel=channel, data=raw)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the others are not
            _log.exception("discord.message_unreadable", channel=channel.id, message=raw["id"])
        else:
            found.append(message)
    return found
