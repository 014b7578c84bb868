"""Routing, keys, the queue and the refusals, without a socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambda_inference.model import describe
from lambda_inference.serving.host import LoadedModel, ModelHost
from lambda_inference.serving.service import HttpRequest, HttpResponse, Service
from lambda_inference.settings import ModelSettings, ServerSettings
from lambda_inference.states.cache import StateCache
from lambda_inference.talk.generate import Generator
from lambda_inference.talk.prompt import Message, PromptBuilder
from tests.lambda_inference.scripted import ScriptedEngine

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


class Bench:
    """A service over a scripted engine, which can be held at a token."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        description = describe(folder)
        tokenizer = description.tokenizer()
        words = tokenizer.encode(" hello there")

        def script(history: tuple[int, ...]) -> int:
            said = (
                len(history) - 1 - max(i for i, token in enumerate(history) if token == 2)
                if 2 in history
                else 0
            )
            return words[said] if said < len(words) else 3

        self.engine = ScriptedEngine(tokenizer.vocab_size, script)
        prompts = PromptBuilder(description.template, tokenizer)
        cache = StateCache(1 << 20)
        generator = Generator(self.engine, tokenizer, prompts, cache, key="k")
        self.host = ReadyHost(LoadedModel(description, self.engine, prompts, generator))
        self.service = Service(ServerSettings(temperature=0, **settings), self.host)

    def post(self, body: Any = None, **request: Any) -> HttpResponse:
        document = {"messages": [{"role": "user", "content": "hi"}]} if body is None else body
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.service.handle(
            HttpRequest("POST", CHAT, request.pop("headers", {}), data, **request)
        )

    def get(self, path: str, method: str = "GET", **headers: str) -> HttpResponse:
        return self.service.handle(HttpRequest(method, path, headers))


