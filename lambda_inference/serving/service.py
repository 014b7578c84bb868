"""The model server without a transport: a request in, a response or an event stream out.

The local server, the Lambda handler and a streaming runtime carry the same requests to the same
`Service.handle`. Call it from a worker thread: it waits for the queue, the model and the words.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from lambda_inference.errors import (
    BadRequest,
    ClientGone,
    InternalError,
    MethodNotAllowed,
    ModelUnavailable,
    NotFound,
    RequestError,
    TooLong,
    Unauthorized,
)
from lambda_inference.serving import metrics, wire
from lambda_inference.serving.host import LoadedModel, ModelHost, no_such_model
from lambda_inference.serving.scheduler import Load, Scheduler
from lambda_inference.serving.slots import Slots, Ticket
from lambda_inference.settings import ServerSettings
from lambda_inference.talk.events import Finished, TextDelta, Timings
from lambda_inference.talk.generate import GenerationRequest
from lambda_inference.talk.sampling import SamplingSettings

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1  # between two looks at a client that waits for the model
_CHAT = "/v1/chat/completions"
_MODELS = "/v1/models"
_HEALTH = "/healthz"
_METRICS = "/metrics"
_REQUEST_ID = re.compile(r"[!-~]{1,100}")
_PING_BYTES = 1000  # of a body that may still be a warm ping


@dataclass(frozen=True)
class HttpRequest:
    """What a transport brings."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""
    trusted: bool = False
    """Whether the transport knows who calls (IAM, say), so that no key is needed."""
    deadline: float | None = None
    """`time.monotonic()` by which the answer must be complete."""
    cancelled: Callable[[], bool] = field(default=lambda: False)
    """Whether the client went away."""


