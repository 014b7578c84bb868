"""A workspace's export by Slack: a zip, or the folder it unpacks to.

In it users.json and, a folder a channel, a file a day: general/2024-05-01.json, an array of
messages. One channel's folder by itself is read too, with the users.json beside or above it. A
thread is a conversation of its own.

Source: https://slack.com/help/articles/220556107; markup:
https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import html
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetuning.data.channel import PAUSE, Message, People, conversations
from finetuning.data.corpus import Conversation
from finetuning.data.json_records import BrokenJson, records
from finetuning.data.report import BadRecord, ReadingReport
from finetuning.errors import CorpusError

SOURCE = "slack"

_DAY = re.compile(r"(?:^|/)\d{4}-\d\d-\d\d\.json$")
_USERS = re.compile(r"(?:^|/)(?:org_)?users\.json$")
_SAID = (None, "me_message", "thread_broadcast", "file_share", "bot_message")
_CONTROL = re.compile(r"<([^<>]*)>")

_Files = dict[str, Callable[[], bytes]]


def is_slack_export(path: Path) -> bool:
    """Whether a folder or zip holds days of a Slack channel."""
    with _files(path) as files:
        return any(_DAY.search(name) for name in files)


def read_slack_export(
    path: Path,
    report: ReadingReport | None = None,
    *,
    imitate: str | None,
    keep: Collection[str] = (),
    pause: float = PAUSE,
) -> Iterator[Conversation]:
    """Yield the conversations of one person of an exported workspace with the others.

    Args:
        path: the zip, its folder, or one channel's folder.
        imitate: display name, real name, user name or id of the person who becomes Friend.
        keep: names that are everyday words too, and stay.
        pause: seconds of silence after which a conversation in the channel is over.

    Raises:
        CorpusError: no such person, no export, or a damaged zip.
    """
    report = ReadingReport() if report is None else report
    people = People(keep)
    threads: dict[tuple[str, str], list[Message]] = defaultdict(list)
    with _files(path) as files:
        days = sorted(name for name in files if _DAY.search(name))
        if not days:
            raise CorpusError(
                f"{path} is no Slack export: there is no folder of a channel with files named "
                "like 2024-05-01.json in it."
            )
        for name in sorted(name for name in files if _USERS.search(name)):
            for line, user in _entries(name, files[name], report):
                _meet(name, line, user, people, report)
        for name in days:
            channel = name.rpartition("/")[0]
            for line, entry in _entries(name, files[name], report):
                try:
                    found = _message(entry, people)
                except BadRecord as error:
                    report.reject(name, line, str(error))
                    continue
                if found is None:
                    report.leave_out("notices by Slack (joins, topics and the like)")
                else:
                    thread, message = found
                    threads[channel, thread].append(message)
    yield from conversations(
        list(threads.values()), people, _readable, report,
        source=SOURCE, imitate=imitate, pause=pause,
    )  # fmt: skip


@contextmanager
def _files(path: Path) -> Iterator[_Files]:
    """The JSON files of a folder or zip by their names, to be read on demand."""
    if path.is_dir():
        files: _Files = {
            file.relative_to(path).as_posix(): file.read_bytes for file in path.rglob("*.json")
        }
        above = path.parent / "users.json"
        if not any(_USERS.search(name) for name in files) and above.is_file():
            files["../users.json"] = above.read_bytes
        yield files
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            yield {name: lambda name=name: archive.read(name) for name in names}  # type: ignore[misc]
    except FileNotFoundError:
        raise CorpusError(f"There is no file {path}.") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise CorpusError(f"{path} cannot be read as a zip: {error}. Export it again.") from error


def _entries(
    name: str, content: Callable[[], bytes], report: ReadingReport
) -> Iterator[tuple[int, Any]]:
    """The entries of an array in a file; where the file breaks off is a bad record."""
    try:
        for line, _, entry in records(content().decode("utf-8-sig")):
            yield line, entry
    except BrokenJson as error:
        report.reject(name, error.line, f"{error}; what follows is lost")
    except UnicodeDecodeError:
        report.reject(name, 1, "not UTF-8; the file is lost")


def _meet(name: str, line: int, user: Any, people: People, report: ReadingReport) -> None:
    if not isinstance(user, dict) or not isinstance(user.get("id"), str):
        report.reject(name, line, 'a user without "id"')
        return
    _introduce(user["id"], user, people)


def _introduce(person: str, user: dict[str, Any], people: People) -> None:
    profile = user.get("profile")
    for source in (profile if isinstance(profile, dict) else {}, user):
        people.add(
            person,
            *(source.get(key) for key in ("display_name", "real_name", "name", "first_name")),
        )


def _message(entry: Any, people: People) -> tuple[str, Message] | None:
    """(thread, message), None for a notice; BadRecord says in a few words what is wrong."""
    if not isinstance(entry, dict) or entry.get("type") != "message":
        raise BadRecord("not a message")
    if entry.get("subtype") not in _SAID:
        return None
    is_bot = entry.get("subtype") == "bot_message" or "bot_id" in entry
    speaker, text = entry.get("user") or entry.get("bot_id"), entry.get("text")
    if not isinstance(speaker, str):
        raise BadRecord('no "user"')
    if not isinstance(text, str):
        raise BadRecord('no "text"')
    try:
        time = float(entry["ts"])
        if not math.isfinite(time):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise BadRecord('no "ts" that is a time') from None
    profile = entry.get("user_profile")
    if isinstance(profile, dict):
        _introduce(speaker, profile, people)
    thread = entry.get("thread_ts")
    return thread if isinstance(thread, str) else "", Message(speaker, text, time, bot=is_bot)


def _readable(text: str, name: Callable[[str], str]) -> str:
    """Slack's control sequences as words; links and calls to all go."""

    def words(match: re.Match[str]) -> str:
        target, _, label = match[1].partition("|")
        if target.startswith("@"):
            return name(target[1:])
        if target.startswith("!"):
            return label if target.startswith("!date") else " "
        return label if label and not target.endswith(label) else " "

    return html.unescape(_CONTROL.sub(words, text))
