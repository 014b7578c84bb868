"""The one model of a process: loaded in the background, shared by all requests."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lambda_inference.errors import InferenceError, ModelUnavailable, NotFound
from lambda_inference.settings import ModelSettings, ServerSettings, model_path

if TYPE_CHECKING:
    from lambda_inference.engine import Engine
    from lambda_inference.model import ModelDescription
    from lambda_inference.states.learnt import LearntState
    from lambda_inference.states.shared import StateStore
    from lambda_inference.talk.generate import Generator
    from lambda_inference.talk.prompt import PromptBuilder

_log = logging.getLogger(__name__)
OpenStore = Callable[[], "StateStore | None"]


@dataclass(frozen=True)
class LoadedModel:
    """Everything that a request needs."""

    description: ModelDescription
    engine: Engine
    prompts: PromptBuilder
    generator: Generator
    personas: Mapping[str, LoadedModel] = field(default_factory=dict)
    """The same weights with other starts, by name."""

    def named(self, model: str) -> LoadedModel:
        """The persona that a request's `model` names after a colon, else this one.

        Any other name means this model, because clients insist on names of their own.

        Raises:
            NotFound: there are personas, and none of that name.
        """
        before, _, name = model.rpartition(":")
        if not before or not self.personas or model == self.description.id:
            return self
        if name not in self.personas:
            raise no_such_model(model, [one.id for one in self.descriptions])
        return self.personas[name]

    @property
    def descriptions(self) -> list[ModelDescription]:
        """Of this model and its personas."""
        return [self.description, *(one.description for one in self.personas.values())]


def host_for(server: ServerSettings, model: ModelSettings) -> ModelHost:
    """The host that a server's settings ask for. Nothing is opened yet."""

    def state_store() -> StateStore | None:
        if not server.state_bucket:
            return None
        from lambda_inference.states.s3 import S3StateStore

        return S3StateStore(server.state_bucket, server.state_prefix)

    return ModelHost(model, state_cache_bytes=server.state_cache_mb << 20, state_store=state_store)


class ModelHost:
    """Loads the model once, in a thread of its own, so that the port is open before it is done."""

    def __init__(
        self,
        settings: ModelSettings,
        *,
        state_cache_bytes: int,
        state_store: OpenStore | None = None,
    ) -> None:
        """`state_store` opens the store that stands behind the state cache."""
        self._settings = settings
        self._state_cache_bytes = state_cache_bytes
        self._state_store = state_store
        self._done = threading.Event()
        self._model: LoadedModel | None = None
        self._error: str | None = None
        self._started = False
        self._lock = threading.Lock()
        self.load_seconds = 0.0

    def start(self) -> None:
        """Begin to load, if nobody has yet."""
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    @property
    def status(self) -> Literal["loading", "ok", "failed"]:
        """Where loading stands."""
        if not self._done.is_set():
            return "loading"
        return "ok" if self._model is not None else "failed"

    @property
    def error(self) -> str | None:
        """Why loading failed, a sentence for a person."""
        return self._error

    @property
    def model(self) -> LoadedModel | None:
        """The model, once it is loaded."""
        return self._model

    def settled(self, timeout: float) -> bool:
        """Wait for loading to end, well or badly; False if `timeout` seconds were too few."""
        return self._done.wait(timeout)

    def wait(self, timeout: float | None = None) -> LoadedModel | None:
        """The model; None if it is not loaded within `timeout` seconds.

        Raises:
            ModelUnavailable: it cannot be loaded.
        """
        self.start()
        if not self._done.wait(timeout):
            return None
        if self._model is None:
            raise ModelUnavailable(
                self._error or "The model could not be loaded.", code="model_unavailable"
            )
        return self._model

    def close(self) -> None:
        """Wait for a load under way and give the weights back."""
        if self._started:
            self._done.wait()
        if self._model is not None:
            self._model.engine.close()

    def _load(self) -> None:
        started = time.perf_counter()
        try:
            self._model = load_model(
                self._settings,
                state_cache_bytes=self._state_cache_bytes,
                state_store=self._state_store,
            )
        except InferenceError as error:
            self._error = str(error)
            _log.error("the model could not be loaded: %s", error)
        except MemoryError:
            self._error = "There is not enough memory for this model. Use a smaller one."
            _log.exception("out of memory while loading the model")
        except Exception:  # noqa: BLE001
            self._error = "The model could not be loaded; the server's log says why."
            _log.exception("the model could not be loaded")
        finally:
            self.load_seconds = time.perf_counter() - started
            self._done.set()
        if self._model is not None:
            _log.info("model %s loaded in %.2f s", self._model.description.id, self.load_seconds)


