"""auth.test, users.info, bots.info, team.info, views.publish, apps.connections.open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.slack.methods.registry import JSON, SlackError, method
from tests.fakes.slack.workspace import TEAM_ID

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack


@method("api.test")
def api_test(fake: FakeSlack, arguments: JSON) -> JSON:
    return {"args": arguments}


@method("auth.test")
def auth_test(fake: FakeSlack, arguments: JSON) -> JSON:
    return {
        "url": "https://fake.slack.com/",
        "team": "Fake",
        "user": fake.bot.name,
        "team_id": TEAM_ID,
        "user_id": fake.bot.id,
        "bot_id": fake.bot.bot_id,
        "is_enterprise_install": False,
    }


@method("apps.connections.open", scopes=("connections:write",), app_token=True)
def connections_open(fake: FakeSlack, arguments: JSON) -> JSON:
    return {"url": fake.socket.issue_url()}


@method("team.info", scopes=("team:read",))
def team_info(fake: FakeSlack, arguments: JSON) -> JSON:
    return {"team": {"id": TEAM_ID, "name": "Fake", "domain": "fake"}}


@method("users.info", scopes=("users:read",), required=("user",))
def users_info(fake: FakeSlack, arguments: JSON) -> JSON:
    user = fake.workspace.users.get(str(arguments["user"]))
    if user is None:
        raise SlackError("user_not_found")
    return {
        "user": {
            "id": user.id,
            "team_id": user.team,
            "name": user.name,
            "real_name": user.display_name,
            "is_bot": user.is_bot,
            "deleted": False,
            "profile": {"display_name": user.display_name, "real_name": user.display_name},
        }
    }


@method("bots.info", scopes=("users:read",))
def bots_info(fake: FakeSlack, arguments: JSON) -> JSON:
    for user in fake.workspace.users.values():
        if user.bot_id == arguments.get("bot"):
            return {"bot": {"id": user.bot_id, "name": user.name, "app_id": user.app_id}}
    raise SlackError("bot_not_found")


@method("views.publish", required=("user_id", "view"))
def views_publish(fake: FakeSlack, arguments: JSON) -> JSON:
    if arguments["user_id"] not in fake.workspace.users:
        raise SlackError("user_not_found")
    if arguments["view"].get("type") != "home":
        raise SlackError("invalid_arguments")
    fake.workspace.views[arguments["user_id"]] = arguments["view"]
    return {"view": arguments["view"]}
