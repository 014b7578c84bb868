"""A fake Discord: gateway and REST v10 on a loopback port, for the real discord.py client.

    async with FakeDiscord() as fake:
        channel = fake.add_guild().add_text_channel("general")
        alice = fake.add_user("alice")
        fake.patch(monkeypatch)
        ...                                       # start the real client with fake.token
        await fake.say(channel, alice, f"{fake.bot.mention} hello")
        reply = await fake.wait_for_message(channel)

It is strict where Discord is strict: length limits, missing permissions, interaction deadlines,
rate limits, intents. A route, an operation or a payload it does not know is written to
``fake.problems``, and leaving the ``async with`` block raises if anything is there.
"""

from tests.fakes.discord.entities import Channel, Guild, Message, Role, User
from tests.fakes.discord.faults import (
    CloudflareBan,
    Hang,
    LateResponse,
    LostResponse,
    RateLimited,
    Refusal,
    Reset,
    Status,
)
from tests.fakes.discord.interactions import Interaction
from tests.fakes.discord.patching import apply_environment, patch
from tests.fakes.discord.server import FakeDiscord

__all__ = [
    "Channel",
    "CloudflareBan",
    "FakeDiscord",
    "Guild",
    "Hang",
    "Interaction",
    "LateResponse",
    "LostResponse",
    "Message",
    "RateLimited",
    "Refusal",
    "Reset",
    "Role",
    "Status",
    "User",
    "apply_environment",
    "patch",
]
