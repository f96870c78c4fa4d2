"""Systems whose outputs are quadratic in the states, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_real,
    common_precision,
    is_complex,
    to_double,
)
from ..arrays.linalg import (
    adjoint,
    as_complex,
    conjugate,
    diagonal,
    real_part,
    solve_in_any_units,
)
from ..arrays.namespaces import Array, namespace, zeros_like_shape
from ..errors import ShapeError
from .diagonal import Diagonal
from .lti import LTI, StateSpace
from .structure import Matrix, NumPyStructure, StateMatrix, map_parameters

#: Dense (..., p, n, n) matrices, or factors V (..., p, n, c), s (..., p, c).
QuadraticForms: TypeAlias = Array | tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class QuadraticOutputLTI(StateSpace[Array, Matrix]):
    """Discrete-time linear system with linear and quadratic outputs

        x_{k+1} = A x_k + B u_k,      (y_k)_i = (C x_k)_i + x_kᴴ M_i x_k,   i = 1 … p.

    Parameters
    ----------
    A : Diagonal, Rotation or (..., n, n) array
    B : (..., n, m) array
    C : (..., p, n) array
    M : (..., p, n, n) array, or a tuple (V, s) of (..., p, n, c) and real (..., p, c) arrays
        Hermitian matrices; other ones are replaced by their Hermitian parts (the real part of
        xᴴ M x: outputs of real systems do not change). Factors mean M_i = V_i diag(s_i) V_iᴴ.

    dt : True or a number

    Batch axes, precisions and dt as for :class:`lticore.LTI`.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError


    >>> sys = lti.QuadraticOutputLTI([[0.5]], [[1.0]], [[0.0]], [[[2.0]]])
    >>> lti.simulate(sys, np.eye(4, 1)).ravel()  # y = 2 x²
    array([0.   , 2.   , 0.5  , 0.125])

    """

    A: Matrix
    B: Array
    C: Array
    M: QuadraticForms[Array]
    dt: bool | float = field(kw_only=True)

    @overload
    def __init__(
        self: QuadraticOutputLTI[np.ndarray, NumPyStructure],
        A: NumPyStructure,
        B: ArrayLike,
        C: ArrayLike,
        M: ArrayLike | tuple[ArrayLike, ArrayLike],
        *,
        dt: bool | float = True,
    ) -> None: ...
    @overload
    def __init__(
        self: QuadraticOutputLTI[np.ndarray, np.ndarray],
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike,
        M: ArrayLike | tuple[ArrayLike, ArrayLike],
        *,
        dt: bool | float = True,
    ) -> None: ...
    @overload
    def __init__(
        self, A: Matrix, B: Array, C: Array, M: QuadraticForms[Array], *, dt: bool | float = True
    ) -> None: ...
    def __init__(self, A: Any, B: Any, C: Any, M: Any, *, dt: bool | float = True) -> None:
        linear = LTI(A, B, C, dt=dt)
        p, n = linear.outputs, linear.order
        forms: list[Any]
        if isinstance(M, tuple):
            if len(M) != 2:
                raise ShapeError(f"M has {len(M)} factors: give V and s, or dense matrices")
            V = check_array("V of M", M[0], ndim=3)
            s = check_real("s of M", check_array("s of M", M[1], ndim=2))
            if V.shape[-3:-1] != (p, n) or s.shape[-2:] != (p, V.shape[-1]):
                raise ShapeError(
                    f"V has shape {tuple(V.shape)} and s {tuple(s.shape)}, but {p} outputs and {n} "
                    f"states need V (..., {p}, {n}, c) and s (..., {p}, c)"
                )
            forms, tails = [V, s], (3, 2)
        else:
            dense = check_array("M", M, ndim=3)
            if dense.shape[-3:] != (p, n, n):
                raise ShapeError(
                    f"M has shape {tuple(dense.shape)}, but {p} outputs and {n} states need "
                    f"(..., {p}, {n}, {n})"
                )
            forms, tails = [(dense + adjoint(dense)) / 2], (3, 3)
        B, C, *forms = common_precision(linear.B, linear.C, *forms)
        if any(is_complex(x) for x in forms):
            # Complex forms make the observability Gramian complex, and so reduced systems.
            B, C = as_complex(B), as_complex(C)
        shapes = {f"M{i}": tuple(x.shape[: -tails[i]]) for i, x in enumerate(forms)}
        batch = broadcast_batches(system=linear.batch_shape, **shapes)
        spread = namespace(B, *forms).broadcast_to
        # LTI brings A to the precision and batch shape of B and C.
        linear = replace(linear, B=spread(B, (*batch, *B.shape[-2:])), C=C)
        forms = [spread(x, (*batch, *x.shape[-tails[i] :])) for i, x in enumerate(forms)]
        for name in ("A", "B", "C", "dt"):
            object.__setattr__(self, name, getattr(linear, name))
        object.__setattr__(self, "M", tuple(forms) if isinstance(M, tuple) else forms[0])

    @property
    def linear(self) -> LTI[Array, Matrix]:
        """The system without its quadratic outputs."""
        return LTI(self.A, self.B, self.C, dt=self.dt)

    def __repr__(self) -> str:
        rank = f"rank {self.M[0].shape[-1]}" if isinstance(self.M, tuple) else "dense"
        return f"QuadraticOutputLTI({self.linear!r}, {rank} forms)"


#: What all functions of systems of either kind take.
System: TypeAlias = LTI[Array] | QuadraticOutputLTI[Array]


def forms_of(sys: System[Array]) -> QuadraticForms[Array]:
    """The forms in float64; of a linear system empty factors, over which sums are zero."""
    if isinstance(sys, QuadraticOutputLTI):
        return over_forms(to_double, sys.M)
    batch, p = sys.batch_shape, sys.outputs
    B = to_double(sys.B)
    return zeros_like_shape(B, (*batch, p, sys.order, 0)), zeros_like_shape(
        real_part(B), (*batch, p, 0)
    )


def absolute(M: QuadraticForms[Array]) -> QuadraticForms[Array]:
    """Forms of the absolute values, which bound the terms of any sum over the entries."""
    return over_forms(lambda x: namespace(x).abs(x), M)


def over_forms(
    function: Callable[[Array], Array], M: QuadraticForms[Array]
) -> QuadraticForms[Array]:
    """The forms with ``function`` applied to each of their arrays."""
    return (function(M[0]), function(M[1])) if isinstance(M, tuple) else function(M)


def mapped(function: Callable[[Array], Array], sys: System[Array]) -> System[Array]:
    """The system of either kind with ``function`` applied to each of its arrays."""
    A, B, C = map_parameters(function, sys.A), function(sys.B), function(sys.C)
    if isinstance(sys, LTI):
        return replace(sys, A=A, B=B, C=C, D=None if sys.D is None else function(sys.D))
    return replace(sys, A=A, B=B, C=C, M=over_forms(function, sys.M))


def quadratic_arrays(sys: System[Array]) -> tuple[Array, ...]:
    """The arrays that define the forms of a system; none for a linear one."""
    if not isinstance(sys, QuadraticOutputLTI):
        return ()
    return sys.M if isinstance(sys.M, tuple) else (sys.M,)


def entry_of(sys: System[Array], index: tuple[int, ...]) -> System[Array]:
    """One system of a batch."""
    return mapped(lambda x: x[index], sys)


def linear_part(sys: System[Array]) -> LTI[Array]:
    """The system without its quadratic outputs."""
    return sys.linear if isinstance(sys, QuadraticOutputLTI) else sys


def in_eigenbasis(sys: System, poles: np.ndarray, V: np.ndarray) -> System:
    """The system of either kind in the states z of x = V z, for A V = V Λ."""
    return in_coordinates(sys, V, A=Diagonal(poles), B=solve_in_any_units(V, sys.B))


def in_coordinates(
    sys: System[Array], V: Array, *, A: StateMatrix[Array], B: Array
) -> System[Array]:
    """The system of either kind in the states z of x = V z, in which these are its A and B."""
    if isinstance(sys, LTI):
        return replace(sys, A=A, B=B, C=sys.C @ V)
    return replace(sys, A=A, B=B, C=sys.C @ V, M=transformed(sys.M, V))


def transformed(M: QuadraticForms[Array], T: Array) -> QuadraticForms[Array]:
    """Tᴴ M_i T: the forms in the states x = T z; T (..., n, r)."""
    if isinstance(M, tuple):
        V, s = M
        return adjoint(T)[..., None, :, :] @ V, s
    return adjoint(T)[..., None, :, :] @ M @ T[..., None, :, :]


def dense_forms(M: QuadraticForms[Array]) -> Array:
    """(..., p, n, n) matrices of the forms."""
    if isinstance(M, tuple):
        V, s = M
        return (V * s[..., None, :]) @ adjoint(V)
    return M


def diagonals(M: QuadraticForms[Array]) -> Array:
    """(..., p, n) diagonals of the matrices of the forms."""
    if isinstance(M, tuple):
        V, s = M
        xp = namespace(V)
        return xp.sum(xp.abs(V) ** 2 * s[..., None, :], axis=-1)
    return diagonal(M)


def values_of(M: QuadraticForms[Array], X: Array) -> Array:
    """x_kᴴ M_i x_k for the rows x_k of X (..., L, n): real, (..., L, p)."""
    xp = namespace(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple):
        V, s = M
        squares = xp.abs(conjugate(X) @ V) ** 2
        return xp.matrix_transpose(xp.sum(squares * s[..., None, :], axis=-1))
    products = xp.sum(conjugate(X) * (X @ xp.matrix_transpose(M)), axis=-1)
    return xp.matrix_transpose(real_part(products))


def sandwiched(M: QuadraticForms[Array], X: Array, N: QuadraticForms[Array]) -> Array:
    """Σ_i M_i X N_i for forms of two systems, (..., n, l) between them: (..., n, l)."""
    xp = namespace(X)
    if isinstance(M, tuple) and isinstance(N, tuple) and 0 in (M[1].shape[-1], N[1].shape[-1]):
        return xp.zeros_like(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple) and isinstance(N, tuple):
        (V, s), (W, t) = M, N
        inner = (adjoint(V) @ X @ W) * s[..., :, None] * t[..., None, :]
        return xp.sum(V @ inner @ adjoint(W), axis=-3)
    return xp.sum(dense_forms(M) @ X @ dense_forms(N), axis=-3)


def cross_trace(M: QuadraticForms[Array], X: Array, N: QuadraticForms[Array]) -> Array:
    """Σ_i tr(Xᴴ M_i X N_i), real: (...)."""
    xp = namespace(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple) and isinstance(N, tuple):
        (V, s), (W, t) = M, N
        inner = xp.abs(adjoint(V) @ X @ W) ** 2
        return xp.sum(inner * s[..., :, None] * t[..., None, :], axis=(-3, -2, -1))
    products = (dense_forms(M) @ X) * conjugate(X @ dense_forms(N))
    return real_part(xp.sum(products, axis=(-3, -2, -1)))


def mean_outputs(sys: System[Array], P: Array) -> Array:
    """(..., p) means tr(M_i P) of the outputs when the states have covariance P."""
    xp = namespace(P)
    M = forms_of(sys)
    if isinstance(M, tuple):
        V, s = M
        squares = xp.sum(conjugate(V) * (P[..., None, :, :] @ V), axis=-2)
        return xp.sum(real_part(squares) * s, axis=-1)
    return real_part(xp.sum(xp.matrix_transpose(M) * P[..., None, :, :], axis=(-2, -1)))
