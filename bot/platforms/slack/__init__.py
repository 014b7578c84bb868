"""Slack: Socket Mode by default, signed HTTP as an option."""

from bot.platforms.slack.manifest import app_manifest
from bot.platforms.slack.platform import SlackPlatform
from bot.platforms.slack.signin import Identity, check_tokens

__all__ = ["Identity", "SlackPlatform", "app_manifest", "check_tokens"]
