"""Fetching model files and checkpoints from the Hugging Face Hub, or a server that speaks like it.

The hub's package finds the repository and signs in. The transfer itself is done here, because the
package throws away what it has of a file when its process ends, and compares no checksums: here a
transfer that was cut off, even by a kill, goes on where it stopped, and content is compared with
the hub's checksum before it gets its name (SHA-256 for large files, git's SHA-1 of a blob for small
ones).
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelError, ModelNotFound
from lambda_inference.gguf.checkpoint import SUFFIXES

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its bytes that are here, and its size."""

_BESIDE = re.compile(r"config\.json|tokenizer\.json|rwkv_vocab\w*\.txt")
_SHA256, _GIT_BLOB = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_BLOCK = 1 << 20
_PARTIAL_CONTENT = 206
_ATTEMPTS = 5  # that bring nothing new, before giving up
_PAUSE = 1.0  # seconds between attempts


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at one commit."""

    repo: str
    revision: str
    name: str

    def __str__(self) -> str:
        return f"{self.repo}:{self.name}"


def pull(
    repo: str,
    file: str | None = None,
    *,
    to: Path,
    revision: str | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a model into the folder `to` and return the path of its weights.

    Without `file`, that is the repository's only .gguf file, else its only checkpoint. Beside a
    checkpoint its tokenizer and config.json are fetched too. Nothing that is whole already is
    fetched again. `endpoint` None means HF_ENDPOINT, else the public hub; a token comes from
    HF_TOKEN or `hf auth login`.

    Raises:
        ModelNotFound: no such repository, revision or file, or no single model in it.
        ModelCorrupt: what came is not what the hub says it should be.
        ModelError: no connection, no room, or access refused.
        EngineUnavailable: huggingface_hub is not installed.
    """
    with _sentences(repo, revision, endpoint):
        commit, names = _listing(repo, revision, endpoint)
        chosen = _choose(repo, names, file)
        wanted = [chosen]
        if PurePosixPath(chosen).suffix in SUFFIXES:
            folder = PurePosixPath(chosen).parent
            wanted += [
                name
                for name in names
                if PurePosixPath(name).parent == folder
                and _BESIDE.fullmatch(PurePosixPath(name).name)
            ]
        to.mkdir(parents=True, exist_ok=True)
        fetched = [_fetch(HubFile(repo, commit, name), to, endpoint, progress) for name in wanted]
    return fetched[0]


def _listing(repo: str, revision: str | None, endpoint: str | None) -> tuple[str, list[str]]:
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint).model_info(repo, revision=revision)
    return info.sha or revision or "main", [entry.rfilename for entry in info.siblings or []]


def _choose(repo: str, names: list[str], file: str | None) -> str:
    if file is not None:
        if file in names:
            return file
        models = [name for name in names if PurePosixPath(name).suffix in (".gguf", *SUFFIXES)]
        there = f"Its models are: {', '.join(models)}." if models else "It holds no model at all."
        raise ModelNotFound(f"{repo} holds no file {file}. {there}")
    for suffixes in ((".gguf",), SUFFIXES):
        found = [name for name in names if PurePosixPath(name).suffix in suffixes]
        if len(found) > 1:
            raise ModelNotFound(
                f"{repo} holds several models; name one as {repo}:FILE: {', '.join(found)}."
            )
        if found:
            return found[0]
    raise ModelNotFound(f"{repo} holds no .gguf, .safetensors or .pth file.")


def _fetch(file: HubFile, to: Path, endpoint: str | None, progress: Progress | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, endpoint=endpoint)
    wanted, size = metadata.etag or "", metadata.size
    if not (_SHA256.fullmatch(wanted) or _GIT_BLOB.fullmatch(wanted)):
        raise ModelCorrupt(f"The hub gives no checksum for {file}, so it cannot be trusted.")
    if size is None:
        raise ModelError(f"The hub does not say how long {file} is, so it cannot be fetched.")
    target = to / PurePosixPath(file.name).name
    if target.is_file() and _checksum(target, wanted) == wanted:
        if progress is not None:
            progress(target.name, size, size)
        return target
    part = target.with_name(f"{target.name}.{wanted[:12]}.part")
    for other in to.glob(f"{target.name}.????????????.part"):
        if other != part:  # of an older version
            other.unlink()
    with _own(part) as opened:
        _transfer(url, opened, size, lambda done: progress and progress(target.name, done, size))
        if _checksum(part, wanted) != wanted:
            part.unlink()
            raise ModelCorrupt(
                f"{file} arrived damaged: its checksum is not the hub's ({wanted[:12]}…). Nothing "
                "was kept; run the command again."
            )
        part.replace(target)
    return target


