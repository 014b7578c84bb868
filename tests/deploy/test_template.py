"""The template, and what moto's CloudFormation skips of it."""

from __future__ import annotations

import json
from typing import Any

import cfnlint
import pytest
from cfnlint.api import lint_file
from cfnlint.decode import decode

from deploy.settings import DeploySettings
from deploy.stack import TEMPLATE, planned

assert cfnlint


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found, problems = decode(str(TEMPLATE))
    assert not problems
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return template["Resources"]


def of(resources: dict[str, Any], name: str) -> dict[str, Any]:
    return resources[name]["Properties"]


def test_cfn_lint_finds_nothing() -> None:
    assert [str(match) for match in lint_file(TEMPLATE)] == []


def test_only_signed_calls_reach_the_function_and_replies_are_streamed(
    resources: dict[str, Any],
) -> None:
    url = of(resources, "Url")
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")
    permissions = [
        one["Properties"] for one in resources.values() if one["Type"] == "AWS::Lambda::Permission"
    ]
    told = {
        (one["Action"], one.get("FunctionUrlAuthType"), one.get("InvokedViaFunctionUrl"))
        for one in permissions
    }
    assert told == {
        ("lambda:InvokeFunctionUrl", "AWS_IAM", None),
        ("lambda:InvokeFunction", None, True),
    }
    assert all(one["Principal"] == {"Ref": "AWS::AccountId"} for one in permissions)


def test_the_callers_policy_allows_the_url_and_nothing_else(resources: dict[str, Any]) -> None:
    statements = of(resources, "Caller")["PolicyDocument"]["Statement"]
    assert {one["Action"]: one["Condition"] for one in statements} == {
        "lambda:InvokeFunctionUrl": {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
        "lambda:InvokeFunction": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
    }


def test_a_schedule_sends_the_warm_ping_by_a_role_of_its_own(resources: dict[str, Any]) -> None:
    schedule = of(resources, "KeepWarm")
    assert json.loads(schedule["Target"]["Input"]) == {"warm": True}
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": ["WarmRole", "Arn"]}
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    # EventBridge takes `1 minute` and `2 minutes` only.
    assert schedule["ScheduleExpression"]["Fn::If"] == [
        "WarmsEveryMinute",
        "rate(1 minute)",
        {"Fn::Sub": "rate(${KeepWarmMinutes} minutes)"},
    ]
    policy = of(resources, "WarmRole")["Policies"][0]["PolicyDocument"]["Statement"]
    assert [one["Action"] for one in policy] == ["lambda:InvokeFunction"]


def test_the_function_is_limited_and_snapped_only_when_asked(resources: dict[str, Any]) -> None:
    function = resources["Function"]["Properties"]
    nothing = {"Ref": "AWS::NoValue"}
    assert function["ReservedConcurrentExecutions"] == {
        "Fn::If": ["Reserves", {"Ref": "Concurrency"}, nothing]
    }
    assert function["SnapStart"] == {"Fn::If": ["Snaps", {"ApplyOn": "PublishedVersions"}, nothing]}
    # Snapshots are taken of published versions only, so the URL needs one and a name for it.
    assert resources["Version"]["Condition"] == resources["Live"]["Condition"] == "Snaps"


def test_url_permissions_and_pings_follow_the_snapshots_alias(resources: dict[str, Any]) -> None:
    target = {"Fn::If": ["Snaps", {"Ref": "Live"}, {"Fn::GetAtt": ["Function", "Arn"]}]}
    assert of(resources, "MayCallUrl")["FunctionName"] == target
    assert of(resources, "MayInvokeByUrl")["FunctionName"] == target
    assert of(resources, "KeepWarm")["Target"]["Arn"] == target
    assert of(resources, "Url")["Qualifier"]["Fn::If"][0] == "Snaps"
    # Only a changed description makes CloudFormation publish a new version.
    told = json.dumps(of(resources, "Version")["Description"])
    for part in ("ImageUri", "MemoryMegabytes", "TimeoutSeconds", "StateDays", "ModelName"):
        assert part in told


def test_no_role_may_do_everything(resources: dict[str, Any]) -> None:
    for name, resource in resources.items():
        if not resource["Type"].startswith("AWS::IAM::"):
            continue
        properties = resource["Properties"]
        documents = [one["PolicyDocument"] for one in properties.get("Policies", ())]
        documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        assert documents, name
        for document in documents:
            for statement in document["Statement"]:
                assert "*" not in json.dumps(statement["Action"]), name
                assert statement["Resource"] != "*", name


def test_the_state_bucket_is_private_encrypted_and_forgets(resources: dict[str, Any]) -> None:
    bucket = of(resources, "States")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == {"Ref": "StateDays"}
    policy = of(resources, "StatesOnlyByTls")["PolicyDocument"]["Statement"][0]
    assert policy["Effect"] == "Deny"
    assert policy["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_logs_end_and_the_budget_tells_somebody(resources: dict[str, Any]) -> None:
    assert of(resources, "Logs")["RetentionInDays"] == {"Ref": "LogDays"}
    told = of(resources, "Budget")["NotificationsWithSubscribers"]
    assert {one["Notification"]["NotificationType"] for one in told} == {"ACTUAL", "FORECASTED"}


def test_settings_and_template_know_the_same_parameters(template: dict[str, Any]) -> None:
    settings = DeploySettings()
    uri = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/friend@sha256:{'0' * 64}"
    parameters = settings.parameters(uri)
    assert set(parameters) == set(template["Parameters"])
    for name, about in template["Parameters"].items():
        if "Default" in about:
            assert parameters[name] == str(about["Default"]), name
    assert template["Parameters"]["LogDays"]["AllowedValues"]


@pytest.mark.parametrize("all_of_it", [False, True])
def test_the_plan_without_aws_lists_what_the_template_would_make(
    template: dict[str, Any], all_of_it: bool
) -> None:
    settings = DeploySettings(
        keep_warm_minutes=5 if all_of_it else 0,
        state_days=int(all_of_it),
        snap_start=all_of_it,
        budget_dollars=int(all_of_it),
        budget_email="me@example.org" if all_of_it else "",
    )
    found = {change.resource: change.kind for change in planned(settings.conditions())}
    expected = {
        name: one["Type"]
        for name, one in template["Resources"].items()
        if all_of_it or "Condition" not in one
    }
    assert found == expected
