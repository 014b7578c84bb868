"""The labels of a conversation, read out of a Jinja chat template.

Model files made by others say how a model is talked to in Jinja only. The engine's state cache
needs fixed labels and a separator, not a program; RWKV templates are labels and a separator, so
they are looked for in the text, and nothing of it is run.
"""

from __future__ import annotations

import re

from lambda_inference.gguf.chat_template import ChatTemplate

_WORLD = "rwkv-world"  # what llama.cpp's converter writes in place of a template it does not have
_BRANCH = re.compile(
    r"""==\s*['"](?P<role>user|assistant|system)['"]\s*-?%\}(?P<said>.*?)(?=\{%|\Z)""", re.DOTALL
)
_LABEL = re.compile(r"(?<![<|\w])[^\W\d_][\w ]{0,30}:")
_BLANK_LINE = re.compile(r"\\n\\n|\n[ ]*\n")


def labels_of(source: str) -> ChatTemplate | None:
    """What a Jinja text amounts to; None if it is not labels with blank lines between turns."""
    if source.strip() == _WORLD:
        return ChatTemplate()
    labels: dict[str, str] = {}
    for branch in _BRANCH.finditer(source):
        if label := _LABEL.search(branch["said"]):
            labels.setdefault(branch["role"], label[0])
    if not {"user", "assistant"} <= labels.keys() or not _BLANK_LINE.search(source):
        return None
    return ChatTemplate(
        user=labels["user"], assistant=labels["assistant"], system=labels.get("system")
    )
