"""A line in, a reply out: friend in a pipe."""

from __future__ import annotations

import asyncio
import codecs
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import TextIO

from bot.platforms.terminal import texts
from bot.platforms.terminal.commands import SlashCommand, UnknownCommand, read_command
from bot.platforms.terminal.exchange import Exchange

_CHUNK_BYTES = 65536


async def talk_plainly(
    exchange: Exchange,
    lines: AsyncIterator[str],
    *,
    out: TextIO,
    err: TextIO,
    cause: Callable[[], str],
) -> int:
    """Answer each line with a line, in order; return the exit status.

    Blank lines are passed over. A reply of several lines comes in one, so that the lines of input
    and output can be paired. A line without a reply is explained on `err`, the others still get
    theirs, and the status is 1.

    Args:
        cause: what the log last said about a failure, or "".
    """
    status = 0
    number = 0
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            command = read_command(line)
        except UnknownCommand as unknown:
            print(texts.unknown_command(unknown.word), file=err, flush=True)
            status = 1
            continue
        if command is SlashCommand.QUIT:
            break
        if command is None or command is SlashCommand.AGAIN:
            answer = await exchange.ask("again" if command else line)
            if answer.failed:
                problem = texts.no_reply_to_line(number, answer.text, cause())
                print(problem, file=err, flush=True)
                status = 1
                continue
            said = answer.text
        else:
            said = await _obey(exchange, command)
        print(_in_one_line(said), file=out, flush=True)
    return status


async def _obey(exchange: Exchange, command: SlashCommand) -> str:
    match command:
        case SlashCommand.RESET:
            return await exchange.reset()
        case SlashCommand.FORGET_ME:
            return await exchange.forget()
        case SlashCommand.ABOUT:
            return exchange.about()
        case _:
            return texts.PLAIN_HELP + ", ".join(SlashCommand)


def _in_one_line(text: str) -> str:
    return " ".join(part.strip() for part in text.splitlines() if part.strip())


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """Lines of a pipe, a file or a terminal, as UTF-8; what is not becomes replacement marks.

    A thread reads, because event loops cannot wait for files; it is a daemon on a bare descriptor,
    so that a pending read keeps nobody from leaving.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        while True:
            try:
                chunk = os.read(descriptor, _CHUNK_BYTES)
            except OSError:
                chunk = b""
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            except RuntimeError:
                return
            if not chunk:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    while chunk := await arrived.get():
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in whole:
            yield line
    if rest := rest + decoder.decode(b"", final=True):
        yield rest
