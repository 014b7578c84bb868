"""RWKV-7 ("Goose", x070) in plain PyTorch: parallel over time for training; no kernel is needed.

Parameter names and shapes are those of the official checkpoints, so a state dict saved from here
loads in the `rwkv` package and in converters for it, and theirs load here.

The heart is a linear recurrence over a matrix state S [value, key] for each head:

    S_t = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T          y_t = S_t r_t

`wkv7_recurrent` is that, step by step: the definition, and the form to generate text with.
`wkv7_chunked` computes the same a chunk of 32 steps at a time with matrix products. Within a
chunk, u_t = S_{t-1} a_t obeys a unit lower triangular system (the WY form known from products of
Householder matrices; for this family: Yang et al. 2024, arXiv:2406.06484), so one small
triangular inverse replaces 32 dependent steps, and only the state itself is carried from chunk
to chunk. Its gradient is written out by hand: autograd would keep every intermediate of the
carry, and spend most of its time on tiny operations.

On a CPU `finetuning.models.kernels` has the recurrence in C++, twice as fast and more; if that was
not built, or is turned off, all runs as written here.

Sources: Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution",
arXiv:2503.14456; initial values after the reference training code (BlinkDL/RWKV-LM, RWKV-v7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.models.dropout import dropout, run_block
from finetuning.models.fast_wkv7 import fast_wkv7
from finetuning.models.kernels import (
    native_mixes,
    native_operands,
    native_relu_square,
    native_wkv7,
)

CHUNK = 32
"""Steps a chunk. Decay is at least exp(-0.61) a step, so 32 keep all factors within 2^28."""

_LOG_DECAY_SCALE = -math.exp(-0.5)


@dataclass(frozen=True, slots=True)
class RWKV7Shape:
    """What fixes the size of every tensor."""

    layers: int
    width: int
    vocab_size: int
    head_size: int = 64

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.width // self.head_size


class LayerState(NamedTuple):
    """What a layer remembers of a sequence."""

    time_shift: Tensor  # [B, width] input of time mixing at the last step
    wkv: Tensor  # [B, heads, N value, N key]
    channel_shift: Tensor  # [B, width] input of channel mixing at the last step


class Operands(NamedTuple):
    """What the recurrence reads, each [B, T, heads, N]."""

    r: Tensor
    log_w: Tensor
    k: Tensor
    v: Tensor
    a: Tensor
    b: Tensor


# --- the recurrence -------------------------------------------------------------------------


def wkv7_recurrent(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, one step at a time.

    Args: all [B, T, H, N]; `log_w` the logarithm of the decay; `state` [B, H, N value, N key].
    Returns: y [B, T, H, N] and the state after the last step.
    """
    w = log_w.exp()
    outputs = []
    for t in range(r.shape[1]):
        u = torch.einsum("bhvk,bhk->bhv", state, a[:, t])
        state = (
            state * w[:, t].unsqueeze(-2)
            + u.unsqueeze(-1) * b[:, t].unsqueeze(-2)
            + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        )
        outputs.append(torch.einsum("bhvk,bhk->bhv", state, r[:, t]))
    return torch.stack(outputs, dim=1), state


