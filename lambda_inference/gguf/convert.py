"""A checkpoint to a model file.

Needs the package gguf; `.pth` checkpoints also need torch. Tensors are read, quantized and written
one at a time, and the file appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelError, ModelNotFound
from lambda_inference.gguf.chat_template import TEMPLATE_KEY, ChatTemplate, template_from
from lambda_inference.gguf.checkpoint import (
    Checkpoint,
    checkpoint_in,
    fingerprint,
    open_checkpoint,
)
from lambda_inference.gguf.drafts import DRAFTS_KEY, drafts_from
from lambda_inference.gguf.layout import Kind, Shape, Tensor, shape_of, tensors_of
from lambda_inference.gguf.vocabulary import (
    JSON_KEY,
    Vocabulary,
    bpe_vocabulary,
    world_vocabulary,
)

Quantization = Literal["F32", "F16", "Q8_0", "Q4_0"]
Progress = Callable[[int, int, str], None]
"""Called with tensors done, tensors in all, and the name of the one just written."""

Pack = Callable[[tuple[int, ...], str], npt.NDArray[Any] | None]


FINGERPRINT_KEY = "friend.fingerprint"
"""Of the checkpoint's weights: tells a learnt state whether it was learnt with them."""

_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}  # gguf.LlamaFileType
_GROUP = 32


def convert(
    source: Path,
    target: Path,
    *,
    quantization: Quantization = "Q8_0",
    tokenizer: Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `target` (.gguf) from `source`: a .pth or .safetensors file, or a folder with one.

    The checkpoint has the official tensor names. `tokenizer` is a `tokenizer.json` or the World
    vocabulary's text file; without it, the one that lies beside the checkpoint. The name, the
    conversation's template and the recommended number of drafts come from `config.json` beside the
    checkpoint, if it has them.

    Raises:
        ModelNotFound: no checkpoint or no tokenizer.
        ModelCorrupt: the checkpoint or the tokenizer cannot be what it claims to be.
        ModelError: the target cannot be written.
        EngineUnavailable: gguf or torch is not installed.
    """
    source = checkpoint_in(source) if source.is_dir() else source
    weights = open_checkpoint(source)
    shape = shape_of(weights)
    vocabulary = _vocabulary(tokenizer or _beside(source), shape.vocab_size)
    config_path = source.with_name("config.json")
    config = _config(config_path)
    write(
        target,
        weights,
        shape,
        vocabulary,
        quantization=quantization,
        template=_template(config, str(config_path)),
        name=name or name_of(source),
        drafts=drafts_from(config.get("drafts"), str(config_path)),
        progress=progress,
    )


def name_of(source: Path) -> str:
    """The name of a checkpoint's model: what config.json beside it says, else the file's own.

    Raises:
        ModelCorrupt: config.json cannot be read.
    """
    config = _config(source.with_name("config.json"))
    return re.sub(r"[\x00-\x1f/\\]+", "-", str(config.get("name") or source.stem))


def write(
    target: Path,
    weights: Checkpoint,
    shape: Shape,
    vocabulary: Vocabulary,
    *,
    quantization: Quantization,
    name: str,
    template: ChatTemplate | None = None,
    drafts: int = 1,
    progress: Progress | None = None,
    pack: Pack | None = None,
) -> None:
    """Write a model file from weights that are already at hand; see `convert`.

    `pack(shape, type)` may give a tensor's stored bytes in place of its quantized values, for
    files in which the values do not matter.

    Raises:
        ModelCorrupt: a tensor is missing or not finite.
        ModelError: the file cannot be written.
        EngineUnavailable: gguf is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise EngineUnavailable("Converting needs the package gguf: pip install gguf.") from error
    part = target.with_name(target.name + ".part")
    writer = gguf.GGUFWriter(None, shape.architecture)
    try:
        plan = [(tensor, _type(tensor, quantization)) for tensor in tensors_of(weights, shape)]
        _describe(writer, shape, quantization, name)
        if pack is None:
            sources = {source for tensor, _ in plan for source in tensor.sources}
            writer.add_string(FINGERPRINT_KEY, fingerprint(weights, sources))
        _add_vocabulary(writer, vocabulary, template)
        if drafts > 1:
            writer.add_uint32(DRAFTS_KEY, drafts)
        for tensor, kind in plan:
            number = gguf.GGMLQuantizationType[kind]
            block, width = gguf.GGML_QUANT_SIZES[number]
            nbytes = prod(tensor.shape) // block * width
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), nbytes, raw_dtype=number
            )
        writer.write_header_to_file(part)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, (tensor, kind) in enumerate(plan, 1):
            data = pack(tensor.shape, kind) if pack is not None else None
            if data is None:
                data = gguf.quants.quantize(_finite(tensor), gguf.GGMLQuantizationType[kind])
            writer.write_tensor_data(np.ascontiguousarray(data))
            if progress is not None:
                progress(done, len(plan), tensor.name)
        writer.close()
        part.replace(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written ({error.strerror or error}).") from error
    finally:
        with suppress(OSError):  # a full disk fails once more here
            writer.close()
        with suppress(OSError):
            part.unlink()


def _finite(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.ascontiguousarray(tensor.load(), dtype=np.float32)
    if not np.isfinite(values).all():
        raise ModelCorrupt(f"The checkpoint's {tensor.name} holds numbers that are not finite.")
    return values


def _type(tensor: Tensor, quantization: Quantization) -> str:
    if tensor.kind is Kind.VECTOR:
        return "F32"
    if quantization in ("F32", "F16"):
        return quantization
    if tensor.shape[-1] % _GROUP:
        return "F16"  # a row must be whole groups
    # Small or read one row at a time: 8 bits cost next to nothing there.
    return quantization if tensor.kind is Kind.MATRIX else "Q8_0"


def _describe(writer: Any, shape: Shape, quantization: Quantization, name: str) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(2)
    writer.add_context_length(1048576)  # unlimited; the number of llama.cpp's converter
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_layer_norm_eps(1e-5)
    writer.add_head_count(0)  # llama.cpp wants it there
    if shape.generation == 7:
        writer.add_wkv_head_size(shape.head_size)
        writer.add_decay_lora_rank(shape.ranks["w"])
        writer.add_iclr_lora_rank(shape.ranks["a"])
        writer.add_value_residual_mix_lora_rank(shape.ranks["v"])
        writer.add_gate_lora_rank(shape.ranks["g"])


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, template: ChatTemplate | None) -> None:
    # What the server reads comes first, so that it need not walk the lists.
    if template is not None:
        writer.add_string(TEMPLATE_KEY, json.dumps(asdict(template)))
        writer.add_chat_template(_jinja(template, vocabulary))
    writer.add_tokenizer_model(vocabulary.model)
    if vocabulary.json is not None:
        writer.add_string(JSON_KEY, vocabulary.json)
        writer.add_tokenizer_pre("gpt-2")
    if vocabulary.end is not None:
        writer.add_bos_token_id(vocabulary.end)
        writer.add_eos_token_id(vocabulary.end)
    turn_end = vocabulary.control(template.separator) if template is not None else None
    if turn_end is not None or vocabulary.end is not None:
        # Where other programs end a reply.
        writer.add_eot_token_id(vocabulary.end if turn_end is None else turn_end)
    writer.add_add_bos_token(False)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)


