"""Every text friend itself says to a person; the rest are the model's words."""

from __future__ import annotations

import re

LISTENING = "Yes? I'm listening."
ONLY_TEXT = "I can only read text so far, not pictures or files. What is it about?"
SPEECHLESS = "I don't know what to say to that. Could you put it another way?"
RESET_DONE = "Done. I've put our conversation behind me; we start afresh."
NOT_FOR_YOU = "I'm not set up to talk with you here."
NOTHING_TO_RESET = "There is nothing to put behind us yet: we start afresh."
WHERE_ARE_WE = "I can't tell which conversation you mean. Mention me there and say `reset`."
NOTHING_AGAIN = "I can't find a message here to answer again."
BEHIND = "I'm behind in this conversation; I've read your message, but can't answer it."
SLOW_DOWN = "That's a lot for me at once. Give me a minute, then write again."
HISTORY_DOWN = "I can't remember things just now, so I'd rather not answer. Please try again soon."
TOO_LATE = "Sorry, I was away too long to answer this. Say it again if it still matters."
UNSAYABLE = "I had an answer, but I wasn't allowed to post it here as it was. Please ask me again."

ABOUT = (
    "I'm friend, a small chat companion run by an RWKV language model. Mention me, or write me "
    "directly, and I answer. I get things wrong: don't rely on me for facts or advice. "
    "`reset` puts our conversation behind us, `again` makes me answer once more, and "
    "`forget me` erases what I remember of you."
)


DISTRESS = (
    "I'm really sorry you feel this way, and I'm glad you said it. I'm only a small program, so "
    "please talk to a person now: if you are in danger, call your local emergency number. In the "
    "US and Canada you can call or text 988; in the UK and Ireland call Samaritans on 116 123; "
    "https://findahelpline.com lists free, confidential lines in other countries. You deserve "
    "help, and people who understand this are there at any hour."
)

_CUT_OFF = "I was cut off there. Say `again`, and I'll start over."
_CUT_OFF_AT_END = re.compile(rf"\s*{re.escape(_CUT_OFF)} \([0-9a-f]+\)\s*\Z")


def model_down(error_id: str, *, again: bool = True) -> str:
    """The one sentence for a reply that could not be made; `again`: whether that may help."""
    if again:
        advice = "I've kept your message: say `again` in a minute."
    else:
        advice = "Asking again won't help: whoever runs me has to look into it."
    return f"I can't think just now. {advice} ({error_id})"


def unfinished(words: str, error_id: str) -> str:
    """A reply that broke off, and the sentence that says so."""
    return f"{words}\n\n{_CUT_OFF} ({error_id})"


def without_unfinished(text: str) -> str:
    """Only the words of a reply that may have broken off."""
    return _CUT_OFF_AT_END.sub("", text)


def broken(error_id: str) -> str:
    """For a reply that a defect has cost."""
    return f"Something in me broke while I answered. I've kept your message. ({error_id})"


def reset(turns: int) -> str:
    """What a person hears after putting so many turns behind."""
    return RESET_DONE if turns else NOTHING_TO_RESET


def forgot(messages: int) -> str:
    """What a person hears after being forgotten."""
    if messages == 0:
        return "I had nothing of yours in my memory."
    plural = "message" if messages == 1 else "messages"
    return f"I've erased {messages} {plural} of yours, everywhere."
