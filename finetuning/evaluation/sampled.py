"""Conversations with a model as people would have them: sampled by the server, guards and all.

The user's turns are those of one speaker of a held-out conversation, word for word and whatever
the model answers: real openings, real changes of subject, the same for every model.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.data.corpus import Conversation
from finetuning.errors import EvaluationError
from lambda_inference.serving.host import host_for
from lambda_inference.serving.service import HttpRequest, Service
from lambda_inference.settings import ModelSettings, ServerSettings

Script = tuple[str, ...]
"""What the user says, turn by turn."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user says, and the reply to it."""

    user: str
    reply: str
    cut_off: bool = False
    """Whether the reply was ended by the limit of tokens."""


def scripts(
    conversations: Sequence[Conversation], count: int, turns: int, *, seed: int = 0
) -> list[Script]:
    """The first speaker's turns of `count` conversations that have `turns` of them.

    Sources take turns, so that each is there; which of its conversations, the seed decides.

    Raises:
        EvaluationError: too few conversations are long enough.
    """
    by_source: dict[str, list[Script]] = defaultdict(list)
    for conversation in conversations:
        said = conversation.turns[: 2 * turns - 1 : 2]
        if len(said) == turns:
            by_source[conversation.source].append(said)
    draw = random.Random(seed)  # noqa: S311
    waiting = [draw.sample(some, len(some)) for _, some in sorted(by_source.items())]
    if sum(map(len, waiting)) < count:
        raise EvaluationError(
            f"The data holds {sum(map(len, waiting))} conversations in which a speaker has {turns} "
            f"turns, and {count} are needed. Ask for fewer samples or turns."
        )
    found: list[Script] = []
    while len(found) < count:
        for some in waiting:
            if some and len(found) < count:
                found.append(some.pop())
    return found


def converse(
    model: Path,
    said: Sequence[Script],
    *,
    seed: int = 0,
    settings: ServerSettings | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[list[Exchange]]:
    """Have the conversations, each with the whole history, by the server's code in this process.

    `settings` None means the server's own: temperature, top-p, penalties, the length of a reply.
    `done` is called after each reply.

    Raises:
        EvaluationError: the server refused; the text is its own.
    """
    settings = settings or ServerSettings()
    host = host_for(settings, ModelSettings(file=str(model)))
    service = Service(settings, host)
    conversations: list[list[Exchange]] = []
    try:
        for number, script in enumerate(said):
            exchanges: list[Exchange] = []
            for turn, words in enumerate(script):
                reply, reason = _ask(service, exchanges, words, _seed(seed, number, turn))
                exchanges.append(Exchange(words, reply, reason == "length"))
                done()
            conversations.append(exchanges)
    finally:
        host.close()
    return conversations


def _ask(
    service: Service, before: Sequence[Exchange], words: str, seed: int
) -> tuple[str, str | None]:
    messages: list[dict[str, str]] = []
    for exchange in before:
        messages += [
            {"role": "user", "content": exchange.user},
            {"role": "assistant", "content": exchange.reply},
        ]
    messages.append({"role": "user", "content": words})
    body = json.dumps({"model": "friend", "messages": messages, "seed": seed}).encode()
    request = HttpRequest("POST", "/v1/chat/completions", {}, body, trusted=True)
    response = service.handle(request)
    assert isinstance(response.body, bytes)
    answer: dict[str, Any] = json.loads(response.body)
    if response.status != 200:
        raise EvaluationError(f"The model server refused: {answer['error']['message']}")
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def _seed(seed: int, conversation: int, turn: int) -> int:
    return (seed * 1_000_003 + conversation * 1009 + turn) % 2**31
