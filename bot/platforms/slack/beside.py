"""What a Slack message holds beside its text: shared messages, tables, previews, files.

Shared messages and previews come as `attachments`, tables as `blocks`.
https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bot.core import wording
from bot.platforms.slack.blocks import text_of, written

Event = Mapping[str, Any]

_TABLES = frozenset({"table", "data_table"})


def raw_text(event: Event) -> str:
    """The person's own words in Slack's markup: `text`, or without one what the blocks say."""
    text = str(event.get("text") or "")
    if text.strip():
        return text
    return text_of(block for block in _blocks(event) if block.get("type") not in _TABLES)


def raw_beside(event: Event) -> list[str]:
    """All other words of the message in Slack's markup, for the names they need."""
    return list(_shown(event)) + [
        text for attachment in _attachments(event) for text in _texts(attachment)
    ]


def words_beside(event: Event, read: Callable[[str], str]) -> str:
    """The same in plain words.

    Args:
        read: makes markup readable.
    """
    parts = [read(text) for text in _shown(event)]
    parts += [_attachment(attachment, read) for attachment in _attachments(event)]
    return "\n".join(part for part in parts if part)


def files_of(event: Event) -> tuple[str, ...]:
    """Files, each in a few words."""
    return tuple(_file(file) for file in event.get("files") or ())


def _blocks(event: Event) -> Iterable[Event]:
    return event.get("blocks") or ()


def _attachments(event: Event) -> Iterable[Event]:
    return event.get("attachments") or ()


def _shown(event: Event) -> Iterator[str]:
    """Tables, and what an app's blocks say beyond its text."""
    tables = [block for block in _blocks(event) if block.get("type") in _TABLES]
    if tables:
        yield text_of(tables)
    said = "".join(raw_text(event).split())
    for block in _blocks(event):
        if block.get("type") not in {"rich_text", *_TABLES}:
            text = text_of([block])
            if "".join(text.split()) not in said:
                yield text


def _is_message(attachment: Event) -> bool:
    return bool(attachment.get("is_share") or attachment.get("is_msg_unfurl"))


def _inner_blocks(attachment: Event) -> list[Event]:
    """Blocks of an attachment; those of a shared message lie two levels deeper."""
    shared = (part.get("message") or {} for part in attachment.get("message_blocks") or ())
    inner = [block for message in shared for block in message.get("blocks") or ()]
    return inner or list(attachment.get("blocks") or ())


def _texts(attachment: Event) -> list[str]:
    """Title, text and the like, in Slack's markup."""
    blocks = text_of(_inner_blocks(attachment))
    if blocks:
        return [blocks]
    fields = attachment.get("fields") or ()
    parts = [str(attachment.get(key) or "") for key in ("pretext", "title", "text")]
    parts += [f"{field.get('title', '')}: {field.get('value', '')}" for field in fields]
    parts.append(str(attachment.get("footer") or "") if not _is_message(attachment) else "")
    found = [part for part in parts if part.strip(" :")]
    return found or [written(str(attachment.get("fallback") or ""))]


def _attachment(attachment: Event, read: Callable[[str], str]) -> str:
    texts = [read(text) for text in _texts(attachment)]
    if not _is_message(attachment):
        if any(block.get("type") in _TABLES for block in _inner_blocks(attachment)):
            return "\n".join(texts)
        return wording.preview([str(attachment.get("author_name") or ""), *texts])
    said = "\n".join(text for text in texts if text)
    files = files_of(attachment)
    if files:
        said = f"{said} {wording.with_files(files)}" if said else "; ".join(files)
    author = str(attachment.get("author_name") or attachment.get("author_subname") or "")
    return wording.forwarded(said, author) if said else ""


def _file(file: Event) -> str:
    name = str(file.get("title") or file.get("name") or "")
    words = str(file.get("alt_txt") or file.get("preview") or "")
    return wording.file(str(file.get("mimetype") or ""), name, wording.shortened(words, 300))
