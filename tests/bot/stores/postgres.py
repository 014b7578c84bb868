"""A private PostgreSQL server on a loopback port, gone when the tests are."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import asyncpg

PASSWORD = "letters-to-a-friend"


def binaries() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; Debian keeps them off the PATH."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3])
    )
    return versions[-1].parent if versions else None


class PostgresServer:
    """Started by `start`; `empty_database` gives the URL of a database with nothing in it."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="friend-postgres-"))
        self._user = self._unprivileged_user()
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb",
            *("--pgdata", str(self._folder / "data"), "--username", "friend", "--no-sync"),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8"),
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off"
        self._control("start", "-o", options, "-l", str(self._folder / "log"))

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def empty_database(self) -> str:
        """Empty the one database there is (making one for each test takes longer)."""
        empty = (
            "SET lock_timeout = '10s'; SET client_min_messages = 'warning';"
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
        )
        with asyncio.Runner() as runner:
            runner.run(self._execute(empty))
        return self.url()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql+asyncpg://friend:{password}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url().replace("+asyncpg", ""))
        await connection.execute(sql)
        await connection.close()

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "--wait", "--pgdata", str(self._folder / "data"), *options)

    def _run(self, program: str, *arguments: str) -> None:
        # The server inherits what pg_ctl has open: with a pipe for output this would never return.
        with (self._folder / "output").open("ab") as output:
            done = subprocess.run(
                [self._binaries / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                user=self._user,
                check=False,
                timeout=60,
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{(self._folder / 'output').read_text()}")

    @staticmethod
    def _unprivileged_user() -> str | None:
        """PostgreSQL refuses to run as root; None where we are somebody else already."""
        if os.geteuid() != 0:
            return None
        names = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in names else "nobody"
