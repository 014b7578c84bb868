"""Would a conversation's state in half precision change what friend says?

    python -m benchmarks.half_states MODEL.gguf DATA.jsonl.zst [--prompts N]

Reads the beginnings of conversations, then replies greedily twice from the same place: from the
state as it is, and from the state that went through float16. Prints how many replies differ.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from lambda_inference.engine import Engine, State, load_engine
from lambda_inference.model import describe
from lambda_inference.talk.prompt import Message, Prompt, PromptBuilder

_REPLY_TOKENS = 40
_HEAD = struct.Struct("<8s5I")  # of a native state's bytes; the last number is a CRC-32


def main() -> None:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_states")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompts", type=int, default=600)
    options = parser.parse_args()
    description = describe(options.model)
    prompts = PromptBuilder(description.template, description.tokenizer())
    engine = load_engine(options.model, kind="native", threads=1)
    ends = {prompts.end_of_text, *prompts.separator}
    replies = changed = 0
    for prompt in islice(beginnings(options.data, prompts), options.prompts):
        tokens = [token for turn in prompt.turns for token in turn]
        _, state = engine.forward(tokens, None)
        before, after = (
            greedy(engine, one, prompt.opening, ends) for one in (state, halved(engine, state))
        )
        replies += 1
        changed += before != after
    share = changed / max(1, replies)
    print(f"{options.model.name}: {changed} of {replies} greedy replies change ({share:.1%})")


def beginnings(data: Path, prompts: PromptBuilder) -> Iterator[Prompt]:
    """Of conversations: one, three or five turns."""
    import zstandard

    with data.open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        for number, line in enumerate(lines):
            turns = json.loads(line)["turns"][: 1 + 2 * (number % 3)]
            if len(turns) % 2:
                roles = ("user", "assistant")
                yield prompts.build(
                    [Message(roles[place % 2], text) for place, text in enumerate(turns)]  # type: ignore[arg-type]
                )


def halved(engine: Engine, state: State) -> State:
    """The state with its floats rounded to half precision."""
    data = state.to_bytes()
    *head, _ = _HEAD.unpack_from(data)
    floats = np.frombuffer(data, np.float32, offset=_HEAD.size)
    rounded = floats.astype(np.float16).astype(np.float32).tobytes()
    return engine.state_from_bytes(_HEAD.pack(*head, zlib.crc32(rounded)) + rounded)


def greedy(
    engine: Engine, state: State, opening: Sequence[int], ends: set[int | None]
) -> list[int]:
    """The most likely reply, its end included."""
    reply: list[int] = []
    fed = list(opening)
    while len(reply) < _REPLY_TOKENS and not ends & set(reply[-1:]):
        logits, state = engine.forward(fed, state)
        fed = [int(np.argmax(logits))]
        reply += fed
    return reply


if __name__ == "__main__":
    main()
