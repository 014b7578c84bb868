"""What an image weighs: each layer, compressed as registries keep it."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.containers import ContainerTool
from deploy.errors import BuildFailed

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_LEVEL = 6  # the tools' own


@dataclass(frozen=True)
class Layer:
    """One layer of an image."""

    content: str
    """The folder that most of it lies in."""
    nbytes: int
    compressed: int
    """Bytes by gzip: what is pushed, kept and pulled."""
    digest: str
    """SHA-256 of the uncompressed archive; equal for equal content."""


def layers_of(tool: ContainerTool, tag: str) -> list[Layer]:
    """The layers of a local image, lowest first.

    Raises:
        BuildFailed: the tool cannot save it.
    """
    with tempfile.TemporaryDirectory(prefix="friend-image-") as folder:
        path = Path(folder) / "image.tar"
        words = ["save", "--output", str(path), tag]
        if tool.name == "buildah":
            words = ["push", tag, f"docker-archive:{path}:{tag}"]
        elif tool.name == "podman":
            words[1:1] = ["--format", "docker-archive"]
        saved = subprocess.run(  # noqa: S603
            [tool.name, *tool.options, *words], capture_output=True, text=True, check=False
        )
        if saved.returncode:
            raise BuildFailed(f"`{tool.name} {words[0]}` failed: {saved.stderr.strip()}")
        with tarfile.open(path) as archive:
            (image,) = json.load(_member(archive, "manifest.json"))
            digests = json.load(_member(archive, image["Config"]))["rootfs"]["diff_ids"]
            return [
                _measured(archive, name, digest)
                for name, digest in zip(image["Layers"], digests, strict=True)
            ]


def table(layers: Sequence[Layer]) -> str:
    """For a person: a line a layer, and the sum."""
    rows = [(layer.content, layer.nbytes, layer.compressed) for layer in layers]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = [f"  {'layer':<14} {'MB':>7} {'compressed MB':>14}"]
    lines += [f"  {name:<14} {size / 1e6:>7.1f} {small / 1e6:>14.1f}" for name, size, small in rows]
    return "\n".join(lines)


def _measured(archive: tarfile.TarFile, name: str, digest: str) -> Layer:
    member = archive.getmember(name)
    data = _member(archive, name)
    magic = data.read(len(_GZIP))
    data.seek(0)
    compressed = member.size if magic == _GZIP else _gzip_size(data)
    data.seek(0)
    folders: Counter[str] = Counter()
    with tarfile.open(fileobj=data) as layer:
        for one in layer:
            folders["/".join(one.name.strip("./").split("/")[:2])] += one.size
    content = folders.most_common(1)[0][0] if folders else ""
    return Layer(content, sum(folders.values()), compressed, digest)


def _gzip_size(data: IO[bytes]) -> int:
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    total = 0
    while block := data.read(_BLOCK):
        total += len(packer.compress(block))
    return total + len(packer.flush())


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise BuildFailed(f"The saved image's {name} is not a file.")
    return found
