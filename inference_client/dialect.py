"""What a server will not be sent, learnt from its refusals, so that it is refused only once.

Servers differ in what they take of a request: fields of OpenAI's that they do not know, names of
speakers, a system message, two turns of one role after each other. What they say when they refuse
differs as well; here it is read generously, since a wrong guess costs a field that is optional.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from .errors import Refused
from .messages import ChatMessage

__all__ = ["PLAIN", "Dialect", "learn"]

_NOT_ABOUT_CONTENT = (401, 403, 404, 413, 429)
_ALTERNATE = re.compile(
    r"alternat|roles? .*in a row|consecutive .*(role|message)|(first|last) (message|role)|"
    r"(start|begin)s? with (a|the)? ?user",
    re.IGNORECASE,
)
_SYSTEM = re.compile(r"\bsystem\b|only user and assistant", re.IGNORECASE)
_NAMES = re.compile(
    r"messages\W{0,4}\d+\W.{0,80}\bname\b|property '?name|\bname\b.{0,40}(pattern|messages)",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"un(supported|known|recognized|expected)|not (be )?(supported|permitted|allowed)|\bextra\b",
    re.IGNORECASE,
)
_OPTIONAL = (
    "stream_options",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "top_p",
    "temperature",
    "stop",
    "max_tokens",
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server wants to be spoken to.

    Attributes:
        without: fields of a request, and `name` of a message, that are left out.
        alternating: turns of one role after each other are sent as one, a person's first.
        no_system: the system message goes before the first words of a person.
    """

    without: frozenset[str] = frozenset()
    alternating: bool = False
    no_system: bool = False

    def __or__(self, other: Dialect) -> Dialect:
        return Dialect(
            self.without | other.without,
            self.alternating or other.alternating,
            self.no_system or other.no_system,
        )

    def spoken(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages as this server takes them; who spoke stays to be seen."""
        turns = list(messages)
        if "name" in self.without:
            several = len({turn.name for turn in turns if turn.name}) > 1
            turns = [replace(_labelled(turn) if several else turn, name=None) for turn in turns]
        if self.alternating:
            turns = _alternating(turns)
        return _without_system(turns) if self.no_system else turns

    def written(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request that this server takes."""
        kept = {name: value for name, value in body.items() if name not in self.without}
        if "max_tokens" in self.without and "max_tokens" in body:
            kept["max_completion_tokens"] = body["max_tokens"]
        return kept


PLAIN = Dialect()


def learn(
    refusal: Refused, spoken: Dialect, messages: Sequence[ChatMessage], fields: Mapping[str, Any]
) -> Dialect | None:
    """The dialect in which the same request may pass; None if its refusal names nothing to change.

    Args:
        refusal: what the server said.
        spoken: the dialect of the refused request.
        messages: as they were before they were put into it.
        fields: the request's other fields.
    """
    if refusal.status is None or refusal.status < 400 or refusal.status in _NOT_ABOUT_CONTENT:
        return None
    words = f"{refusal.field or ''} {refusal.message}"
    sent = spoken.spoken(messages)
    for name in _OPTIONAL:
        is_named = name == refusal.field or re.search(rf"\b{name}\b", words)
        is_unknown = name == "stream_options" or _UNKNOWN.search(words)
        if name in fields and name not in spoken.without and is_named and is_unknown:
            return replace(spoken, without=spoken.without | {name})
    if any(turn.name for turn in sent) and _NAMES.search(words):
        return replace(spoken, without=spoken.without | {"name"})
    is_about_order = bool(_ALTERNATE.search(words))
    if is_about_order and not spoken.alternating and _alternating(sent) != sent:
        return replace(spoken, alternating=True)
    has_system = any(turn.role == "system" for turn in sent)
    if has_system and (is_about_order or _SYSTEM.search(words)):
        return replace(spoken, no_system=True)
    return None


def _without_system(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    orders = "\n\n".join(turn.content for turn in turns if turn.role == "system")
    others = [turn for turn in turns if turn.role != "system"]
    if not orders:
        return others
    for position, turn in enumerate(others):
        if turn.role == "user":
            others[position] = replace(turn, content=f"{orders}\n\n{turn.content}")
            return others
    return [ChatMessage("user", orders), *others]


def _alternating(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Neighbours of one role as one turn, and none of the model's before the first person's."""
    roles = [turn.role for turn in turns]
    first = roles.index("user") if "user" in roles else 0
    kept = [turn for at, turn in enumerate(turns) if at >= first or turn.role != "assistant"]
    merged: list[ChatMessage] = []
    for _, group in groupby(kept, key=lambda turn: turn.role):
        run = list(group)
        if len({turn.name for turn in run}) > 1:
            run = [replace(_labelled(turn), name=None) for turn in run]
        merged.append(replace(run[0], content="\n".join(turn.content for turn in run)))
    return merged


def _labelled(turn: ChatMessage) -> ChatMessage:
    return replace(turn, content=f"{turn.name}: {turn.content}") if turn.name else turn
