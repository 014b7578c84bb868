"""Finding a model and describing it, before any weight is read.

A model is a folder with `model.safetensors` (or one `.pth`), `tokenizer.json` and `config.json`, as
the trainer writes it, or one `.gguf` file that holds all of that.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lambda_inference.errors import ModelCorrupt, ModelNotFound
from lambda_inference.gguf.chat_template import (
    JINJA_KEY,
    TEMPLATE_KEY,
    ChatTemplate,
    template_from,
)
from lambda_inference.gguf.drafts import DRAFTS_KEY, drafts_from
from lambda_inference.talk.tokenizer import BpeTokenizer, Tokenizer, WorldTokenizer

_log = logging.getLogger(__name__)
_WHOLE_FILE = 64 << 20  # bytes up to which a file is hashed whole
_SAMPLES, _SAMPLE = 256, 4096  # places, and bytes at each, hashed of a larger one
_WEIGHTS = (".gguf", ".safetensors", ".pth")


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model without its weights in memory."""

    id: str
    """Its name on the wire."""
    weights: Path
    """The file for `load_engine`."""
    architecture: str
    """`rwkv4` or `rwkv7`."""
    template: ChatTemplate
    created: int
    """Unix time of the file."""
    tokenizer: Callable[[], Tokenizer]
    """Reads the vocabulary. Raises ModelCorrupt."""
    drafts: int = 1
    """Of each reply, where nobody says how many."""
    state: str = ""
    """Digest of the learnt state that conversations start from; empty: they start from nothing."""

    @cached_property
    def fingerprint(self) -> str:
        """Names these exact weights and this start, in `system_fingerprint`."""
        weights = fingerprint(self.weights)
        if not self.state:
            return weights
        return hashlib.blake2b(f"{weights}:{self.state}".encode(), digest_size=20).hexdigest()


def shipped_model() -> Path:
    """The model in the package: a .gguf if there is one, else its folder.

    Raises:
        ModelNotFound: the package was built without one.
    """
    models = Path(__file__).parent / "models"
    found = sorted(models.glob("*.gguf")) + sorted(models.glob("*/*.gguf"))
    if found:
        return found[0]
    folders = sorted(path.parent for path in models.glob("*/config.json"))
    if not folders:
        raise ModelNotFound(
            "This installation holds no model. Set FRIEND_MODEL_FILE to a model file or folder."
        )
    return folders[0]


def describe(path: Path, *, name: str = "") -> ModelDescription:
    """Read everything but the weights of the model at `path`, a folder or a file.

    Raises:
        ModelNotFound: nothing usable is there; the text says what was looked for.
        ModelCorrupt: it contradicts itself or is cut short.
    """
    if not path.exists():
        raise ModelNotFound(
            f"There is no model at {path}. Set FRIEND_MODEL_FILE to a .gguf file or a model folder."
        )
    if path.is_file() and path.suffix == ".gguf":
        return _describe_gguf(path, name)
    if path.is_file():
        folder, weights = path.parent, path
        if path.suffix not in _WEIGHTS:
            raise ModelNotFound(
                f"{path} is no model file: it ends in none of {', '.join(_WEIGHTS)}."
            )
    else:
        folder, weights = path, _weights_in(path)
        if weights.suffix == ".gguf":
            return describe(weights, name=name)
    return _describe_folder(folder, weights, name)


