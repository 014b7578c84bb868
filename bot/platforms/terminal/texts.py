"""Every text of the terminal itself; `bot.texts` has what friend says everywhere."""

from __future__ import annotations

YOU = "you"
FRIEND = "friend"
THINKING = "thinking"
THINKING_LONG = "thinking… Ctrl-C stops"
WAKING = "waking the model"
STOPPED = "(stopped)"
DATABASE_SERVER = "PostgreSQL"
SOME_MODEL = "a local model"
NO_REPLY = "I have no reply to that; the log may say why."
STILL_OWED = "I haven't answered that yet: /again, and I will."
EARLIER = "earlier"
TOOLBAR = "/help · Alt-Enter: new line · Ctrl-D: leave"
FAREWELL = "Bye! I'll remember where we were."
INPUT_FORGOTTEN = "What you typed here is erased from the input history too."
PLAIN_HELP = "Commands: "
ASKED_ELSEWHERE = "The message was asked in a terminal that is closed by now."

HELP_KEYS = (
    ("Enter", "send"),
    ("Alt-Enter", "new line"),
    ("Up, Down, Ctrl-R", "what you wrote before"),
    ("Ctrl-C", "stop a reply; clear the line; on an empty line, leave"),
    ("Ctrl-D", "leave"),
)


def unknown_command(word: str) -> str:
    """For a slash and a word that is no command."""
    return f"I don't know {word}. /help lists what I know."


def starting(model: str, place: str, session: str) -> str:
    """The one line a chat begins with."""
    talk = "" if session == "default" else f" · session {session}"
    return f"{model}{talk} · history in {place} · /help"


def no_reply_to_line(number: int, sentence: str, cause: str) -> str:
    """On standard error, for a line of a pipe that got no reply."""
    because = f"\n  cause: {cause}" if cause else ""
    return f"friend: no reply to line {number}: {sentence}{because}"


def cause(sentence: str) -> str:
    """Under an apology: whoever sits at the terminal can do something about it."""
    return f"cause: {sentence}"
