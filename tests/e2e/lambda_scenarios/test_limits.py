"""Payload sizes, signatures, many requests at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from inference_client import Busy, Refused
from tests.e2e.lambda_scenarios.conftest import FunctionMaker
from tests.e2e.lambda_scenarios.talking import HELLO, KEYS, client, long_reply, talk
from tests.fakes.aws_lambda import FunctionError, Limits
from tests.fakes.aws_lambda.limits import MIB
from tests.fakes.aws_signature import AwsKeys

pytestmark = [pytest.mark.e2e, getattr(pytest.mark, "lambda")]


async def test_six_megabytes_of_request_are_too_many(friend: FunctionMaker) -> None:
    async with friend(keys=KEYS) as function, client(function) as model:
        large = replace(HELLO[0], content="x" * 6 * MIB)
        with pytest.raises(Refused) as error:
            await model.chat([large])
        assert error.value.status == 413
        assert function.started == 0  # Lambda itself refused
        # Up to Lambda's limit it is our own that counts, and says so.
        with pytest.raises(Refused, match="limit of 1048576 bytes") as error:
            await model.chat([replace(HELLO[0], content="x" * 5 * MIB)])
        assert error.value.status == 413


async def test_the_event_counts_not_only_the_body(toy: FunctionMaker) -> None:
    limits = Limits(request_bytes=4000)
    async with toy(limits=limits) as function, httpx.AsyncClient(base_url=function.url) as http:
        small = {"do": "tell", "padding": "x" * 2000}
        assert (await http.post("/", json=small)).status_code == 200
        binary = {"content-type": "application/octet-stream"}  # base64: a third longer
        response = await http.post("/", content=b"x" * 3000, headers=binary)
        assert response.status_code == 413


async def test_six_megabytes_unstreamed_are_too_many(toy: FunctionMaker) -> None:
    async with (
        toy(invoke_mode="BUFFERED") as function,
        httpx.AsyncClient(base_url=function.url) as http,
    ):
        fits = await http.post("/", json={"do": "buffered", "bytes": 6 * MIB - 1000})
        assert len(fits.content) == 6 * MIB - 1000
        over = {"do": "buffered", "bytes": 6 * MIB}
        assert (await http.post("/", json=over)).status_code == 502
        await function.settle()
        assert function.reports[-1].error == "Function.ResponseSizeTooLarge"
        assert function.started == 1  # the runtime saw it coming
        with pytest.raises(FunctionError, match="Exceeded maximum allowed payload size"):
            await function.invoke({"do": "oversized"})


async def test_a_stream_may_be_longer_but_not_endless(toy: FunctionMaker) -> None:
    limits = Limits(streamed_bytes=10 * MIB, burst_bytes=8 * MIB, bytes_per_s=20 * MIB)
    async with toy(limits=limits) as function, httpx.AsyncClient(base_url=function.url) as http:
        order = {"do": "stream", "chunks": 9, "bytes": MIB}
        started = asyncio.get_running_loop().time()
        assert len((await http.post("/", json=order)).content) == 9 * MIB
        assert asyncio.get_running_loop().time() - started > 1 / 20  # the last megabyte
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/", json=order | {"chunks": 11})
        await function.settle()
        assert function.reports[-1].error == "Function.ResponseSizeTooLarge"


async def test_a_stream_that_fails_is_cut(toy: FunctionMaker) -> None:
    async with toy() as function, httpx.AsyncClient(base_url=function.url) as http:
        order = {"do": "stream", "chunks": 3, "bytes": 100, "fail": True}
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/", json=order)
        await function.settle()
        assert function.reports[-1].error == "Toy.Torn"


BAD_KEYS = {
    "secret": replace(KEYS, secret_key="another"),
    "identity": replace(KEYS, access_key="AKIAANOTHER"),
    "region": replace(KEYS, region="us-east-1"),
    "service": replace(KEYS, service="execute-api"),
    "session token": replace(KEYS, session_token="stale"),
    "no session token": replace(KEYS, session_token=None),
}


@pytest.mark.parametrize("keys", BAD_KEYS.values(), ids=BAD_KEYS.keys())
async def test_a_bad_signature_reaches_no_function(toy: FunctionMaker, keys: AwsKeys) -> None:
    async with toy(keys=KEYS) as function, client(function, keys) as model:
        with pytest.raises(Refused) as error:
            await model.chat(HELLO)
        assert error.value.status == 403
        assert "lambda:InvokeFunctionUrl" in error.value.message
        assert not await model.warm()
        assert function.started == 0


async def test_a_changed_body_breaks_the_signature(toy: FunctionMaker) -> None:
    from inference_client.settings import AwsCredentials, SigV4Auth
    from inference_client.sigv4 import SigV4Signer

    credentials = AwsCredentials(KEYS.access_key, KEYS.secret_key, KEYS.session_token)
    auth = SigV4Signer(SigV4Auth(KEYS.region, KEYS.service, lambda: credentials))
    async with toy(keys=KEYS) as function, httpx.AsyncClient(base_url=function.url) as http:
        request = http.build_request("POST", "/", json={"do": "tell"})
        signed = await anext(auth.async_auth_flow(request))
        assert (await http.send(signed)).status_code == 200
        swapped = http.build_request("POST", "/", json={"do": "fail"}, headers=signed.headers)
        swapped.headers["content-length"] = str(len(swapped.content))
        response = await http.send(swapped)
        assert (response.status_code, response.headers["x-why"]) == (403, "wrong signature")
        assert (await http.post("/", json={"do": "tell"})).status_code == 403  # unsigned
        assert function.started == 1


@pytest.mark.slow
async def test_concurrency_of_twenty_has_an_environment_each(friend: FunctionMaker) -> None:
    limits = Limits(init_s=90)  # twenty processes start on what may be two CPUs
    settings = {"first_token_timeout": 90.0, "between_tokens_timeout": 60.0}
    async with (
        friend(keys=KEYS, concurrency=20, limits=limits, timeout_s=90) as function,
        client(function, **settings) as model,
    ):
        replies = await asyncio.gather(*(talk(model, long_reply(10)) for _ in range(20)))
        assert {reply.usage.completion_tokens for reply in replies} == {10}
        assert len({reply.text for reply in replies}) == 1  # one seed
        await function.settle()
        assert function.started == len(function.environments) == 20
        assert all(report.cold for report in function.reports)
        await talk(model, long_reply(10))
        assert function.started == 20  # a warm one was free


async def test_one_environment_handles_one_event(toy: FunctionMaker) -> None:
    async with toy(concurrency=3) as function:
        nap = {"do": "sleep", "seconds": 0.5}
        told = await asyncio.gather(*(function.invoke(nap) for _ in range(3)))
        assert len({one["pid"] for one in told}) == 3
        again = set()
        for _ in range(3):
            await function.settle()
            again.add((await function.invoke({"do": "tell"}))["pid"])
        assert len(again) == 1


async def test_one_more_than_the_concurrency_is_told_429(friend: FunctionMaker) -> None:
    async with (
        friend("slow", "0.02", keys=KEYS, concurrency=1) as function,
        client(function) as model,
    ):
        async with model.stream(HELLO, long_reply(50)) as reply:
            with pytest.raises(Busy):
                await model.chat(HELLO, long_reply(1))
            async for _ in reply:
                pass
        await function.settle()
        assert (await model.chat(HELLO, long_reply(1))).text is not None


async def test_the_event_is_that_of_a_function_url(toy: FunctionMaker) -> None:
    async with toy(keys=None) as function, httpx.AsyncClient(base_url=function.url) as http:
        response = await http.post(
            "/a%20path/x?b=2&a=%C3%A9", json={"do": "tell"}, headers={"Cookie": "a=1; b=2"}
        )
        event = response.json()["event"]
        assert event["version"] == "2.0"
        assert event["rawPath"] == "/a%20path/x"
        assert event["rawQueryString"] == "b=2&a=%C3%A9"
        assert event["cookies"] == ["a=1", "b=2"]
        assert event["requestContext"]["http"]["path"] == "/a path/x"
        assert ".lambda-url." in event["requestContext"]["domainName"]
        assert "authorizer" not in event["requestContext"]
