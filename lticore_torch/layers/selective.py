"""A selective layer: a diagonal system whose step size, inputs and outputs depend on the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import lticore
from lticore.errors import ArgumentError

from ..ops.recurrence import time_varying_recurrence
from .base import (
    Reduce,
    StateSpaceLayer,
    Taken,
    check_input,
    check_sizes,
    check_state,
    exponential,
    in_full_precision,
    log_range,
    system_array,
    wide,
)
from .parameters import check_plain_parameters, replace_parameters
from .products import mapped_by, product
from .state_gramians import ModeGramians, StateGramians
from .states import as_complex, as_neighbours, last_state, next_states


class _Sizes(NamedTuple):
    """Of the parameters of a :class:`SelectiveSSM`."""

    pairs: int
    reals: int
    rank: int
    channel_poles: bool


class SelectiveSSM(StateSpaceLayer):
    """Selective state space: one small system per channel, driven by what it reads.

        Δ_k = softplus(W_Δ u_k + β)           one step per channel, W_Δ of low rank
        x_k = e^{Δ_k a} x_{k−1} + Δ_k b(u_k) u_k      per channel, n states;   b(u) = W_b u
        y_k = c(u_k) x_k + D u_k                                              c(u) = W_c u

    The continuous poles a have negative real parts and are shared by all channels: real ones, and
    conjugate pairs −e^δ − i ω (as in :class:`ModalSSM` in neighbouring states), which a new layer
    has none of but a compressed one may. With ``channel_poles`` every channel has its own, all
    real, as Mamba does. b(u) and c(u) are shared by all channels.

    It is not time-invariant: there are no Hankel values, and no error bound. :meth:`mean_lti`
    gives the mean system over data, and :meth:`reduce` projects on its dominant states.

    Parameters
    ----------
    features : int
        Channels h.
    order : int
        States n of each channel.
    rank : int, optional
        Of W_Δ; default ⌈h/16⌉.
    channel_poles : bool
        Every channel has poles of its own, n real ones. Compression then keeps some of the states,
        the same in all channels, instead of mixing them.
    min_step, max_step : float
        Steps at u = 0 are log-uniform between them at initialisation.

    Shapes: forward (..., L, features) → (..., L, features).

    Initialisation: a = −1, …, −n (pairs that a reduction has made: −½ + iπj); W_b, W_c ~ N(0, 1/h);
    D = 1.

    Cost: O(L h n), and memory for L h n states.

    Source: Gu & Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (2024), §3;
    there with ``channel_poles``.

    >>> layer = lt.SelectiveSSM(8, 4)
    >>> layer(torch.zeros(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    >>> layer.mean_lti(torch.ones(2, 50, 8)).batch_shape  # one for each channel
    (8,)
    """

    real_log: nn.Parameter
    decay_log: nn.Parameter
    frequency: nn.Parameter
    B: nn.Parameter
    C: nn.Parameter
    step_down: nn.Parameter
    step_up: nn.Parameter
    step_bias: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        rank: int | None = None,
        channel_poles: bool = False,
        min_step: float = 1e-3,
        max_step: float = 1e-1,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(features, order, order)
        rank = math.ceil(features / 16) if rank is None else rank
        if rank < 1:
            raise ArgumentError(f"rank must be at least 1, but is {rank}")
        self.log_steps = log_range(min_step, max_step)
        self.features = features
        self._create(_Sizes(0, order, rank, channel_poles), device, dtype)

    @property
    def pole_parameters(self) -> tuple[str, ...]:
        return "real_log", "decay_log", "frequency", "step_bias"

    def _sizes(self) -> _Sizes:
        rank = self.step_down.shape[0]
        return _Sizes(len(self.decay_log), self.real_log.shape[-1], rank, self.channel_poles)

    def _initial(self, sizes: _Sizes) -> dict[str, Tensor]:
        h, q, k, rank = self.features, sizes.pairs, sizes.reals, sizes.rank
        rates = torch.log(torch.arange(1.0, k + 1))
        real_log = rates.repeat(h, 1) if sizes.channel_poles else rates
        values = {
            "real_log": real_log,
            "decay_log": torch.full((q,), math.log(0.5)),
            "frequency": math.pi * torch.arange(float(q)),
            "B": torch.randn(2 * q + k, h) / math.sqrt(h),
            "C": torch.randn(2 * q + k, h) / math.sqrt(h),
            "step_down": torch.randn(rank, h) / math.sqrt(h),
            "step_up": torch.randn(h, rank) / math.sqrt(rank),
        }
        steps = torch.empty(h).uniform_(*self.log_steps).exp()
        step_bias = steps + torch.log(-torch.expm1(-steps))  # softplus⁻¹
        return {**values, "step_bias": step_bias, "D": torch.ones(h)}

    @property
    def order(self) -> int:
        return self.B.shape[0]

    def options(self) -> dict[str, Any]:
        own = {"channel_poles": True} if self.channel_poles else {}
        return {"rank": self.step_down.shape[0], **own}

    @property
    def channel_poles(self) -> bool:
        """Whether every channel has poles of its own: ``real_log`` is then (features, n)."""
        return self.real_log.ndim == 2

    # --- computing --------------------------------------------------------------------------

    @in_full_precision
    def forward(
        self,
        u: Tensor,
        *,
        reverse: bool = False,
        state: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``state`` and ``return_state`` as for :class:`SSMLayer`."""
        x = check_input(u, self.features).to(wide(self.B.dtype))
        pair_poles, real_poles, drive, C = self._at(x)
        initial = check_state(state, self._state_shape(u.shape[:-2]))
        if initial is None:
            initial = x.new_zeros(self._state_shape(u.shape[:-2]))
        initial = initial.to(x.dtype)
        states = self._states(pair_poles, real_poles, drive, initial, reverse)
        y = (product(states, C[..., None]).squeeze(-1) + x * self.D.to(x.dtype)).to(u.dtype)
        if not return_state:
            return y
        last = last_state(states.flatten(-2), initial.flatten(-2), reverse)
        return y, last.reshape(initial.shape)

    @in_full_precision
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step: (..., features) and the (..., features, n) state, or None at the start."""
        x = check_input(u, self.features, steps=False).to(wide(self.B.dtype))
        pair_poles, real_poles, drive, C = self._at(x)
        state = check_state(state, self._state_shape(u.shape[:-1]))
        state = next_states(pair_poles, real_poles, state, drive)
        y = product(state, C[..., None]).squeeze(-1) + x * self.D.to(x.dtype)
        return y.to(u.dtype), state

    def _states(
        self, pair_poles: Tensor, real_poles: Tensor, drive: Tensor, initial: Tensor, reverse: bool
    ) -> Tensor:
        q = 2 * len(self.decay_log)
        z = _scan(pair_poles, as_complex(drive[..., :q]), as_complex(initial[..., :q]), reverse)
        x_real = _scan(real_poles, drive[..., q:], initial[..., q:], reverse)
        return torch.cat([as_neighbours(z), x_real], dim=-1)

    def _state_shape(self, batch: torch.Size) -> tuple[int, ...]:
        return *batch, self.features, self.order

    def flops_per_step(self) -> int:
        h, n, q = self.features, self.order, len(self.decay_log)
        steps = 4 * h * self.step_down.shape[0] + 10 * h
        return steps + 4 * n * h + h * (6 * n + 8 * q) + 2 * h

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(pair poles, real poles, drive (..., h, n), C (..., n)) for the inputs of each step."""
        step = self._steps(x)[..., None]
        real, decay = (exponential(p).to(x.dtype) for p in (self.real_log, self.decay_log))
        pairs = torch.polar(torch.exp(-step * decay), -step * self.frequency.to(x.dtype))
        b, c = (mapped_by(W.to(x.dtype), x) for W in (self.B, self.C))
        return pairs, torch.exp(-step * real), step * b[..., None, :] * x[..., None], c

    def _steps(self, x: Tensor) -> Tensor:
        """Δ, (..., h)."""
        W = product(self.step_up.to(x.dtype), self.step_down.to(x.dtype))
        return functional.softplus(mapped_by(W, x) + self.step_bias.to(x.dtype))

    # --- the mean system --------------------------------------------------------------------

    @torch.no_grad()
    def mean_lti(self, data: Tensor) -> lticore.LTI:
        """The system of each channel with its time-varying matrices replaced by their means.

            Ā = E e^{Δ a},   B̄ = E Δ b(u),   C̄ = E c(u)        over all steps of the data

        Parameters
        ----------
        data : (..., L, features) inputs of this layer

        Returns
        -------
        A batch of ``features`` Rotation systems with one input and one output, and D. They are
        stable, as means of numbers inside the unit circle are. Where b(u) or c(u) have zero mean,
        the mean system is zero: with steps that do not depend on u, inputs that are as often u as
        −u leave no Hankel value above 1e-14 of a layer that answers as ever.

        Source: Chahine et al., CompreSSM, eq. (19).
        """
        u = self._flat(data)
        poles, real, step, b, c = self._means(u)
        B = (step[..., None] * b[:, None]).mean(dim=0)[..., None]
        C = c.mean(dim=0).expand(self.features, 1, -1)
        A = lticore.Rotation(*map(system_array, (poles.abs(), -poles.angle(), real)))
        D = self.D.double()[:, None, None]
        return lticore.LTI(A, *map(system_array, (B, C, D)))

    def judged(self) -> StateGramians:
        raise ArgumentError(
            "it is selective: its states are judged on data, so give calibration=, a batch of "
            "inputs of the model"
        )

    def sums_on(self, u: Tensor, g: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Of the states x_k and of λ_k = e^{Δ_{k+1} a} λ_{k+1} + c(u_k) g_k, all channels added;
        of c(u_k) g_k alone with ``channel_poles``, where what is left out moves no other state."""
        x, g = (x.reshape(-1, *x.shape[-2:]).double() for x in (u, g))
        with torch.no_grad():
            pair_poles, real_poles, drive, C = self._at(x)
            if self.channel_poles:
                start = x.new_zeros(self._state_shape(x.shape[:-2]))
                states = self._states(pair_poles, real_poles, drive, start, reverse=False)
                return self._sum(states), self._sum(C * g.norm(dim=-1, keepdim=True))
        # λ_k is the derivative with respect to what drives x_k.
        with torch.enable_grad():
            drive.requires_grad_()
            start = x.new_zeros(self._state_shape(x.shape[:-2]))
            states = self._states(pair_poles, real_poles, drive, start, reverse=False)
            y = product(states, C[..., None]).squeeze(-1)
            (costates,) = torch.autograd.grad(y, drive, g)
        return self._sum(states.detach()), self._sum(costates)

    @staticmethod
    def _sum(x: Tensor) -> np.ndarray:
        rows = x.flatten(0, -2)
        return (rows.mT @ rows).cpu().numpy()

    def judged_by(self, P: np.ndarray, Q: np.ndarray) -> StateGramians:
        return ModeGramians(P, Q) if self.channel_poles else StateGramians(P, Q)

    def reduce_states(self, order: int, judged: StateGramians, reduce: Reduce) -> list[Taken]:
        """By :meth:`reduce`, whatever the method for systems is."""
        self.reduce(order, judged)
        return []

    @torch.no_grad()
    def reduce(self, order: int, gramians: StateGramians) -> None:
        """Keep the states that matter most on the data, in all channels the same.

        W, V of balanced truncation for (P, Q) project the generator and the maps, Wᵀ a V, Wᵀ W_b,
        Vᵀ W_c, and the result is brought to poles again; those in the right half plane are
        reflected. There is no error bound: how good it is, only data can tell. The parameters are
        replaced. With ``channel_poles`` see :class:`ModeGramians` instead.

        Raises
        ------
        ArgumentError
            For an order outside 1 … n, or above the number of states that do something; for a
            layer of whose parameters some are made of others.

        Source: after Chahine et al., CompreSSM, Appendix A.2.
        """
        check_plain_parameters(self)
        if isinstance(gramians, ModeGramians):
            S, V = gramians.kept(order)
            real, b, c = (self._array(x) for x in (self.real_log, self.B, self.C))
            replace_parameters(self, {"real_log": real[:, S], "B": b[S], "C": V.T @ c})
            return
        W, V = gramians.projections(order)
        a, b, c = self._generator(), *(self._array(x) for x in (self.B, self.C))
        modal = lticore.to_rotation(lticore.LTI(W.T @ a @ V, W.T @ b, (V.T @ c).T))
        rate = modal.A.radius * np.exp(-1j * modal.A.angle)
        floor = np.finfo(np.float32).tiny
        values = {
            "decay_log": np.log(np.maximum(np.abs(rate.real), floor)),
            "frequency": -rate.imag,
            "real_log": np.log(np.maximum(np.abs(modal.A.real_poles), floor)),
            "B": modal.B,
            "C": modal.C.T,
        }
        replace_parameters(self, values)

    def _flat(self, data: Tensor) -> Tensor:
        return check_input(data, self.features).flatten(0, -2).double()

    def _means(self, u: Tensor) -> tuple[Tensor, ...]:
        """(mean pair poles (h, q), mean real poles (h, k), Δ (N, h), b (N, n), c (N, n))."""
        step = self._steps(u)
        decay, real = exponential(self.decay_log), exponential(self.real_log)
        rate = torch.complex(-decay, -self.frequency.double())
        poles, reals = _mean_exponentials(step, rate), _mean_exponentials(step, -real)
        return poles, reals, step, u @ self.B.double().mT, u @ self.C.double().mT

    def _generator(self) -> np.ndarray:
        """a as a real (n, n) block-diagonal matrix."""
        rates = exponential(self.decay_log), self.frequency, exponential(self.real_log)
        decay, frequency, real = map(self._array, rates)
        rate = -decay - 1j * frequency
        return lticore.Rotation(np.abs(rate), -np.angle(rate), -real).to_dense()

    @staticmethod
    def _array(parameter: Tensor) -> np.ndarray:
        return parameter.detach().double().cpu().numpy()

    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        q, k, h = stored["decay_log"][0], stored["real_log"][-1], self.features
        rank = self.step_down.shape[0]
        return {
            "decay_log": (q,),
            "frequency": (q,),
            "real_log": (h, k) if self.channel_poles else (k,),
            "B": (2 * q + k, h),
            "C": (2 * q + k, h),
            "D": (h,),
            "step_down": (rank, h),
            "step_up": (h, rank),
            "step_bias": (h,),
        }

    def extra_repr(self) -> str:
        return f"features={self.features}, order={self.order}"


def _mean_exponentials(step: Tensor, rates: Tensor) -> Tensor:
    """E e^{Δ a} over the rows of Δ (N, h) for a (n,) or (h, n): (h, n), in the memory of one rate
    at a time."""
    means = rates.new_empty(step.shape[1], rates.shape[-1])
    for i, rate in enumerate(rates.unbind(dim=-1)):
        means[:, i] = torch.exp(step * rate).mean(dim=0)
    return means


def _scan(poles: Tensor, drive: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """(..., L, h, n) states of all channels at once."""
    flat = time_varying_recurrence(
        poles.flatten(-2), drive.flatten(-2), initial=initial.flatten(-2), reverse=reverse
    )
    return flat.reshape(drive.shape)
