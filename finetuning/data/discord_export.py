"""Channels exported by DiscordChatExporter as JSON: one file a channel, or a folder of them.

A file is {"guild": ..., "channel": ..., "messages": [...]}. The exporter writes mentions as plain
names or, told not to touch markup, as Discord's own `<@id>`; both are read.

Source: https://github.com/Tyrrrz/DiscordChatExporter (JsonMessageWriter); markup:
https://discord.com/developers/docs/reference#message-formatting
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from finetuning.data.channel import PAUSE, Message, People, conversations
from finetuning.data.corpus import Conversation
from finetuning.data.json_records import BrokenJson, records
from finetuning.data.report import BadRecord, ReadingReport
from finetuning.errors import CorpusError

SOURCE = "discord"

_SAID = ("Default", "Reply")
_MARKUP = re.compile(
    r"<(?:@!?(?P<user>\d+)|@&\d+|\#\d+|a?:(?P<emoji>\w+):\d+|/(?P<command>[^:<>]+):\d+|t:[^<>]*)>"
)
_CALL = re.compile(r"(?<!\w)@(?:everyone|here)\b")


def read_discord_export(
    path: Path,
    report: ReadingReport | None = None,
    *,
    imitate: str | None,
    keep: Collection[str] = (),
    pause: float = PAUSE,
) -> Iterator[Conversation]:
    """Yield the conversations of one person of an exported channel with the others.

    Args:
        path: a file, or a folder of files, in which a person has one placeholder throughout.
        imitate: user name, nickname or id of the person who becomes Friend.
        keep: names that are everyday words too, and stay.
        pause: seconds of silence after which a conversation is over.

    Raises:
        CorpusError: no such person, or no file, or one that is cut off.
    """
    report = ReadingReport() if report is None else report
    people = People(keep)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    channels = [list(_messages(file, people, report)) for file in files]
    yield from conversations(
        channels, people, _readable, report, source=SOURCE, imitate=imitate, pause=pause
    )


def _messages(file: Path, people: People, report: ReadingReport) -> Iterator[Message]:
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"There is no file {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file} cannot be read: {error}.") from error
    try:
        for line, _, entry in records(text, "messages"):
            try:
                message = _message(entry, people)
            except BadRecord as error:
                report.reject(file.name, line, str(error))
                continue
            if message is None:
                report.leave_out("notices by Discord (joins, pins and the like)")
            else:
                yield message
    except BrokenJson as error:
        raise CorpusError(f"{file} is {error}. Export the channel again, as JSON.") from error


def _message(entry: Any, people: People) -> Message | None:
    """A message, None for a notice; BadRecord says in a few words what is wrong."""
    if not isinstance(entry, dict):
        raise BadRecord("not an object")
    author, content = entry.get("author"), entry.get("content")
    if not isinstance(author, dict) or not isinstance(author.get("id"), str):
        raise BadRecord('no "author" with an "id"')
    if not isinstance(content, str):
        raise BadRecord('no text "content"')
    try:
        time = datetime.fromisoformat(entry["timestamp"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise BadRecord('no "timestamp" that is a time') from None
    mentions = entry.get("mentions")
    for person in (author, *(mentions if isinstance(mentions, list) else ())):
        if isinstance(person, dict) and isinstance(person.get("id"), str):
            people.add(person["id"], person.get("nickname"), person.get("name"))
    if entry.get("type", "Default") not in _SAID:
        return None
    return Message(author["id"], content, time, bot=author.get("isBot") is True)


def _readable(text: str, name: Callable[[str], str]) -> str:
    def words(match: re.Match[str]) -> str:
        if match["user"]:
            return name(match["user"])
        return match["command"] or (f":{match['emoji']}:" if match["emoji"] else " ")

    return _CALL.sub(" ", _MARKUP.sub(words, text))
