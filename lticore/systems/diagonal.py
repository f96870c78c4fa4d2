"""Diagonal state matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import check_array, is_complex, to_double
from ..arrays.linalg import as_complex, conjugate, diagonal_matrix, real_part
from ..arrays.namespaces import Array, namespace
from .polar import modulus, phase


@dataclass(frozen=True, eq=False)
class Diagonal(Generic[Array]):
    """State matrix A = diag(poles).

    Parameters
    ----------
    poles : (..., n) real or complex array

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError


    >>> lti.Diagonal([0.9, 0.5j]).to_dense()
    array([[0.9+0.j , 0. +0.j ],
           [0. +0.j , 0. +0.5j]])

    """

    poles: Array

    @overload
    def __init__(self: Diagonal[np.ndarray], poles: ArrayLike) -> None: ...
    @overload
    def __init__(self, poles: Array) -> None: ...
    def __init__(self, poles: Any) -> None:
        object.__setattr__(self, "poles", check_array("poles", poles, ndim=1))

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.poles.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.poles.shape[:-1])

    @property
    def dtype(self) -> Any:
        return self.poles.dtype

    @property
    def H(self) -> Diagonal[Array]:
        """The adjoint Aᴴ, again diagonal."""
        return Diagonal(conjugate(self.poles))

    def to_dense(self) -> Array:
        """A as an (..., n, n) array."""
        return diagonal_matrix(self.poles)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """The arrays that define A."""
        return (self.poles,)

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return not is_complex(self.poles)

    @property
    def radii(self) -> Array:
        """(..., n) |λ| in state order, in float64, on the exact side of 1."""
        return modulus(to_double(self.poles))

    @property
    def block_radii(self) -> Array:
        """(..., n) |λ|: each state is a block of its own."""
        return self.radii

    @property
    def block_decays(self) -> Array:
        """(..., n) −Re λ likewise."""
        return self.decays

    @property
    def mode_poles(self) -> Array:
        """(..., n) complex poles in the order of :mod:`lticore.systems.modes`."""
        return as_complex(self.poles)

    @property
    def polar_modes(self) -> tuple[Array, Array]:
        """(radius ≥ 0, phase) of the poles in that order."""
        return modulus(self.poles), phase(self.poles)

    @property
    def decays(self) -> Array:
        """(..., n) −Re λ in state order."""
        return -real_part(self.poles)

    @property
    def decay_modes(self) -> tuple[Array, Array]:
        """(δ, ω) of the poles λ = −δ + iω in that order."""
        poles = self.mode_poles
        return -real_part(poles), namespace(poles).imag(poles)

    def multiply(self, X: Array) -> Array:
        """A X for X (..., n, k) in O(n k)."""
        return self.poles[..., None] * X

    def times(self, factor: Array) -> Diagonal[Array]:
        """The matrix factor · A for positive factors (...): in another unit of time."""
        poles: Array = self.poles * factor[..., None]
        return Diagonal(poles)

    def to_modes(self, X: Array) -> Array:
        """Uᴴ X for A = U Λ Uᴴ; here U = I."""
        return X

    def from_modes(self, Y: Array) -> Array:
        """U Y, the inverse of :meth:`to_modes`."""
        return Y

    def same_in_blocks(self, combine: Callable[[Array, Array], Array], x: Array) -> Array:
        """x (..., n) with one number for all states of a block; here each state is its own."""
        return x

    def of_states(self, states: Array) -> Diagonal[Array]:
        """The structure of the states at ascending positions (..., r)."""
        poles: Array = namespace(states).take_along_axis(self.poles, states, axis=-1)
        return Diagonal(poles)

    def pole_gradient(self, g: Array) -> tuple[Array, ...]:
        """The gradient on the parameters for one on the poles in mode order, df = Σ Re conj(g) dλ;
        of real poles the real part."""
        return (g if is_complex(self.poles) else real_part(g),)
