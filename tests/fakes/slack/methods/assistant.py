"""assistant.threads.setStatus: the "is thinking…" line under a thread.

Any post of the app in the thread clears it, and so do an empty status and two minutes.
One that is set after the answer has been posted has nothing to clear it: the reader sees
an app that thinks for ever and cannot write. The fake calls that `late`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fakes.slack.methods.chat import writable
from tests.fakes.slack.methods.registry import JSON, SlackError, method

if TYPE_CHECKING:
    from tests.fakes.slack.clock import Clock
    from tests.fakes.slack.server import FakeSlack
    from tests.fakes.slack.workspace import Message

EXPIRES_SECONDS = 120.0
MAX_LOADING_MESSAGES = 10

Thread = tuple[str, str]
"""(channel id, thread ts)"""


@dataclass(frozen=True)
class StatusChange:
    """`status` is empty when it was cleared, and `by` says by what."""

    thread: Thread
    status: str
    at: float
    by: str
    late: bool = False


class Statuses:
    """The log of every thread's status."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.log: list[StatusChange] = []
        self._answered: set[Thread] = set()

    def current(self, thread: Thread) -> str:
        """What the reader sees under the thread now."""
        for change in reversed(self.log):
            if change.thread == thread:
                expired = self._clock.now() - change.at > EXPIRES_SECONDS
                return "" if expired else change.status
        return ""

    @property
    def shown(self) -> list[str]:
        """Every non-empty status so far, in order."""
        return [change.status for change in self.log if change.status]

    @property
    def late(self) -> list[StatusChange]:
        return [change for change in self.log if change.late]

    @property
    def stuck(self) -> list[Thread]:
        """Threads with a status showing at this moment."""
        threads = dict.fromkeys(change.thread for change in self.log)
        return [thread for thread in threads if self.current(thread)]

    def set(self, thread: Thread, status: str) -> None:
        late = bool(status) and thread in self._answered
        self.log.append(StatusChange(thread, status, self._clock.now(), "setStatus", late))

    def person_spoke(self, message: Message) -> None:
        self._answered.discard((message.channel.id, message.root_ts))

    def app_posted(self, message: Message) -> None:
        thread = (message.channel.id, message.root_ts)
        self._answered.add(thread)
        if self.current(thread):
            self.log.append(StatusChange(thread, "", self._clock.now(), "post"))


@method(
    "assistant.threads.setStatus",
    scopes=("chat:write", "assistant:write"),
    required=("channel_id", "thread_ts"),
)
def set_status(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel_id"])
    if "status" not in arguments:
        raise SlackError("invalid_arguments")
    if len(arguments.get("loading_messages") or []) > MAX_LOADING_MESSAGES:
        raise SlackError("invalid_arguments")
    if fake.workspace.find(channel, arguments["thread_ts"]) is None:
        raise SlackError("invalid_thread_ts")
    fake.statuses.set((channel.id, arguments["thread_ts"]), arguments["status"])
    return {}


@method(
    "assistant.threads.setSuggestedPrompts",
    scopes=("assistant:write",),
    required=("channel_id", "prompts"),
)
def set_suggested_prompts(fake: FakeSlack, arguments: JSON) -> JSON:
    writable(fake, arguments["channel_id"])
    if len(arguments["prompts"]) > 4:
        raise SlackError("invalid_arguments")
    return {}
