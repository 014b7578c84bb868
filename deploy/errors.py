"""Every error of deploying.

DeployError                 anything friend can explain to a person
├── OptionRefused           an option makes no sense
├── BotoMissing             boto3 is not installed
├── NoAws                   no credentials, no region, or AWS cannot be reached
├── AwsRefused              AWS said no to a call (`code` is AWS's own)
├── PreflightFailed         the account cannot hold what was asked for
├── BuildFailed             the image could not be built or pushed
├── StackFailed             CloudFormation gave up, or the stack is not ours
├── SmokeFailed             the function is there but gave no reply
└── NotDeployed             there is no such stack
"""

from __future__ import annotations


class DeployError(Exception):
    """A failure with a sentence for a person: what happened, and what to do.

    Attributes:
        step: the title of the step it happened in; empty outside a deployment.
    """

    step: str = ""

    def __str__(self) -> str:
        text = super().__str__()
        if not self.step:
            return text
        return (
            f"stopped at the step '{self.step}'. {text}\n"
            "What was done before stays; the same command goes on from here."
        )


class OptionRefused(DeployError):
    """An option makes no sense."""


class BotoMissing(DeployError):
    """The extra `deploy` is not installed."""


class NoAws(DeployError):
    """No credentials, no region, or AWS cannot be reached."""


class AwsRefused(DeployError):
    """AWS answered a call with an error.

    Attributes:
        code: AWS's name for it, such as `AccessDenied`.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class PreflightFailed(DeployError):
    """The account cannot hold what was asked for."""


class BuildFailed(DeployError):
    """The image could not be built or pushed."""


class StackFailed(DeployError):
    """CloudFormation gave up, or the stack is not friend's."""


class SmokeFailed(DeployError):
    """The function is there but gave no reply."""


class NotDeployed(DeployError):
    """There is no such stack."""
