"""States in a bucket: moto's S3 on loopback, our server in processes of its own."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from lambda_inference.errors import SettingsError, StateStoreFailed
from lambda_inference.serving.host import host_for
from lambda_inference.settings import ModelSettings, ServerSettings
from lambda_inference.states.s3 import Endpoint, S3StateStore, endpoint_of
from tests.fakes.s3 import s3_server
from tests.lambda_inference.conftest import RunningServer, running

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "eu-west-1",
}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> Iterator[Any]:
    """An empty bucket, as boto3 sees it."""
    client = boto3.resource(
        "s3", endpoint_url=s3, region_name="eu-west-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    made = client.create_bucket(
        Bucket=f"states-{secrets.token_hex(4)}",
        CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
    )
    yield made
    client.meta.client.close()


def environment(url: str) -> dict[str, str]:
    return KEYS | {"AWS_ENDPOINT_URL_S3": url}


@contextmanager
def opened(url: str, bucket: str = "b", prefix: str = "") -> Iterator[S3StateStore]:
    with closing(S3StateStore(bucket, prefix, environment=environment(url))) as store:
        yield store


def test_entries_go_in_and_come_out(s3: str, bucket: Any) -> None:
    data = bytes(range(256)) * 4000
    with opened(s3, bucket.name, "a b/ü/") as store:
        assert store.get("k") is None
        store.put("k", data)
        store.put("empty", b"")
        assert store.get("k") == data
        assert store.get("empty") == b""
    assert sorted(one.key for one in bucket.objects.all()) == ["a b/ü/empty", "a b/ü/k"]
    with opened(s3, bucket.name, "other/") as other:
        assert other.get("k") is None


def test_many_threads_share_a_store(s3: str, bucket: Any) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        store.put(f"k{number}", b"%d" % number * 1000)
        if store.get(f"k{number}") != b"%d" % number * 1000:
            wrong.append(f"k{number}")

    with opened(s3, bucket.name) as store:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    assert len(list(bucket.objects.all())) == 12


def test_a_bucket_that_is_not_there_is_named(s3: str) -> None:
    with opened(s3, "no-such-bucket") as store:
        for act in (lambda: store.get("k"), lambda: store.put("k", b"x")):
            with pytest.raises(StateStoreFailed, match=r"404 NoSuchBucket.*no-such-bucket"):
                act()


def test_places_of_buckets() -> None:
    def place(bucket: str, **more: str) -> Endpoint:
        return endpoint_of(bucket, "p/", more)

    assert place("b", AWS_REGION="eu-west-1") == Endpoint(
        "b.s3.eu-west-1.amazonaws.com", True, "/p/", "eu-west-1"
    )
    assert place("b.c", AWS_DEFAULT_REGION="us-east-1") == Endpoint(
        "s3.us-east-1.amazonaws.com", True, "/b.c/p/", "us-east-1"
    )
    assert place("b", AWS_REGION="cn-north-1").host == "b.s3.cn-north-1.amazonaws.com.cn"
    assert place("b", AWS_ENDPOINT_URL="http://x:9000/s3/") == Endpoint(
        "x:9000", False, "/s3/b/p/", "us-east-1"
    )
    with pytest.raises(SettingsError, match="AWS_REGION"):
        place("b")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL"):
        place("b", AWS_ENDPOINT_URL="localhost:9000")


def test_a_server_without_a_region_says_so_in_its_health(model_file: Path) -> None:
    host = host_for(ServerSettings(state_bucket="b"), ModelSettings(file=str(model_file)))
    host.start()
    assert host.settled(30)
    assert host.error is not None
    assert "AWS_REGION" in host.error


@contextmanager
def scripted_s3(*answers: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives one answer a connection, whatever is asked; None never answers."""
    asked: list[bytes] = []
    left: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(10)
                asked.append(connection.recv(1 << 16))
                if answer is None:
                    left.append(connection)
                    continue
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            for connection in left:
                connection.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 25\r\n\r\n<Code>AccessDenied</Code>",
         r"403 AccessDenied .*s3:GetObject"),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "in the region eu-west-1"),
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", "S3 answered 503"),
        (b"SSH-2.0-OpenSSH\r\n", "broke off"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(answer: bytes, text: str) -> None:
    with (
        scripted_s3(answer) as (url, _),
        opened(url) as store,
        pytest.raises(StateStoreFailed, match=text),
    ):
        store.get("k")


def test_a_connection_closed_while_idle_is_opened_again() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with scripted_s3(whole, whole) as (url, asked), opened(url) as store:
        assert store.get("k1") == b"ok"
        assert store.get("k2") == b"ok"
    assert [request.split(b" ")[1] for request in asked] == [b"/b/k1", b"/b/k2"]


def test_an_answer_that_breaks_off_is_no_entry() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
    with (
        scripted_s3(cut) as (url, _),
        opened(url) as store,
        pytest.raises(StateStoreFailed, match="broke off"),
    ):
        store.get("k")


def test_silence_ends_in_time() -> None:
    with scripted_s3(None) as (url, _), opened(url) as store:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            store.get("k")
        assert time.monotonic() - started < 10


def talk(servers: list[RunningServer], turns: int, start: int = 0) -> list[dict[str, Any]]:
    """A conversation whose turns go to the servers in turn."""
    messages: list[dict[str, str]] = []
    answers = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"hello there, how are you number {turn}?"})
        body = {"messages": messages, "seed": turn, "max_tokens": 8}
        url = servers[(start + turn) % len(servers)].url
        answers.append(httpx.post(url + CHAT, json=body, timeout=60).json())
        said = answers[-1]["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": said})
    return answers


