"""The handler under awslambdaric and AWS's own emulator of Lambda's runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lambda_inference.aws.runtime_emulator import emulated, emulator_binary
from tests.lambda_inference.aws.test_handler import HI, event
from tests.lambda_inference.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
pytest.importorskip("awslambdaric")


@pytest.fixture(scope="module")
def invoke(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    emulator_binary()
    log = tmp_path_factory.mktemp("emulator") / "log"
    with (
        emulated(
            "lambda_inference.aws.handler.handler", cwd=ROOT, log=log,
            FRIEND_MODEL_FILE=str(model_file), FRIEND_MODEL_THREADS="1",
        ) as url,
        httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=60) as client,
    ):  # fmt: skip

        def call(payload: Any) -> Any:
            response = client.post(url, content=json.dumps(payload))
            assert response.status_code == 200, log.read_text()
            return response.json()

        yield call


def test_a_function_url_event_is_answered_under_the_real_emulator(invoke: Any) -> None:
    result = invoke(event())
    assert result["statusCode"] == 200, result
    answer = json.loads(result["body"])
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]


def test_the_same_environment_goes_on_from_its_state(invoke: Any) -> None:
    first = json.loads(invoke(event())["body"])
    second = json.loads(invoke(event())["body"])
    assert second["choices"] == first["choices"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_warm_ping_is_answered_under_the_real_emulator(invoke: Any) -> None:
    assert invoke({"warm": True})["warm"] is True


def test_refusals_come_through_the_real_emulator(invoke: Any) -> None:
    result = invoke(event({**HI, "n": 99}))
    assert result["statusCode"] == 400
    assert json.loads(result["body"])["error"]["param"] == "n"
    assert invoke(event(about={}))["statusCode"] == 401
