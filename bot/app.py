"""The composition root: where settings become a running friend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from bot.core.friend import Friend
from bot.core.keeper import Keeper
from bot.core.platform import Platform
from bot.core.ports import Observer, Store
from bot.core.queue import ConversationQueues
from bot.core.responder import Responder
from bot.core.waking import Waker
from bot.errors import StoreFailed
from bot.inference import asleep_after, client_settings
from bot.local_server import LocalServer, serve_command
from bot.settings import Settings
from bot.stores import default_url, open_store
from inference_client import InferenceClient

_log = structlog.get_logger(__name__)

_EXPIRE_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Bot:
    """A friend that is ready to listen, and the parts a front end may want to look at."""

    friend: Friend
    queues: ConversationQueues
    store: Store
    model: InferenceClient


@asynccontextmanager
async def open_bot(
    settings: Settings, platforms: Iterable[Platform], *, observer: Observer
) -> AsyncIterator[Bot]:
    """Build everything a conversation needs; on leaving, finish what is under way and close.

    Replies that do not get finished within `drain_seconds` stay owed, for the next start.

    Raises:
        SettingsInvalid: the model's address, key or region cannot be right.
        StoreFailed: the history cannot be opened.
        ServerNotStarted: the local model server did not come up.
    """
    async with AsyncExitStack() as stack:
        store = await open_store(settings.store.url.get_secret_value() or default_url())
        stack.push_async_callback(store.close)
        url = settings.model.url
        if not url:
            server = LocalServer(serve_command(settings.model))
            url = (await stack.enter_async_context(server)).url
        client = InferenceClient(client_settings(settings.model, url))
        await stack.enter_async_context(client)
        waker = Waker(client.warm, asleep_after=asleep_after(settings.model, client.settings))
        stack.push_async_callback(waker.close)
        registry = {platform.name: platform for platform in platforms}
        answer_within = timedelta(minutes=settings.store.answer_within_minutes)
        responder = Responder(
            store=store,
            model=client,
            waker=waker,
            platforms=registry,
            settings=settings.reply,
            observer=observer,
            answer_within=answer_within,
        )
        queues = ConversationQueues(
            responder.answer,
            burst=timedelta(seconds=settings.reply.burst_seconds),
            owed=store.owed,
        )
        keeper = Keeper(store, queues, answer_within=answer_within)
        friend = Friend(
            store=store,
            queues=queues,
            keeper=keeper,
            waker=waker,
            platforms=registry,
            triggers=settings.trigger,
            access=settings.access,
            observer=observer,
            answer_within=answer_within,
        )
        beside = [
            asyncio.create_task(_expire(store, settings.store.retention_days)),
            asyncio.create_task(keeper.run()),
        ]
        try:
            yield Bot(friend, queues, store, client)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await queues.drain(settings.ops.drain_seconds)
            await friend.settle(settings.ops.drain_seconds)


async def _expire(store: Store, retention_days: int) -> None:
    """Keep the retention limit, now and every hour."""
    while retention_days:
        try:
            erased = await store.expire(before=datetime.now(UTC) - timedelta(days=retention_days))
        except StoreFailed as error:
            _log.error("retention.failed", error=str(error))
        else:
            if erased:
                _log.info("retention.erased", messages=erased)
        await asyncio.sleep(_EXPIRE_EVERY.total_seconds())
