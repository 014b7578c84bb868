"""A process that accepts and answers messages as fast as it can, and says what it has done.

Run by the tests, which kill it. With `--recover` it first answers what an earlier process still
owed, and says "ready". Each further line is true once it is printed:

    accepted EVENT     the message is stored, with a promise KEY = "k" + EVENT
    known EVENT        it had been accepted before
    finished EVENT     its reply is remembered
    failed SENTENCE    the store gave up
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from bot.core.conversation import ConversationKey, IncomingMessage, Person, ReplyState
from bot.core.ports import Store
from bot.errors import StoreFailed
from bot.stores import open_store

WHERE = ConversationKey("discord", "guild", "lobby")


def say(line: str) -> None:
    print(line, flush=True)


async def answer(store: Store, event_id: str, *, begun: bool = False) -> None:
    key = f"k{event_id}"
    if begun or await store.begin_posting([key], [f"re: {event_id}"], is_apology=False):
        await store.finish(key, [f"r{event_id}"])
        say(f"finished {event_id}")


async def answer_what_others_promised(store: Store) -> None:
    """Answer what this process is to answer, once it is its own; every fourth is left owed."""
    while (promised := await store.owed(WHERE)) is None:
        await asyncio.sleep(0.05)
    for owed in promised:
        if int(owed.key[1:]) % 4:
            await answer(store, owed.key[1:], begun=owed.state is ReplyState.POSTING)


async def talk(options: argparse.Namespace) -> None:
    store = await open_store(options.url)
    not_before = datetime.now(UTC) - timedelta(hours=1)
    for owed in await store.unfinished("discord", not_before=not_before) if options.recover else []:
        await answer(store, owed.key[1:], begun=owed.state is ReplyState.POSTING)
    say("ready")
    for number in count(options.first):
        if options.count is not None and number >= options.first + options.count:
            break
        event_id = str(number)
        message = IncomingMessage(
            event_id, WHERE, f"m{event_id}", Person("U1", "Ann"), "x" * 2000, datetime.now(UTC)
        )
        accepted = await store.accept(message, reply_key=f"k{event_id}")
        say(f"{'accepted' if accepted else 'known'} {event_id}")
        if accepted and number % 4:  # some replies are still owed when the process dies
            await answer(store, event_id)
    await answer_what_others_promised(store)
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--recover", action="store_true")
    parser.add_argument("--file-size-limit", type=int)
    parser.add_argument("--user", type=int)
    options = parser.parse_args()
    if options.user is not None:
        # Somebody else may not be able to read Python's own files: import all there is first.
        asyncio.run(talk(argparse.Namespace(url="sqlite://", first=0, count=1, recover=True)))
        os.seteuid(options.user)
    if options.file_size_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_size_limit,) * 2)
    try:
        asyncio.run(talk(options))
    except StoreFailed as error:
        say(f"failed {error}")


if __name__ == "__main__":
    main()
