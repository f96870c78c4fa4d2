"""Stein (discrete Sylvester and Lyapunov) equations A X Bᴴ − X + Q = 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from ._arrays import Array, is_numpy, namespace
from ._check import (
    broadcast_batches,
    check_array,
    check_integer,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ._linalg import adjoint, real_part
from ._modes import is_real
from ._stein_dense import (
    RawSolver,
    mixed_solver,
    schur_solver,
    sum_by_doubling,
    sum_to_convergence,
)
from ._stein_modal import modal_solver
from .errors import ShapeError
from .structure import (
    StateMatrix,
    batch_shape_of,
    broadcast_state_matrix,
    check_state_matrix,
    is_structured,
    map_parameters,
    order_of,
    parameters,
)


def solve_stein(
    A: StateMatrix, Q: Array, B: StateMatrix | None = None, *, horizon: int | None = None
) -> Array:
    """Solve A X Bᴴ − X + Q = 0, or sum the first terms of its series.

        horizon=None:   X with A X Bᴴ − X + Q = 0      ( = Σ_{k≥0} A^k Q (Bᴴ)^k when stable)
        horizon=T:      X = Σ_{k<T} A^k Q (Bᴴ)^k        (any A and B)

    Parameters
    ----------
    A : Diagonal, Rotation or (..., n, n) array
    Q : (..., n, l) array
    B : Diagonal, Rotation or (..., l, l) array, optional
        Defaults to A, the Lyapunov case. The adjoint equation Aᴴ Y B − Y + G = 0 is
        ``solve_stein(A.H, G, B.H)``, for arrays with ``A.conj().mT`` and ``B.conj().mT``.
    horizon : int ≥ 1, optional

    Returns
    -------
    X : (..., n, l) array in the common precision of the arguments, real when they are.

    Conditions: no product λ_i(A)·conj λ_j(B) equals 1 (always true for stable matrices); none with
    a horizon.

    Accuracy: for structured A and B, X is entrywise accurate in the basis of the modes, since
    1 − λ_i conj λ_j is formed from radii and phases without cancellation: poles near the unit
    circle keep their relative accuracy (`Rotation`: exactly those given; `Diagonal`: those given,
    perturbed in the last digit). Dense: backward stable Schur method.

    Cost: O(n l) when both are structured; O(n l² + l³) for a structured A and a dense B, likewise
    the other way; O(n³ + l³) when both are dense: complex Schur forms and a recursive triangular
    solve, one batch entry at a time. Libraries without Schur forms square instead (Smith), about
    log2(36/(1 − |λ|)) steps of matrix products, for stable matrices only. With a horizon, dense
    matrices take at most 2 log2 T steps of products on any library.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    SingularEquationError
        Names the pair of poles whose product is 1.

    Warns
    -----
    PrecisionWarning
        Names the pair whose product is so near to 1 that the solution may be off by more than 1e-6
        (dense matrices, whose poles are known to eps ‖A‖ only).

    Source: Kitagawa, Int. J. Control 25 (1977) for dense matrices; Smith, SIAM J. Appl. Math. 16
    (1968) for the squaring.
    """
    A = check_state_matrix("A", A)
    B = A if B is None else check_state_matrix("B", B)
    Q = check_array("Q", Q, ndim=2)
    n, l = order_of(A), order_of(B)
    if tuple(Q.shape[-2:]) != (n, l):
        raise ShapeError(f"Q has shape {tuple(Q.shape)}, but A and B need (..., {n}, {l})")
    if horizon is not None:
        horizon = check_integer("horizon", horizon, minimum=1)
    arrays = (*parameters(A), *parameters(B), Q)
    xp = namespace(*arrays)
    batch = broadcast_batches(A=batch_shape_of(A), B=batch_shape_of(B), Q=tuple(Q.shape[:-2]))
    same = B is A
    A = broadcast_state_matrix(map_parameters(to_double, A), batch)
    B = A if same else broadcast_state_matrix(map_parameters(to_double, B), batch)
    Q = xp.broadcast_to(to_double(Q), (*batch, n, l))
    X = stein_solver(A, B, horizon)(Q)
    return like_precision(X, all(is_single(x) for x in arrays))


#: Q ↦ X, or with ``adjoint=True`` the solution of the adjoint equation.
SteinSolver: TypeAlias = Callable[..., Array]


def stein_solver(
    A: StateMatrix, B: StateMatrix | None = None, horizon: int | None = None
) -> SteinSolver:
    """``solve(Q, adjoint=False)`` for many Q with one preparation.

    For use inside the library: everything in double precision and of one batch shape.

        solve(Q):                A X Bᴴ − X + Q = 0
        solve(G, adjoint=True):  Aᴴ Y B − Y + G = 0

    Structured: the factors φ(λ_i conj λ_j) are formed once, the adjoint has their conjugates.
    Dense: the Schur forms are computed once.
    """
    B = A if B is None else B
    solve: RawSolver
    if 0 in (order_of(A), order_of(B)):
        solve = _nothing_to_solve(A, B)
    elif is_structured(A) and is_structured(B):
        solve = modal_solver(A, B, horizon)
    elif horizon is not None:
        solve = _series_solver(_dense(A), _dense(B), partial(sum_by_doubling, horizon=horizon))
    elif not all(is_numpy(x) for x in (*parameters(A), *parameters(B))):
        solve = _series_solver(_dense(A), _dense(B), sum_to_convergence)
    elif is_structured(A):
        solve = mixed_solver(A, B)
    elif is_structured(B):
        solve = _swapped(mixed_solver(B, A, names=("B", "A")))
    else:
        solve = schur_solver(A, B, same=B is A)
    real = is_real(A) and is_real(B)

    def solve_keeping_real(Q: Array, adjoint: bool = False) -> Array:
        X = solve(Q, adjoint)
        return real_part(X) if real and not is_complex(Q) else X

    return solve_keeping_real


def _nothing_to_solve(A: StateMatrix, B: StateMatrix) -> RawSolver:
    """X = Q, without entries."""
    arrays = (*parameters(A), *parameters(B))
    xp = namespace(*arrays)
    return lambda Q, adjoint_equation: xp.astype(Q, xp.result_type(*arrays, Q))


def _dense(A: StateMatrix) -> Array:
    return A.to_dense() if is_structured(A) else A


def _swapped(solve: RawSolver) -> RawSolver:
    """The solver with A and B exchanged: (A X Bᴴ − X + Q)ᴴ = B Xᴴ Aᴴ − Xᴴ + Qᴴ."""
    return lambda Q, adjoint_equation: adjoint(solve(adjoint(Q), adjoint_equation))


def _series_solver(A: Array, B: Array, total: Callable[[Array, Array, Array], Array]) -> RawSolver:
    """Solve by summing A^k Q (Bᴴ)^k with ``total(A, Q, B)``."""

    def solve(Q: Array, adjoint_equation: bool) -> Array:
        return total(adjoint(A), Q, adjoint(B)) if adjoint_equation else total(A, Q, B)

    return solve
