"""Scenarios on Discord: discord.py, the core, SQLite and httpx against the fakes."""
