"""The S4D layer: one small system per channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError, ShapeError
from lticore.internal import (
    complex_columns,
    complex_rows,
    in_double,
    namespace,
    to_numpy,
)

from ..ops.bridge import to_array
from ..ops.recurrence import linear_recurrence
from .base import (
    SMALLEST_GAP,
    Modes,
    SSMLayer,
    check_input,
    check_sizes,
    check_state,
    exponential,
    in_full_precision,
    log_range,
    system_array,
    wide,
)
from .channels import channel_sums, of_channels
from .hippo import hippo_normal
from .modal import upper_half
from .parameters import replace_parameters
from .sampled import continuous, in_steps, sampled_zoh, unsampled
from .states import (
    as_complex,
    as_neighbours,
    atanh_of_poles,
    last_state,
    next_states,
    signed_poles,
)


class S4D(SSMLayer):
    """S4D: every channel has its own diagonal system with one input and one output.

        ż = λ z + u held over steps Δ,   y = 2 Re(c z) + D u,   λ = −e^δ − i ω

    one step Δ = e^τ per channel; pairs of poles and signed real poles tanh(s), the latter in
    discrete time. b is 1: only the product c b enters the map.

    The modes of all channels lie one after another, with the channel of each beside them, since
    channels of the same order may differ in how many of their poles are real.

    Parameters
    ----------
    features : int
        Channels h.
    order : int
        Stored real states n of each channel.
    real_poles : int, optional
        How many of them are real poles. Default: n mod 2.
    start : "lin", "inv" or "legs"
        λ_j = −½ + iπj;   −½ + i (N/π)(N/(2j+1) − 1) with N = n;   the HiPPO-LegS normal part.
    min_step, max_step : float
        Steps are log-uniform between them at initialisation.

    Shapes: forward (..., L, features) → (..., L, features).

    Initialisation: both parts of c ~ N(0, ½), D ~ N(0, 1).

    Cost: the impulse responses O(L h n), once for a batch, and a convolution by FFT of
    O(h L log L) for each sequence.

    Raises
    ------
    ArgumentError
        For sizes that do not fit each other, and unknown starts.

    Source: Gu, Gupta, Goel & Ré, On the Parameterization and Initialization of Diagonal State Space
    Models (S4D, 2022), Appendix C.

    >>> layer = lt.S4D(4, 16)
    >>> layer(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 4])
    >>> layer.to_lti().batch_shape  # a system for each channel
    (4,)
    """

    step_log: nn.Parameter
    decay_log: nn.Parameter
    frequency: nn.Parameter
    C: nn.Parameter
    real_atanh: nn.Parameter
    real_C: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        start: Literal["lin", "inv", "legs"] = "lin",
        min_step: float = 1e-3,
        max_step: float = 1e-1,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        q, k = check_sizes(features, order, real_poles)
        if start not in ("lin", "inv", "legs"):
            raise ArgumentError(f"start={start!r} is not 'lin', 'inv' or 'legs'")
        self.features, self.start = features, start
        self.log_steps = log_range(min_step, max_step)
        self._create(([q] * features, features * k), device, dtype)
        self.pair_channel: Tensor
        self.real_channel: Tensor
        channels = torch.arange(features, device=device)
        self.register_buffer("pair_channel", channels.repeat_interleave(q))
        self.register_buffer("real_channel", channels.repeat_interleave(k))

    @property
    def pole_parameters(self) -> tuple[str, ...]:
        return "step_log", "decay_log", "frequency", "real_atanh"

    def _sizes(self) -> tuple[list[int], int]:
        """(pairs of each channel, real poles of all)."""
        pairs = torch.bincount(self.pair_channel, minlength=self.features)
        return pairs.tolist(), len(self.real_atanh)

    def _initial(self, sizes: tuple[list[int], int]) -> dict[str, Tensor]:
        pairs, reals = sizes
        omega = np.concatenate([_frequencies(self.start, q) for q in pairs])
        return {
            "step_log": torch.empty(self.features).uniform_(*self.log_steps),
            "decay_log": torch.full((len(omega),), math.log(0.5)),
            "frequency": torch.tensor(omega, dtype=torch.get_default_dtype()),
            "C": torch.randn(len(omega), 2) / math.sqrt(2),
            "real_atanh": torch.atanh(0.9 * (2 * torch.rand(reals) - 1)),
            "real_C": torch.randn(reals) / math.sqrt(2),
            "D": torch.randn(self.features),
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        on_meta = self.pair_channel.is_meta
        applied = super()._apply(fn, recurse)
        if on_meta and not self.pair_channel.is_meta:  # by to_empty, which fills in nothing
            for channel in (self.pair_channel, self.real_channel):
                each = torch.arange(self.features, device=channel.device)
                channel.copy_(each.repeat_interleave(len(channel) // self.features))
        return applied

    @property
    def order(self) -> int:
        return int(self._states_of_channels().max())

    def options(self) -> dict[str, Any]:
        return {"real_poles": self.order % 2}

    def _states_of_channels(self) -> Tensor:
        pairs, real = (
            torch.bincount(x, minlength=self.features)
            for x in (self.pair_channel, self.real_channel)
        )
        return 2 * pairs + real

    # --- the systems ------------------------------------------------------------------------

    def _slots(self) -> tuple[_Slots, _Slots]:
        """Of the pairs and of the real poles."""
        return _slots(self.pair_channel, self.features), _slots(self.real_channel, self.features)

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """(ρ, α, complex b of the sampled system), one per pair, in double precision."""
        step = of_channels(exponential(self.step_log), self.pair_channel)
        return sampled_zoh(exponential(self.decay_log), self.frequency.double(), step)

    def system_tensors(self) -> tuple[str, tuple[Tensor, ...], Tensor, Tensor]:
        """As in the base class, with one system per channel. Where channels differ in how many
        poles are real, poles 0 without input and output fill up: they add zero Hankel values."""
        rotation, B, C = self._padded()
        return "rotation", rotation, B.to(self.C.dtype), C.to(self.C.dtype)

    def _padded(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """:meth:`system_tensors`, all in float64."""
        radius, angle, b = self._pairs()
        poles = signed_poles(self.real_atanh)
        return self._in_channels(radius, angle, poles, b, torch.ones_like(poles))

    def _padded_continuous(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """In continuous time, with poles −1 that fill up."""
        step = of_channels(exponential(self.step_log), self.pair_channel)
        decay, frequency = in_steps(exponential(self.decay_log), self.frequency, step)
        poles, b = unsampled("zoh", signed_poles(self.real_atanh))
        A, B, C = self._in_channels(decay, frequency, poles, step + 0j, b)
        pair, real = (
            x.spread(torch.ones_like(y)) for x, y in zip(self._slots(), (decay, poles), strict=True)
        )
        return (A[0] + (1 - pair), A[1], A[2] - (1 - real)), B, C

    def _in_channels(
        self, first: Tensor, second: Tensor, poles: Tensor, b: Tensor, b_real: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """(A, B, C) of all channels, zeros where one has fewer modes."""
        pair, real = self._slots()
        rotation = pair.spread(first), pair.spread(second), real.spread(poles)
        b_pairs = pair.spread(torch.view_as_real(b)).flatten(1)
        c_pairs = pair.spread(2 * self.C.double()).flatten(1)
        b_real = real.spread(b_real)
        c_real = real.spread(self.real_C.double())
        B = torch.cat([b_pairs, b_real], dim=1)[..., None]
        C = torch.cat([c_pairs, c_real], dim=1)[:, None]
        return rotation, B, C

    def to_lti(self, *, continuous: bool = False) -> lticore.LTI:
        """As in the base class, a batch of ``features`` systems with one input and output: Rotation
        (Oscillation) where all channels have as many real poles, else dense."""
        A, B, C = self._padded_continuous() if continuous else self._padded()
        kind = lticore.Oscillation if continuous else lticore.Rotation
        B, C, D = map(system_array, (B, C, self.D[:, None, None]))
        sys = lticore.LTI(kind(*map(system_array, A)), B, C, D, dt=0 if continuous else True)
        if sys.order == self.order:
            return sys
        states = to_array(self._stored_states(A[0].shape[1], sys.order))
        xp, dense = namespace(B), sys.to_dense()
        rows, columns = states[:, :, None], states[:, None, :]
        A = xp.take_along_axis(
            xp.take_along_axis(dense.A, xp.broadcast_to(rows, (*states.shape, sys.order)), axis=1),
            xp.broadcast_to(columns, (*states.shape, states.shape[1])),
            axis=2,
        )
        B, C = xp.take_along_axis(B, rows, axis=1), xp.take_along_axis(C, columns, axis=2)
        return lticore.LTI(A, B, C, D, dt=sys.dt)

    def _stored_states(self, pairs: int, padded: int) -> Tensor:
        """(h, n): where the states of each channel are among the ``padded`` ones."""
        filled = torch.zeros(self.features, padded, dtype=torch.bool, device=self.D.device)
        pair, real = self._slots()
        for half in (0, 1):
            filled[pair.channel, 2 * pair.place + half] = True
        filled[real.channel, 2 * pairs + real.place] = True
        # Channels of lower order go on with states that fill up.
        return torch.argsort((~filled).int(), dim=1, stable=True)[:, : self.order]

    def _check_width(self, sys: Any) -> None:
        if sys.batch_shape != (self.features,) or (sys.inputs, sys.outputs) != (1, 1):
            raise ShapeError(
                f"a layer of {self.features} channels cannot hold {sys!r}: it needs a batch of "
                f"{self.features} systems with one input and one output"
            )

    def _load(self, systems: Sequence[lticore.LTI]) -> None:
        step_log = self.step_log.detach().double().cpu().numpy()
        modes = [_used_modes(lticore.to_rotation(in_double(sys))) for sys in systems]
        (pairs, of_pairs), (real, of_real) = (
            (np.concatenate(rows), np.repeat(np.arange(len(rows)), list(map(len, rows))))
            for rows in zip(*modes, strict=True)
        )
        radius, angle = np.minimum(pairs[:, 0], 1 - SMALLEST_GAP), pairs[:, 1]
        step = np.exp(step_log)[of_pairs]
        decay, frequency = continuous("zoh", radius, angle, step)
        b = sampled_zoh(*map(torch.tensor, (decay, frequency, step)))[2].numpy()
        c = (pairs[:, 2] + 1j * pairs[:, 3]) / (2 * b)
        D = [0.0 if sys.D is None else float(to_numpy(sys.D)[0, 0]) for sys in systems]
        replace_parameters(
            self,
            {
                "step_log": step_log,
                "decay_log": np.log(decay),
                "frequency": frequency,
                "C": np.column_stack([c.real, -c.imag]),
                "real_atanh": atanh_of_poles(real[:, 0]),
                "real_C": real[:, 1],
                "D": np.array(D),
            },
        )
        device = self.pair_channel.device
        self.pair_channel = torch.tensor(of_pairs, device=device)
        self.real_channel = torch.tensor(of_real, device=device)

    def signals_of_channels(self, x: Tensor) -> Tensor:
        return x.mT[..., None]

    # --- what an optimizer knows --------------------------------------------------------------

    def modes_of_channels(self) -> list[Modes]:
        of_pairs, of_reals = (x.cpu().numpy() for x in (self.pair_channel, self.real_channel))
        return [
            Modes(np.flatnonzero(of_pairs == channel), np.flatnonzero(of_reals == channel))
            for channel in range(self.features)
        ]

    def pole_coordinates(self) -> tuple[Tensor, Tensor, Mapping[str, str | None]]:
        return *self._pairs()[:2], {"decay_log": "radius", "frequency": "angle"}

    def moments_after(
        self,
        new: Any,
        states: Sequence[tuple[np.ndarray, np.ndarray]],
        values: Mapping[str, np.ndarray],
        power: int,
    ) -> dict[str, np.ndarray]:
        """Of C and real_C, which hold the outputs of the pairs and of the real poles."""
        zeros = {name: np.zeros(getattr(self, name).shape) for name in ("C", "real_C")}
        C, real_C = ({**zeros, **values}[name] for name in zeros)  # a frozen one has no moments
        modes = self.modes_of_channels(), new.modes_of_channels()
        parts = []
        for (_, T_C), here, there in zip(states, *modes, strict=True):
            outputs = np.concatenate([C[here.pairs].ravel(), real_C[here.reals]]) @ T_C**power
            parts.append(np.split(outputs, [2 * len(there.pairs)]))
        pairs, reals = map(np.concatenate, zip(*parts, strict=True))
        moved = {"C": pairs.reshape(-1, 2), "real_C": reals}
        return {name: value for name, value in moved.items() if name in values}

    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        Q, K, h = stored["decay_log"][0], stored["real_atanh"][0], self.features
        pairs = dict.fromkeys(("decay_log", "frequency", "pair_channel"), (Q,))
        real = dict.fromkeys(("real_atanh", "real_C", "real_channel"), (K,))
        return {**pairs, **real, "C": (Q, 2), "step_log": (h,), "D": (h,)}

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
        """As in the base class. With ``state`` or ``return_state`` the states of all steps are
        formed, O(L h n) time and memory for each sequence, instead of the convolution."""
        x = check_input(u, self.features).to(self._dtype())
        if state is None and not return_state and x.numel() > 0:  # FFTs of nothing fail
            response = self.impulse_response(u.shape[-2]).to(x.dtype)
            y = _convolved(response, x.flip(-2) if reverse else x)
            y = (y.flip(-2) if reverse else y) + x * self.D.to(x.dtype)
            return y.to(u.dtype)
        states, last = self._states(x, check_state(state, (*u.shape[:-2], self._width())), reverse)
        y = self._read_out(states, x).to(u.dtype)
        return (y, last) if return_state else y

    def _states(self, x: Tensor, initial: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        """(states of all steps (..., L, states), the last one processed)."""
        pair_poles, real_poles, b = self._sampled_modes()
        if initial is None:
            initial = x.new_zeros(*x.shape[:-2], self._width())
        initial, drive, pairs = initial.to(x.dtype), self._drive(x, b), 2 * len(pair_poles)
        z = linear_recurrence(
            pair_poles,
            as_complex(drive[..., :pairs]),
            initial=as_complex(initial[..., :pairs]),
            reverse=reverse,
        )
        reals = linear_recurrence(
            real_poles, drive[..., pairs:], initial=initial[..., pairs:], reverse=reverse
        )
        states = torch.cat([as_neighbours(z), reals], dim=-1)
        return states, last_state(states, initial, reverse)

    def _sampled_modes(self) -> tuple[Tensor, Tensor, Tensor]:
        """(poles of the pairs, real poles, b of the pairs), in double precision."""
        radius, angle, b = self._pairs()
        return torch.polar(radius, -angle), signed_poles(self.real_atanh), b

    def _width(self) -> int:
        """Number of states of all channels together."""
        return 2 * len(self.decay_log) + len(self.real_atanh)

    def _drive(self, x: Tensor, b: Tensor) -> Tensor:
        """B u, (..., states)."""
        pairs = as_neighbours(of_channels(x, self.pair_channel) * b).to(x.dtype)
        return torch.cat([pairs, of_channels(x, self.real_channel)], dim=-1)

    def _read_out(self, states: Tensor, x: Tensor) -> Tensor:
        """C x + D u, (..., features)."""
        pairs = 2 * len(self.decay_log)
        paired = states[..., :pairs].unflatten(-1, (-1, 2)) * (2 * self.C.to(x.dtype))
        reals = states[..., pairs:] * self.real_C.to(x.dtype)
        return self._summed(paired.sum(dim=-1), reals) + x * self.D.to(x.dtype)

    def _summed(self, pairs: Tensor, reals: Tensor) -> Tensor:
        """Over the modes of each channel, (..., features)."""
        return channel_sums(pairs, self.pair_channel, self.features) + channel_sums(
            reals, self.real_channel, self.features
        )

    def _dtype(self) -> torch.dtype:
        return wide(self.C.dtype)

    def impulse_response(self, steps: int) -> Tensor:
        """(L, features): C A^k B of every channel, without D."""
        radius, angle, b = self._pairs()
        dtype = self._dtype()
        narrow = torch.promote_types(dtype, torch.complex64)
        c = torch.complex(self.C[:, 0].double(), -self.C[:, 1].double())
        z = linear_recurrence(torch.polar(radius, -angle), _impulse(2 * c * b, steps).to(narrow))
        x = linear_recurrence(signed_poles(self.real_atanh), _impulse(self.real_C, steps).to(dtype))
        return self._summed(z.real, x)

    @in_full_precision
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Parameters
        ----------
        u : (..., features) tensor
        state : (..., states) tensor from the previous step, or None at the start: the pairs of all
            channels as neighbours, then their real poles

        Returns
        -------
        y : (..., features),   state : (..., states)
        """
        x = check_input(u, self.features, steps=False).to(self._dtype())
        pair_poles, real_poles, b = self._sampled_modes()
        state = check_state(state, (*u.shape[:-1], self._width()))
        state = next_states(pair_poles, real_poles, state, self._drive(x, b))
        return self._read_out(state, x).to(u.dtype), state

    def flops_per_step(self) -> int:
        Q, K = len(self.decay_log), len(self.real_atanh)
        return 14 * Q + 4 * K + 2 * self.features

    def extra_repr(self) -> str:
        return f"features={self.features}, order={self.order}"


