"""The same RWKV-7 file in llama.cpp: an independent check of the file and of the engine.

Opt-in: FRIEND_LLAMA_PYTHON names an interpreter that has llama-cpp-python.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import lambda_inference
from lambda_inference.engine.native import NativeEngine

SHIPPED = Path(lambda_inference.__file__).parent / "models" / "pocket"
LLAMA = os.environ.get("FRIEND_LLAMA_PYTHON")
PROMPT = [0, 1, 290, 300, 3, 2, 310, 280, 3, 1, 270, 417, 3, 2]
LENGTH = 60
SCRIPT = """
import json, sys
import numpy as np
from llama_cpp import Llama
path, prompt, length = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = Llama(path, n_threads=1, n_ctx=512, verbose=False, logits_all=True)
model.eval(prompt)
text, first = [], None
for _ in range(length):
    logits = np.asarray(model.scores[model.n_tokens - 1])
    first = logits[:8].tolist() if first is None else first
    text.append(int(logits.argmax()))
    model.eval([text[-1]])
print(json.dumps({"text": text, "first": first}))
"""


@pytest.mark.skipif(not LLAMA, reason="FRIEND_LLAMA_PYTHON is not set")
@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0"])
def test_llama_cpp_continues_with_the_same_text(quantization: str, tmp_path: Path) -> None:
    from lambda_inference.gguf.convert import Quantization, convert

    target = tmp_path / "model.gguf"
    kind: Quantization = quantization  # type: ignore[assignment]
    convert(SHIPPED / "model.safetensors", target, quantization=kind)
    assert LLAMA is not None
    done = subprocess.run(
        [LLAMA, "-c", SCRIPT, str(target), json.dumps(PROMPT), str(LENGTH)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    theirs = json.loads(done.stdout.splitlines()[-1])

    engine = NativeEngine(target)
    logits, state = engine.forward(PROMPT, None)
    close = {"F32": 1e-3, "F16": 2e-2, "Q8_0": 0.1}[quantization]
    assert logits[:8].tolist() == pytest.approx(theirs["first"], abs=close)
    text = []
    for _ in range(LENGTH):
        text.append(int(logits.argmax()))
        logits, state = engine.forward([text[-1]], state)
    # Rounding differs where weights are quantized, so a near tie may fall the other way in time.
    same = LENGTH if quantization == "F32" else 8
    assert text[:same] == theirs["text"][:same]


CHAT = """
import json, sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_threads=1, n_ctx=512, verbose=False)
for words in json.loads(sys.argv[2]):
    messages = [{"role": "user", "content": words}]
    reply = model.create_chat_completion(messages, temperature=0, max_tokens=60)["choices"][0]
    tokens = model.tokenize((" " + words).encode(), add_bos=False, special=True)
    print(json.dumps([reply["message"]["content"], reply["finish_reason"], tokens]))
"""
WORDS = ["hi friend", "what music do you like?", "it's 10 o'clock, isn't it?"]


@pytest.mark.skipif(not LLAMA, reason="FRIEND_LLAMA_PYTHON is not set")
def test_the_shipped_model_talks_in_llama_cpp() -> None:
    """By the template, tokenizer and end of a turn that are in the file."""
    from lambda_inference.model import describe, shipped_model
    from lambda_inference.talk.prompt import Message, PromptBuilder

    path = shipped_model()
    description = describe(path)
    tokenizer = description.tokenizer()
    builder = PromptBuilder(description.template, tokenizer)
    assert LLAMA is not None
    done = subprocess.run(
        [LLAMA, "-c", CHAT, str(path), json.dumps(WORDS)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    engine = NativeEngine(path)
    for words, line in zip(WORDS, done.stdout.splitlines(), strict=True):
        theirs, reason, tokens = json.loads(line)
        assert tokens == tokenizer.encode(f" {words}")
        prompt = builder.build([Message("user", words)])
        fed = [token for turn in (*prompt.turns, prompt.opening) for token in turn]
        logits, state = engine.forward(fed, None)
        ours: list[int] = []
        while len(ours) < 60 and (token := int(logits.argmax())) not in builder.separator:
            ours.append(token)
            logits, state = engine.forward([token], state)
        assert b"".join(map(tokenizer.token_bytes, ours)).decode() == theirs
        assert reason == "stop"
