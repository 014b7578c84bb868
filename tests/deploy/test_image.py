"""The two images, built from this checkout and run: `make image-test`.

A build takes minutes, so these run only when asked for. IMAGE_BASE names a base image (default: the
Dockerfile's if a registry is reachable, else one made of Debian's packages), IMAGE_MODEL a .gguf
(default: the shipped one), IMAGE_STORAGE a folder where podman keeps what it built.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.containers import ContainerTool, find_tool
from deploy.image.base import debian_base
from deploy.image.build import build_image
from deploy.image.sizes import Layer, layers_of, table
from deploy.sources import find_sources
from tests.fakes.aws_lambda import Container, LambdaEmulator
from tests.fakes.discord import FakeDiscord, Message, patching

pytestmark = [
    pytest.mark.skipif(not os.environ.get("FRIEND_IMAGE_TEST"), reason="`make image-test` runs it"),
    pytest.mark.timeout(1500),
]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "image"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LARGEST_LAMBDA = 90e6  # bytes, compressed, without the weights
HI = {"messages": [{"role": "user", "content": "hi, how are you?"}], "max_tokens": 12, "seed": 1}
# What Lambda gives a function of 1769 MB: one CPU, and a root that only /tmp opens.
AS_LAMBDA = ("--memory=1769m", "--cpus=1", "--tmpfs=/tmp:rw,size=512m")
HARDENED = (
    "--read-only", "--user=993:990", "--cap-drop=all", "--security-opt=no-new-privileges",
    "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",  # Lambda's own
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """Both images, and the tool that has them."""

    tool: ContainerTool
    model: Path | None

    @property
    def engine(self) -> list[str]:
        return [self.tool.name, *self.tool.options]

    def run_command(self, image: str, *options: str, entrypoint: str = "") -> list[str]:
        """The command that runs an image as nobody, on a read-only root."""
        own = ("--read-only-tmpfs=false",) if self.tool.name == "podman" else ()
        entry = [f"--entrypoint={entrypoint}"] if entrypoint else []
        return [
            *self.engine, "run", "--rm", "--network=host", *HARDENED, *own, *options, *entry, image
        ]  # fmt: skip

    def run(
        self, image: str, *words: str, entrypoint: str = "", options: tuple[str, ...] = ()
    ) -> str:
        """What a container says on stdout; it must end with status 0."""
        command = [*self.run_command(image, *options, entrypoint=entrypoint), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def about(self, image: str) -> dict[str, Any]:
        """The configuration that the Dockerfile wrote into an image."""
        said = subprocess.check_output([*self.engine, "image", "inspect", image])
        config: dict[str, Any] = json.loads(said)[0]
        # Podman keeps the check beside Docker's part of it.
        return config["Config"] | {
            key: config[key] for key in ("Healthcheck",) if config.get(key) is not None
        }

    @property
    def with_model(self) -> tuple[str, ...]:
        """The bot holds the shipped model; another is handed in."""
        if self.model is None:
            return ()
        return (f"--volume={self.model}:/model.gguf:ro", "--env=FRIEND_MODEL_FILE=/model.gguf")


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerTool]:
    """docker, or podman with a storage of its own, which goes at the end."""
    found = find_tool()
    if found.name == "docker":
        yield found
        subprocess.run(["docker", "rmi", "--force", "friend-test-bot", "friend-test-lambda"],
                       capture_output=True, check=False)  # fmt: skip
        return
    kept = os.environ.get("IMAGE_STORAGE")
    storage = Path(kept) if kept else tmp_path_factory.mktemp("storage")
    options = [f"--root={storage / 'images'}", f"--runroot={storage / 'run'}"]
    options += ["--storage-driver=overlay"] if os.geteuid() == 0 else []
    options += ["--runtime=runc"] if shutil.which("runc") else []
    scratch = storage / "tmp"  # also holds what `RUN --mount=type=cache` keeps
    scratch.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))
        yield ContainerTool("podman", tuple(options))
    if not kept:
        subprocess.run(
            ["podman", *options, "system", "reset", "--force"], capture_output=True, check=False
        )
        shutil.rmtree(storage, ignore_errors=True)


@pytest.fixture(scope="module")
def images(tool: ContainerTool, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Both images, built."""
    given = os.environ.get("IMAGE_MODEL")
    model = Path(given).resolve() if given else None
    base = os.environ.get("IMAGE_BASE") or reachable_base(tool) or debian_base(tool, CACHE)
    sources = find_sources(ROOT, model, base)
    options: list[str] = []
    if tool.name == "podman":
        options += ["--isolation=chroot", "--network=host"]
        if CERTIFICATES.is_file():  # pip in the build trusts whom this machine trusts
            config = tmp_path_factory.mktemp("pip") / "pip.conf"
            config.write_text("[global]\ncert = /run/host-certificates.crt\n")
            options += [f"--volume={CERTIFICATES}:/run/host-certificates.crt:ro"]
            options += [f"--volume={config}:/etc/pip.conf:ro"]
    for target in ("lambda", "bot"):
        build_image(
            tool, sources.folder, target=target, tag=f"friend-test-{target}",
            arguments=sources.arguments(), options=options,
        )  # fmt: skip
    return Images(tool, model)


