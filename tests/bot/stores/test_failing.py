"""Whatever is wrong with the database: a clear sentence, no password, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.errors import StoreFailed
from bot.stores import open_store
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import LOBBY, message
from tests.bot.stores.postgres import PASSWORD, PostgresServer

TALKATIVE = Path(__file__).with_name("talkative.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


async def test_a_locked_database_is_waited_for(sqlite_url: str, file: Path, clock: Clock) -> None:
    store = await open_store(sqlite_url, clock=clock)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    call = asyncio.create_task(store.accept(message(sent_at=clock.now), reply_key=None))
    await asyncio.sleep(0.2)
    assert not call.done()
    other.execute("COMMIT")
    other.close()
    assert await call
    await store.close()


async def test_a_caller_that_gives_up_while_the_database_is_locked(
    sqlite_url: str, file: Path, clock: Clock
) -> None:
    """What it had begun ends by itself, and holds no lock afterwards."""
    store = await open_store(sqlite_url, clock=clock, patience_seconds=2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said = message(sent_at=clock.now)
    call = asyncio.create_task(store.accept(said, reply_key=None))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.sleep(0)
    other.execute("COMMIT")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await store.accept(said, reply_key=None) is None
    assert await store.reset(LOBBY) == 1
    await store.close()


async def test_a_closed_history_opens_no_connection_any_more(sqlite_url: str, clock: Clock) -> None:
    """Nobody would close it, and the driver's thread would keep the process from ending."""
    store = await open_store(sqlite_url, clock=clock)
    await store.close()
    threads = threading.active_count()
    with pytest.raises(StoreFailed, match="closed"):
        await store.accept(message(sent_at=clock.now), reply_key=None)
    with pytest.raises(StoreFailed, match="closed"):
        await store.window(LOBBY)
    assert threading.active_count() == threads


async def test_a_database_that_stays_locked(sqlite_url: str, file: Path, clock: Clock) -> None:
    store = await open_store(sqlite_url, clock=clock, patience_seconds=0.1)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    said = message(sent_at=clock.now)
    with pytest.raises(StoreFailed, match=f"The history file {file} is locked by another program"):
        await store.accept(said, reply_key="key1")
    other.execute("COMMIT")
    other.close()
    assert await store.accept(said, reply_key="key1")
    await store.close()


async def test_the_loop_goes_on_while_the_database_is_locked(
    sqlite_url: str, file: Path, clock: Clock
) -> None:
    store = await open_store(sqlite_url, clock=clock, patience_seconds=0.5)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    call = asyncio.create_task(store.accept(message(sent_at=clock.now), reply_key=None))
    ticks = 0
    while not call.done():
        await asyncio.sleep(0.01)
        ticks += 1
    with pytest.raises(StoreFailed):
        await call
    assert ticks > 10
    other.close()
    await store.close()


async def open_and_use(url: str, clock: Clock) -> None:
    store = await open_store(url, clock=clock)
    try:
        await store.window(LOBBY)
        await store.accept(message(sent_at=clock.now), reply_key=None)
    finally:
        await store.close()


async def test_a_file_that_is_no_database(sqlite_url: str, file: Path) -> None:
    file.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreFailed, match=f"{file} is not an SQLite database. Move it away"):
        await open_store(sqlite_url)
    assert file.read_text().startswith("Dear diary")


async def test_a_damaged_database(sqlite_url: str, file: Path, clock: Clock) -> None:
    store = await open_store(sqlite_url, clock=clock)
    for _ in range(200):
        await store.accept(message("x" * 1000, sent_at=clock.now), reply_key=None)
    await store.close()
    size = file.stat().st_size
    with file.open("r+b") as damaged:
        damaged.seek(4096 * 4)
        damaged.write(b"\xff" * (size - 4096 * 4))
    with pytest.raises(StoreFailed, match=f"{file} is damaged. Move it away"):
        await open_and_use(sqlite_url, clock)


async def test_a_truncated_database(sqlite_url: str, file: Path, clock: Clock) -> None:
    store = await open_store(sqlite_url, clock=clock)
    for _ in range(200):
        await store.accept(message("x" * 1000, sent_at=clock.now), reply_key=None)
    await store.close()
    os.truncate(file, 4096 * 6 + 100)
    with pytest.raises(StoreFailed, match=f"{file} is damaged"):
        await open_and_use(sqlite_url, clock)


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"folder of the history file .* cannot be made"):
        await open_store(f"sqlite+aiosqlite:///{tmp_path}/file/history.sqlite3")


