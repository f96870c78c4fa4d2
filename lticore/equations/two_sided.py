"""What equations with a matrix on either side of the unknown have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..arrays.checks import broadcast_batches, check_array, is_complex, is_single, to_double
from ..arrays.linalg import EPSILON, adjoint, real_part
from ..arrays.namespaces import Array, namespace
from ..errors import ArgumentError, ShapeError
from ..matrices.balance import rescaled, state_units
from ..systems.signals import scaled, size_exponent
from ..systems.structure import (
    StateMatrix,
    batch_shape_of,
    broadcast_state_matrix,
    check_state_matrix,
    is_sparse,
    is_structured,
    map_parameters,
    order_of,
    parameters,
)
from .dense import RawSolver

#: Rounding of a Schur form, in units of eps times the norm.
ROUNDING = 4

#: Q ↦ X, or with ``adjoint=True`` the solution of the adjoint equation.
SteinSolver: TypeAlias = Callable[..., Array]


def checked_equation(A: Any, Q: Any, B: Any) -> tuple[StateMatrix, Any, StateMatrix, bool]:
    """(A, Q, B, whether all were single) in double precision and of one batch shape; B is A where
    None was given."""
    A = check_state_matrix("A", A)
    B = A if B is None else check_state_matrix("B", B)
    if is_sparse(A) or is_sparse(B):
        raise ArgumentError(
            "A or B is sparse, and X is not: gramian_factors gives factors of Gramians, or pass "
            "A.matrix.toarray()"
        )
    Q = check_array("Q", Q, ndim=2)
    n, l = order_of(A), order_of(B)
    if tuple(Q.shape[-2:]) != (n, l):
        raise ShapeError(f"Q has shape {tuple(Q.shape)}, but A and B need (..., {n}, {l})")
    arrays = (*parameters(A), *parameters(B), Q)
    xp = namespace(*arrays)
    batch = broadcast_batches(A=batch_shape_of(A), B=batch_shape_of(B), Q=tuple(Q.shape[:-2]))
    same = B is A
    A = broadcast_state_matrix(map_parameters(to_double, A), batch)
    B = A if same else broadcast_state_matrix(map_parameters(to_double, B), batch)
    Q = xp.broadcast_to(to_double(Q), (*batch, n, l))
    return A, Q, B, all(is_single(x) for x in arrays)


def keeping_real(solve: RawSolver[Array], real: bool) -> SteinSolver:
    """``solve``, which computes in modes or Schur forms, with real X of real A, B and Q."""

    def solve_keeping_real(Q: Array, adjoint: bool = False) -> Array:
        X = solve(Q, adjoint)
        return real_part(X) if real and not is_complex(Q) else X

    return solve_keeping_real


def nothing_to_solve(A: StateMatrix[Array], B: StateMatrix[Array]) -> RawSolver[Array]:
    """X = Q, without entries."""
    arrays = (*parameters(A), *parameters(B))
    xp = namespace(*arrays)
    return lambda Q, adjoint_equation: xp.astype(Q, xp.result_type(*arrays, Q))


def swapped(solve: RawSolver[Array]) -> RawSolver[Array]:
    """The solver with A and B exchanged: (A X Bᴴ − X + Q)ᴴ = B Xᴴ Aᴴ − Xᴴ + Qᴴ."""
    return lambda Q, adjoint_equation: adjoint(solve(adjoint(Q), adjoint_equation))


def solve_in_units(
    A: StateMatrix,
    Q: Any,
    B: StateMatrix,
    solver_of: Callable[..., SteinSolver],
    warn_if_sensitive: Callable[..., None],
    horizon: Any,
    continuous: bool = False,
) -> Any:
    """X of an equation with a dense matrix on NumPy, in units d of its rows and e of its columns
    that rounding likes: (D⁻¹ A D) (D⁻¹ X E⁻¹) (E⁻¹ B E)ᴴ − D⁻¹ X E⁻¹ + D⁻¹ Q E⁻¹ = 0, and alike in
    continuous time, with a warning where rounding counts."""
    same = B is A
    # Over a horizon states have its time beside their own.
    slowest = 1 / horizon if continuous and horizon is not None else 0.0
    units = partial(_units, continuous=continuous, slowest=slowest)
    d = units(A, Q)
    e = d if same else units(B, adjoint(Q / d))
    if not same or np.any(d != 1):
        d = units(A, Q / np.swapaxes(e, -1, -2))
        e = d if same else e
    A = _in_units(A, d)
    B = A if same else _in_units(B, e)
    row = np.swapaxes(e, -1, -2)
    Q = Q / d / row
    exponent = size_exponent(Q)[..., None, None]
    Q, solve = scaled(Q, -exponent), solver_of(A, B)
    X = solve(Q)
    warn_if_sensitive(A, Q, B, X, solve, horizon)
    return scaled(X * d, exponent) * row


def growth_by_solving(A: np.ndarray, solve: SteinSolver) -> np.ndarray | float:
    """(...) Σ ‖A^k‖_F², or ∫ ‖e^{At}‖_F² dt, the trace of the solution for B = A and Q = I;
    infinite unless A is stable, which that solution tells by its inertia (Taussky)."""
    X = solve(np.broadcast_to(np.eye(A.shape[-1]), A.shape))
    try:
        np.linalg.cholesky(X)
    except np.linalg.LinAlgError:
        return np.inf
    return np.trace(X, axis1=-2, axis2=-1).real


def _units(A: StateMatrix, Q: np.ndarray, continuous: bool, slowest: float) -> np.ndarray:
    """(..., n, 1) units of the rows of Q that suit a dense A; those of a structured A stay."""
    if is_structured(A):
        return np.ones((*Q.shape[:-1], 1))
    return state_units(A, Q, continuous=continuous, slowest=slowest)[..., None]


def _in_units(A: StateMatrix, d: np.ndarray) -> StateMatrix:
    return A if np.all(d == 1) else rescaled(A, np.swapaxes(d, -1, -2), d)


def random_rounding(A: StateMatrix, rng: np.random.Generator) -> np.ndarray:
    """Random (..., n, n) with ‖δA‖_F about eps ‖A‖_F; of a structured A none of its poles moves by
    more than eps of its modulus."""
    if is_structured(A):
        return np.diag(EPSILON * rng.standard_normal(order_of(A)))
    return random_rounding_of(A, rng)


def random_rounding_of(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = ROUNDING * EPSILON * np.linalg.norm(X, axis=(-2, -1), keepdims=True)
    noise = rng.standard_normal(X.shape[-2:])
    return noise * size / np.sqrt(noise.size)
