"""A function without a model, for what a model would never do. `python -m <this> [how it starts]`.

The event's `do` names what happens; through the URL it is the body's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from lambda_inference.aws.runtime_api import MAX_BUFFERED_BYTES, Invocation, RuntimeApi

_began = time.time()


def _start(how: str, *rest: str) -> None:
    """As the first argument says."""
    if how == "init-error":
        RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"]).fail_init("Toy.Broken", "it is broken")
        sys.exit(1)
    if how == "slow-init":  # the first environment only
        marker = Path(rest[0])
        first = not marker.exists()
        marker.touch()
        time.sleep(float(rest[1]) if first else 0)
    if how == "no-init":
        time.sleep(60)


def _answer(api: RuntimeApi, invocation: Invocation) -> None:  # noqa: C901
    event = json.loads(invocation.event)
    order = json.loads(event["body"]) if "body" in event else event
    reply = {"pid": os.getpid(), "began": _began, "time": time.time(), "event": event}
    match order["do"]:
        case "tell":
            api.respond(invocation.request_id, json.dumps(reply).encode())
        case "sleep":
            time.sleep(order["seconds"])
            api.respond(invocation.request_id, json.dumps(reply).encode())
        case "wait":
            while not Path(order["path"]).exists():
                time.sleep(0.01)
            api.respond(invocation.request_id, json.dumps(reply).encode())
        case "exit":
            os._exit(order["status"])
        case "eat":
            held = bytearray(os.urandom(1 << 20) * order["mb"])
            time.sleep(30)
            del held
        case "fail":
            api.fail(invocation.request_id, "Toy.Error", "to order")
        case "buffered":
            body = {"statusCode": 200, "body": "x" * order["bytes"]}
            api.respond(invocation.request_id, json.dumps(body).encode())
        case "oversized":  # past the check that the runtime makes itself
            api._post(
                f"invocation/{invocation.request_id}/response",
                b'"' + b"x" * MAX_BUFFERED_BYTES + b'"',
                {},
            )
        case "stream":
            out = api.stream(invocation.request_id, 200, {"content-type": "text/plain"})
            for _ in range(order["chunks"]):
                out.write(b"x" * order["bytes"])
            if order.get("fail"):
                out.fail("Toy.Torn", "half-way")
            else:
                out.close()


def main() -> None:
    _start(*(sys.argv[1:] or ["plain"]))
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        _answer(api, api.next())


if __name__ == "__main__":
    main()
