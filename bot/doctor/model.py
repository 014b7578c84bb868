"""Does the model answer, and is the history there?"""

from __future__ import annotations

from bot.core.conversation import ConversationKey
from bot.doctor.findings import Finding, Status
from bot.inference import client_settings
from bot.local_server import LocalServer, serve_command
from bot.settings import ModelSettings, Settings
from bot.stores import default_url, open_store
from inference_client import ChatMessage, InferenceClient, InferenceError, SamplingOptions

_NOWHERE = ConversationKey("doctor", "", "nowhere")


async def check_model(settings: Settings) -> Finding:
    """Ask the model for a word, starting the local server if that is what `chat` would do."""
    if settings.model.url:
        return await _ask(settings.model, settings.model.url, where=f"at {settings.model.url}")
    async with LocalServer(serve_command(settings.model)) as server:
        return await _ask(settings.model, server.url, where="on this machine, started when needed")


async def _ask(settings: ModelSettings, url: str, *, where: str) -> Finding:
    async with InferenceClient(client_settings(settings, url)) as client:
        try:
            reply = await client.chat(
                [ChatMessage("user", "hi friend")], SamplingOptions(max_tokens=1)
            )
            models = await client.models()
        except InferenceError as error:
            remedy = "Check FRIEND_MODEL_URL and FRIEND_MODEL_API_KEY, or leave the URL empty."
            return Finding("Model", Status.BROKEN, str(error), remedy)
    loaded = f"; loaded in {reply.timings.load_ms:.0f} ms" if reply.timings else ""
    return Finding("Model", Status.OK, f"{', '.join(models)} answers {where}{loaded}")


async def check_history(settings: Settings) -> Finding:
    """Open the history and read from it."""
    url = settings.store.url.get_secret_value()
    store = await open_store(url or default_url())
    try:
        await store.window(_NOWHERE)
    finally:
        await store.close()
    place = (
        "as FRIEND_STORE_URL says" if url else default_url().removeprefix("sqlite+aiosqlite:///")
    )
    days = settings.store.retention_days
    kept = f"kept for {days} days" if days else "kept until it is erased by hand"
    return Finding("History", Status.OK, f"{place}, {kept}")