def reachable_base(tool: ContainerTool) -> str:
    """The Dockerfile's own base, if it can be had."""
    (name,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    try:
        pulled = subprocess.run(
            [tool.name, *tool.options, "pull", "--quiet", name],
            capture_output=True, check=False, timeout=180,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    return name if pulled.returncode == 0 else ""


@pytest.fixture(scope="module")
def lambda_layers(images: Images) -> list[Layer]:
    layers = layers_of(images.tool, "friend-test-lambda")
    print(f"\nlambda:\n{table(layers)}")
    return layers


def test_the_lambda_image_is_small(lambda_layers: list[Layer]) -> None:
    weights, *rest = lambda_layers
    assert weights.content == "opt/model"  # in a layer of its own, below what changes more often
    assert sum(layer.compressed for layer in rest) < LARGEST_LAMBDA


def test_the_bot_image_is_small(images: Images) -> None:
    layers = layers_of(images.tool, "friend-test-bot")
    print(f"\nbot:\n{table(layers)}")
    assert sum(layer.compressed for layer in layers) < 1.5 * LARGEST_LAMBDA


_LOOK = """
import json, os
files = {}
for folder, names, leaves in os.walk("/opt"):
    for path in (os.path.join(folder, name) for name in [*names, *leaves]):
        about = os.lstat(path)
        files[path] = (about.st_mtime, about.st_uid, about.st_gid, about.st_mode & 0o7777)
commands = [name for place in ("/bin", "/usr/bin", "/sbin", "/usr/local/bin", "/opt/friend/bin")
            if os.path.isdir(place) for name in os.listdir(place)]
def writes(place):
    try:
        open(place + "/file", "w").close()
    except OSError:
        return False
    return True
print(json.dumps({"files": files, "commands": commands, "user": os.getuid(),
                  "written": [p for p in ("/", "/opt", "/usr", "/tmp", "/data") if writes(p)]}))
"""


@pytest.mark.parametrize(("image", "written"), [("lambda", ["/tmp"]), ("bot", ["/tmp", "/data"])])
def test_an_image_holds_only_what_runs(images: Images, image: str, written: list[str]) -> None:
    said = images.run(f"friend-test-{image}", "-c", _LOOK, entrypoint="python3", options=AS_LAMBDA)
    found = json.loads(said)
    assert found["user"] == 993
    assert found["written"] == written
    assert set(found["commands"]) <= {"python", "python3", "friend"} | {
        name for name in found["commands"] if re.fullmatch(r"python3\.\d+", name)
    }
    names = {Path(path).name for path in found["files"]}
    assert not names & {"torch", "rwkv", "pip", "nanobind", "cmake", "tests", "pytest", "native"}
    assert {"lambda_inference", "numpy", "tokenizers"} <= names
    # A layer is the same archive, byte for byte, if what is in it has the same times and modes.
    times = {about[0] for path, about in found["files"].items()}
    assert times == {315532800.0}
    assert {tuple(about[1:]) for about in found["files"].values()} <= {(0, 0, 0o755), (0, 0, 0o644)}


async def test_the_lambda_image_answers_as_a_function(images: Images) -> None:
    variables = (
        "--env=AWS_LAMBDA_RUNTIME_API", "--env=AWS_LAMBDA_INITIALIZATION_TYPE",
        "--env=AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "--env=AWS_REGION", "--env=FRIEND_SERVER_KEY",
    )  # fmt: skip
    command = images.run_command(
        "friend-test-lambda", "--name={environment}", *AS_LAMBDA, *variables
    )
    async with (
        LambdaEmulator(
            command,
            environment={"FRIEND_SERVER_KEY": "a long random text"},
            container=Container.of(images.engine),
        ) as function,
        httpx.AsyncClient(
            base_url=function.url,
            headers={"authorization": "Bearer a long random text"},
            timeout=60,
        ) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=HI)
        assert answer.status_code == 200, [answer.text, *function.log]
        reply = answer.json()["choices"][0]["message"]["content"]
        assert len(reply) > 3
        await function.settle()  # paused, as Lambda does between events
        async with client.stream("POST", "/v1/chat/completions", json=HI | {"stream": True}) as sse:
            lines = [line async for line in sse.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        words = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
        assert "".join(words).strip() == reply.strip()
        assert len(reply) > 3
        await function.settle()
        cold, warm = function.reports
        assert (cold.cold, warm.cold) == (True, False)
        print(f"\n{reply!r}: init {cold.init_ms:.0f} ms, replies {cold.duration_ms:.0f} ms cold, "
              f"{warm.duration_ms:.0f} ms warm")  # fmt: skip


def test_the_bot_image_explains_itself(images: Images) -> None:
    said = images.run("friend-test-bot", "--help")
    assert "chat" in said
    assert "doctor" in said


def test_the_bot_image_is_healthy_by_its_own_account(images: Images) -> None:
    options = ("--tmpfs=/tmp", *images.with_model)
    said = images.run("friend-test-bot", "doctor", "--json", options=options)
    findings = {one["part"]: one for one in json.loads(said)}
    assert findings["Model"]["status"] == "ok", findings
    assert findings["History"]["status"] == "ok", findings


_DISCORD = """
import sys, patching
from friend.cli import main
patching.apply_environment()
sys.argv = ["friend", "discord"]
main()
"""


@asynccontextmanager
async def bot_on(images: Images, discord: FakeDiscord) -> AsyncIterator[str]:
    """`friend discord` in a container, turned to the fake; gives the container's name."""
    name = f"friend-{uuid.uuid4().hex[:12]}"
    settings = discord.environment() | {
        "DISCORD_TOKEN": discord.token,
        "FRIEND_REPLY_BURST_SECONDS": "0",
        "FRIEND_REPLY_MAX_TOKENS": "12",
        "PYTHONPATH": "/opt/friend:/opt/packages:/fake",
    }
    command = images.run_command(
        "friend-test-bot", f"--name={name}", "--tmpfs=/tmp", "--no-healthcheck", *images.with_model,
        f"--volume={Path(patching.__file__)}:/fake/patching.py:ro",
        *(f"--env={key}={value}" for key, value in settings.items()), entrypoint="python3",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, "-c", _DISCORD)
    try:
        sessions = discord.wait_until(lambda: discord.gateway.sessions, 60, "the bot's session")
        connected, ended = asyncio.ensure_future(sessions), asyncio.ensure_future(process.wait())
        await asyncio.wait({connected, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        assert process.returncode is None, "the container ended"
        await connected
        yield name
        subprocess.run(
            [*images.engine, "stop", "--time", "30", name], check=True, capture_output=True
        )
        async with asyncio.timeout(40):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            subprocess.run([*images.engine, "rm", "--force", name], check=False)
            await process.wait()


async def test_the_bot_image_replies_is_healthy_and_stops_when_told(images: Images) -> None:
    async with FakeDiscord() as discord:
        channel = discord.add_guild("home").add_text_channel("general")
        alice = discord.add_user("alice")
        async with bot_on(images, discord) as name:
            said = await discord.say(channel, alice, f"{discord.bot.mention} hello there")

            def reply() -> Message | None:
                mine = channel.posted(discord.bot)
                return next((one for one in mine if one.reference is said), None)

            answer = await discord.wait_until(reply, 60, "a reply")
            print(f"\n{answer.content!r}")
            assert answer.content
            # The engine's own timer needs systemd; its command is the same.
            check = images.about("friend-test-bot")["Healthcheck"]["Test"]
            assert check[0] == "CMD"
            subprocess.run(
                [*images.engine, "exec", name, *check[1:]], check=True, capture_output=True
            )
