"""Who am I: questions about friend's character, each asked at the start of a conversation."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from finetuning.data.talk_checks import never_said

_QUESTIONS = Path(__file__).with_name("who_am_i.toml")
_ANY_CASE = re.IGNORECASE


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what answers to it look like."""

    asks: str
    right: re.Pattern[str]
    wrong: tuple[re.Pattern[str], ...]

    def accepts(self, reply: str) -> bool:
        """Whether a reply says what friend is, and nothing that it is not."""
        return bool(self.right.search(reply)) and not any(one.search(reply) for one in self.wrong)


@cache
def questions() -> tuple[Question, ...]:
    """All questions."""
    content = tomllib.loads(_QUESTIONS.read_text("utf-8"))
    return tuple(
        Question(
            one["asks"],
            re.compile(one["right"], _ANY_CASE),
            (*never_said(), *([re.compile(one["wrong"], _ANY_CASE)] if "wrong" in one else [])),
        )
        for one in content["question"]
    )


def judged(replies: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The share of right answers. `replies`: those to each of `questions`, a time or more."""
    asked = list(zip(questions(), replies, strict=True))
    right = [one.accepts(reply) for one, some in asked for reply in some]
    missed = [
        {"question": one.asks, "reply": reply}
        for one, some in asked
        for reply in some
        if not one.accepts(reply)
    ]
    return {
        "questions": len(asked),
        "answers": len(right),
        "right": round(sum(right) / len(right), 4),
        "missed": missed,
    }
