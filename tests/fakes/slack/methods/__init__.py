"""The Web API methods the fake knows; importing this package registers them all."""

from tests.fakes.slack.methods import assistant, chat, conversations, people, streams
from tests.fakes.slack.methods.registry import METHODS, Method, SlackError

__all__ = [
    "METHODS",
    "Method",
    "SlackError",
    "assistant",
    "chat",
    "conversations",
    "people",
    "streams",
]
