"""The real runtime on an engine with a fault: `python -m <this> <fault> [its argument]`.

gate PATH       the tenth word waits until PATH exists
slow SECONDS    each word takes so long
hang            the tenth word never comes
break           the engine fails at the tenth word
torn            the event stream itself fails at its fifth event
load-gate PATH  the model is loaded only once PATH exists; init waits half a second for it
load-fails PATH the same, but then it proves broken
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lambda_inference import engine
from lambda_inference.aws import runtime
from lambda_inference.errors import ModelCorrupt
from lambda_inference.serving import host, service

_NTH = 10


class _Engine:
    """One token at a time is a word of the reply; more are the prompt."""

    def __init__(self, real: Any, fault: str, argument: str) -> None:
        self._real = real
        self._fault = fault
        self._argument = argument
        self._words = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def forward_batch(self, tokens: Sequence[Sequence[int]], states: Sequence[Any]) -> Any:
        if all(len(one) == 1 for one in tokens):
            self._words += 1
            if self._fault == "slow":
                time.sleep(float(self._argument))
            elif self._words == _NTH:
                self._nth()
        return self._real.forward_batch(tokens, states)

    def _nth(self) -> None:
        if self._fault == "gate":
            _wait_for(Path(self._argument))
        elif self._fault == "hang":
            time.sleep(3600)
        elif self._fault == "break":
            raise RuntimeError("to order")


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def _torn(stream: Iterator[bytes]) -> Iterator[bytes]:
    for place, chunk in enumerate(stream):
        if place == 5:
            raise RuntimeError("to order")
        yield chunk


def main() -> None:
    fault, argument = (*sys.argv[1:], "")[:2]
    load_engine, load_model = engine.load_engine, host.load_model
    settled, handle = host.ModelHost.settled, service.Service.handle

    def faulty_engine(*args: Any, **named: Any) -> Any:
        return _Engine(load_engine(*args, **named), fault, argument)

    def late_model(*args: Any, **named: Any) -> Any:
        _wait_for(Path(argument))
        if fault == "load-fails":
            raise ModelCorrupt("The model is broken, to order.")
        return load_model(*args, **named)

    def torn_handle(self: service.Service, request: service.HttpRequest) -> service.HttpResponse:
        answer = handle(self, request)
        if isinstance(answer.body, bytes):
            return answer
        return service.HttpResponse(answer.status, answer.headers, _torn(answer.body))

    engine.load_engine = faulty_engine  # type: ignore[assignment]
    if fault in ("load-gate", "load-fails"):
        host.load_model = late_model
        host.ModelHost.settled = lambda self, _: settled(self, 0.5)  # type: ignore[method-assign]
    if fault == "torn":
        service.Service.handle = torn_handle  # type: ignore[method-assign]
    runtime.start()


if __name__ == "__main__":
    main()
