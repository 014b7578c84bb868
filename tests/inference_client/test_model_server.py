"""Against the real model server in a process of its own, with the model in the package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import inference_client
from inference_client import (
    BearerAuth,
    ChatMessage,
    ClientSettings,
    InferenceClient,
    Refused,
    SamplingOptions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.slow

ROOT = Path(inference_client.__file__).parents[1]
KEY = "a-long-random-key"
FEW = SamplingOptions(max_tokens=12, seed=7, temperature=0.7, extra={"best_of": 1})


@asynccontextmanager
async def _server(key: str = "") -> AsyncIterator[str]:
    """Its address, once it listens; it ends when its standard input closes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "lambda_inference", "serve", "--port", "0", "--announce", "--exit-with-stdin"],
        cwd=ROOT,
        env={**os.environ, "FRIEND_SERVER_KEY": key},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        async with asyncio.timeout(30):
            await process.wait()


def _client(url: str, **changes: object) -> InferenceClient:
    settings = {"base_url": url, "model": "pocket", "first_token_timeout": 60.0} | changes
    return InferenceClient(ClientSettings(**settings))  # type: ignore[arg-type]


async def test_the_whole_surface() -> None:
    async with _server() as url, _client(url) as client:
        assert client.settings.loopback
        await client.warm()
        names = await client.models()
        assert len(names) == 1
        assert (await client.health()).ok
        async with _client(url, model=names[0]) as named:
            turns = [ChatMessage("user", "hello there, how are you?", name="Ann B. 🙂")]
            whole = await named.chat(turns, FEW)
            async with named.stream(turns, FEW) as reply:
                words = [text async for text in reply]
            assert whole.text == "".join(words) == reply.final.text != ""
            assert whole.finish_reason in ("stop", "length")
            assert 0 < whole.usage.completion_tokens <= 12
            assert whole.usage.prompt_tokens > 5
            assert reply.final.usage.completion_tokens == whole.usage.completion_tokens
            assert whole.timings is not None
            assert whole.timings.decode_ms > 0
            longer = [
                *turns,
                ChatMessage("assistant", whole.text),
                ChatMessage("user", "tell me more"),
            ]
            assert (await named.chat(longer, FEW)).usage.cached_tokens > 0


async def test_its_refusals() -> None:
    async with _server(KEY) as url, _client(url, auth=BearerAuth(KEY)) as client:
        hello = [ChatMessage("user", "hello")]
        with pytest.raises(Refused) as caught:
            await client.chat(hello, SamplingOptions(temperature=-1))
        assert (caught.value.status, caught.value.field) == (400, "temperature")
        with pytest.raises(Refused) as caught:
            await client.chat([ChatMessage("user", "word " * 60_000)])
        assert caught.value.too_long
        async with _client(url, auth=BearerAuth("another")) as stranger:
            with pytest.raises(Refused) as caught:
                await stranger.chat(hello)
        assert caught.value.status == 401
        assert caught.value.request_id
        assert (await client.chat(hello, FEW)).text
