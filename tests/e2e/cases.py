"""Cases that are the same on every platform."""

from __future__ import annotations

from tests.fakes.strict import characters, llama_cpp_length, openai_length, own_length, tokens

LENGTHS = [
    (own_length, 3000, tokens),
    (openai_length, 1000, characters),
    (llama_cpp_length, 1000, characters),
]
"""How a server refuses what is too long, from what length on, and what it counts."""

SPEAKERS = [
    ('```yaml\nuser: "1000"\n```', '```yaml\nuser: "1000"\n```'),
    ("A joke:\nYou: knock\nMe: who?", "A joke:\nYou: knock\nMe: who?"),
    ("I like it.\nUser: me too", "I like it."),
    ("Nice!\nAlice: thanks", "Nice!"),
    ("Nice!\nFriend: and you?", "Nice!"),
]
"""What the model makes where it may speak for somebody, and what is posted of it."""

UNLIMITED = {"FRIEND_ACCESS_PERSON_PER_MINUTE": "0", "FRIEND_ACCESS_CHANNEL_PER_MINUTE": "0"}
"""Settings under which nobody is held back."""
