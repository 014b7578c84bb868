"""A real build, and a push to a real registry with a login, where Debian's packages are there."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from deploy.containers import ContainerTool, Login
from deploy.errors import BuildFailed
from deploy.sources import find_sources

BUILDERS = [name for name in ("buildah", "podman") if shutil.which(name)]
REGISTRY = shutil.which("docker-registry")
USER, PASSWORD = "AWS", "a password"
_HTPASSWD = "$2b$04$abcdefghijklmnopqrstuuQCzP7jzWZS/E3GL4oF3LWbHm3pfKHH."

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILDERS and REGISTRY), reason="needs buildah and docker-registry"),
]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on loopback that asks for USER and PASSWORD: its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    (tmp_path / "htpasswd").write_text(f"{USER}:{_HTPASSWD}\n")
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "friend", "path": str(tmp_path / "htpasswd")}},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    assert REGISTRY
    with subprocess.Popen(
        [REGISTRY, "serve", str(tmp_path / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        for _ in range(100):
            try:
                urlopen(f"http://{address}/").close()
                break
            except URLError:
                time.sleep(0.05)
        yield address
        process.terminate()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for podman's state, whose path may be no longer than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="friend-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", BUILDERS)
def test_an_image_arrives_in_the_form_that_lambda_takes(
    name: str, registry: str, checkout: Path, tmp_path: Path, short: Path
) -> None:
    store = ("--root", str(tmp_path / "root"), "--runroot", str(short))
    tool = ContainerTool(name, (*store, "--storage-driver", "vfs"))
    said: list[str] = []
    tool.build(
        checkout,
        "friend-lambda:1",
        architecture="arm64",
        arguments=find_sources(checkout, None).arguments(),
        say=said.append,
    )
    target = f"{registry}/friend:1"
    with pytest.raises(BuildFailed, match=f"`{name} push` failed"):
        tool.push("friend-lambda:1", target, Login(registry, USER, "wrong"), print, tls=False)
    tool.push("friend-lambda:1", target, Login(registry, USER, PASSWORD), said.append, tls=False)

    word = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    kind = "application/vnd.docker.distribution.manifest.v2+json"

    def get(path: str) -> bytes:
        headers = {"Authorization": f"Basic {word}", "Accept": kind}
        with urlopen(Request(f"http://{registry}/v2/friend/{path}", headers=headers)) as answer:
            return bytes(answer.read())

    manifest = json.loads(get("manifests/1"))
    assert manifest["mediaType"] == kind
    assert manifest["layers"]
    config = json.loads(get(f"blobs/{manifest['config']['digest']}"))
    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert any("COPY" in line or "FROM" in line.upper() for line in said)
