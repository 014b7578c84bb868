"""From the files that a person names to conversations to learn from and to watch the loss on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetuning.data.chat_files import read_chat_file
from finetuning.data.corpus import Conversation
from finetuning.data.report import ReadingReport
from finetuning.data.talk_draws import plain
from finetuning.data.talk_text import NAME, Split, Talks, is_talks, read_talks, shipped_talks
from finetuning.errors import CorpusError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """What the files hold: conversations as they are, and talks to draw from."""

    conversations: list[Conversation]
    talks: Talks | None = None

    def plain(self, split: Split) -> list[Conversation]:
        """The conversations, and one of each talk of a split as it is written."""
        if self.talks is None:
            return self.conversations
        random = np.random.default_rng(0)
        chosen = self.talks.of(split)
        return [*self.conversations, *(plain(one, chosen, random) for one in chosen.talks)]


def read_source(
    paths: Sequence[Path], say: Say, *, imitate: str | None = None, keep: Collection[str] = ()
) -> Source:
    """As `read_all`, but a path may also be a folder of talks, or `talks` for friend's own.

    Raises:
        CorpusError: see `read_all`; or there are two folders of talks.
    """
    places = [(path, talks_at(path)) for path in paths]
    folders = [folder for _, folder in places if folder is not None]
    if len(folders) > 1:
        raise CorpusError("Give one folder of talks; put the texts of both into one.")
    others = [path for path, folder in places if folder is None]
    conversations = read_all(others, say, imitate=imitate, keep=keep)
    if not folders:
        return Source(conversations)
    talks = read_talks(folders[0])
    patterns = sum(len(one.lines[0]) > 1 for one in talks.talks)
    say(f"{folders[0].name}: {len(talks.talks) - patterns:,} talks, {patterns:,} patterns")
    return Source(conversations, talks)


def talks_at(path: Path) -> Path | None:
    """The folder of talks that `path` names, if it names one."""
    if path.is_dir() and is_talks(path):
        return path
    return shipped_talks() if str(path) == NAME and not path.exists() else None


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
