"""Clients of a function: ours, signing, and plain requests."""

from __future__ import annotations

from typing import Any

from inference_client import (
    AwsCredentials,
    ChatMessage,
    ClientSettings,
    InferenceClient,
    Reply,
    SamplingOptions,
    SigV4Auth,
)
from tests.fakes.aws_lambda import LambdaEmulator
from tests.fakes.aws_signature import AwsKeys

KEYS = AwsKeys(session_token="fake/session+token")
HELLO = [ChatMessage("user", "hello")]
CHAT = "/v1/chat/completions"


def never_ends(tokens: int) -> dict[str, Any]:
    """Fields of a request whose reply is so many tokens long."""
    return {"max_tokens": tokens, "logit_bias": {str(n): -100 for n in range(4)}, "seed": 1}


def long_reply(tokens: int) -> SamplingOptions:
    """The same for our client."""
    fields = never_ends(tokens)
    return SamplingOptions(
        max_tokens=fields["max_tokens"], seed=1, extra={"logit_bias": fields["logit_bias"]}
    )


def chat_body(tokens: int, **more: Any) -> dict[str, Any]:
    """A whole request."""
    return {"messages": [{"role": "user", "content": "hello"}], **never_ends(tokens), **more}


def client(function: LambdaEmulator, keys: AwsKeys = KEYS, **more: Any) -> InferenceClient:
    """Our client, signing with `keys`; it tries once, unless told otherwise."""
    credentials = AwsCredentials(keys.access_key, keys.secret_key, keys.session_token)
    auth = SigV4Auth(keys.region, keys.service, lambda: credentials)
    settings: dict[str, Any] = {"attempts": 1, "backoff_initial": 0.01} | more
    return InferenceClient(
        ClientSettings(base_url=function.url, model="tiny", auth=auth, **settings)
    )


async def talk(model: InferenceClient, options: SamplingOptions) -> Reply:
    """A streamed reply, read to its end."""
    async with model.stream(HELLO, options) as reply:
        async for _ in reply:
            pass
    return reply.final