@dataclass(frozen=True)
class HttpResponse:
    """What a transport takes back. An iterator is an event stream; close it if it is left."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Iterator[bytes]


class Service:
    """Authenticates, routes, queues and answers."""

    def __init__(self, settings: ServerSettings, host: ModelHost) -> None:
        self._settings = settings
        self._host = host
        self._slots = Slots(settings.parallel, settings.queue)
        self._scheduler: Scheduler | None = None
        self._lock = threading.Lock()
        self._defaults = wire.RequestDefaults(
            max_tokens=settings.max_tokens,
            max_tokens_limit=settings.max_tokens_limit,
            sampling=SamplingSettings(
                temperature=settings.temperature,
                top_p=settings.top_p,
                presence_penalty=settings.presence_penalty,
                frequency_penalty=settings.frequency_penalty,
            ),
        )

    @property
    def max_body_bytes(self) -> int:
        """Where a transport may stop reading: a longer body is refused here anyway."""
        return self._settings.max_body_bytes

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; never raises."""
        request_id = request_id_of(request.headers)
        try:
            return self._route(request, request_id)
        except RequestError as error:
            return refusal(error, request_id)
        except Exception:  # noqa: BLE001
            return refusal(_bug(request_id), request_id)

    def _route(self, request: HttpRequest, request_id: str) -> HttpResponse:
        path = request.path.rstrip("/") or "/"
        if path == _HEALTH:
            _allow(request, "GET", "HEAD")
            return self._health(request_id)
        if path == "/" and request.method.upper() == "POST" and asks_for_warmth(request.body):
            return _json(200, wire.json_body(self.pong()), request_id)
        self._authenticate(request)
        if path == _CHAT:
            _allow(request, "POST")
            return self._chat(request, request_id)
        if path == _METRICS:
            _allow(request, "GET", "HEAD")
            return self._metrics(request_id)
        if path == _MODELS or path.startswith(_MODELS + "/"):
            _allow(request, "GET", "HEAD")
            return self._models(path, request, request_id)
        raise NotFound(
            f"There is nothing at {request.path[:200]!r}; this server has {_CHAT}, {_MODELS}, "
            f"{_HEALTH} and {_METRICS}.",
            code="unknown_path",
        )

    def pong(self) -> dict[str, object]:
        """The answer to a warm ping, which waits for nothing and needs no key."""
        return {"warm": True, "model": self._host.status}

    def _authenticate(self, request: HttpRequest) -> None:
        key = self._settings.key
        if request.trusted or not key:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() != "bearer" or not _same(given.strip(), key):
            raise Unauthorized(
                "The key is missing or wrong. Send it as 'Authorization: Bearer <key>'.",
                code="invalid_api_key",
            )

    def _health(self, request_id: str) -> HttpResponse:
        status, model = self._host.status, self._host.model
        document: dict[str, object] = {"status": status}
        if model is not None:
            document |= {"model": model.description.id, "load_seconds": self._host.load_seconds}
        if self._host.error is not None:
            document["error"] = self._host.error
        code = 200 if status == "ok" else 503
        headers = {"retry-after": "1"} if status == "loading" else {}
        return _json(code, wire.json_body(document), request_id, headers)

    def _metrics(self, request_id: str) -> HttpResponse:
        load = Load() if self._scheduler is None else self._scheduler.load
        text = metrics.exposition(load, running=self._slots.running, waiting=self._slots.waiting)
        body = text.encode()
        headers = {
            "content-type": metrics.CONTENT_TYPE,
            "content-length": str(len(body)),
            "x-request-id": request_id,
        }
        return HttpResponse(200, headers, body)

    def _models(self, path: str, request: HttpRequest, request_id: str) -> HttpResponse:
        here = {model.id: model.created for model in self._load(request, Timings()).descriptions}
        if path == _MODELS:
            return _json(200, wire.models_body(list(here.items())), request_id)
        name = path.removeprefix(_MODELS + "/")
        if name not in here:
            raise no_such_model(name, here)
        return _json(200, wire.model_body(name, here[name]), request_id)

    def _chat(self, request: HttpRequest, request_id: str) -> HttpResponse:
        if len(request.body) > self._settings.max_body_bytes:
            raise body_too_long(self._settings.max_body_bytes)
        chat = wire.parse_chat_request(request.body, self._defaults)
        limit = time.monotonic() + self._settings.reply_seconds
        if request.deadline is not None:
            limit = min(limit, request.deadline)
        ticket = self._slots.enter()
        try:
            timings = Timings()
            model = self._load(request, timings, limit).named(chat.model)
            generation = self._generation(model, chat, limit)
            ticket.places = min(generation.drafts, self._settings.parallel)
            scheduler = self._scheduler_of(model)
            run = _Run(request, request_id, chat, model, generation, timings, ticket, scheduler)
            if chat.stream:
                headers = {
                    "content-type": "text/event-stream; charset=utf-8",
                    "cache-control": "no-cache",
                    "x-accel-buffering": "no",
                    "x-request-id": request_id,
                }
                return HttpResponse(200, headers, _EventStream(_stream(run), ticket))
        except BaseException:
            ticket.leave()
            raise
        try:
            return _json(200, _whole(run), request_id)
        finally:
            ticket.leave()

    def _generation(
        self, model: LoadedModel, chat: wire.ChatRequest, deadline: float
    ) -> GenerationRequest:
        prompt = model.prompts.build(chat.messages)
        if not prompt.turns:
            raise BadRequest(
                "'messages' must hold some text to answer.", param="messages", code="invalid_value"
            )
        if prompt.length > self._settings.max_prompt_tokens:
            raise TooLong(
                f"The messages are {prompt.length} tokens long and at most "
                f"{self._settings.max_prompt_tokens} are read. Send fewer or shorter ones.",
                param="messages",
                code="context_length_exceeded",
            )
        drafts = chat.drafts or self._settings.drafts or model.description.drafts
        if chat.sampling.temperature <= 0:
            drafts = 1  # they would all be the same
        return GenerationRequest(
            prompt, chat.sampling, chat.max_tokens, chat.stops, deadline, chat.choices,
            max(drafts, chat.choices),
        )  # fmt: skip

    def _scheduler_of(self, model: LoadedModel) -> Scheduler:
        """The one of the engine that all models of a host share."""
        with self._lock:
            if self._scheduler is None:
                self._scheduler = Scheduler(model.engine)
            return self._scheduler

    def _load(
        self, request: HttpRequest, timings: Timings, deadline: float | None = None
    ) -> LoadedModel:
        started = time.perf_counter()
        while (model := self._host.wait(_LOOK_SECONDS)) is None:
            if request.cancelled() or (deadline is not None and time.monotonic() >= deadline):
                raise ModelUnavailable(
                    "The model is still loading. Try again in a few seconds.", code="model_loading"
                )
        timings.load_ms = (time.perf_counter() - started) * 1000
        return model


