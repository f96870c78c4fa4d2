"""Arrays as state matrices: the answers that :class:`Diagonal` and :class:`Rotation` give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from ..arrays.checks import is_complex, to_double
from ..arrays.linalg import adjoint, as_complex, eigenvalues, real_part
from ..arrays.namespaces import Array, namespace


@dataclass(frozen=True, eq=False)
class Dense(Generic[Array]):
    """State matrix A as an (..., n, n) array, which stays in the states given. Poles cost O(n³)."""

    A: Array

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.A.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.A.shape[:-2])

    @property
    def dtype(self) -> Any:
        return self.A.dtype

    @property
    def H(self) -> Array:
        """The adjoint Aᴴ."""
        return adjoint(self.A)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """The arrays that define A."""
        return (self.A,)

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return not is_complex(self.A)

    @property
    def poles(self) -> Array:
        """(..., n) eigenvalues."""
        return eigenvalues(self.A)

    @property
    def radii(self) -> Array:
        """(..., n) |λ| in float64."""
        poles = eigenvalues(to_double(self.A))
        return namespace(poles).abs(poles)

    @property
    def decays(self) -> Array:
        """(..., n) −Re λ in float64."""
        return -real_part(eigenvalues(to_double(self.A)))

    @property
    def mode_poles(self) -> Array:
        """(..., n) complex eigenvalues."""
        return as_complex(self.poles)

    def to_dense(self) -> Array:
        """A."""
        return self.A

    def multiply(self, X: Array) -> Array:
        """A X for X (..., n, k) in O(n² k)."""
        return self.A @ X

    def times(self, factor: Array) -> Array:
        """The matrix factor · A for positive factors (...): in another unit of time."""
        return self.A * factor[..., None, None]

    def of_states(self, states: Array) -> Array:
        """Rows and columns of A at positions (..., r)."""
        xp, r = namespace(self.A), states.shape[-1]
        rows = xp.broadcast_to(states[..., :, None], (*self.batch_shape, r, self.order))
        columns = xp.broadcast_to(states[..., None, :], (*self.batch_shape, r, r))
        return xp.take_along_axis(xp.take_along_axis(self.A, rows, axis=-2), columns, axis=-1)

    def to_modes(self, X: Array) -> Array:
        """X: rows stay in the states given."""
        return X

    def from_modes(self, Y: Array) -> Array:
        """Y, the inverse of :meth:`to_modes`."""
        return Y

    def same_in_blocks(self, combine: Callable[[Array, Array], Array], x: Array) -> Array:
        """x (..., n) with one number for all states of a block; here each state is its own."""
        return x
