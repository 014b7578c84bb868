"""What the server is busy with, in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from lambda_inference.serving.scheduler import Load

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(load: Load, *, running: int, waiting: int) -> str:
    """The numbers of a moment.

    Sequences over steps is the mean size of a batch; the rate of tokens over that of seconds is the
    speed of the engine.
    """
    return "".join(
        f"# HELP friend_server_{name} {text}\n# TYPE friend_server_{name} {kind}\n"
        f"friend_server_{name} {value}\n"
        for name, kind, text, value in (
            ("replies_running", "gauge", "Replies being made.", running),
            ("requests_waiting", "gauge", "Requests that wait for a place.", waiting),
            ("steps_total", "counter", "Steps of the engine.", load.steps),
            ("sequences_total", "counter", "Sequences in all steps.", load.sequences),
            ("tokens_total", "counter", "Tokens read, of prompts and replies.", load.tokens),
            ("step_seconds_total", "counter", "Time spent in steps.", round(load.seconds, 3)),
        )
    )
