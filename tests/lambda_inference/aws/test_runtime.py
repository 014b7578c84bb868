"""The runtime's parts, and the runtime under AWS's own emulator.

Its life in Lambda is in tests/e2e/lambda_scenarios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_inference.aws.runtime_reply import BrokenOff, Reply, TimeIsUp, ending
from lambda_inference.errors import DeadlinePassed
from lambda_inference.serving.service import HttpResponse
from lambda_inference.serving.wire import ChunkWriter
from tests.lambda_inference.aws.runtime_emulator import emulated, emulator_binary
from tests.lambda_inference.aws.test_handler import HI, event
from tests.lambda_inference.conftest import ROOT
from tests.lambda_inference.test_imports import NEVER, NOT_IN_LAMBDA

pytestmark = getattr(pytest.mark, "lambda")

CHUNKS = ChunkWriter("chatcmpl-1", 5, "tiny", "fp_1")


def _events(data: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_reply_cut_by_the_clock_ends_as_one_that_is_long_enough() -> None:
    (end,) = _events(ending(CHUNKS.text("hello"), "req_1"))
    assert end["id"] == "chatcmpl-1"
    assert end["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    ]


@pytest.mark.parametrize("last", [CHUNKS.role(), b"", b"data: []\n\n", b": comment\n\n"])
def test_nothing_said_by_the_time_limit_is_an_error(last: bytes) -> None:
    (end,) = _events(ending(last, "req_1"))
    assert end["error"]["code"] == "deadline_passed"
    assert end["error"]["type"] == DeadlinePassed.kind
    assert end["error"]["request_id"] == "req_1"


class _Stream(Iterator[bytes]):
    """A, B, then what `last` does; knows whether it was closed."""

    def __init__(self, last: Any) -> None:
        self._steps = iter([lambda: b"A", lambda: b"B", last])
        self.closed = threading.Event()

    def __next__(self) -> bytes:
        return next(self._steps)()

    def close(self) -> None:
        self.closed.set()


def _begun(stream: _Stream) -> Reply:
    reply = Reply(lambda: HttpResponse(200, {}, stream))
    reply.start()
    assert reply.response(time.monotonic() + 5).status == 200
    return reply


def test_a_reply_is_read_as_it_is_made() -> None:
    stream = _Stream(lambda: b"C")
    reply = _begun(stream)
    assert list(reply.chunks(time.monotonic() + 5)) == [b"A", b"B", b"C"]
    assert reply.ended(time.monotonic() + 5)
    assert stream.closed.is_set()


def test_a_reply_that_hangs_gives_what_it_has() -> None:
    go_on = threading.Event()
    stream = _Stream(lambda: b"C" if go_on.wait() else b"")
    reply, got = _begun(stream), list[bytes]()
    with pytest.raises(TimeIsUp):
        got.extend(reply.chunks(time.monotonic() + 0.2))
    assert got == [b"A", b"B"]
    reply.leave()
    assert not reply.ended(time.monotonic() + 0.1)
    go_on.set()
    assert reply.ended(time.monotonic() + 5)
    assert stream.closed.is_set()


def test_a_reply_that_breaks_says_so() -> None:
    reply = _begun(_Stream(lambda: b"%d" % (1 // 0)))
    with pytest.raises(BrokenOff, match="ZeroDivisionError"):
        list(reply.chunks(time.monotonic() + 5))
    before = Reply(lambda: HttpResponse(1 // 0, {}, b""))
    before.start()
    refused = before.response(time.monotonic() + 5)
    assert refused.status == 500
    assert isinstance(refused.body, bytes)
    assert json.loads(refused.body)["error"]["code"] == "internal_error"


RUNTIME = """
import json, sys, time
from lambda_inference.aws import runtime
from lambda_inference.aws.handler import function
from lambda_inference.aws.runtime_api import Invocation

class Api:
    def respond(self, request_id, body):
        assert json.loads(body)["statusCode"] == 200, body

event = sys.argv[1].encode()
one = runtime.Runtime(Api(), function(), streaming=False)
assert one._answer(Invocation("id", event, time.time() + 60))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_it_imports_only_what_a_request_needs(model_file: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", RUNTIME, json.dumps(event())],
        cwd=ROOT, env=os.environ | {"FRIEND_MODEL_FILE": str(model_file)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    modules = set(json.loads(result.stdout.splitlines()[-1]))
    assert not modules & (NEVER | NOT_IN_LAMBDA)


@pytest.mark.e2e
@pytest.mark.slow
def test_it_answers_under_the_real_emulator(model_file: Path, tmp_path: Path) -> None:
    emulator_binary()
    log = tmp_path / "log"
    with (
        emulated(
            "", cwd=ROOT, log=log, runtime="lambda_inference.aws.runtime",
            FRIEND_MODEL_FILE=str(model_file), FRIEND_MODEL_THREADS="1",
        ) as url,
        httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=60) as client,
    ):  # fmt: skip
        assert client.post(url, json={"warm": True}).json()["warm"] is True, log.read_text()
        # This emulator has no Function URL: what the runtime streams is what comes.
        streamed = client.post(url, json=event({**HI, "stream": True})).content
        prelude, _, body = streamed.partition(b"\0" * 8)
        assert json.loads(prelude)["statusCode"] == 200
        assert body.endswith(b"data: [DONE]\n\n")
        direct = event()
        direct["requestContext"]["domainName"] = "x.execute-api.eu-west-1.amazonaws.com"
        result = client.post(url, json=direct).json()
        assert json.loads(result["body"])["object"] == "chat.completion"
