"""A message as it is remembered: all that was said with it, in one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bot.core.cleaning import clean_incoming
from bot.core.conversation import IncomingMessage, Quote, Role, Turn
from bot.core.wording import answering, with_files


def cleaned(message: IncomingMessage) -> IncomingMessage:
    """The message without what no model should read."""
    quote = message.quote
    if quote is not None:
        quote = replace(quote, text=clean_incoming(quote.text))
    return replace(
        message,
        text=clean_incoming(message.text),
        beside=clean_incoming(message.beside),
        files=tuple(clean_incoming(file) for file in message.files),
        quote=quote,
    )


def in_words(message: IncomingMessage, turns: Sequence[Turn]) -> IncomingMessage:
    """The message with everything that was said in its text; "" if only files came.

    What it answers stands before its words, unless that is what the conversation heard last.

    Args:
        turns: of the conversation, the message's own perhaps among them.
    """
    quote = message.quote
    parts = [message.text, message.beside]
    if quote is not None and quote.text and not _is_last(quote, _before(message, turns)):
        parts.insert(0, answering(quote.speaker or "you", quote.text))
    parts = [part for part in parts if part]
    if parts:
        parts.append(with_files(message.files))
    text = "\n".join(part for part in parts if part)
    return replace(message, text=text, beside="", quote=None)


def _before(message: IncomingMessage, turns: Sequence[Turn]) -> Turn | None:
    earlier: Turn | None = None
    for turn in turns:
        if turn.message_id == message.message_id:
            break
        earlier = turn
    return earlier


def _is_last(quote: Quote, turn: Turn | None) -> bool:
    """Whether the turn is what is quoted: its message, or one of several that a reply became."""
    if turn is None:
        return False
    is_part = quote.speaker is None and turn.role is Role.FRIEND and quote.text in turn.text
    return is_part or turn.message_id == quote.message_id
