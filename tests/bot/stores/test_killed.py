"""kill -9 at any moment, and several processes on one history: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.core.conversation import Role
from bot.stores import open_store
from tests.bot.stores.people import LOBBY, message
from tests.bot.stores.talkative import WHERE

TALKATIVE = Path(__file__).with_name("talkative.py")
KILLS = 4


async def start(url: str, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(TALKATIVE),
        url,
        *options,
        stdout=asyncio.subprocess.PIPE,
        cwd=TALKATIVE.parents[3],
    )


async def until_ready(process: asyncio.subprocess.Process) -> list[list[str]]:
    assert process.stdout is not None
    lines = []
    while (line := await process.stdout.readline()) != b"ready\n":
        assert line, "the process ended before it was ready"
        lines.append(line.decode().split())
    return lines


@pytest.mark.slow
async def test_kill_9_loses_nothing_and_repeats_nothing(url: str) -> None:
    chance = random.Random(20261123)
    accepted: set[str] = set()
    finished: Counter[str] = Counter()
    for life in range(KILLS):
        process = await start(url, "--first", str(life * 100_000), "--recover")
        assert process.stdout is not None
        lines = await until_ready(process)
        await asyncio.sleep(chance.uniform(0.02, 0.4))
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        assert await process.wait() == -signal.SIGKILL
        whole = rest[: rest.rfind(b"\n") + 1].decode()
        lines += [line.split() for line in whole.splitlines()]
        accepted |= {event for done, event in lines if done == "accepted"}
        finished.update(event for done, event in lines if done == "finished")

    assert len(accepted) > KILLS
    assert max(finished.values()) == 1
    store = await open_store(url)
    turns = await store.window(WHERE)
    heard = Counter(turn.message_id[1:] for turn in turns if turn.role is Role.USER)
    said = Counter(turn.message_id[1:] for turn in turns if turn.role is Role.FRIEND)
    owed = Counter(
        reply.key[1:]
        for reply in await store.unfinished(
            "discord", not_before=datetime.now(UTC) - timedelta(hours=1)
        )
    )
    assert accepted <= heard.keys()
    # At most the last message of each life was stored without a word about it.
    assert len(heard.keys() - accepted) <= KILLS
    assert finished.keys() <= said.keys()
    assert owed
    assert said + owed == heard
    assert set(heard.values()) == {1}
    await store.close()


@pytest.mark.slow
async def test_processes_that_share_a_history_accept_each_event_once(url: str) -> None:
    """Three start at once on an empty database (so they race to migrate it, too)."""
    messages = 40
    processes = [await start(url, "--count", str(messages)) for _ in range(3)]
    outputs = [(await process.communicate())[0].decode().splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    accepted = [line.split()[1] for out in outputs for line in out if line.startswith("accepted")]
    assert sorted(accepted, key=int) == [str(number) for number in range(messages)]
    assert all(len(out) > messages for out in outputs), outputs
    store = await open_store(url)
    turns = await store.window(WHERE)
    said = [turn for turn in turns if turn.role is Role.FRIEND]
    assert len(turns) - len(said) == messages
    assert len(said) == messages * 3 // 4
    assert [turn.place for turn in turns] == sorted(turn.place for turn in turns)
    await store.close()


async def test_two_stores_on_one_history_take_turns(url: str) -> None:
    """Every message of one burst is either begun by one store or cancelled by the other."""
    ours, theirs = await open_store(url), await open_store(url)
    for number in range(15):
        now = datetime.now(UTC)
        said = [message(str(number), sent_at=now) for _ in range(2)]
        await ours.accept(said[0], reply_key=f"a{number}")
        await theirs.accept(said[1], reply_key=f"b{number}")
        begun, dropped, again = await asyncio.gather(
            ours.begin_posting([f"a{number}", f"b{number}"], ["x"], is_apology=False),
            theirs.reset(LOBBY),
            theirs.begin_posting([f"b{number}", f"a{number}"], ["y"], is_apology=False),
        )
        await asyncio.gather(
            ours.finish(f"a{number}", [f"A{number}"]),
            theirs.finish(f"b{number}", [f"B{number}"]),
        )
        assert dropped == 2
        assert not (begun and again)
        turns = await ours.window(LOBBY)
        assert turns == []
        assert await ours.unfinished("discord", not_before=now) == []
    await ours.close()
    await theirs.close()
