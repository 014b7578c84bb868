"""Logging, metrics and health of the bot process."""
