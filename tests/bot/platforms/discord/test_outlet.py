"""The outlet and its courier, over the fake, without the core."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bot.errors import DeliveryFailed
from bot.platforms.discord.courier import Courier, Patience
from bot.platforms.discord.outlet import DiscordOutlet, Pace
from tests.fakes.discord import (
    FakeDiscord,
    Hang,
    LateResponse,
    LostResponse,
    RateLimited,
    Refusal,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.discord import Channel, Message
    from tests.fakes.discord.faults import Fault

POST = ("POST", "/channels/*/messages")
PATCH = ("PATCH", "/channels/*/messages/*")
KEY = "0123456789abcdef0123"
AT_ONCE = Pace(first_show_seconds=0.0, edit_seconds=0.0, typing_seconds=0.05)
QUICK = Patience(
    attempts=3, first_wait=0.01, longest_wait=0.05, attempt_seconds=1.0, banned_wait=0.01
)


@dataclass
class Scene:
    fake: FakeDiscord
    courier: Courier
    channel: Channel
    question: Message

    def outlet(self, *, recovering: bool = False, key: str = KEY) -> DiscordOutlet:
        guild = self.channel.guild
        assert guild is not None
        address = {
            "channel": str(self.channel.id),
            "guild": str(guild.id),
            "message": str(self.question.id),
        }
        return DiscordOutlet(self.courier, address, key, recovering=recovering, pace=AT_ONCE)

    def contents(self) -> list[str]:
        return [message.content for message in self.channel.posted(self.fake.bot)]

    async def shown(self, outlet: DiscordOutlet, text: str) -> None:
        await outlet.show(text)
        await self.fake.wait_until(lambda: text in self.contents())
        await asyncio.sleep(0.05)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with FakeDiscord() as fake:
        fake.patch(monkeypatch)
        channel, alice = fake.add_guild().add_text_channel("general"), fake.add_user("alice")
        question = await fake.say(channel, alice, "hello?")
        courier = Courier(QUICK)
        await courier.log_in(fake.token)
        yield Scene(fake, courier, channel, question)
        await courier.close()


async def test_parts_are_posted_once_and_their_ids_returned(scene: Scene) -> None:
    outlet = scene.outlet()
    first = await outlet.deliver(["one", "two"])
    second = await outlet.deliver(["one", "two"])
    assert scene.contents() == ["one", "two"]
    assert list(first) == list(second) == [str(m.id) for m in scene.channel.posted(scene.fake.bot)]
    posted = scene.channel.posted(scene.fake.bot)
    assert posted[0].reference is scene.question
    assert posted[1].reference is None


async def test_draft_grows_into_the_reply(scene: Scene) -> None:
    outlet = scene.outlet()
    await scene.shown(outlet, "one")
    await scene.shown(outlet, "one two")
    await outlet.deliver(["one two three", "four"])
    assert scene.contents() == ["one two three", "four"]


async def test_nothing_is_shown_before_its_time(scene: Scene) -> None:
    outlet = scene.outlet()
    outlet._pace = Pace(first_show_seconds=60.0)
    assert not await outlet.show("one")
    await outlet.deliver(["one"])
    assert [r.method for r in scene.fake.requests[2:]] == ["POST"]


async def test_show_does_not_wait_for_discord(scene: Scene) -> None:
    scene.fake.faults.next(*POST, Hang(0.3))
    outlet = scene.outlet()
    assert await outlet.show("one")
    assert await outlet.show("one two")
    assert scene.contents() == []
    await outlet.deliver(["one two three"])
    assert scene.contents() == ["one two three"]


async def test_long_draft_shows_the_first_part_only(scene: Scene) -> None:
    text = "A sentence. " * 300
    outlet = scene.outlet()
    await outlet.show(text)
    message = await scene.fake.wait_for_message(scene.channel)
    assert 1000 < len(message.content) <= 2000
    await outlet.withdraw()


async def test_emoji_are_counted_as_the_longer_of_the_two_ways(scene: Scene) -> None:
    assert scene.outlet().characters("a😀") == 3


async def test_withdrawn_draft_is_gone(scene: Scene) -> None:
    outlet = scene.outlet()
    await scene.shown(outlet, "one")
    await outlet.withdraw()
    await outlet.withdraw()
    assert scene.contents() == []


async def test_withdrawing_waits_for_the_post_under_way(scene: Scene) -> None:
    scene.fake.faults.next(*POST, Hang(0.2))
    outlet = scene.outlet()
    await outlet.show("one")
    await outlet.withdraw()
    await asyncio.sleep(0.3)
    assert scene.contents() == []


async def test_withdrawing_without_a_draft(scene: Scene) -> None:
    await scene.outlet().withdraw()
    await scene.outlet(recovering=True).withdraw()


async def test_recovering_finds_the_draft_of_an_earlier_process(scene: Scene) -> None:
    await scene.shown(scene.outlet(), "one")
    scene.fake.world.nonce_memory = 0
    await scene.outlet(recovering=True).withdraw()
    assert scene.contents() == []


async def test_recovering_completes_what_is_there(scene: Scene) -> None:
    scene.fake.world.nonce_memory = 0
    other = await scene.fake.say(scene.channel, scene.question.author, "another question")
    await scene.outlet().deliver(["one", "two"])
    scene.fake.world.post(scene.channel, scene.fake.bot, "answer to it", reference=other)
    ids = await scene.outlet(recovering=True).deliver(["one", "two", "three"])
    assert scene.contents() == ["one", "two", "answer to it", "three"]
    assert len(set(ids)) == 3


async def test_recovering_with_equal_parts(scene: Scene) -> None:
    scene.fake.world.nonce_memory = 0
    await scene.outlet().deliver(["start", "ha", "ha"])
    await scene.outlet(recovering=True).deliver(["start", "ha", "ha", "ha"])
    assert scene.contents() == ["start", "ha", "ha", "ha"]


async def test_reply_deleted_by_somebody_is_not_posted_again(scene: Scene) -> None:
    scene.fake.faults.next(*POST, LateResponse(2.0))
    outlet = scene.outlet()
    delivery = asyncio.create_task(outlet.deliver(["one", "two"]))
    message = await scene.fake.wait_for_message(scene.channel)
    await scene.fake.delete(message)
    assert await delivery == []
    assert scene.contents() == []


async def test_lost_draft_response_does_not_leave_the_draft_as_the_reply(scene: Scene) -> None:
    scene.fake.faults.next(*POST, LostResponse(), times=3)
    outlet = scene.outlet()
    await outlet.show("one")
    await scene.fake.wait_until(lambda: scene.contents() or None)
    await outlet.deliver(["one two"])
    assert scene.contents() == ["one two"]


@pytest.mark.parametrize("fault", [Status(503), RateLimited(0.05), LostResponse()], ids=str)
async def test_edits_are_tried_again(scene: Scene, fault: Fault) -> None:
    outlet = scene.outlet()
    await scene.shown(outlet, "one")
    scene.fake.faults.next(*PATCH, fault, times=2)
    await outlet.deliver(["one two"])
    assert scene.contents() == ["one two"]


@pytest.mark.parametrize(
    ("fault", "times", "retryable", "words"),
    [
        (Status(503), 3, True, "HTTP 503"),
        (Hang(2.0), 3, True, "could not be reached"),
        (Refusal(), 1, False, "Send Messages"),
        (Refusal(403, 50007, "no"), 1, False, "direct messages"),
        (Refusal(404, 10003, "Unknown Channel"), 1, False, "is gone"),
        (Refusal(401, 0, "401: Unauthorized"), 1, False, "developer portal"),
        (Refusal(400, 50035, "Invalid Form Body"), 1, False, "refused"),
    ],
    ids=str,
)
async def test_failures_say_what_happened_and_whether_to_try_later(
    scene: Scene, fault: Fault, times: int, retryable: bool, words: str
) -> None:
    planned = scene.fake.faults.next(*POST, fault, times=9)
    scene.courier._patience = Patience(
        attempts=3, first_wait=0.01, longest_wait=0.02, attempt_seconds=0.2
    )
    with pytest.raises(DeliveryFailed, match=words) as caught:
        await scene.outlet().deliver(["one"])
    assert caught.value.retryable is retryable
    assert planned.hits == times


async def test_before_the_login_nothing_can_be_posted() -> None:
    outlet = DiscordOutlet(
        Courier(), {"channel": "1", "message": "2"}, KEY, recovering=False, pace=AT_ONCE
    )
    with pytest.raises(DeliveryFailed, match="not connected") as caught:
        await outlet.deliver(["one"])
    assert caught.value.retryable


async def test_typing_survives_trouble_and_ends_with_the_wait(scene: Scene) -> None:
    scene.fake.faults.next("POST", "/channels/*/typing", Refusal(503, 0, "down"))
    async with scene.outlet().working():
        await scene.fake.wait_until(lambda: len(scene.fake.typing) >= 2)
    seen = len(scene.fake.typing)
    await asyncio.sleep(0.2)
    assert len(scene.fake.typing) == seen


async def test_typing_under_way_does_not_outlive_the_reply(scene: Scene) -> None:
    scene.fake.faults.next("POST", "/channels/*/typing", Hang(0.3))
    outlet = scene.outlet()
    async with outlet.working():
        await scene.fake.wait_until(
            lambda: any(r.path.endswith("/typing") for r in scene.fake.requests)
        )
        await outlet.deliver(["one"])
    assert len(scene.fake.typing) == 1
    assert not scene.fake.is_typing(scene.channel)