def cached(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


def said(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["choices"][0]["message"]["content"] for answer in answers]


@pytest.mark.e2e
def test_a_conversation_hops_between_servers_that_share_a_bucket(
    model_file: Path, s3: str, bucket: Any
) -> None:
    shared = environment(s3) | {"FRIEND_SERVER_STATE_BUCKET": bucket.name}
    with running(model_file, **shared) as one, running(model_file, **shared) as other:
        hopping = talk([one, other], 5)
        assert all(cached(answer) > 0 for answer in hopping[1:])
        # All but the last question and the reply before it, at least, came from the bucket.
        assert cached(hopping[4]) > cached(hopping[2]) > 0
    assert all(one.key.startswith("states/") for one in bucket.objects.all())
    with running(model_file) as alone:
        assert said(talk([alone], 5)) == said(hopping)


@pytest.mark.e2e
def test_servers_without_a_bucket_start_again(model_file: Path) -> None:
    with running(model_file) as one, running(model_file) as other:
        answers = talk([one, other], 2)
    assert cached(answers[1]) == 0


@pytest.mark.e2e
def test_spoilt_entries_change_nothing(model_file: Path, s3: str, bucket: Any) -> None:
    shared = environment(s3) | {"FRIEND_SERVER_STATE_BUCKET": bucket.name}
    with running(model_file, **shared) as first:
        right = said(talk([first], 3))
    for number, entry in enumerate(bucket.objects.all()):
        whole = entry.get()["Body"].read()
        spoilt = [whole[:-4], b"", whole[:60] + b"\1" + whole[61:], b"<html>"][number % 4]
        entry.put(Body=spoilt)
    with running(model_file, **shared) as one, running(model_file, **shared) as other:
        assert said(talk([one, other], 3)) == right


@pytest.mark.e2e
def test_an_s3_that_never_answers_only_costs_time(model_file: Path) -> None:
    with scripted_s3(*[None] * 50) as (url, asked):
        shared = environment(url) | {"FRIEND_SERVER_STATE_BUCKET": "b"}
        with running(model_file, **shared) as server:
            started = time.monotonic()
            answers = talk([server], 4)
            assert time.monotonic() - started < 15
    assert len(answers) == 4
    assert 1 <= len(asked) <= 2
    assert cached(answers[3]) > 0, "memory still works"
