"""Discord, by discord.py: `platform.DiscordPlatform` hears and speaks for the core.

Importing this package loads nothing, so that a process without Discord does not pay for it.
"""
