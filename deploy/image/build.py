"""One of the Dockerfile's images, built by docker, podman or buildah."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.containers import ContainerTool
from deploy.errors import BuildFailed

TARGETS = ("bot", "lambda")


def build_image(
    tool: ContainerTool,
    source: Path,
    *,
    target: str,
    tag: str,
    arguments: Mapping[str, str],
    platform: str = "",
    options: Sequence[str] = (),
) -> None:
    """Build one of TARGETS; what the tool says goes to this process's own output.

    Args:
        arguments: the Dockerfile's (BASE_IMAGE, MODEL_FILE).
        platform: as `linux/arm64`; empty is this machine's. Another's needs qemu's binfmt.
        options: more of the tool's own, after `build`.

    Raises:
        BuildFailed: the tool's output says why.
    """
    command = [tool.name, *tool.options, "build", *options, "--target", target, "--tag", tag]
    command += ["--platform", platform] if platform else []
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if tool.name != "docker":
        # Docker's format has HEALTHCHECK; OCI's has not. Layers are kept for the next build.
        command += ["--format", "docker", "--layers"]
    # Lambda takes an image, not an index of an image and its attestations.
    environment = os.environ | {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "DOCKER_BUILDKIT": "1"}
    result = subprocess.run([*command, str(source)], check=False, env=environment)  # noqa: S603
    if result.returncode:
        raise BuildFailed(
            f"`{tool.name} build` of the {target} image failed; its last lines above say why."
        )
