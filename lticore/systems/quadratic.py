"""Systems whose outputs are quadratic in the states, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_real,
    common_precision,
    is_complex,
    to_double,
)
from ..arrays.linalg import adjoint, as_complex, conjugate, real_part, solve_in_any_units
from ..arrays.namespaces import Array, namespace, zeros_like_shape
from ..errors import ShapeError
from .lti import LTI, StateSpace
from .structure import Diagonal, StateMatrix, map_parameters

#: LTI or QuadraticOutputLTI; what they have in common is A, B and C.
System: TypeAlias = Any
#: Dense (..., p, n, n) matrices, or factors V (..., p, n, c), s (..., p, c).
QuadraticForms: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class QuadraticOutputLTI(StateSpace):
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
    """

    A: StateMatrix
    B: Array
    C: Array
    M: QuadraticForms
    dt: bool | float = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        linear = LTI(self.A, self.B, self.C, dt=self.dt)
        p, n = linear.outputs, linear.order
        forms: list[Array]
        if isinstance(self.M, tuple):
            if len(self.M) != 2:
                raise ShapeError(f"M has {len(self.M)} factors: give V and s, or dense matrices")
            V = check_array("V of M", self.M[0], ndim=3)
            s = check_real("s of M", check_array("s of M", self.M[1], ndim=2))
            if V.shape[-3:-1] != (p, n) or s.shape[-2:] != (p, V.shape[-1]):
                raise ShapeError(
                    f"V has shape {tuple(V.shape)} and s {tuple(s.shape)}, but {p} outputs and {n} "
                    f"states need V (..., {p}, {n}, c) and s (..., {p}, c)"
                )
            forms, tails = [V, s], (3, 2)
        else:
            dense = check_array("M", self.M, ndim=3)
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
        object.__setattr__(self, "M", tuple(forms) if isinstance(self.M, tuple) else forms[0])

    @property
    def linear(self) -> LTI:
        """The system without its quadratic outputs."""
        return LTI(self.A, self.B, self.C, dt=self.dt)

    def __repr__(self) -> str:
        rank = f"rank {self.M[0].shape[-1]}" if isinstance(self.M, tuple) else "dense"
        return f"QuadraticOutputLTI({self.linear!r}, {rank} forms)"


def forms_of(sys: System) -> QuadraticForms:
    """The forms in float64; of a linear system empty factors, over which sums are zero."""
    if isinstance(sys, QuadraticOutputLTI):
        return tuple(map(to_double, sys.M)) if isinstance(sys.M, tuple) else to_double(sys.M)
    batch, p = sys.batch_shape, sys.outputs
    B = to_double(sys.B)
    return zeros_like_shape(B, (*batch, p, sys.order, 0)), zeros_like_shape(
        real_part(B), (*batch, p, 0)
    )


def absolute(M: QuadraticForms) -> QuadraticForms:
    """Forms of the absolute values, which bound the terms of any sum over the entries."""
    xp = namespace(*M) if isinstance(M, tuple) else namespace(M)
    return tuple(map(xp.abs, M)) if isinstance(M, tuple) else xp.abs(M)


def mapped(function: Callable[[Array], Array], sys: System) -> System:
    """The system of either kind with ``function`` applied to each of its arrays."""
    A, B, C = map_parameters(function, sys.A), function(sys.B), function(sys.C)
    if isinstance(sys, LTI):
        return replace(sys, A=A, B=B, C=C, D=None if sys.D is None else function(sys.D))
    M = tuple(map(function, sys.M)) if isinstance(sys.M, tuple) else function(sys.M)
    return replace(sys, A=A, B=B, C=C, M=M)


def quadratic_arrays(sys: System) -> tuple[Array, ...]:
    """The arrays that define the forms of a system; none for a linear one."""
    if not isinstance(sys, QuadraticOutputLTI):
        return ()
    return sys.M if isinstance(sys.M, tuple) else (sys.M,)


