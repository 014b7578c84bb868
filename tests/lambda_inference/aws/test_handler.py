"""Lambda events in, Lambda results out."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lambda_inference.aws.handler import LambdaServer, handler
from lambda_inference.settings import ModelSettings, ServerSettings

pytestmark = getattr(pytest.mark, "lambda")

CHAT = "/v1/chat/completions"
IAM = {"authorizer": {"iam": {"userId": "AIDA", "userArn": "arn:aws:iam::1:user/friend"}}}
HI: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 5,
    "seed": 1,
}


class Context:
    """Lambda's context, with so much time left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def event(body: Any = None, method: str = "POST", path: str = CHAT, **more: Any) -> dict[str, Any]:
    """A Function URL event, payload format 2.0, signed with IAM unless `context` says else."""
    about = more.pop("about", IAM)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "x.lambda-url.aws"},
        "requestContext": {
            "domainName": "x.lambda-url.aws",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1"},
            "requestId": "id",
            "stage": "$default",
            **about,
        },
        "body": body if isinstance(body, str) else json.dumps(HI if body is None else body),
        "isBase64Encoded": False,
        **more,
    }


@pytest.fixture(scope="module")
def function(model_file: Path) -> LambdaServer:
    return LambdaServer(ServerSettings(), ModelSettings(file=str(model_file), threads=1))


def error(result: dict[str, Any]) -> Any:
    return json.loads(result["body"])["error"]


def test_a_function_url_event_is_answered(function: LambdaServer) -> None:
    result = function.handle(event(), Context(30))
    assert result["statusCode"] == 200
    assert result["isBase64Encoded"] is False
    assert result["headers"]["content-type"] == "application/json"
    assert json.loads(result["body"])["choices"][0]["message"]["content"]


def test_a_base64_body_is_the_same_request(function: LambdaServer) -> None:
    encoded = base64.b64encode(json.dumps(HI).encode()).decode()
    results = [
        function.handle(one, None) for one in (event(), event(encoded, isBase64Encoded=True))
    ]
    first, second = (json.loads(result["body"])["choices"] for result in results)
    assert first == second


def test_a_stream_comes_as_all_its_events(function: LambdaServer) -> None:
    result = function.handle(event({**HI, "stream": True}), None)
    assert result["headers"]["content-type"].startswith("text/event-stream")
    assert result["body"].endswith("data: [DONE]\n\n")


def test_api_gateways_stage_is_not_part_of_the_path(function: LambdaServer) -> None:
    staged = event(path=f"/prod{CHAT}", about={**IAM, "stage": "prod"})
    assert function.handle(staged, None)["statusCode"] == 200


def test_health_and_models(function: LambdaServer) -> None:
    models = function.handle(event(method="GET", path="/v1/models", body=""), None)
    assert json.loads(models["body"])["data"][0]["id"] == "tiny"
    assert function.handle(event(method="GET", path="/healthz", body=""), None)["statusCode"] == 200


def test_the_warm_ping_needs_no_model(tmp_path: Path) -> None:
    cold = LambdaServer(ServerSettings(), ModelSettings(file=str(tmp_path / "none")))
    assert cold.handle({"warm": True}, None) == {
        "statusCode": 200, "warm": True, "model": "loading",
    }  # fmt: skip


def test_the_callers_request_id_is_kept(function: LambdaServer) -> None:
    for one in (event(headers={"X-Request-Id": "mine-1"}),
                event({}, headers={"X-Request-Id": "mine-1"}),
                event(5, isBase64Encoded=True, headers={"X-Request-Id": "mine-1"})):  # fmt: skip
        assert function.handle(one, None)["headers"]["x-request-id"] == "mine-1"


@pytest.mark.parametrize("headers", [None, 5, [], {}])
def test_an_event_without_headers_is_answered(function: LambdaServer, headers: Any) -> None:
    assert function.handle(event(headers=headers), None)["statusCode"] == 200


def test_without_iam_a_key_is_needed(model_file: Path) -> None:
    model = ModelSettings(file=str(model_file), threads=1)
    open_function = LambdaServer(ServerSettings(), model)
    result = open_function.handle(event(about={}), None)
    assert (result["statusCode"], error(result)["code"]) == (401, "no_authorisation")
    locked = LambdaServer(ServerSettings(key="sesame"), model)
    assert locked.handle(event(about={}), None)["statusCode"] == 401
    headers = {"Authorization": "Bearer sesame"}
    assert locked.handle(event(about={}, headers=headers), None)["statusCode"] == 200


STRANGE = [
    {}, [], None, "x", {"warm": "yes"}, {"Records": []}, {"requestContext": 5},
    {"requestContext": {"http": 1}},
]  # fmt: skip


@pytest.mark.parametrize("bad", STRANGE)
def test_other_events_are_400(function: LambdaServer, bad: Any) -> None:
    result = function.handle(bad, None)
    assert (result["statusCode"], error(result)["code"]) == (400, "unknown_event")
    assert error(result)["request_id"] == result["headers"]["x-request-id"]


@pytest.mark.parametrize("body", ["%%%", "é", "abc"])
def test_a_body_that_is_not_base64_is_400(function: LambdaServer, body: str) -> None:
    assert function.handle(event(body, isBase64Encoded=True), None)["statusCode"] == 400


def test_a_body_that_is_no_text_or_missing_is_400(function: LambdaServer) -> None:
    for body in ({"a": 1}, None, 5):
        broken = {**event(), "body": body}
        assert function.handle(broken, None)["statusCode"] == 400


def test_the_time_limit_ends_a_reply_before_lambda_does(
    model_file: Path, endless: dict[str, Any]
) -> None:
    model = ModelSettings(file=str(model_file), threads=1)
    function = LambdaServer(ServerSettings(max_tokens_limit=10**9), model)
    function.initialise()
    started = time.monotonic()
    answer = json.loads(function.handle(event(endless), Context(2.5))["body"])
    assert time.monotonic() - started < 2.5
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"]
    late = function.handle(event(), Context(0.5))
    assert (late["statusCode"], error(late)["code"]) == (504, "deadline_passed")


def test_the_entry_point_reads_the_environment(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lambda_inference.aws import handler as module

    monkeypatch.setenv("FRIEND_MODEL_FILE", str(model_file))
    monkeypatch.setenv("FRIEND_MODEL_NAME", "from-the-environment")
    module._server.cache_clear()
    try:
        answer = json.loads(handler(event(), Context(30))["body"])
    finally:
        module._server.cache_clear()
    assert answer["model"] == "from-the-environment"
