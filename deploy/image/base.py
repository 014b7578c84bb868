"""A base image made from Debian's packages, for machines that reach no image registry.

It holds what the Dockerfile would otherwise install: Python with its headers, and a compiler. Only
Python and some C libraries of it get into the images, whose size is not that of the base.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from deploy.containers import ContainerTool
from deploy.errors import BuildFailed

BASE_TAG = "localhost/friend-base"
_SUITE = "bookworm"
_PACKAGES = "python3,python3-dev,python3-venv,g++,ca-certificates"
_UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def debian_base(tool: ContainerTool, cache: Path) -> str:
    """Import the base into the tool's images and return its name; made once, kept in `cache`.

    Raises:
        BuildFailed: mmdebstrap is not installed or fails.
    """
    archive = cache / f"base-{_SUITE}.tar"
    if not archive.is_file():
        _make(archive)
    words = ["import", str(archive), BASE_TAG]
    imported = subprocess.run(  # noqa: S603
        [tool.name, *tool.options, *words], capture_output=True, text=True, check=False
    )
    if imported.returncode:
        raise BuildFailed(f"`{tool.name} import` failed: {imported.stderr.strip()}")
    return BASE_TAG


def _make(archive: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise BuildFailed(
            "No image registry is reachable, and mmdebstrap, which makes a base image from "
            "Debian's packages, is not installed. Install it, or name a base with BASE_IMAGE."
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{os.getpid()}.tar")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD]
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}"]
    command += ["--dpkgopt=force-unsafe-io", *options, _SUITE, str(part)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if made.returncode:
        part.unlink(missing_ok=True)
        raise BuildFailed(f"mmdebstrap failed:\n{made.stderr[-2000:]}")
    part.replace(archive)
