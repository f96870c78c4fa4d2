"""Layers with one system for all features, in rotation blocks and real poles."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError
from lticore.internal import (
    complex_rows,
    in_double,
    join_pairs,
    real_rows,
    split_pairs,
    to_numpy,
)

from ..ops.system_map import state_space_map
from .base import (
    SMALLEST_GAP,
    Modes,
    SSMLayer,
    check_input,
    check_sizes,
    check_state,
    feedthrough_of,
    in_full_precision,
    system_array,
    wide,
)
from .parameters import replace_parameters
from .products import mapped_by
from .states import (
    as_complex,
    as_neighbours,
    atanh_of_poles,
    next_states,
    signed_poles,
)


@dataclass(frozen=True)
class ModalSizes:
    """Of a :class:`ModalSSM`; ``dense_outputs`` is None where D is diagonal."""

    features: int
    pairs: int
    reals: int
    dense_outputs: int | None

    @property
    def order(self) -> int:
        return 2 * self.pairs + self.reals

    @property
    def outputs(self) -> int:
        return self.dense_outputs or self.features


def modal_sizes(
    features: int, order: int, real_poles: int | None, outputs: int | None
) -> ModalSizes:
    """What the arguments of a layer ask for."""
    pairs, reals = check_sizes(features, order, real_poles)
    if outputs is not None and outputs < 1:
        raise ArgumentError(f"outputs must be at least 1, but is {outputs}")
    return ModalSizes(features, pairs, reals, outputs)


class ModalSSM(SSMLayer):
    """A layer of rotation blocks (conjugate pairs of poles) and real poles.

        z = λ z + s (b_1 + i b_2) u,   λ = ρ e^{−iα}   per pair, whose states are Re z and Im z
        x = tanh(r) x + b u                            per real pole
        y = g C (Re z_1, Im z_1, Re z_2, …, x_1, …) + D u

    Kinds of layers differ in how ρ, α and the scales s come from parameters, and in the gain g.
    Rows 2j and 2j + 1 of B are b_1 and b_2 of pair j. In the papers' complex notation
    y = Re(c z) these columns of C are (Re c, −Im c).

    Poles are formed in float64 whatever the parameters' dtype, so radii within float32 rounding of
    1 stay below 1, and every value of the parameters gives a stable system.

    D is diagonal, or dense where ``outputs`` is given: (outputs, features), which may differ.

    Attributes
    ----------
    keep_states : bool
        False: the backward pass computes the states again, chunk by chunk, instead of keeping L n
        of them per sequence (:func:`lticore_torch.state_space_map`). Set it at any time.
    """

    #: Parameters with one entry per pair, from which poles and scales are made, and which of
    #: "radius" and "angle" each is there for.
    PAIR_PARAMETERS: ClassVar[dict[str, str | None]]
    #: g, which multiplies C.
    OUTPUT_GAIN: ClassVar[float] = 1.0

    keep_states: bool = True

    real_atanh: nn.Parameter
    B: nn.Parameter
    C: nn.Parameter

    @property
    def pole_parameters(self) -> tuple[str, ...]:
        return (*self.PAIR_PARAMETERS, "real_atanh")

    def _sizes(self) -> ModalSizes:
        reals = len(self.real_atanh)
        dense = None if self.D.ndim == 1 else self.outputs
        return ModalSizes(self.features, (self.order - reals) // 2, reals, dense)

    def _initial(self, sizes: ModalSizes) -> dict[str, Tensor]:
        return {
            "real_atanh": torch.atanh(0.9 * (2 * torch.rand(sizes.reals) - 1)),
            **self._initial_modes(sizes),
            "D": initial_feedthrough(sizes.features, sizes.dense_outputs),
        }

    @abstractmethod
    def _initial_modes(self, sizes: ModalSizes) -> dict[str, Tensor]:
        """Initial values of the pair parameters, B and C."""

    @property
    def order(self) -> int:
        return self.B.shape[-2]

    @property
    def outputs(self) -> int:
        return self.C.shape[0]

    def options(self) -> dict[str, Any]:
        dense = {} if self.D.ndim == 1 else {"outputs": self.outputs}
        return {"real_poles": len(self.real_atanh), **dense}

    @abstractmethod
    def _radius_and_angle(self) -> tuple[Tensor, Tensor]:
        """ρ < 1 and α in float64, one per pair."""

    def _scale(self) -> Tensor | None:
        """s in float64 or complex128, one per pair; None for ones."""
        return None

    @abstractmethod
    def _pair_values(self, radius: np.ndarray, angle: np.ndarray) -> dict[str, np.ndarray]:
        """Values of the pair parameters that make 0 ≤ ρ < 1 and 0 ≤ α ≤ π."""

    def _scale_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """s that these values of the pair parameters make."""
        return None

    # --- the system -------------------------------------------------------------------------

    def _rotation(self) -> tuple[Tensor, Tensor, Tensor]:
        """(radius, angle, real poles) in float64."""
        return *self._radius_and_angle(), signed_poles(self.real_atanh)

    def _inputs(self) -> Tensor:
        """s B, (n, features)."""
        scale = self._scale()
        if scale is None:
            return self.B
        B = self.B.to(wide(self.B.dtype))
        pairs = as_complex(B[: 2 * len(scale)].mT)
        return torch.cat([as_neighbours(pairs * scale.to(pairs.dtype)).mT, B[2 * len(scale) :]])

    def _outputs(self) -> Tensor:
        """g C, (features, n)."""
        return self.C if self.OUTPUT_GAIN == 1 else self.OUTPUT_GAIN * self.C

    def system_tensors(self) -> tuple[str, tuple[Tensor, ...], Tensor, Tensor]:
        return "rotation", self._rotation(), self._inputs().to(self.B.dtype), self._outputs()

    def to_lti(self, *, continuous: bool = False) -> lticore.LTI:
        D = torch.diag(self.D) if self.D.ndim == 1 else self.D
        arrays: tuple[Tensor, ...]
        if continuous:
            arrays, B = self._continuous()
            A: Any = lticore.Oscillation(*map(system_array, arrays))
        else:
            A, B = lticore.Rotation(*map(system_array, self._rotation())), self._inputs()
        signals = map(system_array, (B, self._outputs(), D))
        return lticore.LTI(A, *signals, dt=0 if continuous else True)

    def _continuous(self) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """((decay, frequency, real poles), B) of the system in continuous time whose samples the
        layer's are, in steps as unit of time."""
        raise ArgumentError(
            f"{type(self).__name__} is a system in discrete time: systems in continuous time whose "
            "samples it is come from lticore.to_continuous(layer.to_lti(), step=1.0)"
        )

    def _load(self, systems: Sequence[Any]) -> None:
        (sys,) = systems
        values = self._values_of(sys)
        replace_parameters(self, {**values, "D": feedthrough_of(sys, dense=self.D.ndim == 2)})

    def _values_of(self, sys: lticore.LTI) -> dict[str, np.ndarray]:
        """Values of all parameters but D for a real system of any form."""
        sys = in_double(lticore.to_rotation(sys))
        radius, angle, real, B, C = (
            to_numpy(x) for x in (sys.A.radius, sys.A.angle, sys.A.real_poles, sys.B, sys.C)
        )
        radius, angle, flip = upper_half(radius, angle, len(real))
        pairs = self._pair_values(np.minimum(radius, 1 - SMALLEST_GAP), angle)
        B, C = flip[:, None] * B, C * flip / self.OUTPUT_GAIN
        scale = self._scale_of(pairs)
        if scale is not None:
            q = len(scale)
            B[: 2 * q] = real_rows(complex_rows(B, q)[:q] / scale[:, None])
        return {**pairs, "real_atanh": atanh_of_poles(real), "B": B, "C": C}

    # --- what an optimizer knows --------------------------------------------------------------

    def modes_of_channels(self) -> list[Modes]:
        real = len(self.real_atanh)
        return [Modes(np.arange((self.order - real) // 2), np.arange(real))]

    def pole_coordinates(self) -> tuple[Tensor, Tensor, Mapping[str, str | None]]:
        return *self._radius_and_angle(), self.PAIR_PARAMETERS

    def moments_after(
        self,
        new: Any,
        states: Sequence[tuple[np.ndarray, np.ndarray]],
        values: Mapping[str, np.ndarray],
        power: int,
    ) -> dict[str, np.ndarray]:
        """Of B and C."""
        ((T_B, T_C),) = ((T_B**power, T_C**power) for T_B, T_C in states)
        moved = {}
        if "B" in values:
            # The gradient of B is conj(s) times that of s B.
            inward = _scaled(values["B"], 1 / self._conjugate_scale(power), power)
            moved["B"] = _scaled(T_B @ inward, new._conjugate_scale(power), power)
        if "C" in values:
            moved["C"] = values["C"] @ T_C
        return moved

    def _conjugate_scale(self, power: int) -> np.ndarray:
        scale = self._scale()
        if scale is None:
            return np.ones(0)
        s = scale.detach().cpu().numpy()
        return np.abs(s) ** 2 if power == 2 else s.conj()

    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        q, k = stored[next(iter(self.PAIR_PARAMETERS))][0], stored["real_atanh"][0]
        n, h, D = 2 * q + k, self.features, tuple(self.D.shape)
        pairs = dict.fromkeys(self.PAIR_PARAMETERS, (q,))
        return {**pairs, "real_atanh": (k,), "B": (n, h), "C": (D[0], n), "D": D}

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
        x, B, C, D = self._at_work(check_input(u, self.features))
        z, last = state_space_map(
            *self._poles(),
            B,
            C,
            x,
            initial=check_state(state, (*u.shape[:-2], self.order)),
            reverse=reverse,
            keep_states=self.keep_states,
            return_state=True,
        )
        y = (self._combined(z) + fed_through(D, x)).to(u.dtype)
        return (y, last) if return_state else y

    def _rows(self) -> Tensor:
        """Functionals of the states from which the outputs are made: those of C."""
        return self._outputs()

    def _combined(self, z: Tensor) -> Tensor:
        """y without D u from the values z of :meth:`_rows`, (..., rows) → (..., outputs)."""
        return z

    def _at_work(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(u, s B, rows, D) in the precision of the computation."""
        dtype = wide(self.B.dtype)
        B, rows = self._inputs(), self._rows()
        return u.to(dtype), B.to(dtype), rows.to(dtype), self.D.to(dtype)

    def _poles(self) -> tuple[Tensor, Tensor]:
        """λ = ρ e^{−iα} of the pairs, and the real poles."""
        radius, angle, real = self._rotation()
        return torch.polar(radius, -angle), real

    @in_full_precision
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Parameters
        ----------
        u : (..., features) tensor
        state : (..., n) tensor from the previous step, or None at the start

        Returns
        -------
        y : (..., outputs),   state : (..., n)
        """
        x, B, C, D = self._at_work(check_input(u, self.features, steps=False))
        state = check_state(state, (*u.shape[:-1], self.order))
        state = next_states(*self._poles(), state, x @ B.mT)
        y = self._combined(state @ C.mT) + fed_through(D, x)
        return y.to(u.dtype), state

    def flops_per_step(self) -> int:
        n, k = self.order, len(self.real_atanh)
        return 2 * (self.features + self.outputs) * n + 2 * self.D.numel() + 4 * (n - k) + 2 * k

    def extra_repr(self) -> str:
        real = len(self.real_atanh)
        return f"features={self.features}, order={self.order}, real_poles={real}"


def fed_through(D: Tensor, u: Tensor) -> Tensor:
    """D u, (..., features) → (..., outputs), for the diagonal of D or D."""
    return u * D if D.ndim == 1 else mapped_by(D, u)


def initial_feedthrough(features: int, outputs: int | None) -> Tensor:
    """N(0, 1) on the diagonal; a dense D answers white noise with unit variance."""
    if outputs is None:
        return torch.randn(features)
    return torch.randn(outputs, features) / math.sqrt(features)


def _scaled(rows: np.ndarray, scale: np.ndarray, power: int) -> np.ndarray:
    """Rows of the pairs, as complex numbers, times ``scale``; variances of both parts add."""
    q = len(scale)
    if q == 0:
        return rows
    first, second, rest = split_pairs(rows, q, axis=-2)
    if power == 2:
        both = scale[:, None] * (first + second) / 2
        return join_pairs(both, both, rest, axis=-2)
    z = scale[:, None] * (first + 1j * second)
    return join_pairs(z.real, z.imag, rest, axis=-2)


def upper_half(radius: np.ndarray, angle: np.ndarray, reals: int) -> tuple[np.ndarray, ...]:
    """(ρ ≥ 0, 0 ≤ α ≤ π, flips): the same blocks (q,) with signs (2q + k,) of all states, of which
    k are of real poles.

    A block turning by 2π − α is one turning by α with its second state reversed.
    """
    angle = np.mod(angle + np.where(radius < 0, np.pi, 0), 2 * np.pi)
    flip = join_pairs(np.ones_like(angle), np.where(angle > np.pi, -1.0, 1.0), np.ones(reals))
    folded = np.minimum(angle, 2 * np.pi - angle)
    return np.abs(radius), folded, flip
