"""What drawing a token costs at a vocabulary of 65,536.

    python -m benchmarks.sampling [--draws N]

One row a setting and a shape of the distribution: the median of so many draws, in ms.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from lambda_inference.talk.sampling import Sampler, SamplingSettings

_VOCABULARY = 65_536
_SPREADS = {"peaked": 3.0, "flat": 0.5, "level": 0.0}  # standard deviations of the logits
_SETTINGS = {
    "greedy": SamplingSettings(temperature=0),
    "plain": SamplingSettings(),
    "top_p 0.9": SamplingSettings(top_p=0.9, temperature=0.8, frequency_penalty=0.2),
    "top_k 40": SamplingSettings(top_k=40),
    "min_p 0.05": SamplingSettings(min_p=0.05),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling")
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    noise = np.random.default_rng(1).standard_normal(_VOCABULARY).astype(np.float32)
    print("| setting | " + " | ".join(_SPREADS) + " |\n|---|" + "---|" * len(_SPREADS))
    for name, settings in _SETTINGS.items():
        cells = (f"{cost_ms(settings, noise * s, draws):.2f}" for s in _SPREADS.values())
        print(f"| {name} | " + " | ".join(cells) + " |")


def cost_ms(settings: SamplingSettings, logits: np.ndarray[tuple[int], np.dtype[np.float32]],
            draws: int) -> float:  # fmt: skip
    """Median time of a draw, ms."""
    sampler = Sampler(settings)
    times = []
    for _ in range(draws):
        started = time.perf_counter()
        sampler.sample(logits, {1, 2})
        times.append(time.perf_counter() - started)
    return median(times) * 1000


if __name__ == "__main__":
    main()
