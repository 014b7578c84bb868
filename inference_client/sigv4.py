"""AWS Signature Version 4 for httpx, by botocore's own signer.

A Function URL with AuthType AWS_IAM checks service `lambda`, and the SHA-256 of the body's final
bytes, so signing is the last thing that happens to a request. Only headers that no proxy
rewrites are signed.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx

from .errors import Refused
from .settings import AwsCredentials, CredentialsProvider, SigV4Auth

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["SigV4Signer", "default_credentials"]

_SIGNED_HEADERS = ("content-type",)


class SigV4Signer(httpx.Auth):
    """Signs each request with the keys that the provider gives at that moment."""

    requires_request_body = True

    def __init__(self, auth: SigV4Auth) -> None:
        self._auth = auth
        self._provider = auth.credentials or default_credentials()

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Hook of httpx: the request is whole but for the signature."""
        try:
            credentials = await asyncio.to_thread(self._provider)
        except Refused:
            raise
        except Exception as error:
            raise Refused(
                f"AWS credentials could not be had ({type(error).__name__}: {error}); "
                "check the profile, or log in again.",
                status=None,
            ) from error
        request.headers.update(self._signature(request, credentials))
        yield request

    def _signature(self, request: httpx.Request, credentials: AwsCredentials) -> dict[str, str]:
        """The headers to add: Authorization, X-Amz-Date and X-Amz-Security-Token."""
        auth, awsrequest, keys = _botocore()
        to_sign = awsrequest.AWSRequest(
            method=request.method,
            url=str(request.url),
            data=request.content,
            headers={h: request.headers[h] for h in _SIGNED_HEADERS if h in request.headers},
        )
        signer = auth.SigV4Auth(
            keys.Credentials(
                credentials.access_key, credentials.secret_key, credentials.session_token
            ),
            self._auth.service,
            self._auth.region,
        )
        signer.add_auth(to_sign)
        names = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        return {name: to_sign.headers[name] for name in names if name in to_sign.headers}


def default_credentials() -> CredentialsProvider:
    """Botocore's chain, resolved at the first request and refreshed by botocore after."""
    chain: list[Any] = []

    def provide() -> AwsCredentials:
        if not chain:
            _botocore()
            from botocore.session import Session

            found = Session().get_credentials()
            if found is None:
                raise Refused(
                    "No AWS credentials were found. Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws configure`.",
                    status=None,
                )
            chain.append(found)
        frozen = chain[0].get_frozen_credentials()
        return AwsCredentials(frozen.access_key, frozen.secret_key, frozen.token)

    return provide


def _botocore() -> tuple[Any, Any, Any]:
    try:
        from botocore import auth, awsrequest, credentials
    except ImportError:
        raise Refused(
            "Signing for AWS needs botocore, which is not installed: pip install botocore",
            status=None,
        ) from None
    return auth, awsrequest, credentials
