"""A model of the right kind and shape for weights that are at hand."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from finetuning.errors import CheckpointError
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv7 import RWKV7, LoraRanks, RWKV7Shape
from lambda_inference.errors import InferenceError
from lambda_inference.gguf.checkpoint import Checkpoint, Floats
from lambda_inference.gguf.layout import shape_of

Model = RWKV4 | RWKV7


def model_from(weights: Checkpoint) -> Model:
    """A model with these weights, of the shape that they have.

    Raises:
        CheckpointError: neither RWKV-4 nor RWKV-7, incomplete, or of a kind unknown here.
    """
    try:
        shape = shape_of(weights)
    except InferenceError as error:
        raise CheckpointError(str(error)) from error
    if shape.ffn_width != 4 * shape.width:
        raise CheckpointError(
            f"The feed-forward half is {shape.ffn_width} wide, not 4 times {shape.width}; "
            "such models are not trained here."
        )
    model: Model
    with torch.device("meta"):
        if shape.generation == 4:
            model = RWKV4(RWKV4Shape(shape.layers, shape.width, shape.vocab_size))
        else:
            ranks = LoraRanks(*(shape.ranks[name] for name in "wavg"))
            sizes = (shape.layers, shape.width, shape.vocab_size, shape.head_size)
            model = RWKV7(RWKV7Shape(*sizes), ranks)
    model = model.to_empty(device="cpu")
    _fill(model, weights)
    return model


class TorchWeights(Checkpoint):
    """Tensors of torch where a checkpoint is wanted."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Floats:
        values: Floats = self._weights[name].detach().float().cpu().numpy()
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Checkpoint.shape`."""
        return tuple(self._weights[name].shape)

    def __iter__(self) -> Iterable[str]:  # type: ignore[override]
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


@torch.no_grad()
def _fill(model: nn.Module, weights: Checkpoint) -> None:
    for name, target in model.state_dict(keep_vars=True).items():
        if name not in weights:
            if not name.startswith(("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2")):
                raise CheckpointError(f"The checkpoint has no tensor {name}.")
            target.zero_()  # of the first layer of RWKV-7, which does not use it
            continue
        found = torch.from_numpy(weights[name])
        if found.numel() != target.numel():
            raise CheckpointError(
                f"The checkpoint's {name} is {list(found.shape)}, not {list(target.shape)}."
            )
        target.copy_(found.reshape(target.shape))
        if not torch.isfinite(target).all():
            raise CheckpointError(f"The checkpoint's {name} holds numbers that are not finite.")
