"""The blocks of Mamba in mambapy and in Hugging Face transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError

from ..layers import SelectiveSSM
from .parameters import needed, with_parameters
from .registry import SEQUENCES, STEPS, ConversionError, Unstable, register_conversion


class MambaBlock(nn.Module):
    """What Mamba computes around its recurrence, of which it keeps the modules:

        x, z = in_proj(u),   y = out_proj(ssm(silu(conv1d(x))) ∘ silu(z))

    with a causal convolution over the last steps of each channel. (batch, L, h) → the same.

    Source: Gu & Dao, Mamba (2024), §3.4.
    """

    def __init__(
        self,
        ssm: SelectiveSSM,
        in_proj: nn.Module,
        conv1d: nn.Conv1d,
        activation: nn.Module,
        out_proj: nn.Module,
    ) -> None:
        super().__init__()
        self.in_proj, self.conv1d, self.activation = in_proj, conv1d, activation
        self.ssm, self.out_proj = ssm, out_proj

    def forward(self, u: Tensor) -> Tensor:
        x, z = self.in_proj(u).chunk(2, dim=-1)
        x = self.activation(self._convolved(x.mT, x.shape[-2]))
        return self._gated(self.ssm(x), z)

    def _convolved(self, x: Tensor, steps: int) -> Tensor:
        """(batch, channels, L) → the last ``steps`` convolved, (batch, steps, channels)."""
        if x.shape[-1] == 0:  # convolutions of nothing fail
            return x.mT
        return self.conv1d(x)[..., x.shape[-1] - steps : x.shape[-1]].mT

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(y * functional.silu(z))


class MambapyBlock(MambaBlock):
    """With the steps of mambapy."""

    def step(
        self, u: Tensor, cache: tuple[Tensor | None, Tensor]
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor]]:
        """One step (batch, h) → (y, cache): the state (batch, channels, n), None at the start, and
        the last inputs of the convolution (batch, channels, width − 1), zeros at the start."""
        state, before = cache
        x, z = self.in_proj(u).chunk(2, dim=-1)
        window = torch.cat([before, x[..., None]], dim=-1)
        # The convolution of the whole window is its last but those that reach beyond it.
        x = self.conv1d(window)[..., window.shape[-1] - 1]
        y, state = self.ssm.step(self.activation(x), state)
        return self._gated(y, z), (state, window[..., 1:])


class TransformersBlock(MambaBlock):
    """With masks and caches of Hugging Face transformers, where ``layer_idx`` is its place."""

    def __init__(self, layer_idx: int, *modules: Any) -> None:
        super().__init__(*modules)
        self.layer_idx = layer_idx

    def forward(
        self, u: Tensor, cache: Any = None, attention_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        """A cache holds what came before: it is read, brought up to date, and may be empty. Masked
        steps are zero before the projection and before the recurrence.

        Raises
        ------
        ArgumentError
            For caches of a version of transformers that has other methods.
        """
        cache = options.get("cache_params") if cache is None else cache
        if cache is not None and not hasattr(cache, "get_recurrent_state"):
            raise ArgumentError(
                f"a {type(cache).__name__} has no get_recurrent_state(): caches are those of "
                "transformers ≥ 5.24; call the model with use_cache=False"
            )
        x, z = self.in_proj(_masked(u, attention_mask)).chunk(2, dim=-1)
        state, steps = None, x.mT
        if cache is not None:
            state = cache.get_recurrent_state(self.layer_idx, state_idx=0)
            width = self.conv1d.kernel_size[0]
            steps = cache.update_conv_state(steps, self.layer_idx, conv_kernel_size=width)
        # The convolution sees steps that the cache put in front, which have no outputs here.
        x = _masked(self.activation(self._convolved(steps, x.shape[-2])), attention_mask)
        y, last = self.ssm(x, state=state, return_state=True)
        if cache is not None:
            cache.update_recurrent_state(last, self.layer_idx)
        return self._gated(y, z)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask[..., None].to(x.dtype)


def recurrence_of(block: Any) -> SelectiveSSM:
    """Theirs, of h channels with n states each, W = x_proj.weight in rows of the rank r, n and n:

        Δ = softplus(dt_proj.weight W_1 x + dt_proj.bias),   b = W_2 x,   c = W_3 x,
        state ← e^{Δ A} state + Δ b x,   y = c state + D x,   A = −e^{A_log} (h, n)

    Ours: step_up = dt_proj.weight, step_down = W_1, B = W_2, C = W_3, real_log = A_log.

    Raises
    ------
    ConversionError
        For projections that are no plain nn.Linear, and norms between them.
    """
    norms = ("dt_layernorm", "B_layernorm", "C_layernorm", "b_c_dt_rms")
    found = [name for name in norms if getattr(block, name, None) is not None]
    if found:
        raise ConversionError(f"it normalises steps, b(u) and c(u) ({', '.join(found)})")
    for name, biased in (("x_proj", False), ("dt_proj", True)):
        map_ = getattr(block, name)
        if type(map_) is not nn.Linear or (map_.bias is not None) != biased:
            raise ConversionError(
                f"its {name} is not the plain linear map {'with' if biased else 'without'} bias "
                f"that it has in Mamba, but {str(map_).splitlines()[0]}: merge adapters before, "
                "quantise and parametrise afterwards"
            )
    A_log, D = needed(block, ("A_log", "D"))
    h, n = A_log.shape
    W, up = block.x_proj.weight, block.dt_proj.weight
    rank = up.shape[1]
    down, B, C = W.split([rank, n, n])
    values = {
        "real_log": A_log,
        "B": B,
        "C": C,
        "step_down": down,
        "step_up": up,
        "step_bias": block.dt_proj.bias,
        "D": D,
    }
    return with_parameters(SelectiveSSM(h, n, rank=rank, channel_poles=True), values)


def from_mambapy(block: Any, unstable: Unstable) -> MambapyBlock:
    """mambapy.mamba.MambaBlock 1.2.0."""
    modules = (block.in_proj, block.conv1d, nn.SiLU(), block.out_proj)
    return MambapyBlock(recurrence_of(block), *modules)


def from_transformers(block: Any, unstable: Unstable) -> TransformersBlock:
    """transformers.models.mamba.modeling_mamba.MambaMixer of transformers 5.24."""
    modules = (block.in_proj, block.conv1d, block.act, block.out_proj)
    return TransformersBlock(block.layer_idx, recurrence_of(block), *modules)


def _model_inputs(converted: MambaBlock) -> Tensor:
    """(2, 40, width of the block)"""
    projection: Any = converted.in_proj  # perhaps quantised, with weights in a form of its own
    like = converted.ssm.B
    shape = (SEQUENCES, STEPS, projection.in_features)
    return torch.randn(shape, dtype=like.dtype, device=like.device)


register_conversion("mambapy.mamba.MambaBlock", from_mambapy, example=_model_inputs)
register_conversion("modeling_mamba.MambaMixer", from_transformers, example=_model_inputs)
