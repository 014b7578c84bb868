"""The process: when it says it is ready, when it ends, what it refuses to do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_inference.errors import SettingsError
from lambda_inference.serving.serve import check_exposure, is_loopback
from lambda_inference.settings import ServerSettings
from tests.lambda_inference.conftest import ROOT, running


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lambda_inference", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.e2e
def test_it_goes_when_its_parent_goes(model_file: Path) -> None:
    with running(model_file) as server:
        assert httpx.get(f"{server.url}/healthz").status_code in (200, 503)
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(timeout=20) == 0


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_reply_under_way_end(
    model_file: Path, endless: dict[str, Any], number: signal.Signals
) -> None:
    with running(model_file) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while client.get("/healthz").status_code != 200:
                time.sleep(0.02)
            body = {**endless, "stream": True, "max_tokens": 400}
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                server.process.send_signal(number)
                rest = [line for line in lines if line]
            assert rest[-1] == "data: [DONE]"
        assert server.process.wait(timeout=20) == 0


@pytest.mark.e2e
def test_broken_weights_leave_the_server_up_to_say_so(model_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model_file.read_bytes()[:-5000])
    with running(broken) as server, httpx.Client(base_url=server.url) as client:
        end = time.monotonic() + 20
        while (health := client.get("/healthz")).json()["status"] == "loading":
            assert time.monotonic() < end
            time.sleep(0.02)
        assert health.status_code == 503
        assert "broken.gguf" in health.json()["error"]
        assert client.get("/v1/models").json()["error"]["code"] == "model_unavailable"


@pytest.mark.e2e
def test_a_model_that_is_none_ends_it_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "foreign.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    for name in ("missing.gguf", "foreign.gguf"):
        result = command("serve", "--port", "0", "--model", str(tmp_path / name))
        assert result.returncode == 1
        assert result.stderr.startswith("friend serve: ")
        assert name in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_strangers_are_not_let_in_without_a_key(host: str) -> None:
    with pytest.raises(SettingsError, match="FRIEND_SERVER_KEY"):
        check_exposure(ServerSettings(host=host))
    check_exposure(ServerSettings(host=host, key="k"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(ServerSettings(host=host))


@pytest.mark.e2e
def test_the_command_says_what_is_wrong_in_one_line() -> None:
    result = command("serve", "--host", "0.0.0.0", "--port", "0")
    assert result.returncode == 1
    assert result.stderr.startswith("friend serve: Listening on 0.0.0.0")
    assert result.stdout == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = command("serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "Cannot listen on 127.0.0.1" in result.stderr
    result = command("serve", FRIEND_SERVER_QUEUE="many")
    assert (result.returncode, "FRIEND_SERVER_QUEUE" in result.stderr) == (1, True)
    assert command().returncode == 2


def test_help_names_the_command_that_people_type() -> None:
    answer = command("serve", "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: friend serve ")
    assert "FRIEND_MODEL_FILE" in answer.stdout


def test_a_place_in_the_queue_is_left_once() -> None:
    from lambda_inference.serving.slots import Slots

    slots = Slots(1, 0)
    ticket = slots.enter()
    assert ticket.wait(None, threading.Event().is_set)
    ticket.leave()
    ticket.leave()
    assert slots.enter().wait(None, lambda: False)
