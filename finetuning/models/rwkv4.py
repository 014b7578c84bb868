"""RWKV-4 ("Dove") in plain PyTorch: parallel over time for training, no kernel to compile.

Parameter names and shapes are those of the official checkpoints, so a state dict saved from here
loads in the `rwkv` package and in converters for it, and theirs load here.

The heart is, for each channel by itself, an average of all values so far, weighted by their keys
and fading by the constant factor e^-w a step; the newest value has a weight e^u of its own:

    y_t = (A_{t-1} + e^{u + k_t} v_t) / (B_{t-1} + e^{u + k_t})
    A_t = e^-w A_{t-1} + e^{k_t} v_t          B_t = e^-w B_{t-1} + e^{k_t}

Keys are unbounded, so A and B are kept as a e^p and b e^p, with p about the largest exponent in
the sum. `wkv4_recurrent` is that, step by step: the definition, and the form to generate text with.
`wkv4_scan` computes the same for all steps in about log2(T) passes. What makes that short is
that the decay does not depend on time: p is a running maximum of k_t + t w, less t w, and the
factor between the sums of any two steps follows from their two p alone. The gradient is the same
scan, backwards in time; it is written out by hand, for autograd would keep every pass.

Sources: Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", arXiv:2305.13048;
initial values after the reference training code (BlinkDL/RWKV-LM, RWKV-v4neo).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.models.dropout import dropout, run_block

NOTHING_READ = -1e30
"""The exponent p of the sums before the first token: they weigh nothing."""


@dataclass(frozen=True, slots=True)
class RWKV4Shape:
    """What fixes the size of every tensor. The feed-forward half is 4 times as wide."""

    layers: int
    width: int
    vocab_size: int

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> RWKV4Shape:
        """The shape of a checkpoint; KeyError names the tensor without which it is none."""
        vocab_size, width = weights["emb.weight"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        if weights["blocks.0.att.time_decay"].shape != (width,):
            raise KeyError("blocks.0.att.time_decay of an RWKV-4")
        return cls(layers, width, vocab_size)


class LayerState(NamedTuple):
    """What a layer remembers of a sequence; all [B, width]."""

    time_shift: Tensor  # input of time mixing at the last step
    aa: Tensor  # a: weighted sum of the values, over e^pp
    bb: Tensor  # b: sum of the weights, over e^pp
    pp: Tensor  # p
    channel_shift: Tensor  # input of channel mixing at the last step


# --- the recurrence -------------------------------------------------------------------------


def wkv4_recurrent(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, aa: Tensor, bb: Tensor, pp: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition, one step at a time.

    Args: decay rate `w` > 0 and bonus `u` [C]; `k`, `v` [B, T, C]; the sums before, [B, C] each.
    Returns: y [B, T, C] and the sums after the last step.
    """
    outputs = []
    for t in range(k.shape[1]):
        own = u + k[:, t]
        top = torch.maximum(pp, own)
        old, new = (pp - top).exp(), (own - top).exp()
        outputs.append((old * aa + new * v[:, t]) / (old * bb + new))
        top = torch.maximum(pp - w, k[:, t])
        old, new = (pp - w - top).exp(), (k[:, t] - top).exp()
        aa, bb, pp = old * aa + new * v[:, t], old * bb + new, top
    return torch.stack(outputs, dim=1), aa, bb, pp


