"""Topical-Chat's own files: conversations/train.json, valid_freq.json, test_rare.json, ...

One object a file, {id: {"content": [{"message": ..., "agent": "agent_1" | "agent_2", ...}, ...],
...}}; in the enriched edition a message is a list of sentences. Only messages and agents are read.

Source: https://github.com/alexa/Topical-Chat (Gopalakrishnan et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from finetuning.data.cleaning import clean_turn, join_turns
from finetuning.data.corpus import Conversation
from finetuning.data.json_records import BrokenJson, records
from finetuning.data.report import BadRecord, ReadingReport
from finetuning.errors import CorpusError

SOURCE = "topical-chat"


def read_topical_chat(path: Path, report: ReadingReport | None = None) -> Iterator[Conversation]:
    """Yield a file's conversations; `sub` is the split, which is the file's name.

    Raises:
        CorpusError: the file is missing, unreadable or cut off.
    """
    report = ReadingReport() if report is None else report
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise CorpusError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error
    try:
        for line, _, entry in records(text):
            try:
                turns = _turns(entry, report)
            except BadRecord as error:
                report.reject(path.name, line, str(error))
                continue
            report.used += 1
            yield Conversation(SOURCE, turns, path.stem)
    except BrokenJson as error:
        raise CorpusError(f"{path} is {error}. Fetch the file again.") from error


def _turns(entry: Any, report: ReadingReport) -> tuple[str, ...]:
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(content, list):
        raise BadRecord('no list "content"')
    said = []
    empty = 0
    for message in content:
        if not isinstance(message, dict) or not isinstance(message.get("agent"), str):
            raise BadRecord('a message without "agent"')
        words = message.get("message")
        if isinstance(words, list) and all(isinstance(part, str) for part in words):
            words = " ".join(words)
        if not isinstance(words, str):
            raise BadRecord('a "message" that is no text')
        if cleaned := clean_turn(words):
            said.append((message["agent"], cleaned))
        else:
            empty += 1
    if len({agent for agent, _ in said}) != 2:
        raise BadRecord("not two speakers")
    report.leave_out("empty messages within conversations", empty)
    by_agent = groupby(said, key=lambda one: one[0])
    return tuple(join_turns(words for _, words in turn) for _, turn in by_agent)