def _transfer(url: str, file: IO[bytes], size: int, tell: Callable[[int], object]) -> None:
    """Append to `file` until it has `size` bytes; gives up when attempts bring nothing new."""
    fruitless = 0
    while (before := file.seek(0, 2)) != size:
        try:
            _attempt(url, file, size, tell)
            break
        except Exception as error:
            fruitless = fruitless + 1 if file.tell() <= before else 0
            if not _of_transport(error) or fruitless == _ATTEMPTS:
                raise
            time.sleep(_PAUSE)
    file.flush()


def _attempt(url: str, file: IO[bytes], size: int, tell: Callable[[int], object]) -> None:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        hf_raise_for_status,
    )

    done = file.tell()
    if done > size:
        done = file.truncate(0)
    # Compressed, the place to go on from would be another.
    headers = build_hf_headers(headers={"Accept-Encoding": "identity"})
    if done:
        headers["Range"] = f"bytes={done}-"
    with get_session().stream(
        "GET",
        url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        follow_redirects=True,
    ) as response:
        hf_raise_for_status(response)
        if done and response.status_code != _PARTIAL_CONTENT:
            done = file.truncate(0)
        tell(done)
        for block in response.iter_bytes():
            done += len(block)
            file.write(block)
            file.flush()  # what is here survives a kill
            tell(done)
    if done != size:
        raise ModelCorrupt(f"{url} sent {done} bytes instead of {size}. Run the command again.")


@contextmanager
def _own(part: Path) -> Iterator[IO[bytes]]:
    """The file opened to go on with, for this process alone."""
    with part.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(f"Another command is fetching {part} at this moment.") from error
        yield opened


def _checksum(path: Path, like: str) -> str:
    """SHA-256, or git's blob hash where `like` is one (https://git-scm.com/book, Git Objects)."""
    if _SHA256.fullmatch(like):
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _of_transport(error: BaseException) -> bool:
    """Whether a connection failed, as opposed to an answer or a bug.

    The package has changed its HTTP library before, and these errors with it.
    """
    if hasattr(error, "response"):
        return False
    return type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")


@contextmanager
def _sentences(repo: str, revision: str | None, endpoint: str | None) -> Iterator[None]:
    """What the hub's package raises, in words for a person."""
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise EngineUnavailable(
            "Fetching models needs the package huggingface_hub: install friend-bot[hub]."
        ) from error
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        told = _told(error, repo, revision, endpoint or constants.ENDPOINT)
        if told is None:
            raise
        raise told from error


def _told(error: Exception, repo: str, revision: str | None, at: str) -> ModelError | None:
    from huggingface_hub import errors

    sign_in = "run `hf auth login` or set HF_TOKEN"
    later = "What came is kept; run the command again to go on."
    # From the particular to the general.
    answers: Sequence[tuple[type[Exception], type[ModelError], str]] = [
        (
            errors.GatedRepoError,
            ModelError,
            f"{repo} is gated: accept its terms at {at}/{repo}, then {sign_in}.",
        ),
        (
            errors.RepositoryNotFoundError,
            ModelNotFound,
            f"There is no model {repo} at {at}, or it is private (then {sign_in}).",
        ),
        (errors.RevisionNotFoundError, ModelNotFound, f"{repo} has no revision {revision}."),
        (errors.HFValidationError, ModelNotFound, f"{repo!r} is no repository: OWNER/NAME."),
        (
            errors.OfflineModeIsEnabled,
            ModelError,
            "HF_HUB_OFFLINE is set, so nothing can be fetched.",
        ),
        (errors.HfHubHTTPError, ModelError, f"{at} refused ({_first_line(error)}). {later}"),
        (OSError, ModelError, f"{repo} could not be fetched: {_first_line(error)}. {later}"),
    ]
    for kind, made, sentence in answers:
        if isinstance(error, kind):
            return made(sentence)
    if _of_transport(error):
        return ModelError(f"{at} cannot be reached or broke off ({_first_line(error)}). {later}")
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0].rstrip(".")
    return text or type(error).__name__