class ReadyHost(ModelHost):
    """A host whose model is already there."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(ModelSettings(), state_cache_bytes=0)
        self._model = model
        self._started = True
        self._done.set()


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def document(response: HttpResponse) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def error(response: HttpResponse) -> Any:
    found = document(response)["error"]
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["message"]
    return found


def stream(response: HttpResponse) -> Iterator[bytes]:
    assert not isinstance(response.body, bytes)
    return response.body


def test_a_chat_is_answered(bench: Bench) -> None:
    response = bench.post()
    answer = document(response)
    assert response.status == 200
    assert response.headers["x-request-id"].startswith("req_")
    assert answer["choices"][0]["message"]["content"] == "hello there"
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"].startswith("fp_")


def test_models_and_one_model(bench: Bench) -> None:
    listed = document(bench.get("/v1/models"))
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    assert document(bench.get("/v1/models/tiny"))["object"] == "model"
    missing = bench.get("/v1/models/other")
    assert (missing.status, error(missing)["code"]) == (404, "model_not_found")


def test_health_needs_no_key(folder: Path) -> None:
    response = Bench(folder, key="secret").get("/healthz")
    assert (response.status, document(response)["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/v1/completions", "POST", 404), (CHAT, "GET", 405),
     (CHAT + "/", "PUT", 405), ("/v1/models", "POST", 405), ("/healthz", "DELETE", 405)],
)  # fmt: skip
def test_other_paths_and_methods(bench: Bench, path: str, method: str, status: int) -> None:
    response = bench.get(path, method)
    assert response.status == status
    error(response)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic secret", "Bearer secre", "Bearer sécret"]
)
def test_a_wrong_key_is_refused(folder: Path, header: str) -> None:
    response = Bench(folder, key="secret").post(headers={"authorization": header})
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert error(response)["code"] == "invalid_api_key"


def test_the_right_key_or_a_trusted_transport_is_let_in(folder: Path) -> None:
    bench = Bench(folder, key="sécret 1")
    assert bench.post(headers={"authorization": "bearer sécret 1"}).status == 200
    assert bench.post(trusted=True).status == 200


def test_bad_fields_are_400(bench: Bench) -> None:
    response = bench.post({"messages": []})
    assert (response.status, error(response)["param"]) == (400, "messages")
    assert bench.post(b"not json").status == 400


def test_a_large_body_and_a_long_prompt_are_413(folder: Path) -> None:
    bench = Bench(folder, max_body_bytes=2000, max_prompt_tokens=100)
    response = bench.post({"messages": [{"role": "user", "content": "x" * 2000}]})
    assert (response.status, error(response)["code"]) == (413, "body_too_long")
    response = bench.post({"messages": [{"role": "user", "content": "hi " * 200}]})
    assert (response.status, error(response)["code"]) == (413, "context_length_exceeded")
    assert error(response)["param"] == "messages"
    assert bench.post().status == 200, "a refused request gives its place back"


def test_messages_that_the_template_leaves_out_are_400(bench: Bench) -> None:
    body = {"messages": [{"role": "user", "content": "\u2028\u2029 \n"}]}
    assert bench.post(body).status == 400


def test_several_choices_are_given(bench: Bench) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "n": 3}
    answer = document(bench.post(body))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"hello there"}
    words = answer["usage"]["completion_tokens"] // 3
    chunks = [
        json.loads(chunk.removeprefix(b"data: "))
        for chunk in b"".join(stream(bench.post({**body, "stream": True}))).split(b"\n\n")[:-2]
    ]
    texts = ["", "", ""]
    for chunk in chunks:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["hello there"] * 3
    assert words > 0


@pytest.mark.parametrize(
    ("setting", "recommended", "fields", "drafts"),
    [
        (0, 1, {}, 1),
        (0, 4, {}, 4),
        (3, 4, {}, 3),
        (3, 4, {"best_of": 2}, 2),
        (3, 4, {"best_of": 1}, 1),
        (0, 1, {"n": 2}, 2),
        (3, 1, {"n": 2}, 3),
        (3, 1, {"temperature": 0}, 1),
        (1, 1, {"n": 2, "temperature": 0}, 2),
    ],
)
def test_how_many_drafts_are_made(
    folder: Path, setting: int, recommended: int, fields: dict[str, Any], drafts: int
) -> None:
    bench = Bench(folder, drafts=setting)
    model = bench.host.model
    assert model is not None
    bench.host._model = replace(model, description=replace(model.description, drafts=recommended))
    single = document(bench.post({"messages": HI, "temperature": 1, "best_of": 1}))
    answer = document(bench.post({"messages": HI, "temperature": 1, **fields}))
    made = answer["usage"]["completion_tokens"] / single["usage"]["completion_tokens"]
    assert made == drafts


def test_drafts_take_as_many_places(folder: Path) -> None:
    bench = Bench(folder, parallel=4)
    bench.engine.go.clear()
    bodies = [{"messages": HI, "temperature": 1, "best_of": drafts} for drafts in (3, 2, 1, 9)]
    threads = [threading.Thread(target=bench.post, args=(body,)) for body in bodies]
    slots = bench.service._slots
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda n=number: slots.running + slots.waiting == n + 1)
    time.sleep(0.2)
    assert (slots.running, slots.waiting) == (1, 3), "in order: the third does not pass the second"
    bench.engine.go.set()
    for thread in threads:
        thread.join(10)
    assert (slots.running, slots.waiting) == (0, 0)
    assert slots._taken == 0


def test_metrics_tell_what_the_engine_did(folder: Path) -> None:
    bench = Bench(folder, key="secret")
    assert bench.get("/metrics").status == 401

    def numbers() -> dict[str, float]:
        answer = bench.get("/metrics", authorization="Bearer secret")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert isinstance(answer.body, bytes)
        lines = answer.body.decode().splitlines()
        return {
            name.removeprefix("friend_server_"): float(value)
            for name, value in (line.split() for line in lines if not line.startswith("#"))
        }

    assert numbers()["steps_total"] == 0
    bench.post(trusted=True)
    after = numbers()
    assert after["tokens_total"] == bench.engine.fed
    assert after["sequences_total"] >= after["steps_total"] > 0
    assert after["replies_running"] == after["requests_waiting"] == 0


def test_a_full_queue_is_429_and_says_when_to_come_back(folder: Path) -> None:
    bench = Bench(folder, parallel=1, queue=2)
    bench.engine.go.clear()
    answers: list[HttpResponse] = []
    threads = [threading.Thread(target=lambda: answers.append(bench.post())) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bench.service._slots.waiting == 2)
    response = bench.post()
    assert response.status == 429
    assert int(response.headers["retry-after"]) >= 1
    assert error(response)["code"] == "busy"
    assert bench.get("/healthz").status == 200, "a full queue does not make it ill"
    bench.engine.go.set()
    for thread in threads:
        thread.join(10)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert bench.post().status == 200


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def test_first_come_first_served(folder: Path) -> None:
    bench = Bench(folder, parallel=1, queue=9)
    bench.engine.go.clear()
    assert bench.host.model is not None
    build = bench.host.model.prompts.build
    prompts = [build([Message("user", f"hi {number}")]).turns[0] for number in range(5)]
    statuses: list[int] = []
    threads = []
    slots = bench.service._slots
    for number in range(5):
        body = {"messages": [{"role": "user", "content": f"hi {number}"}], "max_tokens": 1}
        threads.append(
            threading.Thread(target=lambda b=body: statuses.append(bench.post(b).status))
        )
        threads[-1].start()
        wait_until(lambda n=number: slots.running + slots.waiting == n + 1)
    bench.engine.go.set()
    for thread in threads:
        thread.join(10)
    assert statuses == [200] * 5
    assert [call for call in bench.engine.calls if call in prompts] == prompts


def test_a_reply_in_the_queue_past_its_time_is_504(folder: Path) -> None:
    bench = Bench(folder, parallel=1, queue=3)
    bench.engine.go.clear()
    first = threading.Thread(target=bench.post)
    first.start()
    wait_until(lambda: bench.service._slots.running == 1)
    response = bench.post(deadline=time.monotonic() + 0.05)
    assert (response.status, error(response)["code"]) == (504, "deadline_passed")
    bench.engine.go.set()
    first.join(10)


def test_a_client_that_goes_away_gives_its_place_back(folder: Path) -> None:
    bench = Bench(folder, parallel=1, queue=1)
    bench.engine.go.clear()
    first = threading.Thread(target=bench.post)
    first.start()
    wait_until(lambda: bench.service._slots.running == 1)
    assert bench.post(cancelled=lambda: True).status == 499
    assert bench.service._slots.waiting == 0
    bench.engine.go.set()
    first.join(10)


def test_a_stream_left_in_the_middle_gives_its_slot_back(bench: Bench) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    for reads in (0, 1, 2):
        chunks = stream(bench.post(body))
        for _ in range(reads):
            next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert bench.service._slots.running == 0
        assert bench.service._slots.waiting == 0
    assert bench.post().status == 200


def test_a_bug_is_500_with_the_id_that_is_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.engine.script = lambda _: 1 // 0
    response = bench.post()
    assert response.status == 500
    assert error(response)["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in error(response)["message"]
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    *_, broken, done = b"".join(stream(bench.post(body))).split(b"\n\n")[:-1]
    assert json.loads(broken.removeprefix(b"data: "))["error"]["code"] == "internal_error"
    assert done == b"data: [DONE]"


def test_a_missing_model_is_503_and_health_says_why(tmp_path: Path) -> None:
    host = ModelHost(ModelSettings(file=str(tmp_path / "none.gguf")), state_cache_bytes=0)
    service = Service(ServerSettings(), host)
    health = service.handle(HttpRequest("GET", "/healthz", {}))
    assert (health.status, document(health)) == (503, {"status": "loading"})
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    for extra in (b"", b""):
        response = service.handle(HttpRequest("POST", CHAT, {}, body + extra))
        assert (response.status, error(response)["code"]) == (503, "model_unavailable")
        assert "none.gguf" in error(response)["message"]
    health = service.handle(HttpRequest("GET", "/healthz", {}))
    assert document(health)["status"] == "failed"
    assert "none.gguf" in document(health)["error"]