def wkv4_scan(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, aa: Tensor, bb: Tensor, pp: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same as `wkv4_recurrent`, all steps side by side, in float32.

    The `pp` that comes back has no gradient: `aa` and `bb` carry all of it.
    """
    with torch.autocast(k.device.type, enabled=False):
        result: tuple[Tensor, Tensor, Tensor, Tensor] = _ScanWKV.apply(w, u, k, v, aa, bb, pp)  # type: ignore[no-untyped-call]
    return result


def _fading_sums(exponents: Tensor, terms: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over j <= t of terms_j e^{exponents_j - (t - j) w}, as mantissas and exponents p.

    `exponents` [B, T, C], `terms` [n, B, T, C] (overwritten), `w` [C] -> p [B, T, C] and
    mantissas [n, B, T, C]. Pass after pass, what lies 1, 2, 4, ... steps back is added.

    Rounding of t w moves p by a hair. That is harmless: p only has to be near the largest
    exponent, and every factor below is taken from the rounded p.
    """
    time = exponents.shape[1]
    fading = torch.arange(time, device=w.device, dtype=w.dtype).unsqueeze(-1) * w
    p = (exponents + fading).cummax(dim=1).values.sub_(fading)
    p = torch.maximum(p, exponents)
    sums = terms.mul_((exponents - p).exp_())
    back = 1
    while back < time:
        factor = (p[:, :-back] - back * w - p[:, back:]).exp_()
        sums[:, :, back:] += factor * sums[:, :, :-back]
        back *= 2
    return p, sums


class _ScanWKV(torch.autograd.Function):
    """Index 0 of the scanned sequences is the state before, index t + 1 is after token t."""

    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        u: Tensor,
        k: Tensor,
        v: Tensor,
        aa: Tensor,
        bb: Tensor,
        pp: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        exponents = torch.cat((pp.unsqueeze(1), k), dim=1)
        terms = torch.stack(
            (
                torch.cat((aa.unsqueeze(1), v), dim=1),
                torch.cat((bb.unsqueeze(1), torch.ones_like(k)), dim=1),
            )
        )
        p, sums = _fading_sums(exponents, terms, w)
        own = u + k
        top = torch.maximum(p[:, :-1], own)
        old, new = (p[:, :-1] - top).exp_(), (own - top).exp_()
        a, b = sums[:, :, :-1]
        total = torch.addcmul(new, old, b)  # D_t, over e^top
        y = torch.addcmul(new * v, old, a).div_(total)
        ctx.save_for_backward(w, u, v, exponents, p, sums, top, total, y)
        last_p = p[:, -1].clone()
        ctx.mark_non_differentiable(last_p)
        ctx.set_materialize_grads(True)
        return y, sums[0, :, -1].clone(), sums[1, :, -1].clone(), last_p

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor, daa_last: Tensor, dbb_last: Tensor, _dpp: Tensor
    ) -> tuple[Tensor, ...]:
        w, u, v, exponents, p, sums, top, total, y = ctx.saved_tensors
        k = exponents[:, 1:]
        # Gradients of numerator and denominator of y, over e^-top; then, scanned backwards,
        # those of A and B. No e^{k + q} below exceeds 1, as every e^k is in the sums it meets.
        dnum = dy / total
        dden = -dnum * y
        terms = torch.stack(
            (
                torch.cat((dnum, daa_last.unsqueeze(1)), dim=1),
                torch.cat((dden, dbb_last.unsqueeze(1)), dim=1),
            )
        )
        sources = -torch.cat((top, p[:, -1:]), dim=1)
        q, grads = _fading_sums(sources.flip(1), terms.flip(2), w)
        q, grads = q.flip(1), grads.flip(2)

        own = (u + k - top).exp_()
        own_v, own_one = own * dnum, own * dden
        du = torch.addcmul(own_one, own_v, v).sum((0, 1))
        used = (exponents + q).exp_()
        through_a, through_b = used * grads[0], used * grads[1]
        dv = through_a[:, 1:] + own_v
        dk = torch.addcmul(through_b[:, 1:] + own_one, dv, v)

        across = (p[:, :-1] - w + q[:, 1:]).exp_()  # from A_{t-1} into A_t
        dw = -(across * (sums[:, :, :-1] * grads[:, :, 1:]).sum(0)).sum((0, 1))
        daa, dbb = through_a[:, 0], through_b[:, 0]
        # `sums` at 0 is the state before, over e^p with p = pp there
        dpp = sums[0, :, 0] * daa + sums[1, :, 0] * dbb
        return dw, du, dk, dv, daa, dbb, dpp


# --- layers ---------------------------------------------------------------------------------


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """Product x @ weight^T: operands in the autocast type, if that is on, result in float32."""
    return functional.linear(x, weight).float()


def _shifted(x: Tensor, last: Tensor) -> Tensor:
    """Move x one step later: what each step sees of its predecessor. [B, T, C], last [B, C]."""
    return torch.cat((last.unsqueeze(1), x[:, :-1]), dim=1)


def _vector(width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(1, 1, width))


