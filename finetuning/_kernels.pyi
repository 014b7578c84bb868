"""The C++ extension for training on a CPU; `finetuning.models.kernels` is what to use.

All arrays are float32 tensors on the CPU, contiguous; results are written into those given.
"""

from torch import Tensor

CHUNK: int

def supported_isas() -> list[str]: ...
def wkv7_forward(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    y: Tensor,
    last: Tensor,
    u: Tensor | None,
    kept: Tensor | None,
    isa: str = "",
) -> None: ...
def wkv7_backward(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    u: Tensor,
    kept: Tensor,
    dy: Tensor,
    dlast: Tensor | None,
    dr: Tensor,
    dlog_w: Tensor,
    dk: Tensor,
    dv: Tensor,
    da: Tensor,
    db: Tensor,
    dstate: Tensor,
    isa: str = "",
) -> None: ...
