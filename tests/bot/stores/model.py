"""What the store is to do, in plain lists: the other half of `test_like_the_model.py`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bot.core.conversation import (
    ConversationKey,
    IncomingMessage,
    PendingReply,
    Person,
    ReplyState,
    Role,
    Turn,
)

OPEN = {ReplyState.QUEUED, ReplyState.POSTING}


@dataclass
class Remembered:
    turn: Turn
    where: ConversationKey
    whose: str
    message_ids: list[str]
    sent_at: datetime
    is_dropped: bool = False


@dataclass
class Model:
    turns: list[Remembered] = field(default_factory=list)
    replies: list[PendingReply] = field(default_factory=list)
    events: dict[tuple[str, str], datetime] = field(default_factory=dict)
    starts: dict[ConversationKey, tuple[int, int]] = field(default_factory=dict)
    active: dict[ConversationKey, datetime] = field(default_factory=dict)
    spoken: set[ConversationKey] = field(default_factory=set)
    carriers: dict[str, str] = field(default_factory=dict)
    turn_of: dict[str, int] = field(default_factory=dict)

    def first_sight(self, platform: str, event_id: str, now: datetime) -> bool:
        if (platform, event_id) in self.events:
            return False
        self.events[platform, event_id] = now
        return True

    def accept(self, said: IncomingMessage, turn_id: int, now: datetime) -> None:
        self.active[said.conversation] = now
        turn = Turn(turn_id, Role.USER, said.text, said.message_id, said.author)
        self.turns.append(
            Remembered(turn, said.conversation, said.author.id, [said.message_id], said.sent_at)
        )

    def promise(self, reply: PendingReply) -> None:
        assert reply.turn_id is not None
        self.active[reply.conversation] = reply.created_at
        self.turn_of[reply.key] = reply.turn_id
        self.replies.append(reply)

    def window(self, where: ConversationKey) -> list[Turn]:
        start = self.starts.get(where, (0, 0))
        here = [
            held.turn
            for held in self.turns
            if held.where == where and not held.is_dropped and held.turn.place >= start
        ]
        return sorted(here, key=lambda turn: (turn.place, turn.id))

    def find(self, turn_id: int) -> Remembered | None:
        return next((held for held in self.turns if held.turn.id == turn_id), None)

    def move_window(self, where: ConversationKey, first_turn_id: int) -> None:
        first = self.find(first_turn_id)
        start = first.turn.place if first else (first_turn_id, 0)
        self.starts[where] = max(start, self.starts.get(where, (0, 0)))

    def open_reply(self, key: str) -> PendingReply | None:
        return next((r for r in self.replies if r.key == key and r.state in OPEN), None)

    def set(self, key: str, state: ReplyState, **words: object) -> None:
        self.replies = [
            replace(reply, state=state, **words)  # type: ignore[arg-type]
            if reply.key == key and reply.state in OPEN
            else reply
            for reply in self.replies
        ]

    def begin_posting(self, keys: list[str], parts: list[str], *, is_apology: bool) -> bool:
        reply = self.open_reply(keys[0])
        if reply is None or reply.state is not ReplyState.QUEUED:
            return False
        self.set(keys[0], ReplyState.POSTING, parts=tuple(parts), is_apology=is_apology)
        for key in keys[1:]:
            self.carriers[key] = keys[0]
            self.set(key, ReplyState.DONE)
        return True

    def finish(self, key: str, message_ids: list[str], turn_id: int | None, now: datetime) -> None:
        """`turn_id` is what the store gave the turn it made, if it made one."""
        reply = self.open_reply(key)
        if reply is not None:
            self.spoken.add(reply.conversation)
        if reply is None or not reply.parts or reply.is_apology:
            assert turn_id is None
        else:
            assert reply.turn_id is not None
            for held in self.turns:
                if held.turn.answers == reply.turn_id:
                    held.is_dropped = True
            asked = self.find(reply.turn_id)
            assert asked is not None
            assert turn_id is not None
            words = "\n".join(reply.parts)
            turn = Turn(turn_id, Role.FRIEND, words, message_ids[0], None, reply.turn_id)
            self.turns.append(Remembered(turn, reply.conversation, asked.whose, message_ids, now))
        self.set(key, ReplyState.DONE)

    def drop_turn(self, turn_id: int) -> None:
        if held := self.find(turn_id):
            held.is_dropped = True

    def unfinished(self, platform: str, not_before: datetime) -> list[PendingReply]:
        here = [r for r in self.replies if r.conversation.platform == platform and r.state in OPEN]
        for reply in here:
            if reply.created_at < not_before:
                self.set(reply.key, ReplyState.FAILED)
        return [reply for reply in here if reply.created_at >= not_before]

    def named(self, platform: str, channel: str, message_id: str) -> list[Remembered]:
        return [
            held
            for held in self.turns
            if held.where.platform == platform
            and channel in {held.where.channel, held.where.thread}
            and message_id in held.message_ids
        ]

    def edit(self, platform: str, channel: str, message_id: str, text: str) -> None:
        for held in self.named(platform, channel, message_id):
            if held.turn.role is Role.USER:
                held.turn = replace(held.turn, text=text)

    def delete(self, platform: str, channel: str, message_id: str) -> None:
        found = self.named(platform, channel, message_id)
        ids = {held.turn.id for held in found}
        of_bursts = {
            self.turn_of[self.carriers[reply.key]]
            for reply in self.replies
            if reply.turn_id in ids
            and reply.key in self.carriers
            and any(kept.key == self.carriers[reply.key] for kept in self.replies)
        }
        answers = [held for held in self.turns if held.turn.answers in ids | of_bursts]
        self.erase([*found, *answers])

    def erase(self, gone: list[Remembered]) -> None:
        ids = {held.turn.id for held in gone}
        self.turns = [held for held in self.turns if held.turn.id not in ids]
        self.replies = [reply for reply in self.replies if reply.turn_id not in ids]

    def reset(self, where: ConversationKey) -> int:
        dropped = len(self.window(where))
        ids = [held.turn.id for held in self.turns if held.where == where]
        if ids:
            self.starts[where] = max((max(ids) + 1, 0), self.starts.get(where, (0, 0)))
        for reply in self.replies:
            if reply.conversation == where:
                self.set(reply.key, ReplyState.CANCELLED)
        return dropped

    def reset_channel(self, where: ConversationKey) -> int:
        held = {turn.where for turn in self.turns} | {reply.conversation for reply in self.replies}
        here = [key for key in held if replace(key, thread="") == replace(where, thread="")]
        return sum(self.reset(key) for key in here)

    def forget_person(self, platform: str, person: Person) -> int:
        gone = [
            held
            for held in self.turns
            if held.where.platform == platform and held.whose == person.id
        ]
        self.erase(gone)
        self.replies = [
            reply
            for reply in self.replies
            if (reply.conversation.platform, reply.author.id) != (platform, person.id)
        ]
        return sum(held.turn.role is Role.USER for held in gone)

    def expire(self, before: datetime, now: datetime) -> int:
        gone = [held for held in self.turns if held.sent_at < before]
        self.erase(gone)
        self.replies = [reply for reply in self.replies if reply.created_at >= before]
        limit = min(before, now - timedelta(days=2))
        held_in = {held.where for held in self.turns}
        self.spoken = {key for key in self.spoken if key in held_in or self.active[key] >= before}
        self.events = {event: seen for event, seen in self.events.items() if seen >= limit}
        return len(gone)

    def is_friend_thread(self, where: ConversationKey) -> bool:
        owing = any(r.conversation == where and r.state in OPEN for r in self.replies)
        return owing or where in self.spoken
