"""Real state matrices of damped oscillations and real poles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.linalg import conjugate, real_part
from ..arrays.namespaces import Array, namespace
from .blocks import PairBlocks, checked_parameters
from .polar import modulus, phase


@dataclass(frozen=True, eq=False)
class Oscillation(PairBlocks[Array]):
    """Block-diagonal real state matrix of damped oscillations and real poles.

        A = blkdiag([[−δ_1, ω_1], [−ω_1, −δ_1]], …, r_1, …, r_k)

    Each 2×2 block is multiplication of x_1 + i x_2 by a = −δ − iω; the two states of a block are
    neighbours, real poles come last, and n = 2q + k. In continuous time (``dt=0``) what
    :class:`Rotation` is in discrete time: a block decays as e^{−δt} and turns by ω per second.

    Parameters
    ----------
    decay, frequency : (..., q) real arrays, in 1/s and rad/s; q may be 0; stable where δ > 0
    real_poles : (..., k) real array, in 1/s, optional; stable where r < 0

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError


    >>> lti.Oscillation([0.1], [2.0], real_poles=[-1.0]).to_dense()
    array([[-0.1,  2. ,  0. ],
           [-2. , -0.1,  0. ],
           [ 0. ,  0. , -1. ]])

    """

    decay: Array
    frequency: Array
    real_poles: Array

    @overload
    def __init__(
        self: Oscillation[np.ndarray],
        decay: ArrayLike,
        frequency: ArrayLike,
        real_poles: ArrayLike | None = None,
    ) -> None: ...
    @overload
    def __init__(self, decay: Array, frequency: Array, real_poles: Array | None = None) -> None: ...
    def __init__(self, decay: Any, frequency: Any, real_poles: Any = None) -> None:
        names = "decay", "frequency"
        arrays = checked_parameters(*names, first=decay, second=frequency, real_poles=real_poles)
        for name, value in zip((*names, "real_poles"), arrays, strict=True):
            object.__setattr__(self, name, value)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """(decay, frequency, real_poles)"""
        return self.decay, self.frequency, self.real_poles

    @property
    def entries(self) -> tuple[Array, Array]:
        """(−δ, ω) of the blocks."""
        return -self.decay, self.frequency

    @property
    def H(self) -> Oscillation[Array]:
        """The adjoint Aᵀ: every block turns the other way."""
        return Oscillation(self.decay, -self.frequency, self.real_poles)

    @property
    def radii(self) -> Array:
        """(..., n) |a| in state order."""
        return modulus(self.poles)

    @property
    def polar_modes(self) -> tuple[Array, Array]:
        """(radius ≥ 0, phase) of the poles in the order of :mod:`lticore.systems.modes`."""
        poles = self.mode_poles
        return modulus(poles), phase(poles)

    def times(self, factor: Array) -> Oscillation[Array]:
        """The matrix factor · A for positive factors (...): in another unit of time."""
        kind: Any = Oscillation
        return kind(*(x * factor[..., None] for x in self.parameters))

    def entry_gradient(self, along: Array, across: Array, real: Array) -> tuple[Array, ...]:
        """The gradient on (δ, ω, r) for one on (c, s, r) with c = −δ and s = ω."""
        return -along, across, real

    def pole_gradient(self, g: Array) -> tuple[Array, ...]:
        """The gradient on the parameters for one on the poles in mode order, df = Σ Re conj(g) da,
        with a = −δ − iω of the first q modes and its conjugate in the next."""
        xp, q = namespace(g), self.blocks
        pair = g[..., :q] + conjugate(g[..., q : 2 * q])
        return -xp.real(pair), -xp.imag(pair), real_part(g[..., 2 * q :])