def _jinja(template: ChatTemplate, vocabulary: Vocabulary) -> str:
    """The template as Jinja, for other programs: the same text as `PromptBuilder` writes."""
    end = template.end_of_text
    if isinstance(end, int):
        if not 0 <= end < len(vocabulary.tokens):
            raise ModelCorrupt(f"config.json: end_of_text is {end}, but there is no such token.")
        end = vocabulary.tokens[end]

    def turn(role: str, label: str) -> str:
        words = f"message['content'] | trim + {json.dumps(template.separator)}"
        return f"if message['role'] == '{role}' %}}{{{{ {label} + ' ' + {words} }}}}"

    user, assistant = json.dumps(template.user), json.dumps(template.assistant)
    if template.names:
        user = f"(message['name'] + ':' if message['name'] else {user})"
    turns = [turn("user", user), turn("assistant", assistant)]
    if template.system is not None:
        turns.append(turn("system", json.dumps(template.system)))
    return (
        (f"{{{{ {json.dumps(end)} }}}}" if end else "")
        + "{% for message in messages %}{% "
        + "{% el".join(turns)
        + "{% endif %}{% endfor %}"
        + f"{{% if add_generation_prompt %}}{{{{ {assistant} }}}}{{% endif %}}"
    )


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelCorrupt(f"{path} cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise ModelCorrupt(f"{path} is not a JSON object.")
    return config


def _template(config: Mapping[str, Any], source: str) -> ChatTemplate | None:
    template = config.get("template")
    if template is None:
        return None
    if not isinstance(template, dict):
        raise ModelCorrupt(f"{source}: the template is not an object.")
    return template_from(template, source)


def _beside(source: Path) -> Path:
    for candidate in (source.with_name("tokenizer.json"), *source.parent.glob("rwkv_vocab_*.txt")):
        if candidate.is_file():
            return candidate
    raise ModelNotFound(
        f"There is no tokenizer beside {source.name}: name a tokenizer.json or the RWKV World "
        "vocabulary (rwkv_vocab_v20230424.txt)."
    )


def _vocabulary(path: Path, rows: int) -> Vocabulary:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelNotFound(f"The tokenizer {path} cannot be read ({error}).") from error
    build = bpe_vocabulary if path.suffix == ".json" else world_vocabulary
    return build(text, rows)
