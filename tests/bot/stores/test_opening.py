"""Finding, making and migrating a history."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import downgrade, upgrade
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from bot.errors import StoreFailed
from bot.stores import default_url, open_store
from bot.stores.migrations import alembic_config
from bot.stores.schema import HEAD, VERSION_TABLE, metadata
from bot.stores.transactions import begin
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import ANN, KITCHEN, LOBBY, message


async def on(url: str, work: object, *arguments: object) -> object:
    """Run a function of a synchronous connection in one transaction."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def leave_beginning_to_us(connection: object, _record: object) -> None:
            connection.isolation_level = None  # type: ignore[attr-defined]

        event.listen(engine.sync_engine, "begin", begin)
    async with engine.begin() as connection:
        result = await connection.run_sync(work, *arguments)  # type: ignore[arg-type]
    await engine.dispose()
    return result


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_the_default_is_a_file_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    folder = Path.home() / ".local" / "share" / "friend"
    assert default_url() == f"sqlite+aiosqlite:///{folder / 'history.sqlite3'}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    store = await open_store(default_url())
    await store.close()
    assert stat.S_IMODE((folder / "history.sqlite3").stat().st_mode) == 0o600


def test_the_default_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_url().endswith("/data/friend/history.sqlite3")
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    assert "/.local/share/friend/" in default_url()
    monkeypatch.setattr("sys.platform", "darwin")
    assert "/Library/Application Support/friend/" in default_url()


def test_a_data_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreFailed, match=r"file/friend cannot be made .*FRIEND_STORE_URL"):
        default_url()


@pytest.mark.parametrize(
    "address", ["", "nonsense", "mysql://user:hunter2@host/db", "postgresql+psycopg://hunter2@h/d"]
)
async def test_an_address_friend_cannot_use(address: str) -> None:
    with pytest.raises(StoreFailed, match="not an address friend can use") as caught:
        await open_store(address)
    assert "hunter2" not in str(caught.value)


async def test_an_address_may_leave_out_the_driver_and_use_the_home(clock: Clock) -> None:
    store = await open_store("sqlite:///~/deep/er/history.sqlite3", clock=clock)
    await store.accept(message(sent_at=clock.now), reply_key=None)
    await store.close()
    assert (Path.home() / "deep" / "er" / "history.sqlite3").is_file()


async def test_a_history_in_memory(clock: Clock) -> None:
    store = await open_store("sqlite+aiosqlite:///:memory:", clock=clock)
    said = [message(sent_at=clock.now) for _ in range(20)]
    await asyncio.gather(*(store.accept(one, reply_key=None) for one in said))
    assert len(await store.window(LOBBY)) == 20
    assert await store.forget_person("discord", ANN.id) == 20
    await store.close()


def test_the_named_revision_is_the_newest() -> None:
    config = alembic_config(None)  # type: ignore[arg-type]
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_migrations_make_the_tables_the_code_expects(url: str) -> None:
    def first_to_newest(connection: Connection) -> list[object]:
        config = alembic_config(connection)
        revisions = [
            script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
        ]
        for revision in reversed(revisions):
            upgrade(config, revision)
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert await on(url, first_to_newest) == []

    def back(connection: Connection) -> set[str]:
        downgrade(alembic_config(connection), "base")
        return tables(connection)

    assert await on(url, back) == {VERSION_TABLE}


async def test_a_history_of_the_first_schema_is_brought_up(url: str, clock: Clock) -> None:
    def old(connection: Connection) -> None:
        upgrade(alembic_config(connection), "0001")
        now = "2026-03-01 11:59:00" + ("" if connection.dialect.name == "sqlite" else "+00")
        for statement in (
            (
                "INSERT INTO conversations "
                "(platform, space, channel, thread, window_start, active_at) "
                f"VALUES ('discord', 'guild', 'lobby', '', 0, '{now}'), "
                f"('discord', 'guild', 'kitchen', '', 0, '{now}')"
            ),
            (
                "INSERT INTO turns (conversation_id, role, text, person_id, person_name, answers, "
                "is_dropped, sent_at) VALUES "
                f"(1, 'user', 'hi', 'U1', 'Ann', NULL, (1 = 0), '{now}'), "
                f"(1, 'assistant', 'hello', 'U1', 'Ann', 1, (1 = 0), '{now}'), "
                f"(2, 'user', 'and you?', 'U1', 'Ann', NULL, (1 = 0), '{now}')"
            ),
            (
                "INSERT INTO replies "
                "(key, conversation_id, turn_id, author_id, author_name, address, "
                "state, parts, is_apology, created_at) VALUES "
                f"('k1', 1, 1, 'U1', 'Ann', '{{}}', 'done', '[]', (1 = 0), '{now}'), "
                f"('k2', 2, 3, 'U1', 'Ann', '{{}}', 'queued', '[]', (1 = 0), '{now}')"
            ),
        ):
            connection.execute(text(statement.replace(":", r"\:")))

    await on(url, old)
    store = await open_store(url, clock=clock)
    assert [turn.text for turn in await store.window(LOBBY)] == ["hi", "hello"]
    assert await store.is_friend_thread(LOBBY)
    day = timedelta(days=1)
    (owed,) = await store.claim("discord", not_before=clock.now - day)
    assert (owed.key, owed.turn_id, owed.conversation) == ("k2", 3, KITCHEN)
    assert await store.accept(message(sent_at=clock.now), reply_key="k3", words="Slowly!")
    assert await store.finish("k3", ["m"]) == frozenset()
    await store.close()


async def test_opening_leaves_a_current_history_alone(url: str, clock: Clock) -> None:
    for _ in range(2):
        store = await open_store(url, clock=clock)
        await store.accept(message(event_id="e1", sent_at=clock.now), reply_key=None)
        assert len(await store.window(LOBBY)) == 1
        await store.close()


async def test_several_open_a_new_history_at_once(url: str) -> None:
    stores = await asyncio.gather(*(open_store(url) for _ in range(6)))
    for store in stores:
        assert await store.window(LOBBY) == []
        await store.close()


async def test_a_history_of_a_newer_friend(url: str) -> None:
    await (await open_store(url)).close()
    newer = text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    await on(url, lambda connection: connection.execute(newer) and None)
    with pytest.raises(StoreFailed, match=r"newer version of friend \(schema 9999.*Update friend"):
        await open_store(url)


async def test_a_failed_migration_leaves_nothing_behind(url: str) -> None:
    foreign = text("CREATE TABLE events (id INTEGER)")
    await on(url, lambda connection: connection.execute(foreign) and None)
    with pytest.raises(StoreFailed):
        await open_store(url)
    assert await on(url, tables) == {"events"}


async def test_settings_of_an_sqlite_connection(sqlite_url: str, tmp_path: Path) -> None:
    store = await open_store(sqlite_url)

    async def pragma(name: str) -> object:
        return await store._database.read(
            lambda connection: connection.scalar(text(f"PRAGMA {name}"))
        )

    full = 2
    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == full
    assert await pragma("foreign_keys") == 1
    assert await pragma("secure_delete") == 1
    await store.close()
    with sqlite3.connect(tmp_path / "history.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
