"""The fake model is honest: OpenAI's own SDK understands it, and it runs by itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

import inference_client
from tests.fakes.model import FakeModel
from tests.inference_client.conftest import HELLO

if TYPE_CHECKING:
    from tests.inference_client.conftest import ClientFor

ROOT = Path(inference_client.__file__).parents[1]


async def test_the_openai_sdk_reads_it() -> None:
    async with (
        FakeModel(bearer="key") as model,
        openai.AsyncOpenAI(base_url=model.url, api_key="key", max_retries=0) as sdk,
    ):
        whole = await sdk.chat.completions.create(
            model="fake-model", messages=[{"role": "user", "content": "hi"}], max_tokens=2
        )
        assert whole.choices[0].message.content == "I heard:"
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 2
        stream = await sdk.chat.completions.create(
            model="fake-model",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        words = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(words) == "I heard: hi"
        assert chunks[-1].usage is not None
        assert [m.id async for m in sdk.models.list()] == ["fake-model"]
        model.faults.status(429, retry_after=1)
        with pytest.raises(openai.RateLimitError):
            await sdk.chat.completions.create(
                model="fake-model", messages=[{"role": "user", "content": "hi"}]
            )


async def test_replies_by_a_function(model: FakeModel, client_for: ClientFor) -> None:
    async def answer(messages: list[dict[str, object]]) -> str:
        await asyncio.sleep(0)
        return f"{len(messages)} turns"

    model.reply_with(answer)
    assert (await client_for(model.url).chat(HELLO)).text == "1 turns"


async def test_faults_come_in_their_order(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url, attempts=1)
    model.faults.none()
    model.faults.status(400)
    assert (await client.chat(HELLO)).text
    with pytest.raises(inference_client.Refused):
        await client.chat(HELLO)
    assert (await client.chat(HELLO)).text
    assert (len(model.requests), len(model.answered)) == (3, 2)


async def test_it_runs_by_itself(client_for: ClientFor) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "tests.fakes.model", "--reply", "by hand", "--delay", "0.01"],
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().strip()
        assert (await client_for(url).chat(HELLO)).text == "by hand"
    finally:
        process.terminate()
        await process.wait()
