"""The checkpoints and converted files that the engine's tests have."""

from __future__ import annotations

from tests.lambda_inference.engine.conftest import checkpoint, model_file

__all__ = ["checkpoint", "model_file"]
