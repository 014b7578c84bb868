"""What is not left to a small model: distress, and words nobody should be called.

Both are deliberately small and plain. They know English only, and neither understands what is
meant: somebody in need may write in words no pattern has, and a kind answer may go to somebody who
only told of a film. Neither replaces a person who looks after a community.
"""

from __future__ import annotations

import hashlib
import re

_DISTRESS = re.compile(
    r"""
      \b(?:kill|hang|shoot|drown|hurt|harm|cut|poison)(?:ing)?\ (?:my\ ?self|me\ self)\b
    | \b(?:end|ending|take|taking)\ (?:my\ (?:own\ )?life|it\ all)\b
    | \bsuicidal\b
    | \b(?:commit|committing|attempt|attempted|attempting|about|of|considering|by)\ suicide\b
    | \bself[- ]harm(?:ing|ed)?\b
    | \b(?:want|wanna|wanting|going|ready|like)\ (?:to\ )?die\b
    | \bwish\ (?:that\ )?i\ (?:was|were)(?:\ dead|\ never\ born|n't\ alive)\b
    | \bwish\ (?:that\ )?i\ had\ never\ been\ born\b
    | \b(?:do\ not|don't|dont)\ (?:want\ to|wanna)\ (?:live|be\ alive|exist|wake\ up|be\ here)\b
    | \bbetter\ off\ (?:dead|without\ me)\b
    | \bno\ (?:reason|point)\ (?:to\ live|in\ living|to\ go\ on|going\ on)\b
    | \bcan(?:not|'t|t)\ go\ on\ (?:living|any\ ?more|like\ this)\b
    """,
    re.VERBOSE,
)
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|im|i've|ive|i'd|me|my|myself)\b")
_IN_JEST = re.compile(r"\b(?:laughing|laughter|embarrassment|boredom|cringe|lol|lmao)\b")
_WORD = re.compile(r"[^\W_]+")
_DISGUISES = str.maketrans("013457@$", "oleastas")

_SLURS = frozenset(
    {
        "189009243788ecfe",
        "1ea1574210a081be",
        "20dbea775eca2be9",
        "2a4424e5b1d5e2ab",
        "2d2dd8cf8dbdc583",
        "303d3121794eb47a",
        "4e7d503c3d7be91e",
        "5223959f6e3b4e37",
        "5bf06802a048fc11",
        "600a4eaa7113d7ca",
        "70c6252117c7b547",
        "7446bfd0daac4147",
        "8196feb35bb34f53",
        "8f18b01c1486a6ca",
        "8f3868450c935994",
        "903ef3c57623e0bb",
        "a18543bf67c29ef8",
        "a3a1d0b30d7bb844",
        "aa4d55814e967261",
        "adbde8eea6715e89",
        "b17aa7c12e8b4246",
        "b309eee9bc490be0",
        "c18db5504fc8053f",
        "c9dd89d65037825b",
        "ce8af168e5ab8024",
        "d852c62d14710893",
        "db83811ad1b9bf7f",
        "e32a88f411febfbb",
        "fb7300ca8f745d80",
    }
)
"""BLAKE2b digests (8 bytes) of slurs, so that this file does not spell them."""


def is_distress(text: str) -> bool:
    """Whether somebody seems to speak of harming themselves."""
    said = " ".join(text.casefold().replace("\u2019", "'").split())
    return (
        _DISTRESS.search(said) is not None
        and _FIRST_PERSON.search(said) is not None
        and _IN_JEST.search(said) is None
    )


def has_slur(text: str) -> bool:
    """Whether a word of `text`, or its singular, is on the short list of slurs."""
    for word in _WORD.findall(text.casefold().translate(_DISGUISES)):
        if {_digest(word), _digest(word.removesuffix("s"))} & _SLURS:
            return True
    return False


def _digest(word: str) -> str:
    return hashlib.blake2b(word.encode(), digest_size=8).hexdigest()
