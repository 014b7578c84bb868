"""Init, time limits, freezing: what Lambda does to a process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from inference_client import ServerFailed
from lambda_inference.aws.runtime import reseed
from tests.e2e.lambda_scenarios.conftest import FunctionMaker
from tests.e2e.lambda_scenarios.talking import (
    CHAT,
    HELLO,
    KEYS,
    chat_body,
    client,
    long_reply,
    talk,
)
from tests.fakes.aws_lambda import FunctionError, Limits

pytestmark = [pytest.mark.e2e, getattr(pytest.mark, "lambda")]

TELL = {"do": "tell"}


async def test_a_slow_load_goes_on_in_the_first_call(friend: FunctionMaker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with friend("load-gate", gate, keys=KEYS) as function, client(function) as model:
        ping = await function.invoke({"warm": True})
        assert ping == {"statusCode": 200, "warm": True, "model": "loading"}
        assert not gate.exists()  # ready in time, without the model
        gate.touch()
        assert (await model.chat(HELLO, long_reply(3))).usage.completion_tokens == 3
        assert (await function.invoke({"warm": True}))["model"] == "ok"
        assert function.started == 1  # init did not run again
        await function.settle()
        assert [report.cold for report in function.reports] == [True, False, False]


async def test_a_model_that_proves_broken_after_init_ends_its_environment(
    friend: FunctionMaker, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with friend("load-fails", gate, keys=KEYS) as function, client(function) as model:
        await function.invoke({"warm": True})
        await function.settle()  # it asks for its next event, and ends only with that one
        gate.touch()
        with pytest.raises(ServerFailed, match="The model is broken, to order"):
            await model.chat(HELLO)
        await function.settle()
        assert function.reports[-1].error == "Runtime.ExitError"
        assert function.environments == []


async def test_init_overrun_runs_again_in_the_call(toy: FunctionMaker, tmp_path: Path) -> None:
    slow = ("slow-init", tmp_path / "marker", "60")
    async with toy(*slow, limits=Limits(init_s=0.5)) as function:
        assert (await function.invoke(TELL))["pid"]
        assert function.started == 2
        assert any("Init timed out after 0.50 seconds" in line for line in function.log)


async def test_an_init_that_never_ends_costs_the_call(toy: FunctionMaker) -> None:
    async with toy("no-init", timeout_s=0.5, limits=Limits(init_s=0.3)) as function:
        with pytest.raises(FunctionError, match="timed out"):
            await function.invoke(TELL)
        assert function.environments == []


async def test_an_init_error_is_told(toy: FunctionMaker) -> None:
    async with toy("init-error") as function:
        with pytest.raises(FunctionError, match=r"Toy\.Broken: it is broken"):
            await function.invoke(TELL)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FRIEND_MODEL_FILE": "/nowhere.gguf"}, r"ModelUnavailable: There is no model at"),
        ({"FRIEND_SERVER_QUEUE": "many"}, r"SettingsError: FRIEND_SERVER_QUEUE is 'many'"),
    ],
)
async def test_a_runtime_that_cannot_start_says_why(
    friend: FunctionMaker, variables: dict[str, str], words: str
) -> None:
    async with friend(environment=variables, keys=KEYS) as function, client(function) as model:
        with pytest.raises(FunctionError, match=words):
            await function.invoke({"warm": True})
        with pytest.raises(ServerFailed, match="502"):
            await model.chat(HELLO)


@pytest.mark.parametrize("stream", [True, False])
async def test_timeout_a_reply_ends_before_the_limit(friend: FunctionMaker, stream: bool) -> None:
    async with (
        friend("slow", "0.05", keys=KEYS, timeout_s=3.0) as function,
        client(function) as model,
    ):
        options = long_reply(1000)
        reply = await (talk(model, options) if stream else model.chat(HELLO, options))
        assert reply.finish_reason == "length"
        assert 5 < reply.usage.completion_tokens < 1000
        await function.settle()
        assert function.reports[-1].error is None
        assert 1000 < function.reports[-1].duration_ms < 3000
        assert await function.invoke({"warm": True})  # by the same process
        assert function.started == 1


async def test_a_hanging_engine_is_cut_off_before_lambda_kills_it(friend: FunctionMaker) -> None:
    async with friend("hang", keys=KEYS, timeout_s=3.0) as function, client(function) as model:
        async with model.stream(HELLO, long_reply(40)) as reply:
            words = [text async for text in reply]
        assert words
        assert reply.final.finish_reason == "length"
        await function.settle()
        # It ended itself, as its thread is lost; the next request has a new one.
        assert function.reports[-1].error == "Runtime.ExitError"
        assert function.reports[-1].duration_ms < 3000
        assert (await model.chat(HELLO, long_reply(5))).usage.completion_tokens == 5
        assert function.started == 2


async def test_a_hanging_engine_without_a_stream_is_a_504(friend: FunctionMaker) -> None:
    key = {"FRIEND_SERVER_KEY": "sesame"}
    async with (
        friend("hang", environment=key, timeout_s=3.0) as function,
        httpx.AsyncClient(base_url=function.url, timeout=30) as http,
    ):
        http.headers["authorization"] = "Bearer sesame"
        response = await http.post(CHAT, json=chat_body(40))
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_passed"


async def test_a_stopped_process_is_killed_and_the_next_request_works(
    friend: FunctionMaker,
) -> None:
    async with friend(keys=KEYS, timeout_s=3.0) as function, client(function) as model:
        await model.chat(HELLO, long_reply(2))
        await function.settle()
        (environment,) = function.environments
        assert environment.process is not None
        environment.frozen = False  # so that it is handed an event, and stays stopped
        with pytest.raises(ServerFailed, match="502"):
            await model.chat(HELLO, long_reply(2))
        await function.settle()
        assert function.reports[-1].error == "Sandbox.Timedout"
        assert environment.process.returncode == -signal.SIGKILL
        assert (await model.chat(HELLO, long_reply(2))).usage.completion_tokens == 2
        assert function.started == 2


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"do": "sleep", "seconds": 60}, "Sandbox.Timedout"),
        ({"do": "exit", "status": 3}, "Runtime.ExitError"),
        ({"do": "fail"}, "Toy.Error"),
    ],
)
async def test_the_emulator_ends_what_misbehaves(
    toy: FunctionMaker, order: dict[str, object], error: str
) -> None:
    async with toy(timeout_s=1.0) as function:
        before = await function.invoke(TELL)
        async with httpx.AsyncClient(base_url=function.url) as http:
            response = await http.post("/", json=order)
            assert (response.status_code, response.json()) == (
                502, {"Message": "Internal Server Error"},
            )  # fmt: skip
        await function.settle()
        assert function.reports[-1].error == error
        after = await function.invoke(TELL)
        assert (after["pid"] == before["pid"]) is (error == "Toy.Error")


async def test_too_much_memory_kills(toy: FunctionMaker) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is watched through /proc")
    async with toy(memory_mb=60) as function:
        with pytest.raises(FunctionError, match="SIGKILL"):
            await function.invoke({"do": "eat", "mb": 100})
        assert any("out of memory" in line for line in function.log)


async def test_freeze_and_thaw_nothing_runs_between_requests(friend: FunctionMaker) -> None:
    async with friend(keys=KEYS) as function, client(function) as model:
        first = await model.chat(HELLO, long_reply(5))
        await function.settle()
        (environment,) = function.environments
        assert environment.process is not None
        async with asyncio.timeout(20):
            while _state(environment.process.pid) != "T":
                await asyncio.sleep(0.01)
        used = _cpu_ticks(environment.process.pid)
        await asyncio.sleep(0.3)
        assert _cpu_ticks(environment.process.pid) == used
        second = await model.chat(HELLO, long_reply(5))
        assert second.text == first.text
        assert second.usage.cached_tokens > 0
        assert function.started == 1


async def test_without_freezing_it_runs_on(toy: FunctionMaker) -> None:
    async with toy(freeze=False) as function:
        told = await function.invoke(TELL)
        await function.settle()
        assert _state(told["pid"]) != "T"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _stat(pid: int) -> list[str]:
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        pytest.skip("the state of a process is read from /proc")
    return stat.read_text().rpartition(")")[2].split()


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _cpu_ticks(pid: int) -> int:
    user, system = _stat(pid)[11:13]
    return int(user) + int(system)


async def test_a_snapshot_is_restored_and_its_random_numbers_renewed(
    friend: FunctionMaker,
) -> None:
    async with friend(keys=KEYS, snapstart=True) as function, client(function) as model:
        replies = {(await model.chat(HELLO)).text for _ in range(4)}
        assert len(replies) > 1
        assert function.started == 1
        assert (await function.invoke({"warm": True}))["model"] == "ok"


def test_reseeding_leaves_no_series_as_it_was() -> None:
    def drawn() -> tuple[float, float]:
        return random.random(), float(np.random.random())

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)

    seed()
    snapshot = drawn()
    seed()
    reseed()
    assert not set(snapshot) & set(drawn())


async def test_idle_environments_are_ended(toy: FunctionMaker) -> None:
    async with toy(idle_s=0.2) as function:
        told = await function.invoke(TELL)
        await function.settle()
        assert len(function.environments) == 1
        end = time.monotonic() + 20
        while function.environments and time.monotonic() < end:
            await asyncio.sleep(0.05)
        assert function.environments == []
        async with asyncio.timeout(20):  # SIGTERM, half a second, SIGKILL
            while _is_alive(told["pid"]):
                await asyncio.sleep(0.05)
        assert (await function.invoke(TELL))["pid"] != told["pid"]


async def test_a_warm_ping_waits_for_nothing(friend: FunctionMaker, tmp_path: Path) -> None:
    never = tmp_path / "never"
    async with friend("load-gate", never, keys=KEYS) as function, client(function) as model:
        assert await model.warm()  # POST / {"warm": true}, as the bot sends it
        async with httpx.AsyncClient() as http:
            response = await http.post(function.invoke_url, content=json.dumps({"warm": True}))
        assert response.json() == {"statusCode": 200, "warm": True, "model": "loading"}
        await function.settle()
        assert len(function.reports) == 2  # the first ping needed no second way
        assert all(report.error is None for report in function.reports)
        assert function.started == 1
