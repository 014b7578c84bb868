"""How a model writes a conversation: what its file says of labels, and what that means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lambda_inference.errors import ModelCorrupt

Role = Literal["system", "user", "assistant"]
TEMPLATE_KEY = "friend.template"
"""JSON of the template, as in config.json: what `JINJA_KEY` says, for this server."""
JINJA_KEY = "tokenizer.chat_template"
"""The template in Jinja, which is what other programs read."""
_MAX_NAME = 32  # characters of a speaker's name that go into a label


@dataclass(frozen=True)
class ChatTemplate:
    """How a model writes a conversation: label, space, words, separator.

    The defaults are those of RWKV World and G1 models; the shipped model's own stand in its file.
    `end_of_text` is a token's text or id. `system` None means that the model never saw system
    messages, so they are left out. `names` means that it was trained with speakers' names as
    labels (`Ann: hi`).
    """

    user: str = "User:"
    assistant: str = "Assistant:"
    separator: str = "\n\n"
    end_of_text: str | int | None = "<|endoftext|>"
    system: str | None = None
    names: bool = False

    @property
    def texts(self) -> frozenset[str]:
        """The fixed texts, which must never be read as such inside a message."""
        parts = (self.user, self.assistant, self.separator, self.end_of_text, self.system)
        return frozenset(text for text in parts if isinstance(text, str) and text)

    def label(self, role: Role, name: str | None = None) -> str | None:
        """The label of a turn that `name` says, if it is known; None leaves the turn out."""
        if role == "assistant":
            return self.assistant
        if role == "system":
            return self.system
        if self.names and name:
            name = re.sub(r"[\s:]+", " ", name).strip()[:_MAX_NAME].strip()
            if name and name.casefold() != self.assistant.rstrip(":").casefold():
                return f"{name}:"
        return self.user

    def words(self, text: str) -> str:
        """A message's text as it stands in a turn.

        Where a blank line ends a turn, a line break inside one could end it early, so all become
        spaces; other templates keep single ones.
        """
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self.separator.strip("\n"):
            text = text.replace(self.separator, " ")
        elif self.separator:
            text = re.sub(r"\s*\n\s*", " ", text)
        return text.strip()


def template_from(values: Mapping[str, Any], source: str) -> ChatTemplate:
    """A template from its JSON form; missing keys take the defaults.

    Raises:
        ModelCorrupt: a value has the wrong type.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "user": (str,),
        "assistant": (str,),
        "separator": (str,),
        "end_of_text": (str, int, type(None)),
        "system": (str, type(None)),
        "names": (bool,),
    }
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            continue
        if not isinstance(value, kinds[key]) or (key in ("user", "assistant") and not value):
            raise ModelCorrupt(f"{source}: the template's {key!r} is {value!r}.")
        known[key] = value
    return ChatTemplate(**known)
