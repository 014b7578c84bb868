"""The `rwkv` package on torch behind the engine interface: the oracle and the fallback.

It reads RWKV-4 and RWKV-7 checkpoints under their official names, as `.pth` or safetensors, and
computes in float32 on the CPU. torch is imported when an engine is made, never before: it costs
seconds.

Sources: `rwkv` 0.8.32 (rwkv/model.py). It picks RWKV-4 or RWKV-7 by the variable RWKV_V7_ON when
its module is imported, so each generation gets a copy of that module of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import struct
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from lambda_inference.engine import Layers, State
from lambda_inference.engine.cpus import cpus_given
from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelNotFound, StateCorrupt

_MAGIC = b"RWKVREF1"
_import_lock = threading.Lock()


class ReferenceState:
    """The package's list of tensors: 5 a layer for RWKV-4, 3 a layer for RWKV-7."""

    def __init__(self, tensors: Iterable[Any]) -> None:
        self.tensors = tuple(tensors)

    @property
    def nbytes(self) -> int:
        """Size in memory, bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def copy(self) -> ReferenceState:
        """An independent state with the same values."""
        return ReferenceState([tensor.clone() for tensor in self.tensors])

    def to_bytes(self) -> bytes:
        """Magic, length of a JSON list of shapes, that list, then float32 values."""
        shapes = json.dumps([list(tensor.shape) for tensor in self.tensors]).encode()
        values = b"".join(tensor.numpy().astype("<f4").tobytes() for tensor in self.tensors)
        return _MAGIC + struct.pack("<I", len(shapes)) + shapes + values


class ReferenceEngine:
    """RWKV-4 or RWKV-7 by the `rwkv` package, float32."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load a checkpoint.

        Raises:
            EngineUnavailable: torch or rwkv is not installed.
            ModelNotFound: no file at `path`.
            ModelCorrupt: not a checkpoint of RWKV-4 or RWKV-7.
        """
        if not path.is_file():
            raise ModelNotFound(f"There is no model file at {path}.")
        try:
            import torch
        except ImportError as error:
            raise EngineUnavailable(
                f"{path.name} needs the reference engine, and torch is not installed. Install "
                "friend[reference], or convert the file with `friend model convert`."
            ) from error
        torch.set_num_threads(threads or cpus_given())
        # TorchScript would otherwise compile anew for prompts of new lengths: seconds each.
        torch._C._jit_set_profiling_executor(False)  # noqa: SLF001
        torch._C._jit_set_profiling_mode(False)  # noqa: SLF001
        self._torch: Any = torch
        with _checkpoint(path) as (stem, generation, vocab_size, width):
            self.generation = generation
            self._vocab_size = vocab_size
            self._width = width
            module = _rwkv_module(generation)
            with _quietly():
                try:
                    self._model: Any = module.RWKV(stem, "cpu fp32")
                    _, zero = self._step([0], None)  # fails if a tensor is missing
                except (KeyError, RuntimeError, ValueError, AssertionError) as error:
                    raise ModelCorrupt(
                        f"{path} is not a complete RWKV-{generation} checkpoint ({error})."
                    ) from error
        self._shapes = [tuple(tensor.shape) for tensor in zero]
        self._zero = ReferenceState(self._zero_tensors())

    @property
    def vocab_size(self) -> int:
        """Number of logits a step gives."""
        return self._vocab_size

    def new_state(self) -> State:
        """The state before the first token."""
        return self._zero.copy()

    def forward(
        self, tokens: Sequence[int], state: State | None
    ) -> tuple[npt.NDArray[np.float32], State]:
        """See `Engine.forward`."""
        if not tokens:
            raise ValueError("forward needs at least one token")
        before = self._zero if state is None else state
        assert isinstance(before, ReferenceState)
        # The package replaces entries of the list it is given, and no tensor in place.
        logits, after = self._step([int(token) for token in tokens], list(before.tensors))
        # Its last rows are views into whole activations [T, C]; a clone keeps only the row.
        kept = ReferenceState([tensor.clone() for tensor in after])
        return logits.numpy().astype(np.float32, copy=True), kept

    def forward_batch(
        self, tokens: Sequence[Sequence[int]], states: Sequence[State | None]
    ) -> tuple[npt.NDArray[np.float32], list[State]]:
        """See `Engine.forward_batch`; one after the other, as the package knows no batches."""
        done = [self.forward(one, state) for one, state in zip(tokens, states, strict=True)]
        rows = [logits for logits, _ in done]
        shape = (len(rows), self.vocab_size)
        return np.array(rows, np.float32).reshape(shape), [after for _, after in done]

    def state_from_bytes(self, data: bytes) -> State:
        """See `Engine.state_from_bytes`."""
        head = len(_MAGIC) + 4
        if data[: len(_MAGIC)] != _MAGIC or len(data) < head:
            raise StateCorrupt("These bytes are not a state of the reference engine.")
        (length,) = struct.unpack("<I", data[len(_MAGIC) : head])
        try:
            shapes = [tuple(shape) for shape in json.loads(data[head : head + length])]
        except (ValueError, TypeError) as error:
            raise StateCorrupt("The state's list of shapes is damaged.") from error
        values = np.frombuffer(data, dtype=np.uint8, offset=min(len(data), head + length))
        counts = [int(np.prod(shape, dtype=np.int64)) for shape in self._shapes]
        if shapes != self._shapes or values.nbytes != 4 * sum(counts):
            raise StateCorrupt("The state belongs to a model of another shape.")
        parts = np.split(values.view("<f4").astype(np.float32), np.cumsum(counts)[:-1])
        return ReferenceState(
            self._torch.from_numpy(part.reshape(shape).copy())
            for part, shape in zip(parts, self._shapes, strict=True)
        )

    def state_from_layers(self, layers: Layers) -> State:
        """See `Engine.state_from_layers`."""
        names: tuple[str, ...] = ("time_shift", "wkv", "channel_shift")
        if self.generation == 4:
            names = ("time_shift", "aa", "bb", "pp", "channel_shift")
        nothing = np.zeros(self._width, np.float32)
        return ReferenceState(
            self._torch.from_numpy(layer.get(name, nothing).copy())
            for layer in layers
            for name in names
        )

    def close(self) -> None:
        """Drop the weights."""
        self._model = None

    def _step(self, tokens: list[int], tensors: list[Any] | None) -> tuple[Any, list[Any]]:
        with self._torch.inference_mode():
            logits, after = self._model.forward(tokens, tensors)
        return logits, after

    def _zero_tensors(self) -> list[Any]:
        zeros = [self._torch.zeros(shape) for shape in self._shapes]
        if self.generation == 4:  # the running maximum of the exponents starts at -1e30
            for layer in range(len(zeros) // 5):
                zeros[layer * 5 + 3] -= 1e30
        return zeros


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the package's banners off stdout, and torch's notes that TorchScript is deprecated."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _checkpoint(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """(stem for the package, generation, vocabulary size, width) of a checkpoint.

    The package opens `stem + ".pth"` itself, so safetensors pass through a temporary file.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="friend-model-") as folder:
        try:
            if path.suffix == ".safetensors":
                from safetensors import SafetensorError
                from safetensors.torch import load_file

                try:
                    weights = load_file(path)
                except SafetensorError as error:
                    raise ModelCorrupt(f"{path} is not a whole safetensors file.") from error
                stem = str(Path(folder) / "model")
                shapes = _shapes(weights, path)
                weights = {name: tensor.float() for name, tensor in weights.items()}
                torch.save(weights, stem + ".pth")
                del weights
            else:
                weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                shapes = _shapes(weights, path)
                stem = str(path.with_suffix(""))
                if path.suffix != ".pth":
                    stem = str(Path(folder) / "model")
                    Path(stem + ".pth").symlink_to(path.resolve())
        except ImportError as error:
            raise EngineUnavailable(f"{path.name} needs a package: {error}.") from error
        except ModelCorrupt:
            raise
        except Exception as error:  # torch.load and pickle raise anything on a foreign file
            raise ModelCorrupt(f"{path} cannot be read as a checkpoint ({error}).") from error
        yield stem, *shapes


