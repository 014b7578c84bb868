"""Gateway intents: which bits are privileged, and which bit an event needs.

https://discord.com/developers/docs/events/gateway#gateway-intents
"""

from __future__ import annotations

GUILDS = 1 << 0
GUILD_MEMBERS = 1 << 1
GUILD_PRESENCES = 1 << 8
GUILD_MESSAGES = 1 << 9
GUILD_MESSAGE_TYPING = 1 << 11
DIRECT_MESSAGES = 1 << 12
DIRECT_MESSAGE_TYPING = 1 << 14
MESSAGE_CONTENT = 1 << 15

PRIVILEGED = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT


def needed(event: str, *, in_guild: bool) -> int:
    """The bit without which ``event`` is not sent; 0 for events that every session gets."""
    if event.startswith("MESSAGE_"):
        return GUILD_MESSAGES if in_guild else DIRECT_MESSAGES
    if event == "TYPING_START":
        return GUILD_MESSAGE_TYPING if in_guild else DIRECT_MESSAGE_TYPING
    if event.startswith(("GUILD_", "CHANNEL_", "THREAD_")):
        return GUILDS if in_guild else 0
    return 0