def wkv7_chunked(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as `wkv7_recurrent`, for T a multiple of CHUNK, in float32."""
    if r.shape[1] % CHUNK:
        raise ValueError(f"the length must be a multiple of {CHUNK}, not {r.shape[1]}")
    with torch.autocast(r.device.type, enabled=False):
        operands = (x.contiguous() for x in (r, log_w, k, v, a, b))
        y, last = _ChunkedWKV.apply(*operands, state.transpose(-1, -2))  # type: ignore[no-untyped-call]
    return y, last.transpose(-1, -2)


def _in_chunks(x: Tensor) -> Tensor:
    """View [B, T, H, N] as [chunks, B, H, CHUNK, N]."""
    batch, time, heads, size = x.shape
    return x.view(batch, time // CHUNK, CHUNK, heads, size).permute(1, 0, 3, 2, 4)


def _rows(x: Tensor) -> Tensor:
    """View [chunks, B, H, ...] as [chunks, B*H, ...]."""
    return x.flatten(1, 2)


class _ChunkedWKV(torch.autograd.Function):
    """Chunks of CHUNK = L steps; the state is kept transposed here, S [N key, N value].

    With c_t the running sum of log w within the chunk, the decays are folded into
        A_t = a_t e^{c_{t-1}},  R_t = r_t e^{c_t},  K_t = k_t e^{-c_t},  B_t = b_t e^{-c_t}
    and then, with tril- strictly below the diagonal and tril including it,
        U  = A S + tril-(A B^T) U + tril-(A K^T) V
        Y  = R S + tril(R B^T) U + tril(R K^T) V
        S' = diag(e^{c_L}) (S + B^T U + K^T V).
    The four products are one: [A; R] [B; K]^T, masked.
    """

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        log_w: Tensor,
        k: Tensor,
        v: Tensor,
        a: Tensor,
        b: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch, time, heads, size = r.shape
        chunks, device = time // CHUNK, r.device
        lw = _in_chunks(log_w)
        c = lw.cumsum(-2)
        up, down = c.exp(), (-c).exp()
        left, right, sources = (
            torch.empty(chunks, batch, heads, 2 * CHUNK, size, device=device) for _ in range(3)
        )
        torch.mul(_in_chunks(a), (c - lw).exp_(), out=left[..., :CHUNK, :])
        torch.mul(_in_chunks(r), up, out=left[..., CHUNK:, :])
        torch.mul(_in_chunks(b), down, out=right[..., :CHUNK, :])
        torch.mul(_in_chunks(k), down, out=right[..., CHUNK:, :])
        sources[..., CHUNK:, :] = _in_chunks(v)
        left, right, sources, up = _rows(left), _rows(right), _rows(sources), _rows(up)
        values = sources[..., CHUNK:, :]
        scores = (left @ right.transpose(-1, -2)).mul_(_mask(device))
        eye = torch.eye(CHUNK, device=device)
        # (I - tril-(A B^T))^-1
        inverse = torch.linalg.solve_triangular(
            eye - scores[..., :CHUNK, :CHUNK],
            eye.expand(*scores.shape[:2], CHUNK, CHUNK),
            upper=False,
            unitriangular=True,
        )
        ahead = inverse @ left[..., :CHUNK, :]  # U = ahead S + u_zero
        u_zero = (inverse @ scores[..., :CHUNK, CHUNK:]) @ values
        total = up[..., -1, :].unsqueeze(-1)  # [chunks, rows, N key, 1]
        faded = right * up[..., -1:, :]
        from_values = faded[..., CHUNK:, :].transpose(-1, -2) @ values

        states = r.new_empty(chunks + 1, batch * heads, size, size)
        states[0] = state.reshape(batch * heads, size, size)
        u = torch.empty_like(u_zero)
        faded_b = faded[..., :CHUNK, :].transpose(-1, -2)
        for i in range(chunks):
            torch.baddbmm(u_zero[i], ahead[i], states[i], out=u[i])
            torch.addcmul(from_values[i], states[i], total[i], out=states[i + 1])
            states[i + 1].baddbmm_(faded_b[i], u[i])

        sources[..., :CHUNK, :] = u
        seen = left[..., CHUNK:, :] @ states[:-1]
        y = torch.empty_like(r)
        torch.add(
            seen.view(chunks, batch, heads, CHUNK, size),
            (scores[..., CHUNK:, :] @ sources).view(chunks, batch, heads, CHUNK, size),
            out=_in_chunks(y),
        )
        ctx.save_for_backward(left, right, sources, scores, inverse, states, c, lw)
        return y, states[-1].view(batch, heads, size, size)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor, ...]:
        left, right, sources, scores, inverse, states, c, lw = ctx.saved_tensors
        chunks, batch, heads, _, size = c.shape
        rows = batch * heads
        up, down = c.exp(), (-c).exp()
        last = _rows(up)[..., -1:, :]
        total = last.transpose(-1, -2)
        dout = torch.empty_like(sources)  # gradients of [X; Y], X = A S + tril-(A K^T) V
        dy_rows = dout[..., CHUNK:, :]
        dout.view(chunks, batch, heads, 2 * CHUNK, size)[..., CHUNK:, :] = _in_chunks(dy)
        faded = right * last
        from_y = scores[..., CHUNK:, :].transpose(-1, -2) @ dy_rows  # of [U; V] through Y
        inverse_t, left_t = inverse.transpose(-1, -2), left.transpose(-1, -2)
        # X solves U's system backwards: dX = x_zero + x_state dS'
        x_zero = inverse_t @ from_y[..., :CHUNK, :]
        x_state = inverse_t @ faded[..., :CHUNK, :]
        s_zero = left_t[..., CHUNK:] @ dy_rows

        dx, dstates = torch.empty_like(x_zero), torch.empty_like(states)
        dstates[chunks] = dlast.reshape(rows, size, size)
        for i in reversed(range(chunks)):
            torch.baddbmm(x_zero[i], x_state[i], dstates[i + 1], out=dx[i])
            torch.addcmul(s_zero[i], dstates[i + 1], total[i], out=dstates[i])
            dstates[i].baddbmm_(left_t[i, ..., :CHUNK], dx[i])

        dout[..., :CHUNK, :] = dx
        dnext = dstates[1:]
        dscores = (dout @ sources.transpose(-1, -2)).mul_(_mask(c.device))
        values_grad = faded[..., CHUNK:, :] @ dnext
        values_grad += from_y[..., CHUNK:, :]
        values_grad += scores[..., :CHUNK, CHUNK:].transpose(-1, -2) @ dx
        dleft = dout @ states[:-1].transpose(-1, -2)
        dleft += dscores @ right
        dright = (sources @ dnext.transpose(-1, -2)).mul_(last)
        dright += dscores.transpose(-1, -2) @ left

        split = (chunks, batch, heads, 2 * CHUNK, size)
        gained, lost = (dleft * left).view(split), (dright * right).view(split)
        at_before = gained[..., :CHUNK, :]
        dc = at_before + gained[..., CHUNK:, :]
        dc -= lost[..., :CHUNK, :]
        dc -= lost[..., CHUNK:, :]
        carried = (states[1:] * dnext).sum(-1).view(chunks, batch, heads, size)
        # dlw_t sums dc from t to the chunk's end: the whole sum less what came before t
        before_t = dc.cumsum(-2)
        whole = before_t[..., -1:, :] + carried.unsqueeze(-2)

        whole_shape = (batch, chunks * CHUNK, heads, size)
        dr, dlw, dk, dv, da, db = (dy.new_empty(whole_shape) for _ in range(6))
        torch.sub(whole, before_t.sub_(dc).add_(at_before), out=_in_chunks(dlw))
        dleft, dright = dleft.view(split), dright.view(split)
        torch.mul(dleft[..., :CHUNK, :], (c - lw).exp_(), out=_in_chunks(da))
        torch.mul(dleft[..., CHUNK:, :], up, out=_in_chunks(dr))
        torch.mul(dright[..., :CHUNK, :], down, out=_in_chunks(db))
        torch.mul(dright[..., CHUNK:, :], down, out=_in_chunks(dk))
        _in_chunks(dv).copy_(values_grad.view(chunks, batch, heads, CHUNK, size))
        return dr, dlw, dk, dv, da, db, dstates[0].view(batch, heads, size, size)


def _mask(device: torch.device) -> Tensor:
    """Which step sees which, for [A; R] against [B; K]: A only earlier steps, R its own too."""
    own = torch.ones(CHUNK, CHUNK, device=device).tril()
    earlier = own.tril(-1)
    return torch.cat((earlier.repeat(1, 2), own.repeat(1, 2)))


def _recurrence(r: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    """The form that is fastest for operands like `r`."""
    native = native_wkv7(r)
    if native is not None:
        return native
    return wkv7_recurrent if r.shape[1] % CHUNK else fast_wkv7(r) or wkv7_chunked


# --- layers ---------------------------------------------------------------------------------


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """Product x @ weight^T: operands in the autocast type, if that is on, result in float32."""
    return functional.linear(x, weight).float()


def _shifted(x: Tensor, last: Tensor) -> Tensor:
    """Move x one step later: what each step sees of its predecessor. [B, T, C], last [B, C]."""
    return torch.cat((last.unsqueeze(1), x[:, :-1]), dim=1)


def mixes(x: Tensor, last: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each step between itself and the one before it, once a weight. x [B, T, C], last [B, C]."""
    native = native_mixes(x)
    if native is not None:
        return native(x, last, weights)
    step = _shifted(x, last) - x
    return [torch.addcmul(x, step, weight) for weight in weights]


def relu_square(x: Tensor) -> Tensor:
    """max(x, 0) squared."""
    native = native_relu_square(x)
    return torch.relu(x).square() if native is None else native(x)


def operands(k: Tensor, w: Tensor, a: Tensor, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
    """`log_w`, `k`, `a`, `b` of the recurrence.

    Args: the products [B, T, H, N] for key, decay and rate; w0, a0, k_k, k_a, each [1, 1, C].
    """
    native = native_operands(k)
    if native is not None:
        return native(k, w, a, vectors, _LOG_DECAY_SCALE)
    w0, a0, k_k, k_a = (vector.view(k.shape[2:]) for vector in vectors)
    log_w = torch.sigmoid(w0 + w) * _LOG_DECAY_SCALE
    rate = torch.sigmoid(a0 + a)
    kk = functional.normalize(k * k_k, dim=-1)
    return log_w, k * (1 + (rate - 1) * k_a), -kk, kk * rate


class TimeMix(nn.Module):
    """The recurrent half of a block."""

    def __init__(self, shape: RWKV7Shape, layer: int, ranks: LoraRanks) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.size = shape.heads, shape.head_size
        width = shape.width

        def vector() -> nn.Parameter:
            return nn.Parameter(torch.empty(1, 1, width))

        def down_up(rank: int) -> tuple[nn.Parameter, nn.Parameter]:
            return nn.Parameter(torch.empty(width, rank)), nn.Parameter(torch.empty(rank, width))

        self.x_r, self.x_w, self.x_k = vector(), vector(), vector()
        self.x_v, self.x_a, self.x_g = vector(), vector(), vector()
        self.w0 = vector()
        self.w1, self.w2 = down_up(ranks.decay)
        self.a0 = vector()
        self.a1, self.a2 = down_up(ranks.rate)
        self.v0 = vector()
        self.v1, self.v2 = down_up(ranks.value)
        self.g1, self.g2 = down_up(ranks.gate)
        self.k_k, self.k_a = vector(), vector()
        self.r_k = nn.Parameter(torch.empty(self.heads, self.size))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.ln_x = nn.GroupNorm(self.heads, width, eps=64e-5)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From x [B, T, C]: output [B, T, C], first layer's values [B, T, C], new WKV state."""
        operands, gate, v_first = self.project(x, state.time_shift, v_first)
        y, wkv = _recurrence(operands.r)(*operands, state.wkv)
        return self.finish(y, operands.r, operands.k, operands.v, gate), v_first, wkv

    def project(
        self, x: Tensor, last: Tensor, v_first: Tensor | None
    ) -> tuple[Operands, Tensor, Tensor]:
        """All that comes before the recurrence: its operands, the gate, first layer's values."""
        batch, time, _ = x.shape
        by_head = (batch, time, self.heads, self.size)
        weights = (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        xr, xw, xk, xv, xa, xg = mixes(x, last, weights)
        r = _linear(xr, self.receptance.weight)
        k = _linear(xk, self.key.weight)
        v = _linear(xv, self.value.weight)
        w = _linear(_linear(xw, self.w1.t()).tanh(), self.w2.t())
        a = _linear(_linear(xa, self.a1.t()), self.a2.t())
        g = _linear(_linear(xg, self.g1.t()).sigmoid(), self.g2.t())
        if v_first is None:
            v_first = v
        else:
            mix = _linear(_linear(xv, self.v1.t()), self.v2.t())
            v = v + (v_first - v) * torch.sigmoid(self.v0 + mix)

        products = (k.view(by_head), w.view(by_head), a.view(by_head))
        log_w, key, removed, added = operands(*products, (self.w0, self.a0, self.k_k, self.k_a))
        return Operands(r.view(by_head), log_w, key, v.view(by_head), removed, added), g, v_first

    def finish(self, y: Tensor, r: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
        """All that comes after the recurrence. y, r, k, v [B, T, H, N] -> [B, T, C]."""
        y = functional.layer_norm(y, (self.size,), eps=self.ln_x.eps).flatten(-2)
        y = y * self.ln_x.weight + self.ln_x.bias
        bonus = (r * k * self.r_k).sum(-1, keepdim=True) * v
        return _linear((y + bonus.flatten(-2)) * gate, self.output.weight)


class ChannelMix(nn.Module):
    """The feed-forward half of a block: squared ReLU, 4 times as wide."""

    def __init__(self, shape: RWKV7Shape) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(1, 1, shape.width))
        self.key = nn.Linear(shape.width, shape.width * 4, bias=False)
        self.value = nn.Linear(shape.width * 4, shape.width, bias=False)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        """From x [B, T, C] and `last` [B, C], the input one step before x, to [B, T, C]."""
        (mixed,) = mixes(x, last, (self.x_k,))
        return _linear(relu_square(functional.linear(mixed, self.key.weight)), self.value.weight)


class Block(nn.Module):
    """One layer: both halves, each behind a layer norm and added to the stream."""

    dropout = 0.0
    """Share of what either half adds that is left out in training."""

    def __init__(self, shape: RWKV7Shape, layer: int, ranks: LoraRanks) -> None:
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(shape.width)
        self.ln1 = nn.LayerNorm(shape.width)
        self.ln2 = nn.LayerNorm(shape.width)
        self.att = TimeMix(shape, layer, ranks)
        self.ffn = ChannelMix(shape)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState
    ) -> tuple[Tensor, Tensor, LayerState]:
        """From x [B, T, C]: the stream [B, T, C], first layer's values, the layer's new state."""
        if self.att.layer == 0:
            x = self.ln0(x)
        mixed = self.ln1(x)
        y, v_first, wkv = self.att(mixed, v_first, state)
        share = self.dropout if self.training else 0.0
        x = x + dropout(y, share)
        fed = self.ln2(x)
        x = x + dropout(self.ffn(fed, state.channel_shift), share)
        return x, v_first, LayerState(mixed[:, -1], wkv, fed[:, -1])


class RWKV7(nn.Module):
    """The language model."""

    recompute = False
    """Whether training forgets what a block computed, and computes it again for the gradient:
    memory for one block's intermediates instead of all, for about a third more time."""

    def __init__(self, shape: RWKV7Shape, ranks: LoraRanks | None = None) -> None:
        """Make a model without values. `ranks`: by default the reference's for this width."""
        super().__init__()
        if shape.width % shape.head_size:
            raise ValueError(f"width {shape.width} is no multiple of {shape.head_size}")
        self.shape = shape
        self.ranks = lora_ranks(shape.width) if ranks is None else ranks
        self.emb = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(
            Block(shape, layer, self.ranks) for layer in range(shape.layers)
        )
        self.ln_out = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def new_state(self, batch: int) -> list[LayerState]:
        """The state before anything was read."""
        weight, shape = self.emb.weight, self.shape
        shift = weight.new_zeros(batch, shape.width)
        wkv = weight.new_zeros(batch, shape.heads, shape.head_size, shape.head_size)
        return [LayerState(shift, wkv, shift) for _ in range(shape.layers)]

    def hidden(
        self, tokens: Tensor, state: Sequence[LayerState] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """Tokens [B, T] -> what the head reads [B, T, C], and the state after the last token.

        T a multiple of CHUNK runs in parallel; any other length step by step.
        """
        state = self.new_state(tokens.shape[0]) if state is None else state
        x, v_first, after = self.emb(tokens), None, []
        for layer, (block, before) in enumerate(zip(self.blocks, state, strict=True)):
            x, v_first, new = run_block(block, layer, x, v_first, before, recompute=self.recompute)
            after.append(new)
        return self.ln_out(x), after

    def forward(
        self, tokens: Tensor, state: Sequence[LayerState] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """Tokens [B, T] -> logits float32 [B, T, vocabulary], and the state."""
        hidden, state = self.hidden(tokens, state)
        return _linear(hidden, self.head.weight), state


# --- initial values -------------------------------------------------------------------------


class LoraRanks(NamedTuple):
    """Inner sizes of the four small products."""

    decay: int
    rate: int
    value: int
    gate: int


def lora_ranks(width: int) -> LoraRanks:
    """Ranks as the reference training code derives them from the width."""

    def rounded(x: float) -> int:
        return max(32, round(x / 32) * 32)

    root = width**0.5
    return LoraRanks(
        rounded(1.8 * root), rounded(1.8 * root), rounded(1.3 * root), rounded(0.6 * width**0.8)
    )


@torch.no_grad()
def initialize(model: RWKV7, *, seed: int) -> None:
    """Set all weights as the reference does; with generic values v7 trains badly or not at all."""
    generator = torch.Generator().manual_seed(seed)
    shape = model.shape

    def orthogonal(weight: Tensor, gain: float) -> None:
        nn.init.orthogonal_(weight, gain=gain, generator=generator)

    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        _initialize_time_mix(block.att, layer, shape, generator)
        block.ffn.x_k.copy_(1 - _ramp(shape.width) ** ((1 - layer / shape.layers) ** 4))
        orthogonal(block.ffn.key.weight, 1.0)
        block.ffn.value.weight.zero_()
    model.emb.weight.uniform_(-1e-4, 1e-4, generator=generator)
    orthogonal(model.head.weight, 0.5 * max(1.0, shape.vocab_size / shape.width) ** 0.5)


def _ramp(width: int) -> Tensor:
    """0, 1/width, ... towards 1: [width]."""
    return torch.arange(width) / width


def _initialize_time_mix(
    mix: TimeMix, layer: int, shape: RWKV7Shape, generator: torch.Generator
) -> None:
    width, size = shape.width, shape.head_size
    depth = layer / max(1, shape.layers - 1)
    upward = 1 - layer / shape.layers
    channel = torch.arange(width)
    linear = channel / (width - 1) - 0.5
    zigzag = ((channel % size) - (size - 1) / 2) / ((size - 1) / 2)
    zigzag = zigzag * zigzag.abs()
    decay = -6 + 6 * (channel / (width - 1)) ** (1 + depth**0.3)

    powers = {"x_r": 0.2, "x_w": 0.9, "x_k": 0.7, "x_v": 0.7, "x_a": 0.9, "x_g": 0.2}
    for name, power in powers.items():
        getattr(mix, name).copy_(1 - _ramp(width) ** (power * upward))
    mix.w0.copy_(decay + 0.5 + zigzag * 2.5)
    mix.a0.copy_(-0.19 + zigzag * 0.3 + linear * 0.4)
    mix.v0.copy_(0.73 - linear * 0.4)
    mix.k_k.copy_(0.71 - linear * 0.1)
    mix.k_a.fill_(1.02)
    mix.r_k.fill_(-0.04)
    for down, up in ((mix.w1, mix.w2), (mix.a1, mix.a2), (mix.v1, mix.v2), (mix.g1, mix.g2)):
        down.zero_()
        gain = max(1.0, up.shape[0] / up.shape[1]) ** 0.5
        nn.init.orthogonal_(up, gain=0.1 * gain, generator=generator)
    nn.init.orthogonal_(mix.receptance.weight, gain=1.0, generator=generator)
    nn.init.orthogonal_(mix.key.weight, gain=0.1, generator=generator)
    nn.init.orthogonal_(mix.value.weight, gain=1.0, generator=generator)
    mix.output.weight.zero_()
    mix.ln_x.weight.fill_(((1 + layer) / shape.layers) ** 0.7)
    mix.ln_x.bias.zero_()
