"""The warm ping by hand: wake an environment, and see how it was found."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass

from deploy.aws import Aws
from deploy.errors import SmokeFailed
from deploy.stack import Stack

_INIT = re.compile(r"(?:Init|Restore) Duration: ([\d.]+) ms")


@dataclass(frozen=True)
class Warmth:
    """What a ping found. `init_ms` is None if the environment was awake already."""

    seconds: float
    init_ms: float | None
    model: str


def warm(aws: Aws, stack: Stack) -> Warmth:
    """Invoke the function with `{"warm": true}`.

    Raises:
        NotDeployed: there is no stack.
        SmokeFailed: the function did not answer the ping.
    """
    target = stack.outputs()["FunctionTarget"]
    started = time.monotonic()
    answer = aws(
        "lambda",
        "invoke",
        FunctionName=target,
        Payload=b'{"warm": true}',
        LogType="Tail",
    )
    seconds = time.monotonic() - started
    text = answer["Payload"].read().decode("utf-8", "replace")
    log = base64.b64decode(answer.get("LogResult") or "").decode("utf-8", "replace")
    if answer.get("FunctionError"):
        raise SmokeFailed(f"The function failed at the ping: {text[:300]}")
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("warm") is not True:
        raise SmokeFailed(f"The function does not know the warm ping; it said: {text[:300]}")
    found = _INIT.search(log)
    return Warmth(seconds, float(found.group(1)) if found else None, str(said.get("model", "")))
