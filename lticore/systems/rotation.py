"""Real state matrices of scaled rotations and real poles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from ..arrays.linalg import complex_of, conjugate, real_part
from ..arrays.namespaces import Array, namespace
from .blocks import PairBlocks, checked_parameters
from .pairs import join_pairs
from .polar import phase


@dataclass(frozen=True, eq=False)
class Rotation(PairBlocks[Array]):
    """Block-diagonal real state matrix of scaled rotations and real poles.

        A = blkdiag(ρ_1 R(α_1), …, ρ_q R(α_q), r_1, …, r_k)
        R(α) = [[cos α, sin α], [−sin α, cos α]]

    Each 2×2 block is multiplication of x_1 + i x_2 by λ = ρ e^{−iα}; the two states of a block are
    neighbours, real poles come last, and n = 2q + k.

    Parameters
    ----------
    radius, angle : (..., q) real arrays, angle in radians; q may be 0
    real_poles : (..., k) real array, optional

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError

    Source: Schwerdtner, Berman & Peherstorfer, Hankel singular value regularization, eq. (6)-(7).


    >>> lti.Rotation([0.5], [np.pi / 3], real_poles=[-0.8]).to_dense().round(4)
    array([[ 0.25 ,  0.433,  0.   ],
           [-0.433,  0.25 ,  0.   ],
           [ 0.   ,  0.   , -0.8  ]])

    """

    radius: Array
    angle: Array
    real_poles: Array

    @overload
    def __init__(
        self: Rotation[np.ndarray],
        radius: ArrayLike,
        angle: ArrayLike,
        real_poles: ArrayLike | None = None,
    ) -> None: ...
    @overload
    def __init__(self, radius: Array, angle: Array, real_poles: Array | None = None) -> None: ...
    def __init__(self, radius: Any, angle: Any, real_poles: Any = None) -> None:
        names = "radius", "angle"
        arrays = checked_parameters(*names, first=radius, second=angle, real_poles=real_poles)
        for name, value in zip((*names, "real_poles"), arrays, strict=True):
            object.__setattr__(self, name, value)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """(radius, angle, real_poles)"""
        return self.radius, self.angle, self.real_poles

    @property
    def entries(self) -> tuple[Array, Array]:
        """(ρ cos α, ρ sin α) of the blocks."""
        xp = namespace(self.radius)
        return self.radius * xp.cos(self.angle), self.radius * xp.sin(self.angle)

    @property
    def H(self) -> Rotation[Array]:
        """The adjoint Aᵀ: every block turns the other way."""
        return Rotation(self.radius, -self.angle, self.real_poles)

    @property
    def radii(self) -> Array:
        """(..., n) |λ| in state order, exact."""
        radius = join_pairs(self.radius, self.radius, self.real_poles)
        return namespace(radius).abs(radius)

    @property
    def block_poles(self) -> tuple[Array, Array]:
        """(radius ≥ 0, phase), (..., q + k), of the pole λ by which each block acts on x_1 + i x_2,
        and of the real poles."""
        return kernels.find(block_poles_reference, self.radius)(*self.parameters)

    @property
    def block_radii(self) -> Array:
        """(..., q + k) |λ| of the blocks and of the real poles."""
        return self.block_poles[0]

    @property
    def polar_modes(self) -> tuple[Array, Array]:
        """(radius ≥ 0, phase) of the poles in that order."""
        xp = namespace(*self.parameters)
        radius = xp.concat([self.radius, self.radius, self.real_poles], axis=-1)
        angle = xp.concat([-self.angle, self.angle, xp.zeros_like(self.real_poles)], axis=-1)
        return xp.abs(radius), angle + phase(radius)

    def times(self, factor: Array) -> Rotation[Array]:
        """The matrix factor · A for positive factors (...): in another unit of time."""
        factor = factor[..., None]
        return Rotation(self.radius * factor, self.angle, self.real_poles * factor)

    def entry_gradient(self, along: Array, across: Array, real: Array) -> tuple[Array, ...]:
        """The gradient on (ρ, α, r) for one on (c, s, r) with c = ρ cos α and s = ρ sin α."""
        xp = namespace(along)
        cosine, sine = xp.cos(self.angle), xp.sin(self.angle)
        tangential = across * cosine - along * sine
        return along * cosine + across * sine, self.radius * tangential, real

    def pole_gradient(self, g: Array) -> tuple[Array, ...]:
        """The gradient on the parameters for one on the poles in mode order, df = Σ Re conj(g) dλ,
        with λ = ρ e^{−iα} of the first q modes and its conjugate in the next."""
        xp, q = namespace(g), self.blocks
        g_pair = g[..., :q] + conjugate(g[..., q : 2 * q])
        turn = complex_of(xp.cos(self.angle), -xp.sin(self.angle))
        radial = conjugate(g_pair) * turn
        return (
            real_part(radial),
            real_part(-1j * self.radius * radial),
            real_part(g[..., 2 * q :]),
        )


def block_poles_reference(radius: Array, angle: Array, real_poles: Array) -> tuple[Array, Array]:
    """Reference text of :attr:`Rotation.block_poles` for any array library."""
    xp = namespace(radius)
    radius = xp.concat([radius, real_poles], axis=-1)
    angle = xp.concat([-angle, xp.zeros_like(real_poles)], axis=-1)
    return xp.abs(radius), angle + phase(radius)
