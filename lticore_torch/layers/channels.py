"""Modes of many channels in one array: what they take of their channels, and sums over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def of_channels(x: Tensor, channel: Tensor) -> Tensor:
    """x_c(j) for each mode j of channel c(j): (..., channels) → (..., modes)."""
    return _OfChannels.apply(x, channel) if _fused() else x[..., channel]


def channel_sums(x: Tensor, channel: Tensor, channels: int) -> Tensor:
    """Σ x_j over the modes j of each channel: (..., modes) → (..., channels)."""
    return _ChannelSums.apply(x, channel, channels) if _fused() else _sums(x, channel, channels)


def _fused() -> bool:
    # Kernels of several threads that torch.compile fuses around sums by index, which gradients of
    # what is taken by index are, write behind the end of their arrays (torch 2.13: in kernels tiled
    # over two axes the index moves by two where it should by one). So such sums stay closed to it.
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def _sums(x: Tensor, channel: Tensor, channels: int) -> Tensor:
    return x.new_zeros(*x.shape[:-1], channels).index_add(-1, channel, x)


class _OfChannels(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, channel: Tensor) -> Tensor:
        return x[..., channel]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, channel = inputs
        ctx.channels = x.shape[-1]
        ctx.save_for_backward(channel)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _ChannelSums.apply(g, *ctx.saved_tensors, ctx.channels), None


class _ChannelSums(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, channel: Tensor, channels: int) -> Tensor:
        return _closed_sums(x, channel, channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return _OfChannels.apply(g, *ctx.saved_tensors), None, None


@torch.library.custom_op("lticore::channel_sums", mutates_args=())
def _closed_sums(x: Tensor, channel: Tensor, channels: int) -> Tensor:
    return _sums(x, channel, channels)


@_closed_sums.register_fake
def _(x: Tensor, channel: Tensor, channels: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], channels)


@_closed_sums.register_vmap
def _(
    info: Any, in_dims: tuple[Any, ...], x: Tensor, channel: Tensor, channels: int
) -> tuple[Tensor, int]:
    of_x, of_channel, _ = in_dims
    if of_channel is None:
        return _closed_sums(x.movedim(of_x, 0), channel, channels), 0
    entries = [
        _closed_sums(x if of_x is None else x.select(of_x, i), one, channels)
        for i, one in enumerate(channel.unbind(of_channel))
    ]
    return torch.stack(entries), 0
