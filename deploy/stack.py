"""The CloudFormation stack, changed only through change sets."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.aws import Aws
from deploy.errors import NotDeployed, StackFailed
from deploy.stack_watch import PATIENCE_SECONDS, StackWatch

TEMPLATE = Path(__file__).with_name("template.yaml")
_TAG = {"Key": "made-by", "Value": "friend"}
_RESOURCE = re.compile(
    r"^  (\w+):\n    Type: (AWS::\S+)\n(?:    Condition: (\w+)\n)?", re.MULTILINE
)
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_EMPTY = ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
"""States of a stack that holds nothing that works, and must go before a new one can be made."""


@dataclass(frozen=True)
class Change:
    """One line of a change set."""

    action: str
    resource: str
    kind: str
    replacement: bool


def planned(conditions: Mapping[str, bool]) -> list[Change]:
    """What a first deployment makes, from the template alone."""
    text = TEMPLATE.read_text(encoding="utf-8")
    return [
        Change("Add", name, kind, replacement=False)
        for name, kind, condition in _RESOURCE.findall(text)
        if not condition or conditions[condition]
    ]


class Stack:
    """One stack by name."""

    def __init__(self, aws: Aws, name: str, *, pause: float = 3.0) -> None:
        """`pause`: seconds between looks at a stack that is being changed."""
        self._aws = aws
        self.name = name
        self._pause = pause
        self._watch = StackWatch(aws, name, pause=pause)

    def describe(self) -> dict[str, Any] | None:
        """What CloudFormation says of it; None if there is none, or only an empty shell."""
        about = self._watch.look()
        return None if about is None or about["StackStatus"] in _EMPTY else about

    def describe_ours(self) -> dict[str, Any]:
        """The same in whatever state it is; empty if there is none. Raises if it is not ours."""
        about = self._watch.look()
        if about is not None:
            self._check_ours(about)
        return about or {}

    def parameters(self) -> dict[str, str] | None:
        """The choices it was made with, or None."""
        about = self.describe()
        if about is None:
            return None
        return {p["ParameterKey"]: p["ParameterValue"] for p in about.get("Parameters", ())}

    def outputs(self) -> dict[str, str]:
        """Its outputs. Raises NotDeployed if there is no such stack."""
        about = self.describe()
        if about is None:
            raise NotDeployed(
                f"There is no stack {self.name} in {self._aws.region}. `friend deploy` makes one."
            )
        return {o["OutputKey"]: o["OutputValue"] for o in about.get("Outputs", ())}

    def settle(self, say: Callable[[str], None]) -> None:
        """Wait for what is under way, and clear away what failed before it held anything."""
        about = self._watch.look()
        if about is None:
            return
        self._check_ours(about)
        if about["StackStatus"].endswith("_IN_PROGRESS") and about["StackStatus"] not in _EMPTY:
            say("waiting for an earlier change to end")
            about = self._watch.wait(say)
        if about is not None and about["StackStatus"] == "DELETE_FAILED":
            raise StackFailed(
                f"The stack {self.name} is half deleted. Run `friend destroy` again first, which "
                "goes on with it."
            )
        if about is not None and about["StackStatus"] in _EMPTY:
            say("clearing away an earlier attempt that failed")
            self._delete(about["StackId"], say)
        elif about is not None and about["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
            raise StackFailed(
                f"CloudFormation could neither update the stack {self.name} nor go back: "
                f"{self._watch.reason(about['StackId'])}. Open it in the CloudFormation console "
                "and choose 'Continue update rollback', or run `friend destroy` and deploy anew."
            )

    def can_plan(self) -> bool:
        """Whether a change set can be made: nothing is under way, and no failed shell is there."""
        about = self._watch.look()
        if about is None:
            return True
        self._check_ours(about)
        status = about["StackStatus"]
        return status not in _EMPTY and not status.endswith("_IN_PROGRESS")

    def change_set(self, parameters: Mapping[str, str]) -> tuple[str, list[Change]]:
        """Have CloudFormation work out the changes: the change set's id, and the changes.

        The id is empty where nothing would change.
        """
        about = self.describe()
        made = self._aws(
            "cloudformation",
            "create_change_set",
            StackName=self.name,
            ChangeSetName=f"friend-{time.time_ns():x}",
            ChangeSetType="UPDATE" if about else "CREATE",
            TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM"],
            Tags=[_TAG],
        )
        identity = str(made["Id"])
        found = self._planned(identity)
        if found["Status"] != "FAILED":
            return identity, [_change(c["ResourceChange"]) for c in found.get("Changes", ())]
        self.discard(identity)
        reason = str(found.get("StatusReason", ""))
        if any(words in reason for words in _NO_CHANGES):
            return "", []
        raise StackFailed(f"CloudFormation could not plan the change: {reason}")

    def discard(self, change_set: str) -> None:
        """Throw a change set away, and the empty stack that a first one leaves."""
        self._aws(
            "cloudformation", "delete_change_set", ChangeSetName=change_set, StackName=self.name
        )
        about = self._watch.look()
        if about is not None and about["StackStatus"] == "REVIEW_IN_PROGRESS":
            self._delete(about["StackId"], lambda _: None)

    def execute(self, change_set: str, say: Callable[[str], None]) -> None:
        """Carry the change set out. Raises StackFailed, with the first cause; AWS rolls back."""
        self._aws(
            "cloudformation", "execute_change_set", ChangeSetName=change_set, StackName=self.name
        )
        about = self._watch.wait(say)
        if about is None or about["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            reason = self._watch.reason(about["StackId"]) if about else "the stack is gone"
            raise StackFailed(
                f"CloudFormation could not build the stack and took the changes back: {reason}"
            )

    def delete(self, say: Callable[[str], None]) -> bool:
        """Delete it, and wait for it; False if there was none."""
        about = self._watch.look()
        if about is None:
            return False
        self._check_ours(about)
        self._delete(about["StackId"], say)
        return True

    def _delete(self, identity: str, say: Callable[[str], None]) -> None:
        self._aws("cloudformation", "delete_stack", StackName=self.name)
        about = self._watch.wait(say, identity)
        if about is not None and about["StackStatus"] != "DELETE_COMPLETE":
            raise StackFailed(
                f"The stack {self.name} could not be deleted: {self._watch.reason(identity)}"
            )

    def _check_ours(self, about: Mapping[str, Any]) -> None:
        if about["StackStatus"] != "REVIEW_IN_PROGRESS" and _TAG not in about.get("Tags", ()):
            raise StackFailed(
                f"There is a stack {self.name} that friend did not make. Choose another name with "
                "--name."
            )

    def _planned(self, change_set: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            found = self._aws(
                "cloudformation",
                "describe_change_set",
                ChangeSetName=change_set,
                StackName=self.name,
            )
            if found["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                return found
            time.sleep(self._pause)
        raise StackFailed("CloudFormation is still planning after 30 minutes. Try again later.")


def _change(about: Mapping[str, Any]) -> Change:
    return Change(
        str(about["Action"]),
        str(about["LogicalResourceId"]),
        str(about["ResourceType"]),
        replacement=about.get("Replacement") == "True",
    )
