"""The three ways to fine-tune: all weights, thin matrices beside them (LoRA), a learnt state.

Each says what the optimizer may change, what a checkpoint must keep, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor, nn

from finetuning.errors import CheckpointError
from finetuning.models import rwkv4, rwkv7
from finetuning.models.lora import (
    adapter_weights,
    add_adapters,
    load_adapter_weights,
    merged_weights,
)
from finetuning.models.rwkv4 import RWKV4
from finetuning.models.weights import Model
from finetuning.training.settings import TrainSettings
from finetuning.training.state_tuning import StateTuned, fingerprint


class Tuning:
    """A model that is being trained by one of the methods."""

    def __init__(self, model: Model, settings: TrainSettings) -> None:
        """Take over `model`: it is frozen or adapted as the method needs.

        Raises:
            ValueError: a setting of LoRA fits nothing in this model.
        """
        self.method = settings.method
        self.model = model
        self.architecture = "rwkv4" if isinstance(model, RWKV4) else "rwkv7"
        self.fingerprint = None if self.method == "full" else fingerprint(model.state_dict())
        model.recompute = settings.checkpointing
        for block in model.blocks:
            assert isinstance(block, rwkv4.Block | rwkv7.Block)
            block.dropout = settings.dropout
        if self.method == "lora":
            add_adapters(model, settings.lora, seed=settings.seed)
        tuned: nn.Module = model if self.method != "state" else StateTuned(model)
        self.module = tuned.to(settings.device)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [weight for weight in self.module.parameters() if weight.requires_grad]

    def weights(self) -> dict[str, Tensor]:
        """What a checkpoint must keep: all weights, the adapters, or the learnt state."""
        if self.method == "lora":
            return adapter_weights(self.model)
        if self.method == "state":
            return {
                name: weight
                for name, weight in self.module.state_dict().items()
                if name.startswith("learnt.")
            }
        return self.model.state_dict()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what `weights` gave.

        Raises:
            CheckpointError: they are of another model or other settings.
        """
        if self.method == "lora":
            load_adapter_weights(self.model, weights)
            return
        own = self.weights()
        if own.keys() != weights.keys() or any(own[n].shape != weights[n].shape for n in own):
            raise CheckpointError("its weights have other names or shapes")
        self.module.load_state_dict(dict(weights), strict=self.method == "full")

    def result(self) -> dict[str, Tensor]:
        """A whole model's weights under the official names: adapters merged, a state left out."""
        return merged_weights(self.model) if self.method == "lora" else self.model.state_dict()

    def shape(self) -> dict[str, int]:
        """The model's, as JSON."""
        return asdict(self.model.shape)
