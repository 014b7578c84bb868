"""One real reply through the Function URL, signed, the way the bot asks for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from deploy.aws import Aws
from deploy.errors import NoAws, SmokeFailed
from inference_client import (
    AwsCredentials,
    ChatMessage,
    ClientSettings,
    InferenceClient,
    InferenceError,
    Refused,
    SamplingOptions,
    SigV4Auth,
)

_PROPAGATION_SECONDS = 60.0
"""New permissions are not known everywhere at once; until then a good signature gets 403."""


@dataclass(frozen=True)
class Smoke:
    """A reply, and how long it took."""

    text: str
    first_word_seconds: float
    total_seconds: float


def smoke(aws: Aws, url: str, *, pause: float = 3.0) -> Smoke:
    """Ask for a short reply.

    Raises:
        SmokeFailed: none came.
    """
    return asyncio.run(_smoke(aws, url, pause))


async def _smoke(aws: Aws, url: str, pause: float) -> Smoke:
    settings = ClientSettings(
        base_url=url.rstrip("/"),
        model="friend",
        auth=SigV4Auth(aws.region, credentials=lambda: credentials(aws)),
        first_token_timeout=60,
        total_timeout=150,
    )
    end = time.monotonic() + _PROPAGATION_SECONDS
    async with InferenceClient(settings) as client:
        while True:
            try:
                return await _ask(client)
            except Refused as error:
                if error.status != 403 or time.monotonic() > end:
                    raise _failed(url, error) from error
                await asyncio.sleep(pause)
            except InferenceError as error:
                raise _failed(url, error) from error


async def _ask(client: InferenceClient) -> Smoke:
    started = time.monotonic()
    first = 0.0
    words: list[str] = []
    options = SamplingOptions(max_tokens=12)
    async with client.stream([ChatMessage("user", "hello, how are you?")], options) as reply:
        async for piece in reply:
            first = first or time.monotonic() - started
            words.append(piece)
    text = "".join(words).strip()
    if not text:
        raise SmokeFailed("The function answered, but with no words. `friend status` says more.")
    return Smoke(text, first, time.monotonic() - started)


def credentials(aws: Aws) -> AwsCredentials:
    """The deployer's own keys, which may be temporary ones."""
    found = aws.session.get_credentials()
    if found is None:
        raise NoAws("The AWS credentials are gone. Log in again, and repeat.")
    keys = found.get_frozen_credentials()
    return AwsCredentials(keys.access_key, keys.secret_key, keys.token)


def _failed(url: str, error: InferenceError) -> SmokeFailed:
    if isinstance(error, Refused) and error.status == 403:
        return SmokeFailed(
            f"{url} refuses your signature. Your user or role needs lambda:InvokeFunctionUrl and "
            "lambda:InvokeFunction on the function: attach the policy that `friend status` names "
            "as CallerPolicy."
        )
    return SmokeFailed(
        f"The function gave no reply: {error} Its log says why: "
        "`aws logs tail /aws/lambda/<name>`, or `friend status`."
    )
