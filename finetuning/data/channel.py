"""From the messages of a group to conversations with one of its people, all names taken out.

The person to imitate becomes Friend, everybody else User: what others said up to a message of
that person is one turn, what the person then said is the next. So roles alternate, and every
conversation starts with another's words and ends with the imitated person's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from finetuning.data.cleaning import clean_turn, join_turns
from finetuning.data.corpus import Conversation
from finetuning.data.report import ReadingReport
from finetuning.errors import CorpusError

PAUSE = 3600.0
"""Seconds of silence after which a message begins a new conversation."""

OWN_NAME = "friend"
_OWN = "\ufdd0"  # stands for the imitated person while a text is taken apart; never in a message
# At either end of a message a name only says who is meant.
_ADDRESSED_FIRST = re.compile(rf"^(?:{_OWN}[\s,:;]*)+(?![?!.'])")
_ADDRESSED_LAST = re.compile(rf"(?:[\s,]*{_OWN})+\s*([.!?]*)$")
_SHORTEST_NAME = 2
_NAME_PARTS_FROM = 3
# Words of made-up names ("The Real Ann") that would take half the language with them.
_EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        "the and for not you are all any bot can but real just old new big his her its our out "
        "one two who why how man girl boy mrs from with this that your team dev admin chief king "
        "queen doctor mister captain little miss",
    )
)

Readable = Callable[[str, Callable[[str], str]], str]
"""(raw text, name for a person's id) -> words: what a platform's own markup says."""


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody posted, as the export has it."""

    speaker: str  # the platform's id
    text: str
    time: float  # seconds, of any epoch
    bot: bool = False


class People:
    """Who is who: finds a speaker by name, and replaces names by placeholders.

    A placeholder ("Person 2") stays with its person through all files of an export, and through
    the next export that begins with the same messages. Replaced are mentions, and the names known
    from the export as whole words in any case, with the words of a name of several. Names that
    the export does not know stay, and somebody called Will or Mark takes a common word along:
    `keep` lists words to leave alone.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self._keep = {word.casefold() for word in keep}
        self._names: dict[str, list[str]] = {}
        self._numbers: dict[str, int] = {}
        self._own = ""

    def add(self, person: str, *names: object) -> None:
        """Make known what a person is called; anything that is no text is passed over."""
        known = self._names.setdefault(person, [])
        for name in names:
            if isinstance(name, str) and name.strip() and name.strip() not in known:
                known.append(name.strip())

    def choose(self, imitate: str | None, messages: Iterable[Message]) -> str:
        """The id of the speaker that `imitate` (an id or a name) means.

        Raises:
            CorpusError: nobody, or more than one, is meant; the sentence lists the speakers.
        """
        counts = Counter(message.speaker for message in messages)
        wanted = (imitate or "").strip().removeprefix("@").casefold()
        found = [
            person
            for person in counts
            if wanted
            and (
                person.casefold() == wanted
                or wanted in (name.casefold() for name in self._names.get(person, ()))
            )
        ]
        if len(found) == 1:
            self._own = found[0]
            return self._own
        listed = ", ".join(
            f"{(self._names.get(person) or ['?'])[0]} (id {person}, {count} messages)"
            for person, count in counts.most_common(12)
        )
        if imitate is None:
            problem = "Say whom to imitate"
        elif found:
            problem = f"More than one speaker is called {imitate!r}; choose by id whom to imitate"
        else:
            problem = f"Nobody called {imitate!r} speaks here; choose whom to imitate"
        raise CorpusError(f"{problem}. The speakers are: {listed or 'none'}.")

    def placeholder(self, person: str) -> str:
        """What stands for a person in a text that is being taken apart."""
        if person == self._own:
            return _OWN
        return f"Person {self._numbers.setdefault(person, len(self._numbers) + 1)}"

    def replacer(self) -> Callable[[str], str]:
        """A function that replaces every name known by now."""
        owners: dict[str, str] = {}
        spelled: set[str] = set()
        whole = [(name, person) for person, names in self._names.items() for name in names]
        parts = [(part, person) for name, person in whole for part in _parts(name)]
        for name, person in whole + parts:
            folded = name.casefold()
            if len(name) >= _SHORTEST_NAME and folded not in self._keep:
                owners.setdefault(folded, person)
                spelled |= {name, folded}  # not the same to `re` in every alphabet
        if not spelled:
            return lambda text: text
        any_name = "|".join(re.escape(name) for name in sorted(spelled, key=len, reverse=True))
        pattern = re.compile(rf"(?<!\w)@?({any_name})(?!\w)", re.IGNORECASE)

        def replaced(match: re.Match[str]) -> str:
            word = match[1]
            person = owners.get(word.casefold())
            everyday = len(word) < _NAME_PARTS_FROM and word.islower() and match[0] == word
            return word if person is None or everyday else self.placeholder(person)

        return lambda text: pattern.sub(replaced, text)


def _parts(name: str) -> Iterator[str]:
    """The words of a name that are names by the look of them."""
    parts = re.findall(r"[^\W\d_]+", name)
    for part in parts if len(parts) > 1 else ():
        if len(part) >= _NAME_PARTS_FROM and part[0].isupper() and part.casefold() not in _EVERYDAY:
            yield part


def conversations(
    threads: Sequence[Sequence[Message]],
    people: People,
    readable: Readable,
    report: ReadingReport,
    *,
    source: str,
    imitate: str | None,
    pause: float = PAUSE,
) -> Iterator[Conversation]:
    """Conversations of the speaker `imitate` with all others, from each thread in turn.

    Bots are left out, unless one is to be imitated.

    Raises:
        CorpusError: `imitate` names no speaker, or several.
    """
    own = people.choose(imitate, (message for thread in threads for message in thread))
    replace_names = people.replacer()

    def words(message: Message) -> str:
        text = replace_names(clean_turn(readable(message.text, people.placeholder)))
        text = _ADDRESSED_LAST.sub(r"\1", _ADDRESSED_FIRST.sub("", text))
        return clean_turn(text.replace(_OWN, OWN_NAME))

    for thread in threads:
        for session in _sessions(sorted(thread, key=lambda message: message.time), pause):
            said = []
            for message in session:
                if message.bot and message.speaker != own:
                    report.leave_out("messages by bots")
                elif text := words(message):
                    said.append((message.speaker == own, text))
                else:
                    report.leave_out("messages without words")
            turns = tuple(alternating(said, report))
            if turns:
                yield Conversation(source, turns, roles=True)


def alternating(said: Iterable[tuple[bool, str]], report: ReadingReport) -> Iterator[str]:
    """Turns that alternate, User's first and Friend's last, from (is Friend's, text)."""
    turns = [
        (is_own, [text for _, text in turn]) for is_own, turn in groupby(said, lambda one: one[0])
    ]
    if turns and turns[0][0]:
        report.leave_out("messages that answer nobody", len(turns.pop(0)[1]))
    if turns and not turns[-1][0]:
        report.leave_out("messages that nobody to imitate answered", len(turns.pop()[1]))
    for _, texts in turns:
        report.used += len(texts)
        yield join_turns(texts)


def _sessions(messages: Iterable[Message], pause: float) -> Iterator[list[Message]]:
    session: list[Message] = []
    for message in messages:
        if session and message.time - session[-1].time > pause:
            yield session
            session = []
        session.append(message)
    if session:
        yield session
