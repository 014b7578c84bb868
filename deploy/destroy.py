"""Removing all that `deploy` made, and saying what stays."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.aws import Aws
from deploy.progress import Progress
from deploy.repository import Repository
from deploy.stack import Stack
from deploy.states import empty_bucket


@dataclass(frozen=True)
class Destroyed:
    """What went and what stays, in words."""

    removed: list[str]
    kept: list[str]


def destroy(
    aws: Aws, name: str, progress: Progress, *, keep_images: bool = False, pause: float = 3.0
) -> Destroyed:
    """Delete the stack with its bucket's content, and the repository. Safe to repeat.

    Raises:
        StackFailed: the stack is not friend's, or CloudFormation cannot delete it.
    """
    stack, repository = Stack(aws, name, pause=pause), Repository(aws, name)
    removed: list[str] = []
    kept: list[str] = []
    with progress.step("Shared states"):
        emptied = empty_bucket(aws, stack)
        progress.result(f"{emptied} deleted")
    with progress.step("Stack"):
        if stack.delete(progress.now):
            removed.append(f"the stack {name}: function, Function URL, roles, schedule, logs")
        progress.result("deleted" if removed else "there is none")
    if emptied:
        removed.append(f"{emptied} conversation states")
    with progress.step("Images"):
        if keep_images:
            kept.append(f"the ECR repository {name} and its images, which ECR goes on billing")
            progress.result("kept")
        elif repository.delete():
            removed.append(f"the ECR repository {name} with its images")
            progress.result("deleted")
        else:
            progress.result("there are none")
    kept += [
        "the images on this machine",
        "FRIEND_MODEL_URL in your .env, if it is there",
        "CloudWatch's metrics of past calls, which end by themselves and cost nothing",
    ]
    return Destroyed(removed, kept)
