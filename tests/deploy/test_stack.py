"""Stacks in trouble, which moto never has: a small CloudFormation whose changes can fail."""

from __future__ import annotations

from typing import Any, cast

import pytest

from deploy.aws import Aws
from deploy.errors import AwsRefused, StackFailed
from deploy.stack import Stack

PARAMETERS = {"ImageUri": "x"}


class TroubledCloudFormation:
    """One stack. Each change is under way for two looks; `fails` is why the next one does."""

    def __init__(self) -> None:
        self.status = ""
        self.tags = [{"Key": "made-by", "Value": "friend"}]
        self.fails: str = ""
        self.plan_fails: str = ""
        self.events: list[dict[str, str]] = []
        self.calls: list[str] = []
        self._looks = 0
        self._next = ""

    def become(self, status: str, after: str) -> None:
        self.status, self._next, self._looks = status, after, 2

    def __call__(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        assert service == "cloudformation"
        self.calls.append(operation)
        answer: dict[str, Any] = getattr(self, f"_{operation}")(**arguments)
        return answer

    def _describe_stacks(self, **asked: Any) -> dict[str, Any]:
        if self._next:
            self._looks -= 1
            if self._looks < 0:
                self.status, self._next = self._next, ""
        gone = self.status == "DELETE_COMPLETE" and not asked["StackName"].startswith("arn:")
        if not self.status or gone:
            raise AwsRefused("Stack with id friend does not exist", code="ValidationError")
        about = {"StackStatus": self.status, "StackId": "arn:1", "Tags": self.tags}
        return {"Stacks": [about]}

    def _create_change_set(self, **asked: Any) -> dict[str, Any]:
        creates = asked["ChangeSetType"] == "CREATE"
        assert creates == (self.status in ("", "DELETE_COMPLETE"))
        if creates:
            self.status = "REVIEW_IN_PROGRESS"
        return {"Id": "arn:change"}

    def _describe_change_set(self, **_: Any) -> dict[str, Any]:
        if self.plan_fails:
            return {"Status": "FAILED", "StatusReason": self.plan_fails}
        change = {
            "Action": "Modify",
            "LogicalResourceId": "Url",
            "ResourceType": "AWS::Lambda::Url",
        }
        return {
            "Status": "CREATE_COMPLETE",
            "Changes": [{"ResourceChange": change | {"Replacement": "True"}}],
        }

    def _delete_change_set(self, **_: Any) -> dict[str, Any]:
        return {}

    def _execute_change_set(self, **_: Any) -> dict[str, Any]:
        creates = self.status == "REVIEW_IN_PROGRESS"
        word = "CREATE" if creates else "UPDATE"
        self._event("friend", f"{word}_IN_PROGRESS", "User Initiated")
        if not self.fails:
            self.become(f"{word}_IN_PROGRESS", f"{word}_COMPLETE")
            return {}
        self._event("Function", f"{word}_FAILED", self.fails)
        self._event("Role", f"{word}_FAILED", "Resource creation cancelled")
        rolled = "ROLLBACK" if creates else "UPDATE_ROLLBACK"
        self._event("friend", f"{rolled}_IN_PROGRESS", "The following resource(s) failed")
        self.become(f"{rolled}_IN_PROGRESS", f"{rolled}_COMPLETE")
        return {}

    def _delete_stack(self, **_: Any) -> dict[str, Any]:
        failed = "DELETE_FAILED" if self.fails else "DELETE_COMPLETE"
        self._event("friend", "DELETE_IN_PROGRESS", "User Initiated")
        if self.fails:
            self._event("States", "DELETE_FAILED", self.fails)
        self.become("DELETE_IN_PROGRESS", failed)
        return {}

    def _describe_stack_events(self, **_: Any) -> dict[str, Any]:
        return {"StackEvents": self.events[::-1]}

    def _event(self, name: str, status: str, reason: str) -> None:
        event = {"LogicalResourceId": name, "ResourceStatus": status}
        self.events.append(event | {"ResourceStatusReason": reason})


@pytest.fixture
def formation() -> TroubledCloudFormation:
    return TroubledCloudFormation()


@pytest.fixture
def stack(formation: TroubledCloudFormation) -> Stack:
    return Stack(cast("Aws", formation), "friend", pause=0)


def quiet(_: str) -> None:
    pass


def change(stack: Stack) -> None:
    stack.settle(quiet)
    change_set, _ = stack.change_set(PARAMETERS)
    stack.execute(change_set, quiet)


def test_a_first_deployment_that_fails_names_the_cause_and_the_next_one_starts_clean(
    stack: Stack, formation: TroubledCloudFormation
) -> None:
    formation.fails = "'MemorySize' value failed to satisfy constraint"
    with pytest.raises(StackFailed, match=r"Function: 'MemorySize'.*lower --memory"):
        change(stack)
    assert formation.status == "ROLLBACK_COMPLETE"
    assert stack.describe() is None

    formation.fails = ""
    change(stack)
    assert formation.status == "CREATE_COMPLETE"
    assert formation.calls.count("delete_stack") == 1


def test_an_update_that_fails_leaves_the_stack_as_it_was(
    stack: Stack, formation: TroubledCloudFormation
) -> None:
    change(stack)
    formation.fails = "no such image"
    with pytest.raises(StackFailed, match="took the changes back: Function: no such image"):
        change(stack)
    formation.fails = ""
    change(stack)
    assert formation.status == "UPDATE_COMPLETE"
    assert "delete_stack" not in formation.calls


def test_a_change_under_way_is_waited_for(stack: Stack, formation: TroubledCloudFormation) -> None:
    formation.become("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    said: list[str] = []
    stack.settle(said.append)
    assert formation.status == "UPDATE_COMPLETE"
    assert said[0] == "waiting for an earlier change to end"


def test_a_dry_run_that_was_killed_leaves_a_shell_that_is_cleared(
    stack: Stack, formation: TroubledCloudFormation
) -> None:
    stack.change_set(PARAMETERS)
    assert formation.status == "REVIEW_IN_PROGRESS"
    change(stack)
    assert formation.status == "CREATE_COMPLETE"


def test_a_dry_run_leaves_nothing(stack: Stack, formation: TroubledCloudFormation) -> None:
    change_set, changes = stack.change_set(PARAMETERS)
    assert changes[0].replacement
    stack.discard(change_set)
    assert formation.status == "DELETE_COMPLETE"
    assert stack.can_plan()


def test_what_cannot_be_planned_says_why(stack: Stack, formation: TroubledCloudFormation) -> None:
    formation.plan_fails = "Template error"
    with pytest.raises(StackFailed, match="Template error"):
        stack.change_set(PARAMETERS)
    assert formation.status == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("status", "said"),
    [("UPDATE_ROLLBACK_FAILED", "Continue update rollback"), ("DELETE_FAILED", "friend destroy")],
)
def test_a_stack_that_only_a_person_can_mend_says_how(
    stack: Stack, formation: TroubledCloudFormation, status: str, said: str
) -> None:
    formation.status = status
    with pytest.raises(StackFailed, match=said):
        stack.settle(quiet)


def test_a_deletion_that_fails_says_why_and_can_be_repeated(
    stack: Stack, formation: TroubledCloudFormation
) -> None:
    change(stack)
    formation.fails = "The bucket you tried to delete is not empty"
    with pytest.raises(StackFailed, match="States: The bucket"):
        stack.delete(quiet)
    formation.fails = ""
    assert stack.delete(quiet) is True
    assert stack.delete(quiet) is False
