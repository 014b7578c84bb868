"""The Lambda emulator by hand: its command line, and the real runtime's exit without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.aws_lambda.environment import Container
from tests.fakes.aws_lambda.function_url import BadAnswer, HttpAnswer, read_answer, read_prelude

pytestmark = getattr(pytest.mark, "lambda")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def emulator() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.aws_lambda", "--timeout", "5", "--env", "A=b=c", "--",
         sys.executable, "-m", "tests.e2e.lambda_scenarios.toy"],
        cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_the_command_line_serves_until_sigterm(emulator: subprocess.Popen[str]) -> None:
    assert emulator.stdout is not None
    doors = json.loads(emulator.stdout.readline())
    told = httpx.post(doors["url"], json={"do": "tell"}).json()
    again = httpx.post(doors["invoke_url"], json={"do": "tell"}).json()
    assert again["pid"] == told["pid"]
    failed = httpx.post(doors["invoke_url"], json={"do": "fail"})
    assert failed.headers["x-amz-function-error"] == "Unhandled"
    assert failed.json() == {"errorType": "Toy.Error", "errorMessage": "to order"}
    emulator.send_signal(signal.SIGTERM)
    rest = emulator.stdout.read()
    assert emulator.wait(timeout=20) == 0
    assert rest.count("REPORT RequestId") >= 2
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)


def test_the_runtime_says_where_it_runs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "lambda_inference.aws.runtime"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "friend serve" in result.stderr


def test_containers_are_named_by_their_environment() -> None:
    podman = Container.of(["podman", "--root", "/r"])
    assert podman.pause == ["podman", "--root", "/r", "pause", "{environment}"]


async def test_a_prelude_may_come_in_pieces() -> None:
    whole = b'{"statusCode": 201, "headers": {"A": "b", "Content-Length": "9"}}' + b"\0" * 8 + b"x"

    async def pieces(size: int, data: bytes = whole):
        for place in range(0, len(data), size):
            yield data[place : place + size]

    for size in range(1, len(whole) + 1):
        parts = pieces(size)
        head, rest = await read_prelude(parts)
        assert head.status == 201
        assert head.headers["a"] == "b"
        assert "content-length" not in head.headers
        assert rest + b"".join([part async for part in parts]) == b"x"
    for broken in (whole[:-4], b"", b"[]" + b"\0" * 8, b"no" + b"\0" * 8):
        with pytest.raises(BadAnswer):
            await read_prelude(pieces(5, broken))


def test_an_unstreamed_answer_is_the_document_or_what_it_says() -> None:
    assert read_answer(b'{"a": 1}') == (
        HttpAnswer(200, {"content-type": "application/json"}), b'{"a": 1}',
    )  # fmt: skip
    head, body = read_answer(b'{"statusCode": 404, "body": "aGk=", "isBase64Encoded": true}')
    assert (head.status, body) == (404, b"hi")
    with pytest.raises(BadAnswer):
        read_answer(b"\xff")
