"""What the image is built from: the checkout, the model, and a fingerprint of both.

The fingerprint is the image's tag, so an image that ECR already has is neither built nor pushed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import BuildFailed, OptionRefused
from deploy.settings import SHIPPED_MODEL

_STAGED = Path(".cache/image/model")  # the one place outside the packages that .dockerignore admits
_COMPILED = (".so", ".pyc")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Model:
    """The weights that go into the image; `path` is empty for those of the package."""

    name: str
    path: Path | None
    nbytes: int


@dataclass(frozen=True)
class Sources:
    """A checkout of friend, and the model to put into its image."""

    folder: Path
    model: Model
    base_image: str = ""

    def arguments(self) -> dict[str, str]:
        """The Dockerfile's arguments; a model from elsewhere is put where the build sees it."""
        found = {"BASE_IMAGE": self.base_image} if self.base_image else {}
        if self.model.path is not None:
            staged = self.folder / _STAGED / self.model.path.name
            _stage(self.model.path, staged)
            found["MODEL_FILE"] = staged.relative_to(self.folder).as_posix()
        return found

    def fingerprint(self, architecture: str) -> str:
        """16 hex digits that change with anything the build reads."""
        total = hashlib.sha256(f"{architecture} {self.base_image}".encode())
        for path in sorted(
            {self.folder / "Dockerfile", self.folder / ".dockerignore", *self._copied()}
        ):
            if path.is_file():
                name = path.relative_to(self.folder).as_posix()
                total.update(f"\0{name}\0".encode() + _digest(path))
        if self.model.path is not None:
            total.update(b"\0model\0" + self.model.path.name.encode() + _digest(self.model.path))
        return total.hexdigest()[:16]

    def _copied(self) -> Iterator[Path]:
        """The files that the Dockerfile's COPY lines name, but for the model from elsewhere."""
        text = (self.folder / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        defaults = dict(re.findall(r"^ARG (\w+)=(\S*)", text, re.MULTILINE))
        if self.model.path is not None:
            defaults["MODEL_FILE"] = ""
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            words = [word for word in line.split() if not word.startswith("--")][:-1]
            for word in words:
                name = re.sub(r"\$\{?(\w+)\}?", lambda m: defaults.get(m[1], ""), word)
                yield from _files(self.folder, name)


def find_sources(folder: Path | None, model: Path | None, base_image: str = "") -> Sources:
    """The checkout in `folder`, else the one this code or this command runs in, with its model.

    Raises:
        BuildFailed: no checkout is there.
        OptionRefused: the model is no file.
    """
    places = [folder] if folder else [Path(__file__).parent.parent, Path.cwd()]
    folder = next((place.resolve() for place in places if _is_checkout(place)), places[-1])
    if not _is_checkout(folder):
        raise BuildFailed(
            f"{folder} is no checkout of friend, which the image is built from: name one with "
            "--source."
        )
    if model is None or str(model) == SHIPPED_MODEL:
        nbytes = sum(path.stat().st_size for path in _shipped(folder))
        return Sources(folder, Model(SHIPPED_MODEL, None, nbytes), base_image)
    path = model.expanduser().resolve()
    if not path.is_file() or path.suffix != ".gguf":
        raise OptionRefused(
            f"--model is {model}, but must be a .gguf file (`friend model convert` makes one), or "
            f"`{SHIPPED_MODEL}` for the model of the package."
        )
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)
    return Sources(folder, Model(name, path, path.stat().st_size), base_image)


def _is_checkout(folder: Path) -> bool:
    return (folder / "Dockerfile").is_file() and (folder / "lambda_inference").is_dir()


def _shipped(folder: Path) -> list[Path]:
    """The weights of the package: its GGUF files, else what there is."""
    models = folder / "lambda_inference" / "models"
    found = [*models.glob("*/*.gguf")]
    return found or [path for path in models.glob("*/*") if path.suffix == ".safetensors"]


def _files(folder: Path, name: str) -> Iterator[Path]:
    if not name:
        return
    for path in folder.glob(name.rstrip("/")):
        inside = path.rglob("*") if path.is_dir() else [path]
        for file in inside:
            left_out = "__pycache__" in file.parts or file.suffix in _COMPILED
            if file.is_file() and not left_out:
                yield file


def _digest(path: Path) -> bytes:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.digest()


def _stage(model: Path, staged: Path) -> None:
    """Put the model where the build sees it: as another name of the same file if that works."""
    if staged.exists() and staged.samefile(model):
        return
    staged.parent.mkdir(parents=True, exist_ok=True)
    try:
        for other in staged.parent.glob("*.gguf"):
            other.unlink()
        try:
            os.link(model, staged)
        except OSError:
            shutil.copyfile(model, staged)
    except OSError as error:
        raise BuildFailed(f"The model could not be copied to {staged}: {error}") from error
