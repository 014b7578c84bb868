"""The local model server is started, watched, restarted and never left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from bot.errors import ServerNotStarted
from bot.local_server import LocalServer, serve_command
from bot.settings import ModelSettings

SCRIPT = [sys.executable, str(Path(__file__).parent / "loopback_server.py")]


async def _ask(url: str) -> dict:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).json()


async def _until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


async def test_it_runs_at_the_announced_address_and_is_gone_afterwards() -> None:
    async with LocalServer(SCRIPT) as server:
        answer = await _ask(server.url)
        assert answer["pid"] == server.pid
        assert server.running
    assert not _alive(answer["pid"])


async def test_secrets_of_the_platforms_stay_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("FRIEND_STORE_URL", "postgresql://u:secret@h/d")
    monkeypatch.setenv("LANG", "C.UTF-8")
    async with LocalServer(SCRIPT) as server:
        environment = (await _ask(server.url))["env"]
    assert "DISCORD_TOKEN" not in environment
    assert "FRIEND_STORE_URL" not in environment
    assert environment["LANG"] == "C.UTF-8"


async def test_last_words_are_in_the_error() -> None:
    with pytest.raises(ServerNotStarted, match=r"(?s)exit status 1\).*the model file is torn"):
        async with LocalServer([*SCRIPT, "--fail", "the model file is torn"]):
            pytest.fail("it never started")


async def test_a_silent_server_is_not_waited_for_forever() -> None:
    server = LocalServer([*SCRIPT, "--silent"], start_seconds=1.0)
    with pytest.raises(ServerNotStarted, match="no address within 1 seconds"):
        async with server:
            pytest.fail("it never started")
    assert not server.running


async def test_a_missing_program_is_a_clear_error() -> None:
    with pytest.raises(ServerNotStarted, match="could not be run"):
        async with LocalServer(["/no/such/program"]):
            pytest.fail("it never started")


async def test_a_talkative_server_does_not_block() -> None:
    async with LocalServer([*SCRIPT, "--chatter", "1000000"]) as server:
        assert (await _ask(server.url))["pid"] == server.pid
        await _until(lambda: sum(map(len, server.last_lines)) >= 500_000)


async def test_a_deaf_server_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.local_server._STOP_SECONDS", 0.3)
    async with LocalServer([*SCRIPT, "--deaf"]) as server:
        pid = server.pid
    assert pid is not None
    assert not _alive(pid)


async def test_a_dead_server_comes_back_at_the_same_address() -> None:
    changes: list[bool] = []
    async with LocalServer(SCRIPT, restart_seconds=0.05, on_change=changes.append) as server:
        first = server.pid
        assert first is not None
        url = server.url
        os.kill(first, signal.SIGKILL)
        await _until(lambda: changes == [True, False, True])
        assert server.url == url
        assert (await _ask(url))["pid"] == server.pid != first


async def test_restarts_are_bounded_and_ever_rarer(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    command = [*SCRIPT, "--starts", str(starts), "--only-once"]
    async with LocalServer(command, restart_seconds=0.2, max_restarts=3) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert server._keeper is not None
        await asyncio.wait([server._keeper], timeout=60)
        assert server._keeper.done()
        assert not server.running
    times = [float(line) for line in starts.read_text().split()]
    assert len(times) == 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    assert gaps[1] > gaps[0]


async def test_cancelling_the_start_leaves_nothing() -> None:
    server = LocalServer([*SCRIPT, "--silent"])
    task = asyncio.create_task(server.__aenter__())
    await _until(lambda: server.pid is not None)
    pid = server.pid
    assert pid is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _alive(pid)


def test_it_ends_when_we_are_killed(tmp_path: Path) -> None:
    import subprocess

    program = textwrap.dedent(
        f"""
        import asyncio
        from bot.local_server import LocalServer

        async def main():
            async with LocalServer({SCRIPT!r}) as server:
                print(server.pid, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    root = Path(__file__).parents[2]
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert _alive(pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    end = time.monotonic() + 30
    while _alive(pid):
        assert time.monotonic() < end, "the server outlived its owner"
        time.sleep(0.02)


async def test_our_own_server_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    async with LocalServer(serve_command(ModelSettings())) as server:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{server.url}/v1/models")
        assert answer.status_code == 200
        assert server.running
    assert not server.running


async def test_a_missing_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    command = serve_command(ModelSettings(file=tmp_path / "nothing.gguf"))
    with pytest.raises(ServerNotStarted, match=r"no model at .*nothing\.gguf"):
        async with LocalServer(command):
            pass


async def test_a_broken_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ServerNotStarted, match=r"broken\.gguf"):
        async with LocalServer(serve_command(ModelSettings(file=broken))):
            pass


async def test_a_missing_learnt_state_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    command = serve_command(ModelSettings(state=tmp_path / "pirate.safetensors"))
    with pytest.raises(ServerNotStarted, match=r"no learnt state at .*pirate\.safetensors"):
        async with LocalServer(command):
            pass


def test_the_command_carries_the_settings(tmp_path: Path) -> None:
    command = serve_command(ModelSettings(file=tmp_path / "m.gguf", threads=3))
    assert command[:4] == [sys.executable, "-m", "lambda_inference", "serve"]
    assert command[-4:] == ["--model", str(tmp_path / "m.gguf"), "--threads", "3"]
    assert "--model" not in serve_command(ModelSettings(file=None, threads=0))
