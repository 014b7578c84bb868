from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from inference_client import ChatMessage, ClientSettings, InferenceClient
from tests.fakes.model import FakeModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    ClientFor = Callable[..., InferenceClient]

HELLO = [ChatMessage("user", "hello there")]


def settings_for(url: str, **changes: Any) -> ClientSettings:
    """Patient enough for a busy machine, quick between attempts."""
    defaults: dict[str, Any] = {
        "base_url": url,
        "model": "fake-model",
        "backoff_initial": 0.01,
        "backoff_max": 0.02,
        "breaker_threshold": 100,
    }
    return ClientSettings(**defaults | changes)


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


@pytest.fixture
async def client_for() -> AsyncIterator[ClientFor]:
    """Make clients of a URL; all are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(url: str, **changes: Any) -> InferenceClient:
            client = InferenceClient(settings_for(url, **changes))
            stack.push_async_callback(client.aclose)
            return client

        yield make
