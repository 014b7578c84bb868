"""Where keys come from, and that a signature is what Amazon would compute."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.errors import SettingsError
from lambda_inference.states.aws_credentials import CredentialChain, Credentials, quoted, sign
from tests.fakes.aws_signature import AwsKeys, signature_problem

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}


@given(
    path=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20),
    body=st.binary(max_size=50),
    token=st.sampled_from(["", "a/session+token=="]),
    method=st.sampled_from(["GET", "PUT"]),
)
def test_a_signature_is_botocores(path: str, body: bytes, token: str, method: str) -> None:
    wire = quoted("/" + path.replace("//", "/x/").lstrip("/"))
    ours = sign(
        Credentials("AKIA", "sec/ret", token), method=method, host="b.s3.eu-west-1.amazonaws.com",
        path=wire, region="eu-west-1", body=body,
    )  # fmt: skip
    request = AWSRequest(method, f"https://b.s3.eu-west-1.amazonaws.com{wire}", data=body)
    signer = S3SigV4Auth(BotocoreCredentials("AKIA", "sec/ret", token or None), "s3", "eu-west-1")
    request.context["timestamp"] = ours["x-amz-date"]
    for name in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token"):
        if name in ours:
            request.headers[name] = ours[name]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={signature}")


def test_a_signature_passes_a_check_written_from_the_specification() -> None:
    keys = AwsKeys(session_token="a/token", service="s3")
    headers = sign(
        Credentials(keys.access_key, keys.secret_key, "a/token"), method="PUT", host="h",
        path="/states/abc", region=keys.region, body=b"x",
    ) | {"host": "h"}  # fmt: skip

    def problem(body: bytes) -> str | None:
        return signature_problem(
            keys, method="PUT", path="/states/abc", query="", headers=headers, body=body
        )

    assert problem(b"x") is None
    assert problem(b"y") == "wrong body hash"


def test_the_environments_keys_come_first() -> None:
    assert CredentialChain({**KEYS, "AWS_SESSION_TOKEN": "t"}).get() == Credentials(
        "AKIA", "secret", "t"
    )


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("AKIA", "secret", "secret"))


@contextmanager
def container(seconds: float, status: int = 200, body: bytes | None = None) -> Iterator[str]:
    """An endpoint that hands out numbered keys, as ECS and Lambda with SnapStart have it."""
    given_out = 0

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal given_out
            given_out += 1
            end = datetime.now(UTC) + timedelta(seconds=seconds)
            keys = {
                "AccessKeyId": f"{self.path}:{given_out}:{self.headers.get('Authorization')}",
                "SecretAccessKey": "s", "Token": "t",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }  # fmt: skip
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(keys).encode() if body is None else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_container_hands_out_keys_that_are_kept_until_they_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    with container(3600) as url:
        lasting = CredentialChain({
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/creds?id=1",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pass",
        })  # fmt: skip
        assert lasting.get().access_key == "/creds?id=1:1:pass"
        assert lasting.get().access_key == "/creds?id=1:1:pass"
    with container(60) as url:
        ending = CredentialChain({
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/creds",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        })  # fmt: skip
        assert ending.get().access_key == "/creds:1:from a file"
        assert ending.get().access_key == "/creds:2:from a file"


@pytest.mark.parametrize(("status", "body"), [(500, None), (200, b"<html>"), (200, b"{}")])
def test_an_endpoint_that_fails_is_an_oserror(status: int, body: bytes | None) -> None:
    with (
        container(60, status, body) as url,
        pytest.raises(OSError, match="endpoint for credentials"),
    ):
        CredentialChain({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}).get()


def test_a_profile_is_found_by_botocore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = AKIAP\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert CredentialChain({}).get() == Credentials("AKIAP", "s")


def test_no_keys_anywhere_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID"):
        CredentialChain({}).get()