class TimeMix(nn.Module):
    """The recurrent half of a block."""

    def __init__(self, shape: RWKV4Shape) -> None:
        super().__init__()
        width = shape.width
        self.time_decay = nn.Parameter(torch.empty(width))
        self.time_first = nn.Parameter(torch.empty(width))
        self.time_mix_k, self.time_mix_v = _vector(width), _vector(width)
        self.time_mix_r = _vector(width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """From x [B, T, C] to [B, T, C], and the sums after the last step."""
        before = _shifted(x, state.time_shift)
        k = _linear(torch.lerp(before, x, self.time_mix_k), self.key.weight)
        v = _linear(torch.lerp(before, x, self.time_mix_v), self.value.weight)
        r = _linear(torch.lerp(before, x, self.time_mix_r), self.receptance.weight)
        wkv4 = wkv4_scan if x.shape[1] > 1 else wkv4_recurrent
        w = self.time_decay.exp()
        y, *sums = wkv4(w, self.time_first, k, v, state.aa, state.bb, state.pp)
        aa, bb, pp = sums
        return _linear(r.sigmoid() * y, self.output.weight), (aa, bb, pp)


class ChannelMix(nn.Module):
    """The feed-forward half of a block: squared ReLU behind a gate."""

    def __init__(self, shape: RWKV4Shape) -> None:
        super().__init__()
        width = shape.width
        self.time_mix_k, self.time_mix_r = _vector(width), _vector(width)
        self.key = nn.Linear(width, width * 4, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width * 4, width, bias=False)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        """From x [B, T, C] and `last` [B, C], the input one step before x, to [B, T, C]."""
        before = _shifted(x, last)
        hidden = functional.linear(torch.lerp(before, x, self.time_mix_k), self.key.weight)
        gate = _linear(torch.lerp(before, x, self.time_mix_r), self.receptance.weight)
        return gate.sigmoid() * _linear(torch.relu(hidden).square(), self.value.weight)


class Block(nn.Module):
    """One layer: both halves, each behind a layer norm and added to the stream."""

    dropout = 0.0
    """Share of what either half adds that is left out in training."""

    def __init__(self, shape: RWKV4Shape, layer: int) -> None:
        super().__init__()
        self.layer = layer
        if layer == 0:
            self.ln0 = nn.LayerNorm(shape.width)
        self.ln1 = nn.LayerNorm(shape.width)
        self.ln2 = nn.LayerNorm(shape.width)
        self.att = TimeMix(shape)
        self.ffn = ChannelMix(shape)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """From x [B, T, C]: the stream [B, T, C] and the layer's new state."""
        if self.layer == 0:
            x = self.ln0(x)
        mixed = self.ln1(x)
        y, (aa, bb, pp) = self.att(mixed, state)
        share = self.dropout if self.training else 0.0
        x = x + dropout(y, share)
        fed = self.ln2(x)
        x = x + dropout(self.ffn(fed, state.channel_shift), share)
        return x, LayerState(mixed[:, -1], aa, bb, pp, fed[:, -1])


class RWKV4(nn.Module):
    """The language model."""

    recompute = False
    """Whether training forgets what a block computed, and computes it again for the gradient:
    memory for one block's intermediates instead of all, for about a third more time."""

    def __init__(self, shape: RWKV4Shape) -> None:
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.ln_out = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def new_state(self, batch: int) -> list[LayerState]:
        """The state before anything was read."""
        zero = self.emb.weight.new_zeros(batch, self.shape.width)
        nothing = torch.full_like(zero, NOTHING_READ)
        return [LayerState(zero, zero, zero, nothing, zero) for _ in range(self.shape.layers)]

    def hidden(
        self, tokens: Tensor, state: Sequence[LayerState] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """Tokens [B, T] -> what the head reads [B, T, C], and the state after the last token.

        Any length; one token runs as the plain recurrence.
        """
        state = self.new_state(tokens.shape[0]) if state is None else state
        x, after = self.emb(tokens), []
        for layer, (block, before) in enumerate(zip(self.blocks, state, strict=True)):
            x, new = run_block(block, layer, x, before, recompute=self.recompute)
            after.append(new)
        return self.ln_out(x), after

    def forward(
        self, tokens: Tensor, state: Sequence[LayerState] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """Tokens [B, T] -> logits float32 [B, T, vocabulary], and the state."""
        hidden, state = self.hidden(tokens, state)
        return _linear(hidden, self.head.weight), state


# --- initial values -------------------------------------------------------------------------


@torch.no_grad()
def initialize(model: RWKV4, *, seed: int, emb_scale: float = 1e-4) -> None:
    """Set all weights as the reference does: matrices start at zero or orthogonal.

    `emb_scale`: bound of the uniform embedding; the reference takes its first learning rate.
    """
    generator = torch.Generator().manual_seed(seed)
    width, layers = model.shape.width, model.shape.layers

    def orthogonal(weight: Tensor, scale: float) -> None:
        gain = scale * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
        nn.init.orthogonal_(weight, gain=gain, generator=generator)

    channel = torch.arange(width)
    ramp = (channel / width).view(1, 1, width)
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        depth = layer / max(1, layers - 1)
        upward = 1 - layer / layers
        att, ffn = block.att, block.ffn
        att.time_decay.copy_(-5 + 8 * (channel / max(1, width - 1)) ** (0.7 + 1.3 * depth))
        att.time_first.copy_(math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1))
        att.time_mix_k.copy_(ramp**upward)
        att.time_mix_v.copy_(ramp**upward + 0.3 * depth)
        att.time_mix_r.copy_(ramp ** (0.5 * upward))
        ffn.time_mix_k.copy_(ramp**upward)
        ffn.time_mix_r.copy_(ramp**upward)
        orthogonal(att.value.weight, 1.0)
        orthogonal(ffn.key.weight, 1.0)
        for closed in (att.key, att.receptance, att.output, ffn.value, ffn.receptance):
            closed.weight.zero_()
    model.emb.weight.uniform_(-emb_scale, emb_scale, generator=generator)
    orthogonal(model.head.weight, 0.5)