async def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=f"{tmp_path} cannot be opened. Check that its folder"):
        await open_store(f"sqlite+aiosqlite:///{tmp_path}")


async def talk(*arguments: str) -> list[str]:
    """What a process that talks to the store says until it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TALKATIVE),
        *arguments,
        cwd=TALKATIVE.parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output.decode().splitlines()


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that everybody may look into, outside pytest's own, which is private."""
    with tempfile.TemporaryDirectory(prefix="friend-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


AS_NOBODY = ["--user", "65534"] if os.geteuid() == 0 else []


async def test_a_folder_that_may_not_be_written(foreign_folder: Path) -> None:
    if not AS_NOBODY:
        foreign_folder.chmod(0o555)
    file = foreign_folder / "history.sqlite3"
    *_, line = await talk(f"sqlite+aiosqlite:///{file}", *AS_NOBODY)
    assert line.startswith(f"failed The history file {file} cannot be opened. Check that its")


async def test_a_file_that_may_not_be_written(foreign_folder: Path) -> None:
    file = foreign_folder / "history.sqlite3"
    await (await open_store(f"sqlite+aiosqlite:///{file}")).close()
    file.chmod(0o444)
    if not AS_NOBODY:
        foreign_folder.chmod(0o555)
    *_, line = await talk(f"sqlite+aiosqlite:///{file}", *AS_NOBODY)
    assert line.startswith(f"failed The history file {file} ")
    assert "may not be written. Give friend's user the right" in line


async def test_a_full_database(sqlite_url: str, clock: Clock) -> None:
    store = await open_store(sqlite_url, clock=clock)
    await store._database.write(
        lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 60")
    )
    said = [message("x" * 4000, sent_at=clock.now) for _ in range(100)]
    accepted = 0
    failure = None
    while failure is None:
        try:
            await store.accept(said[accepted], reply_key=None)
            accepted += 1
        except StoreFailed as error:
            failure = str(error)
    assert re.search(r"cannot grow: the disk.* is full\. Free some space", failure)
    assert accepted > 5
    assert len(await store.window(LOBBY)) == accepted
    await store._database.write(
        lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    )
    assert await store.accept(said[accepted], reply_key=None)
    await store.close()


async def test_a_disk_that_takes_no_more(sqlite_url: str) -> None:
    """The kernel refuses the write (a limit on the size of files stands for a full disk)."""
    lines = await talk(sqlite_url, "--file-size-limit", "600000")
    assert lines[-1].startswith("failed The history file"), lines
    assert "full" in lines[-1]
    accepted = [line.split()[1] for line in lines if line.startswith("accepted")]
    assert len(accepted) > 3
    store = await open_store(sqlite_url)
    for event_id in accepted:
        assert not await store.first_sight("discord", event_id)
    await store.close()


@pytest.mark.postgres
async def test_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    url = f"postgresql+asyncpg://friend:{PASSWORD}@127.0.0.1:{unused_tcp_port}/history"
    with pytest.raises(StoreFailed, match=r"cannot be reached .*FRIEND_STORE_URL") as caught:
        await open_store(url, patience_seconds=0.1)
    assert f"127.0.0.1:{unused_tcp_port}" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.postgres
async def test_a_wrong_password(postgres: PostgresServer) -> None:
    with pytest.raises(StoreFailed, match="refuses the user or the password") as caught:
        await open_store(postgres.url(password="hunter2"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.postgres
async def test_a_database_that_does_not_exist(postgres: PostgresServer) -> None:
    with pytest.raises(StoreFailed, match=r"database nowhere at 127\.0\.0\.1.* does not exist"):
        await open_store(postgres.url("nowhere"))


@pytest.mark.postgres
async def test_a_server_that_goes_and_comes_back(postgres: PostgresServer, clock: Clock) -> None:
    url = await asyncio.to_thread(postgres.empty_database)
    patient = await open_store(url, clock=clock, patience_seconds=30)
    hasty = await open_store(url, clock=clock, patience_seconds=0.2)
    first, second, third = (message(sent_at=clock.now) for _ in range(3))
    await patient.accept(first, reply_key="key1")
    await hasty.accept(second, reply_key="key2")
    await asyncio.to_thread(postgres.stop)
    try:
        with pytest.raises(StoreFailed) as caught:
            await hasty.window(LOBBY)
        assert PASSWORD not in str(caught.value)
        waiting = asyncio.create_task(patient.accept(third, reply_key="key3"))
        await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(postgres.start)
    assert await waiting
    assert len(await hasty.window(LOBBY)) == 3
    assert await hasty.accept(first, reply_key="key4") is None
    await patient.close()
    await hasty.close()
