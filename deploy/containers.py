"""The tools that build and push images: docker, podman or buildah, whichever is there."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import BuildFailed

TOOLS = ("docker", "podman", "buildah")
_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
_TAIL_LINES = 12  # of a failed command's output, shown to the person


@dataclass(frozen=True)
class Login:
    """What a registry asks for; the password of ECR's lives 12 hours."""

    registry: str
    user: str
    password: str


@dataclass(frozen=True)
class ContainerTool:
    """One of TOOLS. `options` go before the subcommand (podman's `--root`, for one)."""

    name: str
    options: tuple[str, ...] = ()

    def build(
        self,
        source: Path,
        tag: str,
        *,
        architecture: str,
        arguments: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Build the lambda image. Raises BuildFailed, with the end of the output."""
        words = ["build", "--target", "lambda", "--platform", _PLATFORMS[architecture]]
        for key, value in arguments.items():
            words += ["--build-arg", f"{key}={value}"]
        if self.name != "docker":
            words += ["--format", "docker", "--layers"]
        # Lambda takes an image, not an index of images with attestations.
        quiet = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "DOCKER_BUILDKIT": "1"}
        self._run([*words, "--tag", tag, str(source)], say, environment=quiet)

    def push(
        self,
        tag: str,
        target: str,
        login: Login | None,
        say: Callable[[str], None],
        *,
        tls: bool = True,
    ) -> None:
        """Push a local image. The credentials are in a file of their own, and gone afterwards."""
        if self.name == "docker":
            self._run(["tag", tag, target], say)
            with _docker_config(login) as folder:
                self._run(["push", target], say, environment={"DOCKER_CONFIG": folder})
            return
        with _auth_file(login) as file:
            words = ["push", "--format", "v2s2", *(["--authfile", file] if file else [])]
            words += [] if tls else ["--tls-verify=false"]
            self._run([*words, tag, f"docker://{target}"], say)

    def _run(
        self,
        words: Sequence[str],
        say: Callable[[str], None],
        *,
        environment: dict[str, str] | None = None,
    ) -> None:
        command = [self.name, *self.options, *words]
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        try:
            with subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=os.environ | (environment or {}),
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.strip():
                        tail.append(line.rstrip())
                        say(line.strip())
        except OSError as error:
            raise BuildFailed(f"{self.name} could not be started: {error}") from error
        if process.returncode:
            shown = "\n  ".join(tail)
            raise BuildFailed(
                f"`{self.name} {words[0]}` failed (exit status {process.returncode}):\n  {shown}"
            )


def find_tool(wanted: str = "") -> ContainerTool:
    """The tool asked for, else the first that works.

    Raises:
        BuildFailed: none is there, or docker's engine does not run.
    """
    stopped = False
    for name in (wanted,) if wanted else TOOLS:
        if shutil.which(name) is None:
            continue
        if name == "docker" and not _docker_runs():
            stopped = True
            continue
        return ContainerTool(name)
    if stopped:
        raise BuildFailed("docker is installed, but its engine does not run. Start it, and repeat.")
    raise BuildFailed(
        f"{wanted or 'No container tool'} was {'not ' if wanted else ''}found. Install docker, "
        "podman or buildah."
    )


def _docker_runs() -> bool:
    asked = subprocess.run(
        ["docker", "info", "--format", "{{.ServerVersion}}"],  # noqa: S607
        capture_output=True,
        check=False,
        timeout=30,
    )
    return asked.returncode == 0 and bool(asked.stdout.strip())


@contextmanager
def _auth_file(login: Login | None) -> Iterator[str]:
    """A file that only this user can read, as podman and buildah take it; gone afterwards."""
    if login is None:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="friend-login-") as folder:
        yield str(_write_login(Path(folder) / "auth.json", {}, login))


@contextmanager
def _docker_config(login: Login | None) -> Iterator[str]:
    """A docker configuration with the login added; the person's own is not touched."""
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with tempfile.TemporaryDirectory(prefix="friend-login-") as folder:
        try:
            known = json.loads((own / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        # Which engine docker speaks to is part of its configuration.
        kept = {key: known[key] for key in ("currentContext", "proxies") if key in known}
        for name in ("contexts", "cli-plugins"):
            if (own / name).is_dir():
                (Path(folder) / name).symlink_to(own / name)
        _write_login(Path(folder) / "config.json", kept, login)
        yield folder


def _write_login(path: Path, content: dict[str, object], login: Login | None) -> Path:
    if login is not None:
        word = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        content = content | {"auths": {login.registry: {"auth": word}}}
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
