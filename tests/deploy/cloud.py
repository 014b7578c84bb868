"""moto's server, with what it leaves out and a deployment needs.

Function URLs in stacks, the outputs of a stack changed by change set, the account's limits.

Run as `python -m tests.deploy.cloud URL_FILE`; prints its port, and ends with standard input. A
Function URL made by a stack is the address that URL_FILE holds at that moment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from moto.awslambda.urls import url_paths
from moto.cloudformation.models import Change, ChangeSet
from moto.core.common_models import CloudFormationModel
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

URL_FILE = Path(sys.argv[1] if len(sys.argv) > 1 else "/dev/null")


class Url(CloudFormationModel):
    """`AWS::Lambda::Url`, which moto's CloudFormation skips in silence."""

    __module__ = "moto.awslambda.urls"  # moto files its models by the name of their module

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::Lambda::Url"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "FunctionUrl"

    def get_cfn_attribute(self, attribute: str) -> str:
        assert attribute == "FunctionUrl"
        return URL_FILE.read_text()

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> Url:
        return cls(resource_name)

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: Url, *_: Any, **__: Any) -> Url:
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, *_: Any, **__: Any) -> None:
        pass

    def is_created(self) -> bool:
        return True


def account_settings(*_: Any) -> tuple[int, dict[str, str], str]:
    """`lambda:GetAccountSettings`, as an account of some age answers it."""
    limit = {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}
    return 200, {"Content-Type": "application/json"}, json.dumps({"AccountLimit": limit})


def apply(change_set: ChangeSet) -> None:
    """What an update without a change set does; moto's own forgets outputs and parameters."""
    change_set.stack.update(
        change_set.template, parameters=change_set.parameters, tags=change_set.tags
    )


def diff(change_set: ChangeSet) -> list[Change]:
    """The changes; moto's own overlooks those that come from parameters."""
    resources = change_set.template_dict["Resources"]
    found = change_set.stack.resource_map.build_resource_diff(
        change_set.template_dict, change_set.parameters
    )
    return [
        Change(action, name, resources[name]["Type"])
        for action in ("Add", "Modify")
        for name in found[action]
    ]


def main() -> None:
    ChangeSet.diff = diff  # type: ignore[method-assign]
    ChangeSet.apply = apply  # type: ignore[method-assign]
    url_paths[r"{0}/2016-08-19/account-settings/?$"] = account_settings  # type: ignore[assignment]
    default_user_config["lambda"]["use_docker"] = False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