def _frequencies(start: str, q: int) -> np.ndarray:
    j, n = np.arange(q), 2 * q
    if start == "lin":
        return np.pi * j
    if start == "inv":
        return n / np.pi * (n / (2 * j + 1) - 1)
    return hippo_normal(n)[0] if q else np.zeros(0)


def _used_modes(sys: lticore.LTI) -> tuple[np.ndarray, np.ndarray]:
    """Rows (ρ, α, Re cb, Im cb) of the pairs and (λ, cb) of the real poles, y = Re(c z) + c x.

    Modes without effect are left out, but for one.
    """
    radius, angle, real, B, C = (
        to_numpy(x) for x in (sys.A.radius, sys.A.angle, sys.A.real_poles, sys.B, sys.C)
    )
    q = len(radius)
    radius, angle, flip = upper_half(radius, angle, len(real))
    product = complex_rows(B * flip[:, None], q)[:q, 0] * complex_columns(C * flip, q)[0, :q]
    pairs = np.column_stack([radius, angle, product.real, product.imag])
    single = np.column_stack([real, C[0, 2 * q :] * B[2 * q :, 0]])
    used, used_single = product != 0, single[:, 1] != 0
    if not used.any() and not used_single.any():
        return np.zeros((0, 4)), np.zeros((1, 2))
    return pairs[used], single[used_single]