def _shapes(weights: Any, path: Path) -> tuple[int, int, int]:
    if not isinstance(weights, dict) or "emb.weight" not in weights:
        raise ModelCorrupt(f"{path} has no tensor emb.weight, so it is not an RWKV checkpoint.")
    vocab_size, width = weights["emb.weight"].shape
    if "blocks.0.att.r_k" in weights:
        return 7, vocab_size, width
    if "blocks.0.att.time_mix_k" in weights and "blocks.0.att.ln_x.weight" not in weights:
        return 4, vocab_size, width
    raise ModelCorrupt(f"{path} is neither RWKV-4 nor RWKV-7; other generations are not served.")


def _rwkv_module(generation: int) -> ModuleType:
    name = f"_friend_rwkv{generation}"
    with _import_lock:
        if name in sys.modules:
            return sys.modules[name]
        found = importlib.util.find_spec("rwkv")
        places = list(found.submodule_search_locations or []) if found else []
        if not places:
            raise EngineUnavailable(
                "The reference engine needs the package rwkv: pip install friend[reference]."
            )
        spec = importlib.util.spec_from_file_location(name, Path(places[0]) / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Read again whenever a model is made or run, so these two stay.
        os.environ.update({"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"})
        before = os.environ.get("RWKV_V7_ON")
        os.environ["RWKV_V7_ON"] = "1" if generation == 7 else "0"
        sys.modules[name] = module
        try:
            with _quietly():
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            if before is None:
                del os.environ["RWKV_V7_ON"]
            else:
                os.environ["RWKV_V7_ON"] = before
        return module
