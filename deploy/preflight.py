"""What can be known before anything is made: who, where, and whether the account has room."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.aws import Aws
from deploy.cost import FREE_ECR_BYTES, image_verdict
from deploy.errors import PreflightFailed
from deploy.settings import DeploySettings
from deploy.sources import Model

_MOST_IMAGE_BYTES = 10_000_000_000
_NEW_ACCOUNT_MB = 3008
_LEAST_UNRESERVED = 100
"""Lambda keeps this much concurrency for functions that reserve none."""


@dataclass(frozen=True)
class Account:
    """Who deploys, and how much the account may run at once."""

    number: str
    caller: str
    region: str
    concurrency: int
    unreserved: int


def look(aws: Aws) -> Account:
    """Ask AWS. Raises NoAws or AwsRefused."""
    number, caller = aws.account()
    limit = aws("lambda", "get_account_settings")["AccountLimit"]
    return Account(
        number=number,
        caller=caller,
        region=aws.region,
        concurrency=int(limit["ConcurrentExecutions"]),
        unreserved=int(limit["UnreservedConcurrentExecutions"]),
    )


def check_concurrency(account: Account, wanted: int, reserved: int) -> None:
    """Refuse a reservation that Lambda would refuse half-way.

    `reserved` is what the function has reserved already. Raises PreflightFailed.
    """
    room = account.unreserved + reserved - _LEAST_UNRESERVED
    if wanted > reserved and wanted > room:
        raise PreflightFailed(
            f"The account may run {account.concurrency} calls at once in {account.region}, and "
            f"{_LEAST_UNRESERVED} of them cannot be reserved, so --concurrency can be at most "
            f"{max(0, room)}. Leave it out (the account's limit then holds), or ask for more: "
            "Service Quotas, AWS Lambda, Concurrent executions."
        )


def check_model(model: Model) -> None:
    """Refuse a model that no Lambda image can hold. Raises PreflightFailed."""
    if model.nbytes >= _MOST_IMAGE_BYTES:
        raise PreflightFailed(
            f"The model is {model.nbytes / 1e9:.1f} GB; an image for Lambda ends at 10 GB. Use a "
            "smaller format (`friend model convert --type q4_0`) or a smaller model."
        )


def warnings(settings: DeploySettings, model: Model) -> list[str]:
    """What may surprise, though nothing forbids it."""
    found = []
    if settings.memory_mb > _NEW_ACCOUNT_MB:
        found.append(
            f"{settings.memory_mb} MB: new accounts are held to {_NEW_ACCOUNT_MB} MB, which no API "
            "tells. If Lambda refuses, lower --memory, or ask for more with a support case."
        )
    if model.nbytes > settings.memory_mb << 20:
        found.append(
            f"The model ({model.nbytes / 1e6:.0f} MB) is larger than the function's memory "
            f"({settings.memory_mb} MB) and cannot run in it: raise --memory."
        )
    if model.nbytes > FREE_ECR_BYTES:
        found.append(f"The model alone: {image_verdict(model.nbytes)}.")
    return found
