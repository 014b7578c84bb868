"""The C++ extension for training on a CPU; `finetuning.models.kernels` is what to use.

All arrays are float32 tensors on the CPU, contiguous; results are written into those given. What
mix_forward writes and mix_backward reads, and all of relu_square, may be bfloat16 instead.
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
def mix_forward(x: Tensor, last: Tensor, mix: Tensor, out: list[Tensor], isa: str = "") -> None: ...
def mix_backward(
    x: Tensor,
    last: Tensor,
    mix: Tensor,
    dout: list[Tensor],
    dx: Tensor,
    dlast: Tensor,
    dmix: Tensor,
    isa: str = "",
) -> None: ...
def relu_square_forward(x: Tensor, y: Tensor, isa: str = "") -> None: ...
def relu_square_backward(x: Tensor, dy: Tensor, dx: Tensor, isa: str = "") -> None: ...
def operands_forward(
    k: Tensor,
    w: Tensor,
    a: Tensor,
    vectors: Tensor,
    scale: float,
    log_w: Tensor,
    key: Tensor,
    removed: Tensor,
    added: Tensor,
    isa: str = "",
) -> None: ...
def operands_backward(
    k: Tensor,
    w: Tensor,
    a: Tensor,
    vectors: Tensor,
    scale: float,
    dlog_w: Tensor,
    dkey: Tensor,
    dremoved: Tensor,
    dadded: Tensor,
    dk: Tensor,
    dw: Tensor,
    da: Tensor,
    dvectors: Tensor,
    isa: str = "",
) -> None: ...
