"""An n-gram model with interpolated, modified Kneser-Ney smoothing: the floor for a neural one.

P_n(w | c) = (N(c w) - D(N(c w))) / N(c) + g(c) P_n-1(w | c without its first token)

N counts occurrences at the highest order, and below it how many different tokens were seen
before the n-gram (Kneser and Ney 1995). D takes three values, for counts of 1, 2, and 3 or more,
and g(c) is the mass that it takes away (Chen and Goodman 1998). The recursion ends in a uniform
distribution, so every token has a probability and all of them sum to one.

An n-gram is a number: the place of its first n-1 tokens' number, times the vocabulary, plus the
last token, in the sorted list of those seen. So counting is sorting, looking up is bisection,
and both go over a whole corpus at once in numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Tokens = Sequence[int] | npt.NDArray[Any]

_LEAST = 0.1  # discount: with none at all, a token not seen after a context could not follow it


@dataclass(frozen=True, slots=True)
class _Order:
    """The n-grams of one length n; a context is the place of its n-1 tokens in the order below."""

    grams: Ints  # [grams], sorted: context * base + last token
    taken: Floats  # [grams]: (N(c w) - D) / N(c)
    left: Floats  # [contexts]: g(c), what the order below gets; 1 after contexts never seen


class NGram:
    """Probabilities of tokens after the `order` - 1 tokens before them."""

    def __init__(self, orders: Sequence[_Order], vocab_size: int) -> None:
        self._orders = orders
        self.vocab_size = vocab_size

    @property
    def order(self) -> int:
        """Tokens of the longest n-gram."""
        return len(self._orders)

    @property
    def grams(self) -> int:
        """n-grams of all lengths that were seen."""
        return sum(len(order.grams) for order in self._orders)

    @classmethod
    def train(cls, sequences: Sequence[Tokens], vocab_size: int, *, order: int = 5) -> NGram:
        """Count `sequences` of tokens below `vocab_size`; each begins with nothing before it.

        Takes some 300 bytes of memory a token while it counts.
        """
        stream, base = _stream(sequences, vocab_size, order), vocab_size + 1
        said = stream != vocab_size
        # Of every length: the sorted n-grams, an n-gram's place at each position of the stream, and
        # a position at which each distinct one ends.
        sorted_grams: list[Ints] = [np.arange(base)]
        places: list[Ints] = [stream]
        ends: list[Ints] = [np.zeros(0, np.int64)]
        for _ in range(1, order):
            keys = _keys(places[-1], stream, base)
            by_key = np.argsort(keys)
            in_order = keys[by_key]
            fresh = np.concatenate(([True], in_order[1:] != in_order[:-1]))
            place = np.empty_like(keys)
            place[by_key] = np.cumsum(fresh) - 1
            sorted_grams.append(in_order[fresh])
            places.append(place)
            ends.append(by_key[fresh])
        orders: list[_Order] = []
        for at in range(order):
            size = len(sorted_grams[at])
            if at + 1 < order:
                seen = ends[at + 1][said[ends[at + 1]]]
                counts = np.bincount(places[at][seen], minlength=size)
            else:
                counts = np.bincount(places[at][said], minlength=size)
            contexts = len(sorted_grams[at - 1]) if at else 1
            orders.append(_smoothed(sorted_grams[at], counts, contexts, base))
        return cls(orders, vocab_size)

    def log2_probabilities(self, sequences: Sequence[Tokens]) -> list[Floats]:
        """Of each sequence: log2 of the probability of every token after those before it."""
        stream = _stream(sequences, self.vocab_size, self.order)
        chances = np.log2(self._probabilities(stream))[stream != self.vocab_size]
        return np.split(chances, np.cumsum([len(one) for one in sequences])[:-1])

    def distribution(self, context: Sequence[int]) -> Floats:
        """Probabilities [vocab_size] of the next token of a sequence that begins so."""
        sequences = [[*context, token] for token in range(self.vocab_size)]
        return np.array([2.0 ** found[-1] for found in self.log2_probabilities(sequences)])

    def _probabilities(self, stream: Ints) -> Floats:
        base = self.vocab_size + 1
        chances = np.full(len(stream), 1 / self.vocab_size)
        before = np.zeros(len(stream), np.int64)  # the place of the context, -1 if it is not there
        place = stream
        for number, order in enumerate(self._orders):
            if number:
                before = np.concatenate(([-1], place[:-1]))
                keys = np.where(before >= 0, before * base + stream, -1)
                place = np.searchsorted(order.grams, keys)
                place[place == len(order.grams)] = 0
                place = np.where(order.grams[place] == keys, place, -1)
            chances = np.where(before >= 0, order.left[before], 1) * chances
            chances += np.where(place >= 0, order.taken[place], 0)
        return chances


def _stream(sequences: Sequence[Tokens], vocab_size: int, order: int) -> Ints:
    """The sequences one after the other, `order` - 1 marks (id `vocab_size`) before each.

    So no n-gram of a token reaches into another sequence.
    """
    marks = np.full(order - 1, vocab_size)
    parts: list[npt.NDArray[Any]] = []
    for sequence in sequences:
        parts += [marks, np.asarray(sequence, dtype=np.int64)]
    return np.concatenate(parts).astype(np.int64, copy=False) if parts else np.zeros(0, np.int64)


def _keys(places: Ints, stream: Ints, base: int) -> Ints:
    """The n-gram that ends at each position; at the first one, with a mark before the stream."""
    return np.concatenate(([base - 1], places[:-1])) * base + stream


def _smoothed(grams: Ints, counts: Ints, contexts: int, base: int) -> _Order:
    context = grams // base if contexts > 1 else np.zeros(len(grams), np.int64)
    discount = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(context, counts, contexts)
    safe = np.maximum(totals, 1)
    left = np.where(totals > 0, np.bincount(context, discount, contexts) / safe, 1.0)
    return _Order(grams, (counts - discount) / safe[context], left)


def _discounts(counts: Ints) -> Floats:
    """What is taken off counts of 0, 1, 2, and 3 or more (Chen and Goodman, equation 26).

    Where there are too few n-grams to estimate them, all are the one of plain Kneser-Ney, and
    one half if that cannot be told either.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
    plain = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if not (n1 and n2 and n3 and n4):
        return np.array([0, plain, plain, plain])
    found = [1 - 2 * plain * n2 / n1, 2 - 3 * plain * n3 / n2, 3 - 4 * plain * n4 / n3]
    return np.array([0, *np.clip(found, _LEAST, (1, 2, 3))])
