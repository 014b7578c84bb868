"""Logits to the next token.

The order is the one most servers use: bans and bias, penalties, temperature, then top-k, top-p and
min-p on what is left. Written for vocabularies of 65k: the whole vocabulary is never sorted unless
the distribution is nearly flat.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_FIRST_LOOK = 256  # candidates looked at before more of the vocabulary is sorted


@dataclass(frozen=True)
class SamplingSettings:
    """How to draw, with the names and meanings of OpenAI's and llama.cpp's servers."""

    temperature: float = 1.0
    """0 takes the most likely token each time."""
    top_p: float = 1.0
    """Smallest set of tokens whose probabilities reach this sum; 1 keeps all."""
    top_k: int = 0
    """This many most likely tokens; 0 keeps all."""
    min_p: float = 0.0
    """Tokens at least this likely, relative to the most likely one."""
    presence_penalty: float = 0.0
    """Taken off the logit of each token that the reply already has."""
    frequency_penalty: float = 0.0
    """Taken off once for each time that the reply has it."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in the reply (Keskar 2019)."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to a token's logit; -100 is as good as a ban."""
    seed: int | None = None
    """The same seed, prompt and settings give the same reply; None is random."""


class Sampler:
    """Draws the tokens of one reply."""

    def __init__(self, settings: SamplingSettings, *, exempt: Collection[int] = ()) -> None:
        """`exempt` tokens are never penalised: those that end a turn must stay likely."""
        self._settings = settings
        # One number a token: numpy's generators would cost 30 ms to import at a cold start.
        self._random = random.Random(settings.seed)  # noqa: S311
        self._counts: Counter[int] = Counter()
        self._exempt = frozenset(exempt)

    def sample(self, logits: npt.NDArray[np.float32], banned: Collection[int] = ()) -> int:
        """Draw a token from `logits` [vocab_size], which are left as they were.

        `banned` tokens are not drawn, unless that would leave none. The drawn token counts for
        the penalties of those that follow.
        """
        token = self._draw(self._adjusted(logits, banned))
        if token not in self._exempt:
            self._counts[token] += 1
        return token

    def restart(self) -> None:
        """Forget the tokens drawn, but not where the seed's series of numbers is."""
        self._counts.clear()

    def _adjusted(
        self, logits: npt.NDArray[np.float32], banned: Collection[int]
    ) -> npt.NDArray[np.float32]:
        s = self._settings
        out = np.nan_to_num(
            logits.astype(np.float32, copy=True), nan=-1e30, neginf=-1e30, copy=False
        )
        if self._counts and (
            s.presence_penalty or s.frequency_penalty or s.repetition_penalty != 1.0
        ):
            seen = np.fromiter(self._counts.keys(), dtype=np.int64, count=len(self._counts))
            times = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            values = out[seen]
            values = np.where(
                values > 0, values / s.repetition_penalty, values * s.repetition_penalty
            )
            out[seen] = values - s.presence_penalty - s.frequency_penalty * times
        for token, bias in s.logit_bias.items():
            if 0 <= token < out.size:
                out[token] += bias
        if banned:
            places = [token for token in banned if 0 <= token < out.size]
            kept = out[places]
            out[places] = -np.inf
            if not np.isfinite(out).any():
                out[places] = kept
        return out

    def _draw(self, logits: npt.NDArray[np.float32]) -> int:
        s = self._settings
        if s.temperature <= 0:
            return int(np.argmax(logits))
        scaled = (logits - logits.max()) / np.float32(s.temperature)
        weights = np.exp(scaled, dtype=np.float32)
        order = self._nucleus(weights)
        if s.min_p > 0:
            order = order[weights[order] >= s.min_p]  # the most likely token has weight 1
        sums = np.cumsum(weights[order], dtype=np.float64)
        place = np.searchsorted(sums, self._random.random() * sums[-1], side="right")
        return int(order[min(int(place), order.size - 1)])

    def _nucleus(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Tokens that top-k and top-p keep, most likely first, equals by their id."""
        s = self._settings
        size = weights.size
        limit = min(s.top_k, size) if s.top_k > 0 else size
        if s.top_p >= 1 and limit == size:
            return np.flatnonzero(weights)
        total = float(weights.sum(dtype=np.float64))
        look = min(_FIRST_LOOK, limit)
        while True:
            order = _largest(weights, look)
            if look == limit and limit < size:
                total = float(weights[order].sum(dtype=np.float64))  # top-p of what top-k left
            sums = np.cumsum(weights[order], dtype=np.float64)
            enough = int(np.searchsorted(sums, s.top_p * total)) + 1
            if look == limit or (enough <= look and limit == size):
                return order[: max(1, min(enough, look))]
            look = min(look * 16, limit)


def _largest(weights: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    if count >= weights.size:
        places = np.arange(weights.size)
    else:
        # All above the count-th value, then the lowest ids among its equals: no tie by chance.
        edge = np.partition(weights, weights.size - count)[weights.size - count]
        above = np.flatnonzero(weights > edge)
        equal = np.flatnonzero(weights == edge)[: count - above.size]
        places = np.concatenate([above, equal])
    return places[np.argsort(-weights[places], kind="stable")]