def no_such_model(name: str, here: Iterable[str]) -> NotFound:
    """The refusal of a request for the model `name`, where there are others."""
    known = ", ".join(map(repr, here))
    return NotFound(
        f"There is no model {name[:100]!r} here; this server has {known}.",
        param="model",
        code="model_not_found",
    )


def check_states(settings: ModelSettings, description: ModelDescription) -> dict[str, LearntState]:
    """The learnt states that the settings name, if they fit the model; see `open_states`.

    Raises:
        ModelError: missing, corrupt, or learnt with another model.
    """
    if not settings.state:
        return {}
    from lambda_inference.states.learnt import identity_of, open_states

    states = open_states(Path(settings.state).expanduser())
    model = identity_of(description.weights)
    for state in states.values():
        state.identity.refuse_foreign(state.path, model)
    return states


def load_model(
    settings: ModelSettings, *, state_cache_bytes: int, state_store: OpenStore | None = None
) -> LoadedModel:
    """Open the model that the settings name.

    Raises:
        ModelError: missing, corrupt, or no engine for it; or a learnt state does not fit it.
        SettingsError: the store for states cannot be what the settings say.
    """
    from lambda_inference.engine import load_engine
    from lambda_inference.errors import ModelCorrupt
    from lambda_inference.model import describe
    from lambda_inference.states.cache import StateCache
    from lambda_inference.states.shared import SharedStates
    from lambda_inference.talk.generate import Generator
    from lambda_inference.talk.prompt import PromptBuilder

    store = None if state_store is None else state_store()
    description = describe(model_path(settings), name=settings.name)
    states = check_states(settings, description)
    own, _, persona = settings.name.rpartition(":")
    if own and persona and states and "" not in states:
        description = replace(description, id=own)  # FRIEND_MODEL_NAME is the bot's too
    tokenizer = description.tokenizer()
    engine = load_engine(
        description.weights,
        kind=settings.engine,  # type: ignore[arg-type]  # checked when the settings were read
        threads=settings.threads or None,
    )
    if tokenizer.vocab_size > engine.vocab_size:
        engine.close()
        raise ModelCorrupt(
            f"The tokenizer of {description.id} has {tokenizer.vocab_size} tokens and its weights "
            f"know {engine.vocab_size}: they belong to different models."
        )
    prompts = PromptBuilder(description.template, tokenizer)
    shared = None if store is None else SharedStates(store, engine.state_from_bytes)
    cache = StateCache(state_cache_bytes, shared=shared)
    key = f"{description.fingerprint}:{type(engine).__name__}"

    def started(state: LearntState, name: str) -> LoadedModel:
        start = engine.state_from_layers(state.layers())
        digest = hashlib.blake2b(start.to_bytes(), digest_size=20).hexdigest()
        about = replace(
            description,
            id=f"{description.id}:{name}" if name else description.id,
            created=int(state.path.stat().st_mtime),
            state=digest,
        )
        own_key = f"{key}:{digest}"
        generator = Generator(engine, tokenizer, prompts, cache, key=own_key, start=start)
        return LoadedModel(about, engine, prompts, generator)

    if "" in states:
        return started(states[""], "")
    generator = Generator(engine, tokenizer, prompts, cache, key=key)
    personas = {name: started(state, name) for name, state in states.items()}
    return LoadedModel(description, engine, prompts, generator, personas)
