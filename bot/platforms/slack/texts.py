"""What only Slack shows in friend's name."""

from __future__ import annotations

STATUS = "is thinking…"
"""Slack puts friend's name before it."""

DESCRIPTION = "A small chat companion that costs nothing when nobody talks."
AGENT_DESCRIPTION = "Somebody to chat with, run by a small RWKV model."
PROMPTS = {
    "Say hello": "Hi friend, how are you?",
    "Talk about music": "What music do you like?",
}
"""Suggested first messages by their title."""

RESET_COMMAND = "Put friend's conversations in this channel behind you"
FORGET_COMMAND = "Erase what friend remembers of you, everywhere"
RESET_SHORTCUT_NAME = "Start over with friend"
RESET_SHORTCUT = "Put this conversation with friend behind you"
