"""Real state matrices of scaled rotations and real poles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_real,
    common_precision,
    is_complex,
)
from ..arrays.linalg import as_complex, complex_of, conjugate, diagonal_matrix, real_part
from ..arrays.namespaces import Array, namespace
from ..errors import ShapeError
from .pairs import join_pairs, same_in_pairs, split_pairs
from .polar import phase


@dataclass(frozen=True, eq=False)
class Rotation(Generic[Array]):
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
        radius = check_real("radius", check_array("radius", radius, ndim=1))
        angle = check_real("angle", check_array("angle", angle, ndim=1))
        if radius.shape[-1] != angle.shape[-1]:
            raise ShapeError(
                f"radius {tuple(radius.shape)} and angle {tuple(angle.shape)} must hold one value "
                "per rotation block each"
            )
        if real_poles is None:
            xp = namespace(radius, angle)
            real_poles = xp.zeros_like(radius[..., :0])
        else:
            real_poles = check_real("real_poles", check_array("real_poles", real_poles, ndim=1))
        xp = namespace(radius, angle, real_poles)
        batch = broadcast_batches(
            radius=tuple(radius.shape[:-1]),
            angle=tuple(angle.shape[:-1]),
            real_poles=tuple(real_poles.shape[:-1]),
        )
        for name, value in zip(
            ("radius", "angle", "real_poles"),
            common_precision(radius, angle, real_poles),
            strict=True,
        ):
            object.__setattr__(self, name, xp.broadcast_to(value, (*batch, value.shape[-1])))

    @property
    def blocks(self) -> int:
        """Number of rotation blocks q."""
        return self.radius.shape[-1]

    @property
    def order(self) -> int:
        """Number of real states n = 2q + k."""
        return 2 * self.radius.shape[-1] + self.real_poles.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.radius.shape[:-1])

    @property
    def dtype(self) -> Any:
        return self.radius.dtype

    @property
    def H(self) -> Rotation[Array]:
        """The adjoint Aᵀ: every block turns the other way."""
        return Rotation(self.radius, -self.angle, self.real_poles)

    @property
    def poles(self) -> Array:
        """(..., n) complex poles in state order: λ_1, conj λ_1, λ_2, …, then the real ones."""
        xp = namespace(self.radius)
        real, imaginary = self.radius * xp.cos(self.angle), -self.radius * xp.sin(self.angle)
        pole, other = complex_of(real, imaginary), complex_of(real, -imaginary)
        return join_pairs(pole, other, self.real_poles)

    def to_dense(self) -> Array:
        """A as an (..., n, n) real array."""
        xp = namespace(self.radius)
        real, imaginary = self.radius * xp.cos(self.angle), self.radius * xp.sin(self.angle)
        main = join_pairs(real, real, self.real_poles)
        above = join_pairs(imaginary, xp.zeros_like(imaginary), xp.zeros_like(self.real_poles))
        side = diagonal_matrix(above[..., : max(self.order - 1, 0)], offset=1)
        return diagonal_matrix(main) + side - xp.matrix_transpose(side)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """The arrays that define A."""
        return self.radius, self.angle, self.real_poles

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return True

    @property
    def radii(self) -> Array:
        """(..., n) |λ| in state order, exact."""
        radius = join_pairs(self.radius, self.radius, self.real_poles)
        return namespace(radius).abs(radius)

    @property
    def mode_poles(self) -> Array:
        """(..., n) complex poles in the order of :mod:`lticore.systems.modes`."""
        xp = namespace(self.radius)
        above = complex_of(self.radius * xp.cos(self.angle), -self.radius * xp.sin(self.angle))
        return xp.concat([above, xp.conj(above), as_complex(self.real_poles)], axis=-1)

    @property
    def polar_modes(self) -> tuple[Array, Array]:
        """(radius ≥ 0, phase) of the poles in that order."""
        xp = namespace(*self.parameters)
        radius = xp.concat([self.radius, self.radius, self.real_poles], axis=-1)
        angle = xp.concat([-self.angle, self.angle, xp.zeros_like(self.real_poles)], axis=-1)
        return xp.abs(radius), angle + phase(radius)

    def multiply(self, X: Array) -> Array:
        """A X for X (..., n, k) in O(n k)."""
        xp = namespace(self.radius, X)
        first, second, rest = split_pairs(X, self.blocks, axis=-2)
        cosine = (self.radius * xp.cos(self.angle))[..., None]
        sine = (self.radius * xp.sin(self.angle))[..., None]
        return join_pairs(
            cosine * first + sine * second,
            cosine * second - sine * first,
            self.real_poles[..., None] * rest,
            axis=-2,
        )

    def to_modes(self, X: Array) -> Array:
        """Uᴴ X for A = U Λ Uᴴ, rows (x_1 ± i x_2)/√2 of the blocks."""
        xp = namespace(self.radius, X)
        first, second, rest = split_pairs(X, self.blocks, axis=-2)
        first, second = first / math.sqrt(2), second / math.sqrt(2)
        if is_complex(X):
            above, below = first + 1j * second, first - 1j * second
        else:
            above, below = complex_of(first, second), complex_of(first, -second)
        return xp.concat([above, below, xp.astype(rest, above.dtype)], axis=-2)

    def from_modes(self, Y: Array) -> Array:
        """U Y, the inverse of :meth:`to_modes`."""
        q = self.blocks
        above, below = Y[..., :q, :], Y[..., q : 2 * q, :]
        return join_pairs(
            (above + below) / math.sqrt(2),
            (above - below) / (1j * math.sqrt(2)),
            Y[..., 2 * q :, :],
            axis=-2,
        )

    def same_in_blocks(self, combine: Callable[[Array, Array], Array], x: Array) -> Array:
        """x (..., n) with one number, ``combine(first, second)``, for both states of a block."""
        return same_in_pairs(combine, x, self.blocks)

    def of_states(self, states: Array) -> Rotation[Array]:
        """The structure of the states at ascending positions (..., r), both of a block or none; the
        entries of a batch keep as many blocks each."""
        xp, ends = namespace(states), 2 * self.blocks
        pairs = int(xp.max(xp.sum(states < ends, axis=-1))) // 2
        first, _, rest = split_pairs(states, pairs)
        return Rotation(
            xp.take_along_axis(self.radius, first // 2, axis=-1),
            xp.take_along_axis(self.angle, first // 2, axis=-1),
            xp.take_along_axis(self.real_poles, rest - ends, axis=-1),
        )

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
