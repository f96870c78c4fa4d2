"""Stein (discrete Sylvester and Lyapunov) equations A X Bᴴ − X + Q = 0."""

from __future__ import annotations

from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import (
    check_horizon,
    like_precision,
)
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, asked_together, is_finite, is_numpy
from ..errors import NonFiniteError, warn_precision
from ..systems.modes import is_real, mode_poles, multiply
from ..systems.structure import (
    StateMatrix,
    Structure,
    is_structured,
    order_of,
    parameters,
    to_dense,
)
from .dense import (
    ACCURACY,
    RawSolver,
    SchurForms,
    growth_bound,
    mixed_solver,
    schur_form,
    schur_form_for_powers,
    schur_solver,
    smallest_pair,
    sum_by_doubling,
    sum_to_convergence,
)
from .descriptor import solve_in_standard_form
from .modal import modal_solver
from .two_sided import (
    ROUNDING,
    SteinSolver,
    checked_equation,
    growth_by_solving,
    keeping_real,
    nothing_to_solve,
    random_rounding,
    random_rounding_of,
    solve_in_units,
    swapped,
)

#: Changes tried: one alone may leave the pole that matters where it is.
_PROBES = 3


@overload
def solve_stein(
    A: Structure[np.ndarray] | ArrayLike,
    Q: ArrayLike,
    B: Structure[np.ndarray] | ArrayLike | None = None,
    *,
    horizon: int | None = None,
    E: ArrayLike | None = None,
) -> np.ndarray: ...
@overload
def solve_stein(
    A: StateMatrix[Array],
    Q: Array,
    B: StateMatrix[Array] | None = None,
    *,
    horizon: int | None = None,
    E: Array | None = None,
) -> Array: ...
@asked_together
def solve_stein(A: Any, Q: Any, B: Any = None, *, horizon: int | None = None, E: Any = None) -> Any:
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
    E : (..., n, n) array, optional
        Regular descriptor matrix, without B: A X Aᴴ − E X Eᴴ + Q = 0, by a generalised Schur form;
        over a horizon the sum for E⁻¹A, E⁻¹QE⁻ᴴ. Dense A on NumPy.

    Returns
    -------
    X : (..., n, l) array in the common precision of the arguments, real when they are.

    Conditions: no product λ_i(A)·conj λ_j(B) equals 1 (always true for stable matrices); none with
    a horizon.

    Accuracy: for structured A and B, X is entrywise accurate in the basis of the modes, since
    1 − λ_i conj λ_j is formed from radii and phases without cancellation: poles near the unit
    circle keep their relative accuracy (`Rotation`: exactly those given; `Diagonal`: those given,
    perturbed in the last digit). Dense: a Schur method that leaves a residual of some n 2.2e-16
    (‖A‖‖X‖‖B‖ + ‖X‖ + ‖Q‖), in units of the states that A, B and Q decide, so that those given do
    not matter. Libraries without Schur forms square A in
    the states given, which rounds by eps ‖A‖² and moves poles of a non-normal A far.

    Cost: O(n l) when both are structured; O(n l² + l³) for a structured A and a dense B, likewise
    the other way; O(n³ + l³) when both are dense: complex Schur forms and a recursive triangular
    solve. Libraries without Schur forms square instead (Smith), about
    log2(36/(1 − |λ|)) steps of matrix products, for stable matrices only. With a horizon, dense
    matrices take at most 2 log2 T steps of products on any library, on NumPy in Schur form.

    CuPy: on the device; by one kernel and with one wait for structured A and B.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    SingularEquationError
        For a singular E. Names the pair of poles whose product is 1.

    Warns
    -----
    PrecisionWarning
        Where rounding of dense matrices, in those units, changes the solution by more than 1e-6 of
        itself: measured by a change of that size. Names the pair of poles with the product nearest
        to 1.

    Source: Kitagawa, Int. J. Control 25 (1977) for dense matrices; Smith, SIAM J. Appl. Math. 16
    (1968) for the squaring.


    >>> A = lti.Diagonal([0.6, 0.8])
    >>> lti.solve_stein(A, np.ones((2, 2))).round(4)  # 1/(1 − λ_i λ_j)
    array([[1.5625, 1.9231],
           [1.9231, 2.7778]])
    >>> lti.solve_stein(np.eye(1), np.eye(1), horizon=10)
    array([[10.]])

    """
    horizon = check_horizon(horizon)
    if E is not None:
        return solve_in_standard_form(partial(solve_stein, horizon=horizon), E, A, Q, B)
    A, Q, B, single = checked_equation(A, Q, B)
    dense = is_numpy(Q) and not (is_structured(A) and is_structured(B)) and 0 not in Q.shape[-2:]
    X = (
        solve_in_units(A, Q, B, partial(stein_solver, horizon=horizon), _warn_if_sensitive, horizon)
        if dense
        else stein_solver(A, B, horizon)(Q)
    )
    if horizon is not None and not is_finite(X):
        raise NonFiniteError(
            "the sum over the horizon overflows: Q or the powers of A and B over it are too large. "
            "Take a shorter one"
        )
    return like_precision(X, single)


def stein_solver(
    A: StateMatrix, B: Any = None, horizon: int | None = None, stable: bool = False
) -> SteinSolver:
    """``solve(Q, adjoint=False)`` for many Q with one preparation.

    For use inside the library: everything in double precision and of one batch shape.

        solve(Q):                A X Bᴴ − X + Q = 0
        solve(G, adjoint=True):  Aᴴ Y B − Y + G = 0

    ``stable`` : whether structured A and B are known to be.

    Structured: the factors φ(λ_i conj λ_j) are formed once, the adjoint has their conjugates.
    Dense: the Schur forms are computed once.
    """
    B = A if B is None else B
    solve: RawSolver
    if 0 in (order_of(A), order_of(B)):
        solve = nothing_to_solve(A, B)
    elif is_structured(A) and is_structured(B):
        solve = modal_solver(A, B, horizon, stable)
    elif not all(is_numpy(x) for x in (*parameters(A), *parameters(B))):
        solve = _series_solver(to_dense(A), to_dense(B), horizon)
    elif horizon is not None:
        A_schur = _forms_for_powers(A)
        solve = schur_solver(A_schur, A_schur if B is A else _forms_for_powers(B), horizon)
    elif is_structured(A):
        solve = mixed_solver(A, B)
    elif is_structured(B):
        solve = swapped(mixed_solver(B, A, names=("B", "A")))
    else:
        A_schur = schur_form(A)
        solve = schur_solver(A_schur, A_schur if B is A else schur_form(B))
    return keeping_real(solve, is_real(A) and is_real(B))


def _forms_for_powers(A: StateMatrix) -> SchurForms:
    """Of a structured A its blocks, in the states given."""
    if not is_structured(A):
        return schur_form_for_powers(A)
    T = to_dense(A)
    U = np.eye(order_of(A))
    return T, U


def _warn_if_sensitive(
    A: StateMatrix,
    Q: np.ndarray,
    B: StateMatrix,
    X: np.ndarray,
    solve: SteinSolver,
    horizon: int | None,
) -> None:
    """Warn where rounding of A, B and Q changes X by more than 1e-6 of itself.

    Measured with random δA, δB and δQ of the size that Schur forms leave, ‖δA‖_F = 4 eps ‖A‖_F; the
    poles of a structured A round by eps. To first order A δX Bᴴ − δX + δA X Bᴴ + A X δBᴴ + δQ = 0;
    sums over a horizon are computed again.
    """
    # A cheap bound first: ‖X‖ ≤ Σ ‖A^k‖‖Q‖‖B^k‖ for any right side Q.
    if B is A and horizon is None and not is_structured(A):
        size = np.linalg.norm(A, axis=(-2, -1))
        with np.errstate(invalid="ignore"):
            grown = growth_by_solving(A, solve) * size**2
    else:
        (growth_A, size_A), (growth_B, size_B) = _growth_and_size(A), _growth_and_size(B)
        with np.errstate(invalid="ignore"):  # ∞ · 0 tells nothing
            grown = np.sqrt(growth_A) * size_A * np.sqrt(growth_B) * size_B
    if np.all(2 * ROUNDING * EPSILON * grown <= ACCURACY) or not np.all(np.isfinite(X)):
        return
    rng = np.random.default_rng(0)
    XB, AX = adjoint(multiply(B, adjoint(X))), multiply(A, X)
    size, share = np.linalg.norm(X, axis=(-2, -1)), 0.0
    for _ in range(_PROBES):
        of_A, of_B, of_Q = (
            random_rounding(A, rng),
            random_rounding(B, rng),
            random_rounding_of(Q, rng),
        )
        if horizon is None:
            change = solve(of_A @ XB + AX @ adjoint(of_B) + of_Q)
        else:
            change = stein_solver(to_dense(A) + of_A, to_dense(B) + of_B, horizon)(Q + of_Q) - X
        change = np.linalg.norm(change, axis=(-2, -1)) / np.where(size > 0, size, 1)
        # No number is no small one.
        share = float(np.maximum(share, np.max(change, initial=0)))
    if share <= ACCURACY:
        return
    if horizon is not None:
        warn_precision(
            f"rounding may carry a relative error of {share:.0e} into the sum over the horizon, in "
            f"the best units of the states: {horizon - 1} powers of A and B are that sensitive"
        )
        return
    poles = [mode_poles(x) for x in (A, B)]
    gap = np.abs(1 - poles[0][..., :, None] * poles[1].conj()[..., None, :])
    warn_precision(
        f"rounding may carry a relative error of {share:.0e} into the solution of the Stein "
        f"equation, in the best units of the states: |1 − λ_i·conj λ_j| = {gap.min():.1e} for the "
        f"poles of modes {smallest_pair(gap, ('A', 'B'))}. Diagonal and Rotation structures "
        "keep poles near the unit circle exactly"
    )


def _growth_and_size(A: StateMatrix) -> tuple[np.ndarray, np.ndarray]:
    """(...) a bound on Σ_k ‖A^k‖₂², infinite where none is found cheaply, and ‖A‖."""
    if not is_structured(A):
        return growth_bound(A), np.linalg.norm(A, axis=(-2, -1))
    radius = np.max(A.radii, axis=-1)
    inside = radius < 1
    growth = 1 / np.where(inside, (1 - radius) * (1 + radius), 1)
    return np.where(inside, growth, np.inf), radius


def doubling_solver(A: Array, horizon: int) -> SteinSolver:
    """:func:`stein_solver` over a horizon that squares A as it is: for A in Schur form."""
    solve = _series_solver(A, A, horizon)
    return lambda Q, adjoint=False: solve(Q, adjoint)


def _series_solver(A: Array, B: Array, horizon: int | None) -> RawSolver[Array]:
    """Solve by summing A^k Q (Bᴴ)^k in the states given."""

    def total(A: Array, Q: Array, B: Array) -> Array:
        if horizon is None:
            return sum_to_convergence(A, Q, B)
        return sum_by_doubling(A, Q, B, horizon)

    def solve(Q: Array, adjoint_equation: bool) -> Array:
        return total(adjoint(A), Q, adjoint(B)) if adjoint_equation else total(A, Q, B)

    return solve
