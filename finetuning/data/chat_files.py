"""Conversations in the formats that people have: reads any of them, by name and content.

    .jsonl, .jsonl.zst   a line {"messages": [{"role": ..., "content": ...}, ...]} or
                         {"turns": [...]}, also mixed; the shipped corpus is of the second kind
    .csv, .tsv           two columns, what is said and the reply; a heading is recognized
    .json                Topical-Chat's own files, or a channel by DiscordChatExporter
    a folder or .zip     an export of Slack; a folder may also hold Discord's .json files

Everything that is not used is in the report, bad records with file and line number.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from finetuning.data.channel import alternating
from finetuning.data.cleaning import clean_turn
from finetuning.data.compressed import read_lines
from finetuning.data.corpus import Conversation
from finetuning.data.discord_export import read_discord_export
from finetuning.data.json_records import first_key
from finetuning.data.report import BadRecord, ReadingReport
from finetuning.data.slack_export import is_slack_export, read_slack_export
from finetuning.data.topical_chat import read_topical_chat
from finetuning.errors import CorpusError

_FORMATS = ".jsonl, .jsonl.zst, .csv, .tsv, .json, .zip or a folder"
_HEADINGS = [
    {"prompt", "user", "question", "input", "instruction", "message", "context", "q"},
    {"reply", "response", "answer", "output", "completion", "friend", "assistant", "bot", "a"},
]
_PEEK = 4096  # characters of a .json file that show what it is


def read_chat_file(
    path: Path,
    report: ReadingReport | None = None,
    *,
    imitate: str | None = None,
    keep: Collection[str] = (),
) -> Iterator[Conversation]:
    """Yield the conversations of a file or folder of any known format.

    `imitate` and `keep` are for exports of channels; see `read_discord_export`.

    Raises:
        CorpusError: missing, unreadable, or of no known format.
    """
    report = ReadingReport() if report is None else report
    if not path.exists():
        raise CorpusError(f"There is no file {path}. Give the path of a {_FORMATS}.")
    try:
        yield from _reader(path, report, imitate, keep)
    except (OSError, zstandard.ZstdError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error


def _reader(
    path: Path, report: ReadingReport, imitate: str | None, keep: Collection[str]
) -> Iterator[Conversation]:
    name = path.name.casefold()
    if path.is_dir():
        slack = is_slack_export(path)
        if not slack and not any(path.glob("*.json")):
            raise CorpusError(f"The folder {path} holds no export of Slack or Discord.")
        read = read_slack_export if slack else read_discord_export
        return read(path, report, imitate=imitate, keep=keep)
    if name.endswith(".zip"):
        return read_slack_export(path, report, imitate=imitate, keep=keep)
    if name.endswith((".jsonl", ".jsonl.zst")):
        return read_chat_lines(path, report)
    if name.endswith((".csv", ".tsv")):
        return read_pairs(path, report)
    if name.endswith(".json"):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            key = first_key(file.read(_PEEK))
        if key in ("guild", "channel", "messages"):
            return read_discord_export(path, report, imitate=imitate, keep=keep)
        return read_topical_chat(path, report)
    raise CorpusError(f"{path} is of no format that is known here. Give a {_FORMATS}.")


def read_pairs(path: Path, report: ReadingReport) -> Iterator[Conversation]:
    """Yield the rows of a two-column file, each a conversation of two turns.

    Tabs part the columns of a .tsv, which knows no quotes; a .csv may use semicolons, as
    spreadsheets in many countries write it.
    """
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if path.name.casefold().endswith(".tsv"):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        first = text.partition("\n")[0]
        mark = ";" if first.count(";") > first.count(",") else ","
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    for index, (line, row) in enumerate(_numbered(rows, path.name, report)):
        try:
            turns = _pair(row, may_be_heading=index == 0)
        except BadRecord as error:
            report.reject(path.name, line, str(error))
            continue
        if turns is None:
            report.leave_out("heading")
        else:
            report.used += 1
            yield Conversation("pairs", turns, roles=True)


def _numbered(rows: Any, file: str, report: ReadingReport) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the lines they begin on."""
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            why = "a quote that is never closed" if "end of data" in str(error) else str(error)
            lines = rows.line_num - line
            report.reject(file, line, why + (f", over {lines + 1} lines" if lines > 0 else ""))
            continue
        if any(field.strip() for field in row):
            yield line, row


def _pair(row: list[str], *, may_be_heading: bool) -> tuple[str, str] | None:
    """Both turns, None for a heading; BadRecord says in a few words what is wrong."""
    if len(row) != 2:
        raise BadRecord(f"{len(row)} column(s) instead of 2")
    if may_be_heading and all(
        field.strip().casefold() in known for field, known in zip(row, _HEADINGS, strict=True)
    ):
        return None
    if any("\udc80" <= char <= "\udcff" for field in row for char in field):
        raise BadRecord("not UTF-8")
    prompt, reply = (clean_turn(field) for field in row)
    if not prompt or not reply:
        raise BadRecord("an empty " + ("prompt" if not prompt else "reply"))
    return prompt, reply


def read_chat_lines(path: Path, report: ReadingReport) -> Iterator[Conversation]:
    """Yield the lines of a JSON Lines file; see the module for the two kinds."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            yield _conversation(line, report)
        except BadRecord as error:
            report.reject(path.name, number, str(error))


def _conversation(line: bytes, report: ReadingReport) -> Conversation:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRecord("not JSON") from None
    if not isinstance(entry, dict):
        raise BadRecord("not an object")
    notes = ReadingReport()
    if "messages" in entry:
        turns = tuple(alternating(_said(entry["messages"], notes), notes))
        if not turns:
            raise BadRecord("no user's message with an assistant's answer")
        source = str(entry.get("source", "chat"))
    elif "turns" in entry:
        turns = _turns(entry["turns"])
        source = str(entry.get("source", ""))
    else:
        raise BadRecord('neither "messages" nor "turns"')
    report.used += 1
    for reason, count in notes.left_out.items():
        report.leave_out(f"{reason}, within conversations", count)
    return Conversation(source, turns, str(entry.get("sub", "")), roles="messages" in entry)


def _turns(turns: Any) -> tuple[str, ...]:
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise BadRecord('"turns" is not a list of texts')
    if len(turns) < 2:
        raise BadRecord("fewer than two turns")
    clean = tuple(" ".join(turn.split()) for turn in turns)
    if not all(clean):
        raise BadRecord("an empty turn")
    if any("\ud800" <= char <= "\udfff" for turn in clean for char in turn):
        raise BadRecord("half a character (a lone surrogate)")
    return clean


def _said(messages: Any, report: ReadingReport) -> Iterable[tuple[bool, str]]:
    """(is the assistant's, text) of each message; BadRecord if one is not in order."""
    if not isinstance(messages, list):
        raise BadRecord('"messages" is not a list')
    said = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            report.leave_out("system messages")
            continue
        if role not in ("user", "assistant"):
            raise BadRecord(f"a message of role {role!r}")
        if text := clean_turn(_content(message.get("content"))):
            said.append((role == "assistant", text))
        else:
            report.leave_out("messages without words")
    return said


def _content(content: Any) -> str:
    """A message's text, which may come in parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return " ".join(texts)
    if not isinstance(content, str):
        raise BadRecord('a "content" that is no text')
    return content
