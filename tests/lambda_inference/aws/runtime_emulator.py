"""AWS's Runtime Interface Emulator: the binary in the aws-sam-cli wheel, started on loopback."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[3] / ".cache" / "test-tools"
_WHEEL = "aws-sam-cli>=1.130"
_BINARIES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}


def emulator_binary() -> Path:
    """The emulator, fetched once into an ignored folder; skips where it cannot be had."""
    name = _BINARIES.get(platform.machine())
    if sys.platform != "linux" or name is None:
        pytest.skip(
            f"there is no Runtime Interface Emulator for {sys.platform} {platform.machine()}"
        )
    binary = _CACHE / name
    if not binary.is_file():
        _CACHE.mkdir(parents=True, exist_ok=True)
        _fetch(name, binary)
    return binary


def _fetch(name: str, binary: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
             "--only-binary", ":all:", "--dest", folder, _WHEEL],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            pytest.skip(f"{_WHEEL}, which holds the emulator, cannot be fetched: {result.stderr}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            data = wheel.read(f"samcli/local/rapid/{name}")
    part = binary.with_name(f"{name}.{os.getpid()}")
    part.write_bytes(data)
    part.chmod(0o755)
    part.replace(binary)


@contextmanager
def emulated(
    handler: str, *, cwd: Path, log: Path, runtime: str = "awslambdaric", **environment: str
) -> Iterator[str]:
    """Run `handler` under a runtime and the emulator; gives the URL that invokes it."""
    emulator, runtime_api = _free_port(), _free_port()
    url = f"http://127.0.0.1:{emulator}/2015-03-31/functions/function/invocations"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [emulator_binary(), "--runtime-interface-emulator-address", f"127.0.0.1:{emulator}",
             "--runtime-api-address", f"127.0.0.1:{runtime_api}",
             sys.executable, "-m", runtime, handler],
            cwd=cwd,
            env=os.environ | {"AWS_LAMBDA_FUNCTION_TIMEOUT": "30"} | environment,
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the runtime goes too
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
