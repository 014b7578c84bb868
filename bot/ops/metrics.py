"""What friend counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from bot.core.ports import ReplyTimes

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


class Metrics:
    """The core's `Observer`, and the gauges beside it; in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._messages = Counter(
            "friend_messages",
            "Messages received, by what became of them.",
            ("platform", "outcome"),
            registry=self.registry,
        )
        self._replies = Counter(
            "friend_replies",
            "Replies, by how they ended.",
            ("platform", "outcome"),
            registry=self.registry,
        )
        self._duplicates = Counter(
            "friend_duplicates",
            "Messages that were delivered again and not answered again.",
            ("platform",),
            registry=self.registry,
        )
        self._queue = self._histogram(
            "friend_queue_seconds", "From a message's acceptance to the start of its reply."
        )
        self._first_word = self._histogram(
            "friend_first_word_seconds", "From a message's acceptance to the model's first word."
        )
        self._reply = self._histogram(
            "friend_reply_seconds", "From a message's acceptance to its whole reply posted."
        )
        self._model = Histogram(
            "friend_model_seconds",
            "Time in the model server, as it says, by phase.",
            ("platform", "phase"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._depth = Gauge(
            "friend_queue_depth",
            "Messages that wait for a reply or are being answered.",
            registry=self.registry,
        )
        self._connected = Gauge(
            "friend_platform_connected",
            "1 while friend can hear the platform.",
            ("platform",),
            registry=self.registry,
        )
        self._restarts = Counter(
            "friend_platform_restarts",
            "Times a platform was started again after it ended.",
            ("platform",),
            registry=self.registry,
        )

    def received(self, platform: str, outcome: str) -> None:
        """See `bot.core.ports.Observer`."""
        self._messages.labels(platform, outcome.replace(" ", "_")).inc()
        if outcome == "duplicate":
            self._duplicates.labels(platform).inc()

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        """See `bot.core.ports.Observer`."""
        self._replies.labels(platform, outcome).inc()
        for histogram, seconds in (
            (self._queue, times.started),
            (self._first_word, times.first_word),
            (self._reply, times.posted if outcome == "answered" else None),
        ):
            if seconds is not None:
                histogram.labels(platform).observe(seconds)
        if (model := times.model) is not None:
            for phase, milliseconds in (
                ("queue", model.queue_ms),
                ("load", model.load_ms),
                ("prefill", model.prefill_ms),
                ("decode", model.decode_ms),
            ):
                self._model.labels(platform, phase).observe(milliseconds / 1000)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Read the queue's depth from `depth` whenever somebody asks."""
        self._depth.set_function(depth)

    def watch_connection(self, platform: str, connected: Callable[[], bool]) -> None:
        """Read from `connected` whether a platform is heard, whenever somebody asks."""
        self._connected.labels(platform).set_function(lambda: float(connected()))

    def restarted(self, platform: str) -> None:
        """Count a restart of a platform."""
        self._restarts.labels(platform).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, ("platform",), buckets=_SECONDS, registry=self.registry)
