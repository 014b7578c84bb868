"""Settings, health, warming, models, proxies, and what the package shows of itself."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import inference_client
from inference_client import (
    AwsCredentials,
    BadAnswer,
    BearerAuth,
    ClientSettings,
    Refused,
    SigV4Auth,
)
from tests.fakes.model import FakeModel
from tests.inference_client.conftest import HELLO, settings_for
from tests.inference_client.raw_server import OK_JSON, raw_server

if TYPE_CHECKING:
    from tests.inference_client.conftest import ClientFor


@pytest.mark.parametrize(
    ("base_url", "api_url", "root_url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1/ ", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("https://x.example/api/v1", "https://x.example/api/v1", "https://x.example/api"),
        ("https://x.example/openai", "https://x.example/openai", "https://x.example/openai"),
    ],
)
def test_addresses(base_url: str, api_url: str, root_url: str) -> None:
    settings = settings_for(base_url)
    assert (settings.api_url, settings.root_url) == (api_url, root_url)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://model.localhost", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:80/v1", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example.com", False),
    ],
)
def test_loopback(url: str, loopback: bool) -> None:
    assert settings_for(url).loopback is loopback


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": ""}, "must look like"),
        ({"base_url": "127.0.0.1:8080"}, "must look like"),
        ({"base_url": "ftp://x"}, "must look like"),
        ({"base_url": "http://x:port"}, "not a URL"),
        ({"base_url": "http://[x"}, "not a URL"),
        ({"base_url": "http://x/v1?key=1"}, "no '\\?'"),
        ({"base_url": "http://me:secret@x/v1"}, "holds a user or password"),
        ({"model": " "}, "name is empty"),
        ({"total_timeout": 0}, "total_timeout must be"),
        ({"connect_timeout": math.inf}, "connect_timeout must be"),
        ({"backoff_max": math.nan}, "backoff_max must be"),
        ({"breaker_cooldown": -1}, "breaker_cooldown must be"),
        ({"attempts": 0}, "attempts must be 1 or more"),
        ({"breaker_threshold": 0}, "breaker_threshold must be 1 or more"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ClientSettings(**{"base_url": "http://x", "model": "m"} | changes)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "naïve", "line\n"])
def test_keys_that_cannot_work(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        BearerAuth(key)


def test_secrets_are_not_shown() -> None:
    credentials = AwsCredentials("AKIA", "hush-secret", "hush-token")
    for auth in (
        BearerAuth("hush-key"),
        SigV4Auth("eu-west-1", credentials=lambda: credentials),
    ):
        assert "hush" not in repr(settings_for("http://x", auth=auth))
    assert "hush" not in repr(credentials)


async def test_models(client_for: ClientFor) -> None:
    async with FakeModel(models=("a", "b")) as model:
        assert await client_for(model.url).models() == ["a", "b"]


async def test_a_list_of_models_that_is_none(client_for: ClientFor) -> None:
    async with raw_server(OK_JSON, b"{}") as server:
        with pytest.raises(BadAnswer, match="no list of models"):
            await client_for(server.url, attempts=1).models()


async def test_health_of_a_good_server(model: FakeModel, client_for: ClientFor) -> None:
    health = await client_for(model.url).health()
    assert health.ok
    assert health.models == ("fake-model",)
    assert 0 < health.latency_ms < 10_000
    assert "answers in" in health.detail


async def test_health_names_a_model_that_is_not_there(
    model: FakeModel, client_for: ClientFor
) -> None:
    health = await client_for(model.url, model="other").health()
    assert health.ok
    assert "does not list 'other'" in health.detail
    assert "fake-model" in health.detail


async def test_health_of_a_bad_one_is_a_sentence(model: FakeModel, client_for: ClientFor) -> None:
    async with FakeModel(bearer="right") as locked:
        health = await client_for(locked.url, auth=BearerAuth("wrong")).health()
    assert not health.ok
    assert "check that it is the right one" in health.detail
    client = client_for(model.url)
    await model.down()
    health = await client.health()
    assert not health.ok
    assert "Is it running" in health.detail


async def test_warm_pings_our_server(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url)
    assert await client.warm()
    assert await client.warm()
    assert model.warmed == 2
    assert not model.requests


async def test_warm_finds_what_another_server_understands(client_for: ClientFor) -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with raw_server(answer) as server:
        assert not await client_for(server.url).warm()
        assert [head.split("\r\n")[0] for head in server.heads] == [
            "POST / HTTP/1.1",
            "GET /healthz HTTP/1.1",
            "GET /v1/models HTTP/1.1",
        ]


async def test_warm_remembers_the_way(client_for: ClientFor) -> None:
    async with FakeModel(warm_ping=False) as model:
        client = client_for(model.url)
        assert await client.warm()
        assert await client.warm()
        assert [r.path for r in model.received] == ["/", "/healthz", "/healthz"]


async def test_warm_never_troubles_its_caller(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url, breaker_threshold=1)
    await model.down()
    assert not await client.warm()
    assert client.breaker_state == "closed"
    async with FakeModel(bearer="right") as locked:
        assert not await client_for(locked.url, auth=BearerAuth("wrong")).warm()
        assert len(locked.received) == 1


async def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    model: FakeModel, client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await client_for(model.url).chat(HELLO)).text == "I heard: hello there"


async def test_a_proxy_is_asked_for_what_is_elsewhere(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    body = b'{"choices":[{"message":{"content":"through the proxy"}}]}'
    async with raw_server(OK_JSON, body) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        reply = await client_for("http://model.invalid/v1").chat(HELLO)
        assert reply.text == "through the proxy"
        assert proxy.heads[0].startswith("POST http://model.invalid/v1/chat/completions ")


async def test_a_proxy_that_is_no_address(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x:y")
    monkeypatch.setenv("http_proxy", "nonsense://x:y")
    with pytest.raises(Refused, match="proxy or certificate settings of the environment"):
        await client_for("http://model.invalid/v1").chat(HELLO)


def test_exported_names() -> None:
    assert sorted(inference_client.__all__) == inference_client.__all__
    for name in inference_client.__all__:
        assert hasattr(inference_client, name)


def test_importing_it_brings_in_nothing_heavy_and_nothing_of_ours() -> None:
    code = (
        "import sys, inference_client; "
        "print([m for m in ('botocore', 'boto3', 'torch', 'numpy', 'bot', 'lambda_inference',"
        " 'discord', 'slack_bolt') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(inference_client.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_httpx_is_not_in_any_signature() -> None:
    import inspect

    for name in inference_client.__all__:
        thing = getattr(inference_client, name)
        if inspect.isclass(thing):
            for _, member in inspect.getmembers(thing, callable):
                assert "httpx" not in str(getattr(member, "__annotations__", ""))
