"""Made-up conversations: enough to see that training works, where there is no corpus."""

from __future__ import annotations

import json
import random
from pathlib import Path

_THINGS = ["soup", "bread", "apples", "music", "rain", "books", "trains", "dogs", "tea", "snow"]
_PLACES = ["kitchen", "garden", "city", "park", "station", "library"]
_OPENINGS = ("do you like {a}?", "tell me about {a}.", "what do you think of {a}?", "hi, any {a}?")
_REPLIES = (
    "yes, I like {a} in the {p}.",
    "{a}? there is some in the {p}.",
    "I had {a} and {b} in the {p} today.",
)
_QUESTIONS = ("why is that?", "and {b}?", "where was it?", "really, {a}?")
_ENDINGS = ("because {b} goes with {a}.", "in the {p}, with {b}.", "yes, and {b} as well.")


def sample_conversations(count: int, *, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of four messages, each {"role": ..., "content": ...}."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    conversations = []
    for _ in range(count):
        a, b = draw.sample(_THINGS, 2)
        words = {"a": a, "b": b, "p": draw.choice(_PLACES)}
        forms = map(draw.choice, (_OPENINGS, _REPLIES, _QUESTIONS, _ENDINGS))
        turns = [form.format(**words) for form in forms]
        roles = ("user", "assistant") * 2
        conversations.append(
            [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
        )
    return conversations


def write_sample(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write `sample_conversations` as chat JSON Lines."""
    lines = [json.dumps({"messages": one}) for one in sample_conversations(count, seed=seed)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