@dataclass
class _Run:
    """One reply under way."""

    request: HttpRequest
    request_id: str
    chat: wire.ChatRequest
    model: LoadedModel
    generation: GenerationRequest
    timings: Timings
    ticket: Ticket
    scheduler: Scheduler

    def __post_init__(self) -> None:
        self.completion_id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())

    @property
    def about(self) -> tuple[str, int, str, str]:
        """What every answer says of itself: ids, time, model, weights."""
        model = self.model.description
        return self.completion_id, self.created, model.id, f"fp_{model.fingerprint[:12]}"

    def events(self) -> Iterator[TextDelta | Finished]:
        """Wait for a slot, then the reply's events; ends early if the client goes away."""
        started = time.perf_counter()
        if not self.ticket.wait(self.generation.deadline, self.request.cancelled):
            return
        self.timings.queue_ms = (time.perf_counter() - started) * 1000
        for event in self.model.generator.generate(
            self.generation,
            cancelled=self.request.cancelled,
            timings=self.timings,
            drive=lambda steps: self.scheduler.run(steps, self.request.cancelled),
        ):
            if isinstance(event, Finished):
                self._log(event)
            yield event

    def _log(self, end: Finished) -> None:
        usage, timings = end.usage, end.timings
        _log.info(
            "%s: %s, prompt %d tokens (%d cached), reply %d, drafts %d; queue %.0f ms, "
            "load %.0f, prefill %.0f, decode %.0f",
            self.request_id, end.reason, usage.prompt_tokens, usage.cached_tokens,
            usage.completion_tokens, self.generation.drafts, timings.queue_ms, timings.load_ms,
            timings.prefill_ms, timings.decode_ms,
        )  # fmt: skip


class _EventStream(Iterator[bytes]):
    """A stream that gives its place back even if nobody ever reads from it."""

    def __init__(self, chunks: Generator[bytes], ticket: Ticket) -> None:
        self._chunks = chunks
        self._ticket = ticket

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Stop; the reply under way ends."""
        self._chunks.close()
        self._ticket.leave()


def _whole(run: _Run) -> bytes:
    texts = [""] * run.chat.choices
    for event in run.events():
        if isinstance(event, Finished):
            return wire.completion(*run.about, texts, event)
        texts[event.choice] += event.text
    raise ClientGone("The client went away before the reply was done.", code="client_gone")


def _stream(run: _Run) -> Generator[bytes]:
    chunks = wire.ChunkWriter(*run.about)
    try:
        for choice in range(run.chat.choices):
            yield chunks.role(choice)
        for event in run.events():
            if isinstance(event, Finished):
                yield chunks.end(event, include_usage=run.chat.include_usage)
            else:
                yield chunks.text(event.text, event.choice)
    except RequestError as error:
        yield wire.error_event(error, run.request_id)
    except Exception:  # noqa: BLE001
        yield wire.error_event(_bug(run.request_id), run.request_id)
    finally:
        run.ticket.leave()


def body_too_long(limit: int) -> TooLong:
    """The refusal of a body over `limit` bytes."""
    return TooLong(f"The request's body is over the limit of {limit} bytes.", code="body_too_long")


def refusal(error: RequestError, request_id: str) -> HttpResponse:
    """A refusal as a response."""
    level = logging.WARNING if error.status >= 500 else logging.INFO
    _log.log(level, "%s: %d, %s", request_id, error.status, error.message)
    return _json(error.status, wire.error_body(error, request_id), request_id, error.headers)


def request_id_of(headers: Mapping[str, str]) -> str:
    """The id that is in the answer and in the log: the client's X-Request-Id, or a new one.

    `headers` has names in lower case. An id of the client's must be short and plain: it goes into
    the log as it is.
    """
    given = headers.get("x-request-id", "").strip()
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """An id that nobody else has."""
    return f"req_{secrets.token_hex(12)}"


def asks_for_warmth(body: bytes) -> bool:
    """Whether a body posted to the root is `{"warm": true}`."""
    if len(body) > _PING_BYTES:
        return False
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("warm") is True


def _bug(request_id: str) -> InternalError:
    _log.exception("%s: a request failed", request_id)
    return InternalError(
        f"Something went wrong in the server. Its log has more under {request_id}.",
        code="internal_error",
    )


def _same(given: str, key: str) -> bool:
    """Compare in constant time; ASGI hands over a header's UTF-8 bytes as Latin-1."""
    wanted = key.encode()
    plain = hmac.compare_digest(given.encode("utf-8", "replace"), wanted)
    return hmac.compare_digest(given.encode("latin-1", "replace"), wanted) or plain


def _allow(request: HttpRequest, *methods: str) -> None:
    if request.method.upper() not in methods:
        allowed = ", ".join(methods)
        raise MethodNotAllowed(f"Only {allowed} is possible here.", allow=allowed)


def _json(
    status: int, body: bytes, request_id: str, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    kept = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        **(headers or {}),
    }
    return HttpResponse(status, kept, body)
