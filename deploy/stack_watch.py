"""Watching a stack change, and finding out why it could not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deploy.aws import Aws
from deploy.errors import AwsRefused, StackFailed

PATIENCE_SECONDS = 1800
_HINTS = {
    "MemorySize": "New accounts end at 3008 MB: lower --memory.",
    "UnreservedConcurrentExecution": "The account is too small to reserve: --concurrency 0.",
    "attached to entities": "First detach the caller policy from the bot's user or role.",
    "already exists": "Something of that name is there already: choose another --name.",
}


class StackWatch:
    """Eyes on one stack."""

    def __init__(self, aws: Aws, name: str, *, pause: float) -> None:
        self._aws = aws
        self.name = name
        self._pause = pause

    def look(self, identity: str = "") -> dict[str, Any] | None:
        """How the stack is, None if there is none. By its id a deleted one is found as well."""
        try:
            found = self._aws("cloudformation", "describe_stacks", StackName=identity or self.name)
        except AwsRefused as error:
            if error.code == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        about: dict[str, Any] = found["Stacks"][0]
        gone = about["StackStatus"] == "DELETE_COMPLETE" and not identity
        return None if gone else about

    def wait(self, say: Callable[[str], None], identity: str = "") -> dict[str, Any] | None:
        """Until nothing is under way; gives how the stack is then, None if it is gone."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            about = self.look(identity)
            if about is None or not about["StackStatus"].endswith("_IN_PROGRESS"):
                return about
            say(self._newest(about["StackId"]))
            time.sleep(self._pause)
        raise StackFailed(
            f"The stack {self.name} is still changing after 30 minutes. `friend status` says how "
            "it stands; running the same command again waits on."
        )

    def _events(self, identity: str) -> list[dict[str, Any]]:
        """The newest first."""
        found = self._aws("cloudformation", "describe_stack_events", StackName=identity)
        return list(found["StackEvents"])

    def _newest(self, identity: str) -> str:
        events = self._events(identity)
        if not events:
            return "starting"
        newest = events[0]
        state = str(newest["ResourceStatus"]).replace("_", " ").lower()
        return f"{newest['LogicalResourceId']} {state}"

    def reason(self, identity: str) -> str:
        """Why the latest change failed: the first failure in it that is not a consequence."""
        first = "CloudFormation names no cause"
        for event in self._events(identity):
            status, reason = str(event["ResourceStatus"]), event.get("ResourceStatusReason", "")
            if reason == "User Initiated":
                break
            if status.endswith("_FAILED") and reason and "cancelled" not in reason:
                first = f"{event['LogicalResourceId']}: {reason}"
        hints = [hint for words, hint in _HINTS.items() if words in first]
        return " ".join([first.rstrip(".") + ".", *hints])
