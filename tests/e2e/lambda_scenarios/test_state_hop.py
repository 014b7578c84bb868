"""A conversation goes on in an environment that has never heard of it, by the states in S3."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from inference_client import ChatMessage, Reply
from tests.e2e.lambda_scenarios.conftest import FunctionMaker
from tests.e2e.lambda_scenarios.talking import KEYS, client, long_reply, talk
from tests.fakes.aws_lambda import LambdaEmulator
from tests.fakes.s3 import s3_server

pytestmark = [pytest.mark.e2e, getattr(pytest.mark, "lambda")]

WORDS = 4
LINES = [ChatMessage(("user", "assistant")[n % 2], f"the words of turn {n}") for n in range(9)]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> dict[str, str]:
    """Settings of a function that shares its states in a bucket."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=s3, region_name="eu-west-1", **keys)
    name = f"states-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.close()
    return {
        "FRIEND_SERVER_STATE_BUCKET": name,
        "AWS_ENDPOINT_URL_S3": s3,
    } | {key.upper(): value for key, value in keys.items()}


async def say(function: LambdaEmulator, turns: int) -> Reply:
    """A reply to the first `turns` of the conversation, from whichever environment is free."""
    async with client(function) as model:
        return await model.chat(LINES[:turns], long_reply(WORDS))


async def test_a_state_hop_goes_on_where_another_environment_was(
    friend: FunctionMaker, bucket: dict[str, str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with (
        friend("gate", gate, keys=KEYS, environment=bucket) as function,
        client(function) as model,
    ):
        first = await say(function, 5)
        assert first.usage.cached_tokens == 0
        await function.settle()
        # Its environment talks with somebody else, so the next turn starts another.
        async with model.stream([ChatMessage("user", "hm")], long_reply(40)) as other:
            assert await anext(other)
            hopped = await say(function, 7)
            assert function.started == 2
            gate.touch()
            async for _ in other:
                pass
        assert hopped.usage.cached_tokens >= first.usage.prompt_tokens - 2  # all but the opening
        await function.settle()
        assert [report.cold for report in function.reports] == [True, True, False]


async def test_a_state_hop_changes_no_word(
    friend: FunctionMaker, bucket: dict[str, str], tmp_path: Path
) -> None:
    async with (
        friend(keys=KEYS, environment=bucket) as here,
        friend(keys=KEYS, environment=bucket) as there,
        friend(keys=KEYS) as alone,
    ):
        await asyncio.gather(say(here, 1), say(there, 1), say(alone, 1))
        for turns in (3, 5, 7, 9):
            function = (here, there)[turns // 2 % 2]
            reply, expected = await say(function, turns), await say(alone, turns)
            assert reply.text == expected.text
            assert reply.usage.cached_tokens > 0
        assert (here.started, there.started, alone.started) == (1, 1, 1)


async def test_without_a_bucket_the_whole_conversation_is_read_again(
    friend: FunctionMaker,
) -> None:
    async with friend(keys=KEYS) as here, friend(keys=KEYS) as there:
        await say(here, 5)
        assert (await say(there, 7)).usage.cached_tokens == 0


async def test_a_bucket_that_is_gone_costs_a_hop_and_no_reply(
    friend: FunctionMaker, bucket: dict[str, str]
) -> None:
    gone = bucket | {"FRIEND_SERVER_STATE_BUCKET": "another"}
    async with friend(keys=KEYS, environment=gone) as function, client(function) as model:
        reply = await talk(model, long_reply(5))
        assert reply.usage.completion_tokens == 5
        await function.settle()
        assert any("the shared state store failed" in line for line in function.log)
