"""What `friend model info` says about a model file."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

_BY_TYPE = "weights_by_type"


def summarize(path: Path, *, tensors: bool = False) -> dict[str, Any]:
    """The facts, ready for JSON; `runs` is True or the sentence that says why not.

    Raises:
        ModelNotFound: no such file.
        ModelCorrupt: not a whole GGUF file.
    """
    from lambda_inference.engine import load_engine
    from lambda_inference.errors import ModelError
    from lambda_inference.gguf.chat_template import TEMPLATE_KEY
    from lambda_inference.gguf.reader import read_info

    info = read_info(path)
    metadata, kind = info.metadata, info.architecture
    shapes = {tensor.name: tensor.shape for tensor in info.tensors}
    weights: Counter[str] = Counter()
    for tensor in info.tensors:
        weights[tensor.type] += prod(tensor.shape)
    runs: bool | str = True
    try:
        load_engine(path, kind="native", threads=1).close()
    except ModelError as error:
        runs = str(error)
    tokenizer = metadata.get("tokenizer.ggml.model")
    summary: dict[str, Any] = {
        "file": str(path),
        "name": metadata.get("general.name"),
        "architecture": kind or None,
        "layers": metadata.get(f"{kind}.block_count"),
        "width": metadata.get(f"{kind}.embedding_length"),
        "head_size": metadata.get(f"{kind}.wkv.head_size"),
        "vocabulary": shapes.get("token_embd.weight", (None,))[0],
        "tokenizer": {"gpt2": "BPE", "rwkv": "RWKV World"}.get(str(tokenizer), tokenizer),
        "parameters": info.parameters,
        _BY_TYPE: dict(weights.most_common()),
        "bytes": info.size,
        "template": _json(metadata.get(TEMPLATE_KEY)),
        "chat_template": metadata.get("tokenizer.chat_template"),
        "runs": runs,
    }
    if tensors:
        summary["tensors"] = [
            {
                "name": tensor.name,
                "type": tensor.type,
                "shape": list(tensor.shape),
                "bytes": tensor.nbytes,
            }
            for tensor in info.tensors
        ]
    return summary


def summarize_state(path: Path) -> dict[str, Any]:
    """The facts about a learnt initial state, ready for JSON.

    `fits` is True, or the sentence that says why it does not fit the model in use: that of
    FRIEND_MODEL_FILE, else the one in the package.

    Raises:
        ModelCorrupt: damaged.
    """
    from lambda_inference.errors import ModelError
    from lambda_inference.model import describe
    from lambda_inference.settings import ModelSettings, model_path
    from lambda_inference.states.learnt import LearntState, identity_of

    state = LearntState(path)
    identity = state.identity
    fits: bool | str = True
    try:
        model = describe(model_path(ModelSettings.from_environment()))
        identity.refuse_foreign(path, identity_of(model.weights))
    except ModelError as error:
        fits = str(error)
    values = sum(part.size for layer in state.layers() for part in layer.values())
    return {
        "file": str(path),
        "kind": "learnt initial state",
        "architecture": identity.architecture,
        "layers": identity.layers,
        "width": identity.width,
        "head_size": identity.head_size or None,
        "values": values,
        "bytes": path.stat().st_size,
        "fingerprint": identity.fingerprint or None,
        "fits": fits,
    }


def show(summary: dict[str, Any]) -> None:
    """Print a summary as tables."""
    if "fits" in summary:
        _show_facts(
            {
                "file": f"{summary['file']} ({summary['bytes'] / 1e3:.1f} kB)",
                "kind": summary["kind"],
                "architecture": summary["architecture"],
                "layers": summary["layers"],
                "width": summary["width"],
                "head size": summary["head_size"],
                "values": f"{summary['values']:,}",
                "learnt with": f"checkpoint {str(summary['fingerprint'])[:12]}",
                "fits here": "yes" if summary["fits"] is True else f"no: {summary['fits']}",
            }
        )
        return
    template = summary["template"]
    rows = {
        "name": summary["name"],
        "file": f"{summary['file']} ({summary['bytes'] / 1e6:.1f} MB)",
        "architecture": summary["architecture"],
        "layers": summary["layers"],
        "width": summary["width"],
        "head size": summary["head_size"],
        "vocabulary": f"{summary['vocabulary']} ({summary['tokenizer']})",
        "parameters": _millions(summary["parameters"]),
        "types": ", ".join(f"{k} {_millions(n)}" for k, n in summary[_BY_TYPE].items()),
        "template": None
        if not isinstance(template, dict)
        else ", ".join(f"{key} {value!r}" for key, value in template.items() if value is not None),
        "runs here": "yes" if summary["runs"] is True else f"no: {summary['runs']}",
    }
    _show_facts(rows)
    if "tensors" in summary:
        _show_tensors(summary["tensors"])


def _show_facts(rows: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in rows.items():
        facts.add_row(name, Text("-" if value is None else str(value)))
    Console().print(facts)


def _show_tensors(tensors: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("tensor", "type", "shape", "bytes"):
        table.add_column(name, justify="left" if name == "tensor" else "right", no_wrap=True)
    for tensor in tensors:
        shape = " x ".join(str(length) for length in tensor["shape"])
        size = "?" if tensor["bytes"] is None else f"{tensor['bytes']:,}"
        table.add_row(Text(tensor["name"]), tensor["type"], shape, size)
    Console().print(table)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,}"


def _json(text: object) -> Any:
    import json

    try:
        return json.loads(str(text)) if text is not None else None
    except (ValueError, RecursionError):
        return text
