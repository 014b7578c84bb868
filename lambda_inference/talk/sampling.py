"""Logits to the next token.

The order is the one most servers use: bans and bias, penalties, temperature, then top-k, top-p and
min-p on what is left. Written for vocabularies of 65k: nothing is sorted but what lies at the edge
of what is kept. `python -m benchmarks.sampling` measures it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SORTED = 1024  # tokens at the edge that are sorted rather than counted once more
_COLUMNS = 1024  # in which the largest of every so many tokens is looked for
_CHUNK = 256  # tokens whose weights are summed at once

Weights = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


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
        out = self._adjusted(logits, banned)
        top = out.max()
        if not np.isfinite(top):  # a number that is none, or nothing left to draw
            logits = np.nan_to_num(logits, nan=-1e30, neginf=-1e30)
            out = self._adjusted(logits, banned)
            if out.max() == -np.inf:
                out = self._adjusted(logits, ())
            top = out.max()
        token = self._draw(out, top)
        if token not in self._exempt:
            self._counts[token] += 1
        return token

    def restart(self) -> None:
        """Forget the tokens drawn, but not where the seed's series of numbers is."""
        self._counts.clear()

    def _adjusted(
        self, logits: npt.NDArray[np.float32], banned: Collection[int]
    ) -> npt.NDArray[np.float32]:
        """The logits to draw from; those given, if there is nothing to change."""
        s = self._settings
        penalties = s.presence_penalty or s.frequency_penalty or s.repetition_penalty != 1.0
        seen_some = bool(self._counts and penalties)
        if not (seen_some or s.logit_bias or banned):
            return logits.astype(np.float32, copy=False)
        out = logits.astype(np.float32, copy=True)
        if seen_some:
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
            out[[token for token in banned if 0 <= token < out.size]] = -np.inf
        return out

    def _draw(self, logits: npt.NDArray[np.float32], top: np.float32) -> int:
        s = self._settings
        if s.temperature <= 0:
            return int(np.argmax(logits))
        with np.errstate(over="ignore"):  # to -inf, which is as unlikely as it was
            weights = logits - top
            weights /= np.float32(s.temperature)
        np.exp(weights, out=weights)  # the most likely token has weight 1
        if 0 < s.top_k < weights.size:
            weights *= most_likely(weights, s.top_k)
        if s.top_p < 1:
            weights *= nucleus(weights, s.top_p)
        if s.min_p > 0:
            weights *= weights >= s.min_p
        return pick(weights, self._random.random())


def most_likely(weights: Weights, count: int) -> Mask:
    """Which of `weights` are the `count` largest; of equal ones those with the lowest ids."""
    least = np.float32(0)
    rows = weights.size // _COLUMNS
    if rows and count <= _COLUMNS:
        # At least `count` columns have a largest value that is this large, or larger.
        tops = weights[: rows * _COLUMNS].reshape(rows, _COLUMNS).max(axis=0)
        least = np.partition(tops, _COLUMNS - count)[_COLUMNS - count]
    return _largest(weights, least, count, by_weight=False)


def nucleus(weights: Weights, top_p: float) -> Mask:
    """Which of `weights` make up the smallest set whose share of the sum is `top_p`, one at least.

    Of equal ones, those with the lowest ids.
    """
    total = float(weights.sum(dtype=np.float64))
    limit = top_p * total
    # All that are smaller than this are together less than what may be left out.
    least = np.float32((total - limit) / weights.size * (1 - 1e-6))
    return _largest(weights, least, limit, by_weight=True)


def _largest(weights: Weights, least: np.float32, limit: float, *, by_weight: bool) -> Mask:
    """The fewest largest of `weights` that reach `limit` by their sum or their number.

    None below `least` is among them. The bits of a float that is not negative sort as the number
    does, so where there are too many to sort they are counted by their upper bits, and those in
    the bin where the limit is reached by their lower ones.
    """
    likely = weights >= least
    most = np.count_nonzero(likely) > max(_SORTED, weights.size // 2)
    edge = weights if most else weights[np.flatnonzero(likely)]
    for upper in (True, False):
        if edge.size <= _SORTED:
            break
        bins = edge.view(np.uint32).astype(np.intp)
        if upper:
            bins >>= 16
        bins -= bins.min()
        sums = np.cumsum(np.bincount(bins, weights=edge if by_weight else None)[::-1])
        turn = min(int(np.searchsorted(sums, limit)), sums.size - 1)
        if turn:
            limit -= float(sums[turn - 1])
        if sums.size > 1:
            edge = edge[np.flatnonzero(bins == sums.size - 1 - turn)]
    if edge.size > _SORTED:  # all equal by now
        value = edge[0]
        each = float(value) if by_weight else 1.0
        equals = math.ceil(limit / each) if each else edge.size
    else:
        edge = np.sort(edge)[::-1]
        sums = np.cumsum(edge if by_weight else np.ones(edge.size), dtype=np.float64)
        enough = min(int(np.searchsorted(sums, limit)), edge.size - 1)
        value = edge[enough]
        equals = enough + 1 - int(np.count_nonzero(edge > value))
    kept: Mask = weights > value
    kept[np.flatnonzero(weights == value)[: max(1, equals)]] = True
    return kept


def pick(weights: Weights, share: float) -> int:
    """The place at which the running sum of `weights` passes `share` (0 to 1) of the whole.

    Summed in two steps: a running sum over all 65k would cost more than all the rest.
    """
    whole = weights.size - weights.size % _CHUNK
    sums = np.empty(whole // _CHUNK + 1)
    weights[:whole].reshape(-1, _CHUNK).sum(axis=1, dtype=np.float64, out=sums[:-1])
    sums[-1] = weights[whole:].sum(dtype=np.float64)
    ends = np.cumsum(sums)
    target = share * ends[-1]
    chunk = _passed(ends, target)
    start = chunk * _CHUNK
    if chunk:
        target -= ends[chunk - 1]
    return start + _passed(np.cumsum(weights[start : start + _CHUNK], dtype=np.float64), target)


def _passed(sums: npt.NDArray[np.float64], target: float) -> int:
    """Where rising sums pass `target`; by the last rise, if rounding put it beyond."""
    place = int(np.searchsorted(sums, target, side="right"))
    return place if place < sums.size else int(np.searchsorted(sums, sums[-1]))
