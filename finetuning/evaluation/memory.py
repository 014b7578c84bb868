"""Memory: a fact is told and, after some other exchanges, asked back; the answer must name it.

The user's lines are fixed and friend's own replies stand between them. Half of the facts stand in
no talk that friend learns from, so that knowing the lists by heart does not help.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetuning.data.chance import one_of

BETWEEN = (0, 1, 2, 3)
"""Exchanges between the telling and the asking back."""

_FACTS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("my name is {}", "hi, i'm {}", "you can call me {}"),
        ("what is my name?", "do you remember my name?", "whats my name again"),
        ("Anna", "Felix", "Nora", "Omar", "Svetlana", "Bartholomew", "Kimberly", "Tadeo"),
    ),
    (
        ("i live in {}", "i'm from {}", "i live in {} with my family"),
        ("where do i live?", "which city am i from?", "do you know where i live?"),
        ("Berlin", "Lisbon", "Chicago", "Oslo", "Timbuktu", "Ulm", "Fresno", "Antwerp"),
    ),
    (
        ("i have a dog called {}", "my cat is called {}", "my rabbit's name is {}"),
        ("what is my pet called?", "do you know my pet's name?", "whats the name of my pet?"),
        ("Luna", "Biscuit", "Milo", "Pepper", "Zeppelin", "Gherkin", "Sultan", "Porridge"),
    ),
    (
        ("my favourite food is {}", "i love {} more than all else", "i could eat {} every day"),
        ("what is my favourite food?", "what food do i like best?", "which food do i love?"),
        ("pizza", "soup", "pancakes", "curry", "artichokes", "sauerkraut", "tempura", "fondue"),
    ),
    (
        ("my favourite colour is {}", "i like the colour {} best", "{} is my favourite colour"),
        ("what is my favourite colour?", "which colour do i like best?", "whats my fav colour"),
        ("green", "purple", "orange", "yellow", "crimson", "teal", "magenta", "indigo"),
    ),
    (
        ("i work as a {}", "i'm a {} by profession", "my job: {}"),
        ("what is my job?", "what do i do for work?", "do you remember my job?"),
        ("nurse", "teacher", "baker", "plumber", "beekeeper", "blacksmith", "geologist", "jockey"),
    ),
    (
        ("i play the {}", "i'm learning the {}", "i practise the {} every day"),
        ("which instrument do i play?", "what instrument was it?", "what do i play?"),
        ("guitar", "violin", "piano", "drums", "bassoon", "zither", "cornet", "bagpipes"),
    ),
)  # fmt: skip

_ASIDES = (
    "i had a long day", "it's raining outside", "do you like music?", "i'm drinking tea",
    "tell me something nice", "my back hurts a bit", "what are you doing?", "i saw a bird today",
    "that's funny", "i'm a bit tired", "what do you think about trains?", "i need a holiday",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What the user says, and the word that the last reply must hold."""

    says: tuple[str, ...]
    fact: str
    between: int

    def remembered(self, reply: str) -> bool:
        """Whether the reply names the fact, as a word and in any case."""
        return bool(re.search(rf"\b{re.escape(self.fact)}\b", reply, re.IGNORECASE))


def tellings(count: int, *, seed: int = 0) -> list[Told]:
    """`count` of them for each number of exchanges between."""
    random = np.random.default_rng([seed, 3])
    found = []
    for between in BETWEEN:
        for number in range(count):
            told, asked, facts = _FACTS[number % len(_FACTS)]
            fact = one_of(facts, random)
            asides = [_ASIDES[at] for at in random.permutation(len(_ASIDES))[:between]]
            says = (one_of(told, random).format(fact), *asides, one_of(asked, random))
            found.append(Told(says, fact, between))
    return found


def judged(told: Sequence[Told], replies: Sequence[str]) -> dict[str, Any]:
    """The share remembered, by the number of exchanges between. `replies`: the last of each."""
    kept = np.array([one.remembered(reply) for one, reply in zip(told, replies, strict=True)])
    between = np.array([one.between for one in told])
    return {
        "facts": len(told),
        "remembered": round(float(kept.mean()), 4),
        "after": {str(count): round(float(kept[between == count].mean()), 4) for count in BETWEEN},
    }