@dataclass(frozen=True)
class _Slots:
    """Where the modes of all channels, sorted by channel, lie in an array (channels, places)."""

    channel: Tensor
    place: Tensor
    shape: tuple[int, int]

    def spread(self, values: Tensor) -> Tensor:
        """(channels, places, ...) with zeros where a channel has fewer modes."""
        empty = values.new_zeros(*self.shape, *values.shape[1:])
        return empty.index_put((self.channel, self.place), values)


def _slots(channel: Tensor, channels: int) -> _Slots:
    counts = torch.bincount(channel, minlength=channels)
    starts = torch.cumsum(counts, 0) - counts
    place = torch.arange(len(channel), device=channel.device) - starts[channel]
    return _Slots(channel, place, (channels, int(counts.max())))


def _impulse(first: Tensor, steps: int) -> Tensor:
    """(L, n): ``first`` at step 0, zero after it."""
    return torch.cat([first[None], first.new_zeros(steps - 1, *first.shape)])


def _convolved(response: Tensor, u: Tensor) -> Tensor:
    """y_k = Σ_j response_j u_{k−j} for each channel, over the time axis −2."""
    length = u.shape[-2]
    size = 2 * length
    spectrum = torch.fft.rfft(response, size, dim=-2) * torch.fft.rfft(u, size, dim=-2)
    return torch.fft.irfft(spectrum, size, dim=-2)[..., :length, :]
