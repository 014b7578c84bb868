"""Probes and Prometheus are told the truth, on loopback."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.core.ports import ReplyTimes
from bot.errors import SettingsInvalid
from bot.ops.health import Health, State, ops_server
from bot.ops.metrics import Metrics
from inference_client import Timings


async def _get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


def _values(text: str) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_healthz_follows_the_parts() -> None:
    health = Health()
    connected = True
    async with ops_server(0, health, Metrics()) as port:
        assert (await _get(port, "/healthz")).status_code == 503, "nothing is known yet"
    health.expect("discord", lambda: connected)
    health.expect("slack")
    async with ops_server(0, health, Metrics()) as port:
        starting = await _get(port, "/healthz")
        assert starting.status_code == 503
        health.report("discord", State.UP)
        health.report("slack", State.UP)
        assert (await _get(port, "/healthz")).status_code == 200
        connected = False
        lost = await _get(port, "/healthz")
        assert lost.status_code == 503
        assert lost.json()["parts"]["discord"]["state"] == "down"
        connected = True
        health.report("slack", State.FAILED, "The token is wrong.")
        failed = (await _get(port, "/healthz")).json()
    assert failed["ok"] is False
    assert failed["parts"]["slack"]["detail"] == "The token is wrong."
    assert failed["parts"]["slack"]["since"] > failed["parts"]["discord"]["since"]


async def test_metrics_count_messages_replies_and_times() -> None:
    metrics, health = Metrics(), Health()
    depth, up = 3, True
    metrics.watch_queue(lambda: depth)
    metrics.watch_connection("discord", lambda: up)
    metrics.received("discord", "queued")
    metrics.received("discord", "duplicate")
    metrics.received("discord", "store failed")
    times = ReplyTimes(
        started=0.1, first_word=0.4, words=1.5, posted=1.6, model=Timings(10, 20, 300, 1000)
    )
    metrics.replied("discord", "answered", times)
    metrics.replied("discord", "apologised", ReplyTimes(started=0.2, posted=9.0))
    metrics.restarted("discord")
    async with ops_server(0, health, metrics) as port:
        answer = await _get(port, "/metrics")
        values = _values(answer.text)
        depth, up = 0, False
        later = _values((await _get(port, "/metrics")).text)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert values["friend_messages_total", frozenset({"discord", "queued"})] == 1
    assert values["friend_messages_total", frozenset({"discord", "store_failed"})] == 1
    assert values["friend_duplicates_total", frozenset({"discord"})] == 1
    assert values["friend_replies_total", frozenset({"discord", "apologised"})] == 1
    assert values["friend_queue_seconds_count", frozenset({"discord"})] == 2
    assert values["friend_first_word_seconds_sum", frozenset({"discord"})] == 0.4
    assert values["friend_reply_seconds_sum", frozenset({"discord"})] == 1.6
    assert values["friend_model_seconds_sum", frozenset({"discord", "prefill"})] == 0.3
    assert values["friend_platform_restarts_total", frozenset({"discord"})] == 1
    assert values["friend_queue_depth", frozenset()] == 3
    assert values["friend_platform_connected", frozenset({"discord"})] == 1
    assert later["friend_queue_depth", frozenset()] == 0
    assert later["friend_platform_connected", frozenset({"discord"})] == 0


async def test_two_friends_in_a_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.received("slack", "queued")
    here, there = _values(one.text().decode()), _values(other.text().decode())
    counted = ("friend_messages_total", frozenset({"slack", "queued"}))
    assert counted in here
    assert counted not in there


async def test_a_taken_port_is_a_clear_error() -> None:
    async with ops_server(0, Health(), Metrics()) as port:
        with pytest.raises(SettingsInvalid, match=f"FRIEND_OPS_PORT: port {port} cannot be used"):
            async with ops_server(port, Health(), Metrics()):
                pytest.fail("two servers on one port")


async def test_19_nothing_to_be_up_is_not_up() -> None:
    async with ops_server(0, Health(), Metrics()) as port:
        assert (await _get(port, "/healthz")).status_code == 503
