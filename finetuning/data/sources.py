"""From the files that a person names to conversations to learn from and to watch the loss on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from finetuning.data.chat_files import read_chat_file
from finetuning.data.corpus import Conversation
from finetuning.data.report import ReadingReport
from finetuning.errors import CorpusError

Say = Callable[[str], None]


def read_all(
    paths: Sequence[Path], say: Say, *, imitate: str | None = None, keep: Collection[str] = ()
) -> list[Conversation]:
    """The conversations of all files, in order; `say` is told what was found and left out.

    Raises:
        CorpusError: a file is missing, of no known format, or holds nothing usable.
    """
    found: list[Conversation] = []
    for path in paths:
        conversations = read_one(path, say, imitate=imitate, keep=keep)
        turns = sum(len(one.turns) for one in conversations)
        say(f"{path.name}: {len(conversations):,} conversations, {turns:,} turns")
        found += conversations
    return found


def read_one(
    path: Path, say: Say, *, imitate: str | None = None, keep: Collection[str] = ()
) -> list[Conversation]:
    """The conversations of one file or folder; `say` is told what was left out, if anything.

    Raises:
        CorpusError: it is missing, of no known format, or holds nothing usable.
    """
    report = ReadingReport()
    conversations = list(read_chat_file(path, report, imitate=imitate, keep=keep))
    if account := report.text():
        say(account)
    if not conversations:
        raise CorpusError(f"{path} holds no usable conversation.")
    return conversations


def held_apart(
    conversations: Sequence[Conversation], share: float, *, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Divide into (to learn from, held out): the same for the same data, share and seed.

    Raises:
        CorpusError: there are too few to hold any out.
    """
    if not share:
        return list(conversations), []
    count = max(1, round(share * len(conversations)))
    if count >= len(conversations):
        raise CorpusError(
            f"{len(conversations)} conversation(s) are too few to hold some out. "
            "Bring more, name held-out ones with --valid, or give --held-out 0."
        )
    drawn = np.random.default_rng([seed, 1]).permutation(len(conversations))[:count]
    apart = set(drawn.tolist())
    return (
        [one for at, one in enumerate(conversations) if at not in apart],
        [one for at, one in enumerate(conversations) if at in apart],
    )


def for_vocabulary(
    conversations: Sequence[Conversation], mixture: Mapping[str, float]
) -> Iterator[Conversation]:
    """Conversations to learn a vocabulary from: sources that count less are thinned out."""
    for index, conversation in enumerate(conversations):
        weight = mixture.get(conversation.source, 1.0)
        if weight and index % round(1 / min(1.0, weight)) == 0:
            yield conversation


def mixture_in_words(conversations: Sequence[Conversation], mixture: Mapping[str, float]) -> str:
    """How much each source counts, for a person; empty where all count alike.

    Raises:
        CorpusError: the mixture leaves nothing to learn from.
    """
    counts = Counter(one.source for one in conversations)
    weights = {source: mixture.get(source, 1.0) for source in counts}
    if not any(weights.values()):
        raise CorpusError("--mixture leaves out every source: " + ", ".join(sorted(counts)) + ".")
    if set(weights.values()) == {1.0}:
        return ""
    listed = (f"{weight:g} x {source or 'unnamed'}" for source, weight in weights.items())
    return "An epoch holds " + ", ".join(listed) + "."
