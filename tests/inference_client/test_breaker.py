"""The breaker alone, by a clock of ours, and in the client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference_client import BreakerOpen, Refused, ServerFailed, Unreachable
from inference_client.breaker import Breaker, Permit
from tests.inference_client.conftest import HELLO

if TYPE_CHECKING:
    from tests.fakes.model import FakeModel
    from tests.inference_client.conftest import ClientFor


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _broken(threshold: int = 3, cooldown: float = 10.0) -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(threshold=threshold, cooldown=cooldown, clock=clock)
    for _ in range(threshold):
        assert breaker.state == "closed"
        breaker.enter().failed()
    assert breaker.state == "open"
    return breaker, clock


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3, cooldown=10, clock=Clock())
    for _ in range(5):
        breaker.enter().failed()
        breaker.enter().failed()
        breaker.enter().succeeded()
    assert breaker.state == "closed"


def test_it_says_how_long_to_wait() -> None:
    breaker, clock = _broken()
    clock.now = 4.0
    with pytest.raises(BreakerOpen, match="failed 3 times in a row") as caught:
        breaker.enter()
    assert caught.value.retry_after == pytest.approx(6.0)


def test_one_probe_at_a_time() -> None:
    breaker, clock = _broken()
    clock.now = 10.0
    assert breaker.state == "half-open"
    probe = breaker.enter()
    with pytest.raises(BreakerOpen):
        breaker.enter()
    probe.succeeded()
    assert breaker.state == "closed"
    breaker.enter()


def test_a_failed_probe_opens_it_for_another_cooldown() -> None:
    breaker, clock = _broken()
    clock.now = 12.0
    breaker.enter().failed()
    assert breaker.state == "open"
    clock.now = 21.9
    with pytest.raises(BreakerOpen):
        breaker.enter()
    clock.now = 22.0
    breaker.enter().succeeded()
    assert breaker.state == "closed"


def test_a_cancelled_probe_lets_the_next_one_in() -> None:
    breaker, clock = _broken()
    clock.now = 10.0
    breaker.enter().released()
    breaker.enter().succeeded()
    assert breaker.state == "closed"


def test_a_success_from_before_does_not_close_it() -> None:
    breaker = Breaker(threshold=1, cooldown=10, clock=Clock())
    old = breaker.enter()
    breaker.enter().failed()
    old.succeeded()
    assert breaker.state == "open"


def test_a_permit_counts_once() -> None:
    breaker = Breaker(threshold=2, cooldown=10, clock=Clock())
    permit = breaker.enter()
    permit.failed()
    permit.failed()
    permit.released()
    assert breaker.state == "closed"


def test_failures_of_one_asker_let_another_find_out() -> None:
    breaker = Breaker(threshold=2, cooldown=10, clock=Clock())
    for _ in range(2):
        breaker.enter("ann").failed()
    with pytest.raises(BreakerOpen):
        breaker.enter("ann")
    probe = breaker.enter("bob")
    with pytest.raises(BreakerOpen):
        breaker.enter("cid")
    probe.succeeded()
    assert breaker.state == "closed"


def test_failures_of_two_askers_are_the_models() -> None:
    breaker = Breaker(threshold=2, cooldown=10, clock=Clock())
    for _ in range(2):
        breaker.enter("ann").failed()
    breaker.enter("bob").failed()
    with pytest.raises(BreakerOpen):
        breaker.enter("cid")


class BreakerMachine(RuleBasedStateMachine):
    """In any order of events: never two probes, and never shut for good."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(threshold=3, cooldown=10, clock=self.clock)
        self.permits: list[Permit] = []
        self.probes: list[Permit] = []

    @rule()
    def enter(self) -> None:
        state = self.breaker.state
        if state == "open" or self.probes:
            with pytest.raises(BreakerOpen) as caught:
                self.breaker.enter()
            assert 0 < caught.value.retry_after <= 10
            return
        permit = self.breaker.enter()
        if state == "half-open":
            self.probes.append(permit)
        self.permits.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "released"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        getattr(permit, how)()
        if permit in self.probes:
            self.probes.remove(permit)
            assert (
                self.breaker.state
                == {
                    "succeeded": "closed",
                    "failed": "open",
                    "released": "half-open",
                }[how]
            )

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def open_means_it_failed(self) -> None:
        if self.breaker.state == "half-open" and not self.probes:
            self.breaker.enter().released()


