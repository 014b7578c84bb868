"""Calls to AWS, with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.errors import AwsRefused, BotoMissing, DeployError, NoAws

_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_STALE = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId")


class Aws:
    """One account and region, by botocore's own chain of credentials.

    Raises:
        BotoMissing: boto3 is not installed.
        NoAws: there is no region, or no such profile.
    """

    def __init__(self, *, region: str | None = None, profile: str | None = None) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise BotoMissing(
                "Deploying needs boto3, which is not installed: pip install 'friend-bot[deploy]'"
            ) from None
        with _explained():
            self.session = boto3.Session(region_name=region, profile_name=profile)
        self._config = Config(
            connect_timeout=10,
            read_timeout=70,
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        self._clients: dict[str, Any] = {}
        self._region = self.session.region_name

    @property
    def region(self) -> str:
        """Where everything is made."""
        if not self._region:
            raise NoAws(
                "No AWS region is set. Name one near you: --region eu-central-1 (or AWS_REGION)."
            )
        return str(self._region)

    @property
    def has_credentials(self) -> bool:
        """Whether botocore finds credentials at all; they may still be wrong."""
        with _explained():
            return self.session.get_credentials() is not None

    def __call__(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call. Raises AwsRefused or NoAws."""
        with _explained(f"{service}:{operation}"):
            answer: dict[str, Any] = getattr(self._client(service), operation)(**arguments)
            return answer

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing."""
        with _explained(f"{service}:{operation}"):
            yield from self._client(service).get_paginator(operation).paginate(**arguments)

    def account(self) -> tuple[str, str]:
        """The account's number and who is calling."""
        answer = self("sts", "get_caller_identity")
        return str(answer["Account"]), str(answer["Arn"])

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.session.client(
                service, region_name=self.region, config=self._config
            )
        return self._clients[service]


class _explained:  # noqa: N801
    """Turns botocore's errors into ours."""

    def __init__(self, call: str = "") -> None:
        self._call = call

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, DeployError):
            return
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if isinstance(error, ClientError):
            raise _refusal(self._call, error) from error
        if isinstance(error, BotoCoreError | ResponseParserError):
            raise _no_aws(error) from error


def _refusal(call: str, error: Any) -> AwsRefused:
    about = error.response.get("Error", {})
    code = str(about.get("Code", ""))
    said = " ".join(str(about.get("Message", "")).split())[:400].rstrip(".")
    if code in _DENIED:
        text = (
            f"AWS does not allow {call}: {said}. Give your user or role the policy in "
            "deploy/deployer-policy.json (docs/deploy.md says how)."
        )
    elif code in _STALE:
        text = f"AWS does not take the credentials: {said}. Log in again (`aws sso login`)."
    else:
        text = f"AWS refused {call}: {said} ({code})."
    return AwsRefused(text, code=code)


def _no_aws(error: Exception) -> NoAws:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return NoAws(
            "No AWS credentials were found. Run `aws configure` or `aws sso login`, or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if kind == "ProfileNotFound":
        return NoAws(f"{error}. `aws configure list-profiles` shows those there are.")
    return NoAws(f"AWS could not be asked: {error}")