def entry_of(sys: System, index: tuple[int, ...]) -> System:
    """One system of a batch."""
    return mapped(lambda x: x[index], sys)


def linear_part(sys: System) -> LTI:
    """The system without its quadratic outputs."""
    return sys.linear if isinstance(sys, QuadraticOutputLTI) else sys


def in_eigenbasis(sys: System, poles: Array, V: Array) -> System:
    """The system of either kind in the states z of x = V z, for A V = V Λ."""
    return in_coordinates(sys, V, A=Diagonal(poles), B=solve_in_any_units(V, sys.B))


def in_coordinates(sys: System, V: Array, *, A: StateMatrix, B: Array) -> System:
    """The system of either kind in the states z of x = V z, in which these are its A and B."""
    forms = {"M": transformed(sys.M, V)} if isinstance(sys, QuadraticOutputLTI) else {}
    return replace(sys, A=A, B=B, C=sys.C @ V, **forms)


def transformed(M: QuadraticForms, T: Array) -> QuadraticForms:
    """Tᴴ M_i T: the forms in the states x = T z; T (..., n, r)."""
    if isinstance(M, tuple):
        V, s = M
        return adjoint(T)[..., None, :, :] @ V, s
    return adjoint(T)[..., None, :, :] @ M @ T[..., None, :, :]


def dense_forms(M: QuadraticForms) -> Array:
    """(..., p, n, n) matrices of the forms."""
    if isinstance(M, tuple):
        V, s = M
        return (V * s[..., None, :]) @ adjoint(V)
    return M


def values_of(M: QuadraticForms, X: Array) -> Array:
    """x_kᴴ M_i x_k for the rows x_k of X (..., L, n): real, (..., L, p)."""
    xp = namespace(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple):
        V, s = M
        squares = xp.abs(conjugate(X) @ V) ** 2
        return xp.matrix_transpose(xp.sum(squares * s[..., None, :], axis=-1))
    products = xp.sum(conjugate(X) * (X @ xp.matrix_transpose(M)), axis=-1)
    return xp.matrix_transpose(real_part(products))


def sandwiched(M: QuadraticForms, X: Array, N: QuadraticForms) -> Array:
    """Σ_i M_i X N_i for forms of two systems, (..., n, l) between them: (..., n, l)."""
    xp = namespace(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple) and isinstance(N, tuple):
        (V, s), (W, t) = M, N
        inner = (adjoint(V) @ X @ W) * s[..., :, None] * t[..., None, :]
        return xp.sum(V @ inner @ adjoint(W), axis=-3)
    return xp.sum(dense_forms(M) @ X @ dense_forms(N), axis=-3)


def cross_trace(M: QuadraticForms, X: Array, N: QuadraticForms) -> Array:
    """Σ_i tr(Xᴴ M_i X N_i), real: (...)."""
    xp = namespace(X)
    X = X[..., None, :, :]
    if isinstance(M, tuple) and isinstance(N, tuple):
        (V, s), (W, t) = M, N
        inner = xp.abs(adjoint(V) @ X @ W) ** 2
        return xp.sum(inner * s[..., :, None] * t[..., None, :], axis=(-3, -2, -1))
    products = (dense_forms(M) @ X) * conjugate(X @ dense_forms(N))
    return real_part(xp.sum(products, axis=(-3, -2, -1)))


def mean_outputs(sys: System, P: Array) -> Array:
    """(..., p) means tr(M_i P) of the outputs when the states have covariance P."""
    xp = namespace(P)
    M = forms_of(sys)
    if isinstance(M, tuple):
        V, s = M
        squares = xp.sum(conjugate(V) * (P[..., None, :, :] @ V), axis=-2)
        return xp.sum(real_part(squares) * s, axis=-1)
    return real_part(xp.sum(xp.matrix_transpose(M) * P[..., None, :, :], axis=(-2, -1)))