TestBreakerMachine = BreakerMachine.TestCase


async def test_a_model_that_is_down_is_left_alone(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=3, breaker_cooldown=60)
    model.faults.status(500, times=99)
    for _ in range(3):
        with pytest.raises(ServerFailed):
            await client.chat(HELLO)
    assert client.breaker_state == "open"
    for _ in range(5):
        with pytest.raises(BreakerOpen):
            await client.chat(HELLO)
        with pytest.raises(BreakerOpen):
            async with client.stream(HELLO):
                pass
    assert len(model.requests) == 3


async def test_it_comes_back(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=2, breaker_cooldown=0.2)
    await model.down()
    for _ in range(2):
        with pytest.raises(Unreachable):
            await client.chat(HELLO)
    await model.up()
    with pytest.raises(BreakerOpen):
        await client.chat(HELLO)
    await asyncio.sleep(0.25)
    assert (await client.chat(HELLO)).text == "I heard: hello there"
    assert client.breaker_state == "closed"


async def test_only_one_of_many_tries_a_model_that_may_be_back(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=1, breaker_cooldown=0.05)
    model.faults.status(500)
    with pytest.raises(ServerFailed):
        await client.chat(HELLO)
    await asyncio.sleep(0.1)
    model.first_delay = 0.2
    results = await asyncio.gather(*(client.chat(HELLO) for _ in range(20)), return_exceptions=True)
    assert len([r for r in results if isinstance(r, BreakerOpen)]) == 19
    assert len(model.requests) == 2


async def test_a_cancelled_probe_does_not_shut_the_client(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=1, breaker_cooldown=0.05)
    model.faults.status(500)
    model.faults.hang()
    with pytest.raises(ServerFailed):
        await client.chat(HELLO)
    await asyncio.sleep(0.1)
    probe = asyncio.create_task(client.chat(HELLO))
    while len(model.requests) < 2:
        await asyncio.sleep(0.01)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_refusals_and_busy_answers_do_not_open_it(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=2)
    for status in (429, 400, 429, 401, 429, 404):
        model.faults.status(status)
        with pytest.raises(Exception, match=f"status {status}"):
            await client.chat(HELLO)
    assert client.breaker_state == "closed"
    model.faults.status(500)
    with pytest.raises(ServerFailed):
        await client.chat(HELLO)
    model.faults.status(400)
    with pytest.raises(Refused):
        await client.chat(HELLO)
    model.faults.status(500)
    with pytest.raises(ServerFailed):
        await client.chat(HELLO)
    assert client.breaker_state == "closed"


async def test_retries_stop_when_it_opens_and_the_real_error_is_told(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(
        model.url,
        attempts=1000,
        backoff_initial=0.1,
        backoff_max=0.1,
        breaker_threshold=3,
        breaker_cooldown=60,
    )
    model.faults.status(502, times=9)
    with pytest.raises(ServerFailed, match="502"):
        async with asyncio.timeout(20):  # all attempts would take longer
            await client.chat(HELLO)
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    "words",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Error: Jinja Exception: no tools here",
        "request (9000 tokens) exceeds the available context size (4096 tokens)",
        "Failed to parse messages[3]: unsupported content",
    ],
)
async def test_failures_about_a_request_do_not_open_it(
    model: FakeModel, client_for: ClientFor, words: str
) -> None:
    client = client_for(model.url, breaker_threshold=2)
    model.faults.status(500, body=json.dumps({"error": {"code": 500, "message": words}}), times=5)
    for _ in range(5):
        with pytest.raises(Refused):
            await client.chat(HELLO)
    assert len(model.requests) == 5
    assert client.breaker_state == "closed"


async def test_one_asker_s_failures_do_not_silence_the_others(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url, attempts=1, breaker_threshold=3, breaker_cooldown=60)
    model.faults.status(500, times=3)
    for _ in range(3):
        with pytest.raises(ServerFailed):
            await client.chat(HELLO, asker="ann")
    with pytest.raises(BreakerOpen):
        await client.chat(HELLO, asker="ann")
    assert (await client.chat(HELLO, asker="bob")).text == "I heard: hello there"
    assert (await client.chat(HELLO, asker="ann")).text == "I heard: hello there"
