"""Why the shared store keeps float32: see `lambda_inference.states.s3`."""

from __future__ import annotations

import numpy as np

from benchmarks.half_states import halved
from lambda_inference.serving.host import LoadedModel


def test_what_is_stored_is_the_state_to_the_last_bit(loaded: LoadedModel) -> None:
    engine = loaded.engine
    _, state = engine.forward(range(4, 80), None)
    kept = engine.state_from_bytes(state.to_bytes())
    rounded = halved(engine, state)
    assert np.array_equal(engine.forward([5], kept)[0], engine.forward([5], state)[0])
    assert rounded.to_bytes() != state.to_bytes()
    logits, exact = engine.forward([5], rounded)[0], engine.forward([5], state)[0]
    assert not np.array_equal(logits, exact)
    np.testing.assert_allclose(logits, exact, atol=0.05 * float(np.abs(exact).max()))
