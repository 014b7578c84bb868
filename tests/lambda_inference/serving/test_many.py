"""Sixty-four clients at once, some of whom hang up: nobody's reply is another's.

FRIEND_MANY_SECONDS says for how long they talk: a few seconds, unless it is set (120 for a soak).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.lambda_inference.conftest import RunningServer, running

CHAT = "/v1/chat/completions"
CLIENTS = 64
SECONDS = float(os.environ.get("FRIEND_MANY_SECONDS", "6"))
_GROWN_MB = 40  # that a server may take more than after its first minute of work


def bodies() -> list[dict[str, Any]]:
    """Conversations of many lengths, with one draft or some."""
    words = ["hello", "there", "how", "are", "you", "doing", "today"]
    return [
        {
            "messages": [
                {
                    "role": "assistant" if turn % 2 else "user",
                    "content": " ".join(words[: 1 + (number + turn) % 7] * (1 + number % 5)),
                }
                for turn in range(1 + 2 * (number % 4))
            ],
            "seed": number,
            "max_tokens": 5 + number,
            "temperature": 0 if number % 6 == 5 else 1,
            "best_of": 3 if number % 8 == 7 else 1,
        }
        for number in range(24)
    ]


def whole(server: RunningServer, body: dict[str, Any]) -> tuple[str, str]:
    """A reply and why it ended."""
    answer = httpx.post(server.url + CHAT, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def streamed(
    server: RunningServer, body: dict[str, Any], hang_up_after: int | None
) -> tuple[str, str] | None:
    """The same from a stream; None if it was left after so many events."""
    text, reason = "", ""
    with httpx.stream("POST", server.url + CHAT, json={**body, "stream": True}, timeout=60) as got:
        assert got.status_code == 200
        for at, line in enumerate(line for line in got.iter_lines() if line):
            if at == hang_up_after:
                return None
            if line != "data: [DONE]":
                choice = json.loads(line.removeprefix("data: "))["choices"][0]
                text += choice["delta"].get("content", "")
                reason = choice["finish_reason"] or reason
    return text, reason


def megabytes(server: RunningServer) -> float:
    """Memory that a server holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def idle(server: RunningServer) -> dict[str, str]:
    """The server's numbers, once it makes no reply any more."""
    late = time.monotonic() + 30
    while True:
        lines = httpx.get(server.url + "/metrics").text.splitlines()
        numbers = dict(line.split() for line in lines if not line.startswith("#"))
        if numbers["friend_server_replies_running"] == "0":
            return numbers
        assert time.monotonic() < late, "a place was not given back"
        time.sleep(0.05)


def test_sixty_four_clients_get_their_own_replies(model_file: Path) -> None:
    limits = {"FRIEND_SERVER_QUEUE": "80", "FRIEND_SERVER_STATE_CACHE_MB": "1"}
    with running(model_file, **limits) as server:
        asked = bodies()
        wanted = [whole(server, body) for body in asked]
        told: Counter[str] = Counter()
        wrong: list[Any] = []
        memory = 0.0
        end = time.monotonic() + SECONDS

        def talk(client: int) -> None:
            nonlocal memory
            dice = random.Random(client)
            while time.monotonic() < end:
                place = dice.randrange(len(asked))
                kind = dice.choice(["whole", "streamed", "streamed", "left", "slow"])
                if kind == "whole":
                    got: Any = whole(server, asked[place])
                elif kind == "slow":
                    # Gone before the answer, in the queue or in the middle.
                    try:
                        timeout = httpx.Timeout(60, read=dice.uniform(0.001, 0.3))
                        httpx.post(server.url + CHAT, json=asked[place], timeout=timeout)
                    except httpx.ReadTimeout:
                        told["given up"] += 1
                    continue
                else:
                    left = dice.randrange(4) if kind == "left" else None
                    got = streamed(server, asked[place], left)
                told[kind] += 1
                if got is not None and got != wanted[place]:
                    wrong.append((asked[place], got, wanted[place]))
                if not memory and time.monotonic() > end - SECONDS / 2:
                    memory = megabytes(server)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for future in [pool.submit(talk, client) for client in range(CLIENTS)]:
                future.result()
        assert not wrong
        assert told["whole"]
        assert told["streamed"]
        assert told["left"]
        numbers = idle(server)
        assert numbers["friend_server_requests_waiting"] == "0"
        batch = float(numbers["friend_server_sequences_total"]) / float(
            numbers["friend_server_steps_total"]
        )
        assert batch > 1.5, "they were not answered together"
        assert memory == 0 or megabytes(server) - memory < _GROWN_MB
        assert [whole(server, body) for body in asked] == wanted