def fingerprint(path: Path) -> str:
    """40 hex digits that name a file's content.

    A large file is hashed by its size and samples spread over it: reading 400 MB would cost more
    than loading them. Training changes every part of the weights, so samples tell models apart.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=20)
    with path.open("rb") as file:
        if size <= _WHOLE_FILE:
            while block := file.read(1 << 20):
                digest.update(block)
        else:
            for place in range(_SAMPLES):
                file.seek((size - _SAMPLE) * place // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _weights_in(folder: Path) -> Path:
    for suffix in _WEIGHTS:
        preferred = folder / f"model{suffix}"
        found = [preferred] if preferred.is_file() else sorted(folder.glob(f"*{suffix}"))
        if len(found) > 1:
            raise ModelNotFound(f"{folder} holds several {suffix} files; name one of them.")
        if found:
            return found[0]
    raise ModelNotFound(f"{folder} holds no model: no file in it ends in {', '.join(_WEIGHTS)}.")


def _describe_folder(folder: Path, weights: Path, name: str) -> ModelDescription:
    config_path = folder / "config.json"
    config = _read_config(config_path)
    architecture = config.get("architecture")
    if architecture not in ("rwkv4", "rwkv7"):
        raise ModelCorrupt(
            f"{config_path}: the architecture is {architecture!r}, not rwkv4 or rwkv7."
        )
    template = config.get("template", {})
    if not isinstance(template, dict):
        raise ModelCorrupt(f"{config_path}: the template is not an object.")
    name = name or str(config.get("name") or weights.parent.name)
    chat = template_from(template, str(config_path))
    if weights.suffix == ".safetensors":
        _check_safetensors(weights)
    return ModelDescription(
        id=name,
        weights=weights,
        architecture=architecture,
        template=chat,
        created=int(weights.stat().st_mtime),
        tokenizer=lambda: _read_tokenizer(folder, chat),
        drafts=drafts_from(config.get("drafts"), str(config_path)),
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} is missing; it describes the model beside it.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelCorrupt(f"{path} cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise ModelCorrupt(f"{path} is not a JSON object.")
    return config


def _read_tokenizer(folder: Path, template: ChatTemplate) -> Tokenizer:
    bpe = folder / "tokenizer.json"
    world = sorted(folder.glob("rwkv_vocab*.txt"))
    try:
        if bpe.is_file():
            return BpeTokenizer(bpe.read_text(encoding="utf-8"), reserved=template.texts)
        if world:
            return WorldTokenizer.from_vocabulary(world[0].read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelCorrupt(f"The tokenizer in {folder} cannot be read ({error}).") from error
    raise ModelNotFound(f"{folder} holds no tokenizer.json and no rwkv_vocab*.txt.")


def _describe_gguf(path: Path, name: str) -> ModelDescription:
    from lambda_inference.gguf.reader import read_metadata

    kind, source = "general.architecture", "tokenizer.huggingface.json"
    names = {
        kind, "general.name", TEMPLATE_KEY, JINJA_KEY, DRAFTS_KEY, "tokenizer.ggml.model", source,
    }  # fmt: skip
    metadata = read_metadata(path, names)
    architecture = metadata.get(kind)
    if architecture not in ("rwkv4", "rwkv7"):
        raise ModelCorrupt(f"{path} holds a model of kind {architecture!r}, not rwkv4 or rwkv7.")
    chat = _gguf_template(path, metadata)

    def tokenizer() -> Tokenizer:
        bpe = metadata.get(source)
        if isinstance(bpe, str):
            return BpeTokenizer(bpe, reserved=chat.texts)
        if metadata.get("tokenizer.ggml.model") != "rwkv":
            raise ModelCorrupt(f"{path} holds no tokenizer that this server can read.")
        from lambda_inference.gguf.vocabulary import world_tokens

        return WorldTokenizer(world_tokens(read_metadata(path)))

    return ModelDescription(
        id=name or str(metadata.get("general.name") or path.stem),
        weights=path,
        architecture=str(architecture),
        template=chat,
        created=int(path.stat().st_mtime),
        tokenizer=tokenizer,
        drafts=drafts_from(metadata.get(DRAFTS_KEY), str(path)),
    )


def _gguf_template(path: Path, metadata: Mapping[str, object]) -> ChatTemplate:
    ours, jinja = metadata.get(TEMPLATE_KEY), metadata.get(JINJA_KEY)
    if ours is None and isinstance(jinja, str):
        from lambda_inference.gguf.jinja_labels import labels_of

        found = labels_of(jinja)
        if found is None:
            found = ChatTemplate()
            _log.warning(
                "%s has a chat template that is not one of labels, so this server cannot follow "
                "it; the model is talked to with %r and %r, and may answer strangely. Convert the "
                "checkpoint with `friend model convert` and a config.json that has a template.",
                path, found.user, found.assistant,
            )  # fmt: skip
        return found
    try:
        template = json.loads(str(ours or "{}"))
    except (ValueError, RecursionError) as error:
        raise ModelCorrupt(f"{path} has a damaged chat template ({error}).") from error
    if not isinstance(template, dict):
        raise ModelCorrupt(f"{path} has a chat template that is not an object.")
    return template_from(template, str(path))


def _check_safetensors(path: Path) -> None:
    """Compare a file's length with what its header promises: a cut-off download is common.

    The format is 8 bytes of header length, a JSON header with the tensors' offsets, the tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, 100 << 20):
            raise ModelCorrupt(f"{path} is not a whole safetensors file.")
        try:
            header = json.loads(file.read(length))
            end = max(
                entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            RecursionError,
        ) as error:
            raise ModelCorrupt(f"{path} has a damaged header.") from error
    if end != size - 8 - length:
        raise ModelCorrupt(
            f"{path} should be {8 + length + end} bytes long and is {size}. Fetch it again."
        )
