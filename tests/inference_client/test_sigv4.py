"""Signatures: by botocore in the client, judged by a verifier that shares no code with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from inference_client import AwsCredentials, ChatMessage, Refused, SigV4Auth
from tests.fakes.aws_signature import AwsKeys, signature_problem
from tests.fakes.model import FakeModel
from tests.inference_client.conftest import HELLO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.inference_client.conftest import ClientFor

PLAIN = AwsKeys()
TEMPORARY = AwsKeys(session_token="token//with+odd=characters==")


def _auth(keys: AwsKeys, **changes: str) -> SigV4Auth:
    credentials = AwsCredentials(keys.access_key, keys.secret_key, keys.session_token)
    return SigV4Auth(**{"region": keys.region} | changes, credentials=lambda: credentials)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [PLAIN, TEMPORARY], ids=["plain", "temporary"])
async def test_a_signed_request_is_let_in(client_for: ClientFor, keys: AwsKeys) -> None:
    async with FakeModel(sigv4=keys) as model:
        client = client_for(model.url, auth=_auth(keys))
        messages = [ChatMessage("user", 'emoji 🙂, quotes " and \\ and \n')]
        assert (await client.chat(messages)).text.startswith("I heard: emoji 🙂")
        async with client.stream(messages) as reply:
            assert [text async for text in reply]
        assert await client.models() == ["fake-model"]
        assert await client.warm()
        assert model.warmed == 1
        assert (await client.health()).ok


@pytest.mark.parametrize(
    ("keys", "auth"),
    [
        (PLAIN, _auth(AwsKeys(secret_key="another"))),
        (PLAIN, _auth(AwsKeys(access_key="AKIAANOTHER"))),
        (PLAIN, _auth(PLAIN, region="us-east-1")),
        (PLAIN, _auth(PLAIN, service="execute-api")),
        (PLAIN, _auth(TEMPORARY)),
        (TEMPORARY, _auth(PLAIN)),
    ],
    ids=["secret", "key", "region", "service", "token too many", "token missing"],
)
async def test_a_wrong_signature_is_refused_with_advice(
    client_for: ClientFor, keys: AwsKeys, auth: SigV4Auth
) -> None:
    async with FakeModel(sigv4=keys) as model:
        with pytest.raises(Refused, match=r"lambda:InvokeFunctionUrl.*Forbidden") as caught:
            await client_for(model.url, auth=auth).chat(HELLO)
        assert len(model.received) == 1
    assert caught.value.status == 403


async def test_an_unsigned_request_is_refused(client_for: ClientFor) -> None:
    async with FakeModel(sigv4=PLAIN) as model:
        with pytest.raises(Refused):
            await client_for(model.url).chat(HELLO)


async def test_each_attempt_is_signed_anew_with_the_keys_of_the_moment(
    client_for: ClientFor,
) -> None:
    given = iter(["old", PLAIN.secret_key, PLAIN.secret_key])

    def provide() -> AwsCredentials:
        return AwsCredentials(PLAIN.access_key, next(given))

    async with FakeModel(sigv4=PLAIN) as model:
        auth = SigV4Auth(PLAIN.region, credentials=provide)
        client = client_for(model.url, auth=auth)
        with pytest.raises(Refused):
            await client.chat(HELLO)
        model.faults.status(503)
        assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_a_changed_body_breaks_the_signature(client_for: ClientFor) -> None:
    async with FakeModel(sigv4=PLAIN) as model:
        await client_for(model.url, auth=_auth(PLAIN)).chat(HELLO)
        request = model.received[0]
    parts = urlsplit(request.path)

    def judge(body: bytes, headers: dict[str, str]) -> str | None:
        return signature_problem(
            PLAIN, method="POST", path=parts.path, query="", headers=headers, body=body
        )

    assert judge(request.body, request.headers) is None
    assert judge(request.body + b" ", request.headers) == "wrong signature"
    assert judge(request.body, request.headers | {"host": "elsewhere"}) == "wrong signature"
    assert (
        judge(request.body, request.headers | {"content-type": "text/plain"}) == "wrong signature"
    )


async def test_the_signature_is_the_one_botocore_makes_of_the_bytes_on_the_wire(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.auth import SigV4Auth as BotocoreSigner
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    async with FakeModel(sigv4=TEMPORARY) as model:
        await client_for(model.url, auth=_auth(TEMPORARY)).chat(HELLO)
        request, url = model.received[0], f"{model.root_url}{model.received[0].path}"
    again = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = BotocoreSigner(
        Credentials(TEMPORARY.access_key, TEMPORARY.secret_key, TEMPORARY.session_token),
        "lambda",
        TEMPORARY.region,
    )
    again.headers["X-Amz-Date"] = request.headers["x-amz-date"]
    again.headers["X-Amz-Security-Token"] = TEMPORARY.session_token
    canonical = signer.canonical_request(again)
    expected = signer.signature(signer.string_to_sign(again, canonical), again)
    assert request.headers["authorization"].endswith(f"Signature={expected}")


async def test_credentials_come_from_the_environment(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", TEMPORARY.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TEMPORARY.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TEMPORARY.session_token or "")
    async with FakeModel(sigv4=TEMPORARY) as model:
        client = client_for(model.url, auth=SigV4Auth(TEMPORARY.region))
        assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_no_credentials_anywhere(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with FakeModel(sigv4=PLAIN) as model:
        with pytest.raises(Refused, match="Set AWS_ACCESS_KEY_ID") as caught:
            await client_for(model.url, auth=SigV4Auth("eu-west-1")).chat(HELLO)
        assert not model.received
    assert caught.value.status is None


async def test_a_provider_that_fails(client_for: ClientFor) -> None:
    def provide() -> AwsCredentials:
        raise OSError("the token has expired")

    async with FakeModel(sigv4=PLAIN) as model:
        auth = SigV4Auth("eu-west-1", credentials=provide)
        with pytest.raises(Refused, match=r"the token has expired.*log in again"):
            await client_for(model.url, auth=auth).chat(HELLO)


async def test_without_botocore_it_says_what_to_install(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    async with FakeModel(sigv4=PLAIN) as model:
        for auth in (_auth(PLAIN), SigV4Auth("eu-west-1")):
            with pytest.raises(Refused, match="pip install botocore"):
                await client_for(model.url, auth=auth).chat(HELLO)
