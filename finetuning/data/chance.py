"""What is drawn by chance, always from a generator that is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def one_of(choices: Sequence[T], random: np.random.Generator) -> T:
    """One of `choices`, as it is: numpy's own `choice` would make an array of them."""
    return choices[int(random.integers(len(choices)))]
