"""The terminal: a chat window on a screen, and a plain filter in a pipe."""

from bot.platforms.terminal.run import run_chat

__all__ = ["run_chat"]
