"""An AWS account on loopback, a checkout small enough to read, a container tool that pretends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from deploy.aws import Aws
from tests.fakes.aws_signature import AwsKeys
from tests.fakes.model import FakeModel

ROOT = Path(__file__).parents[2]
KEYS = AwsKeys(session_token="a-session-token")

# Podman's words, and ECR's API in place of its registry protocol, which moto does not speak.
_TOOL = """\
    #!{python}
    import hashlib, json, os, sys, pathlib
    words = sys.argv[1:]
    login = words[words.index("--authfile") + 1] if "--authfile" in words else ""
    with open({log!r}, "a") as log:
        log.write(json.dumps([*words, pathlib.Path(login).read_text() if login else ""]) + "\\n")
    if pathlib.Path({broken!r}).exists():
        print("no space left on device")
        sys.exit(125)
    if words[0] == "push":
        from urllib.request import Request, urlopen
        repository, tag = words[-1].removeprefix("docker://").split("/")[-1].split(":")
        layer = "sha256:" + hashlib.sha256(tag.encode()).hexdigest()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {{"schemaVersion": 2, "mediaType": kind, "config": {{"size": 41_000_000}},
                    "layers": [{{"digest": layer, "size": 41_000_000}}]}}
        scope = "AKIA/20260101/eu-west-1/ecr/aws4_request"
        urlopen(Request(
            os.environ["AWS_ENDPOINT_URL"],
            data=json.dumps({{"repositoryName": repository, "imageTag": tag,
                             "imageManifest": json.dumps(manifest)}}).encode(),
            headers={{"X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.PutImage",
                     "Content-Type": "application/x-amz-json-1.1",
                     "Authorization": "AWS4-HMAC-SHA256 Credential=" + scope}},
        ))
"""


@dataclass(frozen=True)
class Cloud:
    """The server's address, and the file that says what a Function URL is."""

    address: str
    url_file: Path

    def reset(self) -> None:
        urlopen(Request(f"{self.address}/moto-api/reset", method="POST")).close()

    def lambda_says(self, *answers: object) -> None:
        """What the function answers next when it is invoked directly."""
        body = json.dumps(
            {"results": [json.dumps(answer) for answer in answers], "region": KEYS.region}
        ).encode()
        urlopen(
            Request(
                f"{self.address}/moto-api/static/lambda-simple/response",
                data=body,
                headers={"Content-Type": "application/json"},
            )
        ).close()


@dataclass(frozen=True)
class Podman:
    """The pretended tool: what it was asked, and a switch that breaks it."""

    log: Path
    broken: Path

    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def runs(self, subcommand: str) -> int:
        return sum(words[0] == subcommand for words in self.asked())


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    url_file = tmp_path_factory.mktemp("cloud") / "url"
    url_file.write_text("")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.deploy.cloud", str(url_file)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield Cloud(f"http://127.0.0.1:{int(process.stdout.readline())}", url_file)
        process.stdin.close()


@pytest.fixture
def cloud(moto_server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty account, and credentials for it in the environment."""
    moto_server.reset()
    for name, value in {
        "AWS_ENDPOINT_URL": moto_server.address,
        "AWS_ACCESS_KEY_ID": KEYS.access_key,
        "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
        "AWS_SESSION_TOKEN": str(KEYS.session_token),
        "AWS_REGION": KEYS.region,
        "AWS_DEFAULT_REGION": KEYS.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "FRIEND_DEPLOY_PAUSE_SECONDS": "0.01",
    }.items():
        monkeypatch.setenv(name, value)
    return moto_server


@pytest.fixture
def aws(cloud: Cloud) -> Aws:
    return Aws()


@pytest.fixture
async def function(cloud: Cloud) -> AsyncIterator[FakeModel]:
    """What the stack's Function URL leads to: a model that takes good signatures only."""
    async with FakeModel(sigv4=KEYS, models=("friend",)) as model:
        cloud.url_file.write_text(f"{model.root_url}/")
        yield model


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Podman:
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = Podman(tmp_path / "asked", tmp_path / "broken")
    tool.log.touch()
    script = folder / "podman"
    script.write_text(
        textwrap.dedent(_TOOL).format(
            python=sys.executable, log=str(tool.log), broken=str(tool.broken)
        )
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tool


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that is built from as friend's own is."""
    folder = tmp_path / "checkout"
    (folder / "lambda_inference/models/pocket").mkdir(parents=True)
    (folder / "lambda_inference/models/pocket/pocket.gguf").write_bytes(b"GGUF" * 1000)
    (folder / "lambda_inference/model.py").write_text("answer = 42\n")
    (folder / "notes.txt").write_text("nothing of the image\n")
    (folder / ".dockerignore").write_text("*\n!lambda_inference\n")
    (folder / "Dockerfile").write_text(
        "ARG MODEL_FILE=lambda_inference/models/*/*.gguf\nFROM scratch AS lambda\n"
        "ARG MODEL_FILE\nCOPY ${MODEL_FILE} /opt/model/\nCOPY lambda_inference /opt/friend\n"
    )
    return folder
