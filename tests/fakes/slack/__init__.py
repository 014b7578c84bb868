"""A Slack that runs on loopback: Web API, Socket Mode and signed HTTP, spoken on the wire.

The real slack-bolt and slack_sdk connect to it and run their own network code. Only
what the app under test may meet is modelled; a method nobody modelled fails the test.
"""

from tests.fakes.slack.faults import Faults
from tests.fakes.slack.server import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, FakeSlack
from tests.fakes.slack.workspace import Channel, Message, User

__all__ = [
    "APP_TOKEN",
    "BOT_TOKEN",
    "SIGNING_SECRET",
    "Channel",
    "FakeSlack",
    "Faults",
    "Message",
    "User",
]
