"""How much memory a run took, and what to do when it is not enough."""

from __future__ import annotations

import sys

import torch

from finetuning.errors import OutOfMemoryError
from finetuning.training.settings import TrainSettings


def peak_memory(device: torch.device) -> int:
    """Most bytes in use at one time so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kB on Linux


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, or Python, says that there is no more memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def out_of_memory(settings: TrainSettings) -> OutOfMemoryError:
    """What to change, the cheapest change first."""
    advice = []
    if settings.micro_batch > 1:
        advice.append(f"lower --micro-batch (it is {settings.micro_batch}; 1 is slower, no worse)")
    if not settings.checkpointing:
        advice.append("add --checkpointing (a third slower, the same result)")
    advice.append(f"lower --row-length (it is {settings.row_length})")
    if settings.device == "cpu" and settings.workers > 1 and settings.batch_size > 1:
        advice.append(f"lower --workers (it is {settings.workers})")
    if settings.method == "full":
        advice.append("train less of the model with --method lora")
    where = "the GPU" if settings.device.startswith("cuda") else "this machine"
    return OutOfMemoryError(
        f"The memory of {where} is not enough. In this order: {'; '.join(advice)}. "
        "The run goes on from its last checkpoint."
    )
