"""What a Discord message holds beside its content, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from bot.core import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def words_beside(message: discord.Message, read: Callable[[str], str]) -> str:
    """Forwards, polls and embeds.

    Args:
        read: makes content readable.
    """
    parts = [_forwarded(snapshot, read) for snapshot in message.message_snapshots]
    if message.poll is not None:
        answers = [answer.text or str(answer.emoji or "") for answer in message.poll.answers]
        parts.append(wording.poll(message.poll.question, answers))
    parts += _previews(message.embeds, read)
    return "\n".join(part for part in parts if part)


def files_of(message: discord.Message | discord.MessageSnapshot) -> tuple[str, ...]:
    """Attachments and stickers, each in a few words."""
    files = [_file(attachment) for attachment in message.attachments]
    return (*files, *(f"a sticker, {sticker.name}" for sticker in message.stickers))


def _forwarded(snapshot: discord.MessageSnapshot, read: Callable[[str], str]) -> str:
    parts: Sequence[str] = [read(snapshot.content), *_previews(snapshot.embeds, read)]
    said = "\n".join(part for part in parts if part)
    files = files_of(snapshot)
    if not said:
        said = "; ".join(files)
    elif files:
        said = f"{said} {wording.with_files(files)}"
    return wording.forwarded(said) if said else ""


def _previews(embeds: Iterable[discord.Embed], read: Callable[[str], str]) -> list[str]:
    return [wording.preview(_words(embed, read)) for embed in embeds]


def _words(embed: discord.Embed, read: Callable[[str], str]) -> list[str]:
    fields = [f"{field.name}: {read(field.value or '')}" for field in embed.fields]
    return [
        embed.author.name or "",
        embed.title or "",
        read(embed.description or ""),
        *fields,
        embed.footer.text or "",
    ]


def _file(attachment: discord.Attachment) -> str:
    if attachment.is_voice_message():
        return "a voice message"
    kind = attachment.content_type or ""
    return wording.file(kind, attachment.title or attachment.filename, attachment.description or "")
