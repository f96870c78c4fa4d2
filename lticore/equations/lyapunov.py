"""Lyapunov (continuous Sylvester) equations A X + X Bᴴ + Q = 0."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from ..arrays.checks import check_duration, like_precision
from ..arrays.linalg import EPSILON, adjoint, complex_of
from ..arrays.namespaces import Array, asked_together, holds, is_finite, is_numpy, namespace
from ..errors import ArrayLibraryError, NonFiniteError, SingularEquationError, warn_precision
from ..systems.modes import from_modes, is_real, mode_poles, to_modes
from ..systems.structure import (
    StateMatrix,
    Structure,
    is_structured,
    order_of,
    parameters,
    structure_of,
    to_dense,
)
from .dense import (
    ACCURACY,
    RawSolver,
    SchurForms,
    growth_bound,
    reversed_adjoint,
    schur_form,
    smallest_pair,
    solver_in_schur_forms,
    sum_to_convergence,
    triangular_equation_reference,
)
from .descriptor import solve_in_standard_form
from .integrals import integral_by_doubling
from .modal import solver_by_factors
from .short_times import TERMS
from .stability import time_exponent
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

#: Below this size a triangular equation is left to LAPACK.
_LEAF = 64
#: Changes tried: one alone may leave the poles that matter where they are.
_PROBES = 3


@overload
def solve_lyapunov(
    A: StateMatrix[np.ndarray] | ArrayLike,
    Q: ArrayLike,
    B: StateMatrix[np.ndarray] | ArrayLike | None = None,
    *,
    horizon: float | None = None,
    E: ArrayLike | None = None,
) -> np.ndarray: ...
@overload
def solve_lyapunov(
    A: StateMatrix[Array],
    Q: Array,
    B: StateMatrix[Array] | None = None,
    *,
    horizon: float | None = None,
    E: Array | None = None,
) -> Array: ...
@asked_together
def solve_lyapunov(
    A: Any, Q: Any, B: Any = None, *, horizon: float | None = None, E: Any = None
) -> Any:
    """Solve A X + X Bᴴ + Q = 0, or integrate over a finite time.

        horizon=None:   X with A X + X Bᴴ + Q = 0      ( = ∫_0^∞ e^{At} Q e^{Bᴴt} dt when stable)
        horizon=T:      X = ∫_0^T e^{At} Q e^{Bᴴt} dt   (any A and B)

    Parameters
    ----------
    A : Diagonal, Oscillation, Rotation or (..., n, n) array
    Q : (..., n, l) array
    B : the same kinds with l states, optional
        Defaults to A, the Lyapunov case. The adjoint equation Aᴴ Y + Y B + G = 0 is
        ``solve_lyapunov(A.H, G, B.H)``, for arrays with ``A.conj().mT`` and ``B.conj().mT``.
    horizon : float > 0, optional
        T in the unit of time of A.
    E : (..., n, n) array, optional
        Regular descriptor matrix, without B: A X Eᴴ + E X Aᴴ + Q = 0, by a generalised Schur form;
        over a horizon the integral for E⁻¹A, E⁻¹QE⁻ᴴ. Dense A on NumPy.

    Returns
    -------
    X : (..., n, l) array in the common precision of the arguments, real when they are.

    Conditions: no sum λ_i(A) + conj λ_j(B) is 0 (always true for stable matrices); none with a
    horizon.

    Accuracy: for structured A and B, X is entrywise accurate in the basis of the modes. Dense: a
    Schur method that leaves a residual of some n 2.2e-16 (‖A‖ + ‖B‖)‖X‖, in units of the states
    that A, B and Q decide, so that those given do not matter. Over a horizon a structured matrix
    beside a dense one counts as dense.

    Cost: O(n l) when both are structured; O(n l² + l³) for a structured A and a dense B, likewise
    the other way; O(n³ + l³) when both are dense. Dense arrays of other
    libraries become a Stein equation of stable matrices (Cayley) and are squared. A horizon takes
    log2(‖A‖ T) more steps of products.

    CuPy: on the device; the host waits once, for dense matrices more often (docs/cupy.md).

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    SingularEquationError
        For a singular E. Names the pair of poles whose sum is 0.

    Warns
    -----
    PrecisionWarning
        Where rounding of dense matrices, in those units, changes the solution by more than 1e-6 of
        itself: measured by a change of that size.

    Source: Bartels & Stewart, Comm. ACM 15 (1972).


    >>> A = lti.Diagonal([-1.0, -2.0])
    >>> lti.solve_lyapunov(A, np.ones((2, 2))).round(4)  # −1/(λ_i + λ_j)
    array([[0.5   , 0.3333],
           [0.3333, 0.25  ]])

    """
    horizon = check_duration(horizon)
    if E is not None:
        return solve_in_standard_form(partial(solve_lyapunov, horizon=horizon), E, A, Q, B)
    A, Q, B, single = checked_equation(A, Q, B)
    dense = is_numpy(Q) and not (is_structured(A) and is_structured(B)) and 0 not in Q.shape[-2:]
    X = _solve_in_unit_time(A, Q, B, horizon) if dense else lyapunov_solver(A, B, horizon)(Q)
    if horizon is not None and not is_finite(X):
        raise NonFiniteError(
            "the integral over the horizon overflows: Q or e^{At} over it are too large. Take a "
            "shorter one"
        )
    return like_precision(X, single)


def _solve_in_unit_time(
    A: StateMatrix, Q: np.ndarray, B: StateMatrix, horizon: float | None
) -> np.ndarray:
    """X in a unit of time in which the larger of A and B has about size one, and in units of the
    states."""
    same, exponent = B is A, np.maximum(time_exponent(A), time_exponent(B))
    duration = None
    if horizon is not None:
        # One time for a whole batch, no longer than the horizon: what A does later decides nothing.
        fastest = max(float(exponent.max(initial=-math.inf)), -round(math.log2(horizon)))
        exponent = np.full_like(exponent, fastest)
        duration = horizon * 2.0**fastest
    A = structure_of(A).times(2.0**-exponent)
    B = A if same else structure_of(B).times(2.0**-exponent)
    Q = Q * 2.0 ** -exponent[..., None, None]
    solver_of = partial(lyapunov_solver, horizon=duration)
    return solve_in_units(A, Q, B, solver_of, _warn_if_lyapunov_sensitive, duration, True)


def lyapunov_solver(A: StateMatrix, B: Any = None, horizon: float | None = None) -> SteinSolver:
    """``solve(Q, adjoint=False)`` for many Q with one preparation.

    For use inside the library: everything in double precision and of one batch shape.

        solve(Q):                A X + X Bᴴ + Q = 0
        solve(G, adjoint=True):  Aᴴ Y + Y B + G = 0
    """
    B = A if B is None else B
    solve: RawSolver
    if 0 in (order_of(A), order_of(B)):
        solve = nothing_to_solve(A, B)
    elif is_structured(A) and is_structured(B):
        solve = _lyapunov_in_modes(A, B, horizon)
    elif not all(is_numpy(x) for x in (*parameters(A), *parameters(B))):
        solve = _cayley_solver(to_dense(A), to_dense(B), horizon)
    elif horizon is not None:
        integral = partial(integral_by_doubling, duration=horizon)
        solve = _triangular_solver(to_dense(A), to_dense(B), integral)
    elif is_structured(A):
        solve = _mixed_solver(A, B)
    elif is_structured(B):
        solve = swapped(_mixed_solver(B, A))
    else:
        solve = _triangular_solver(A, B, _solve_triangular)
    return keeping_real(solve, is_real(A) and is_real(B))


def _lyapunov_in_modes(
    A: Structure[Array], B: Structure[Array], horizon: float | None
) -> RawSolver[Array]:
    """In the modes X_ij = Q_ij/d_ij, d_ij = −(a_i + conj b_j); over a horizon
    X_ij = T Q_ij expm1(z)/z, z = −d_ij T."""
    return solver_by_factors(A, B, lyapunov_factors(A, B, horizon))


def lyapunov_factors(
    A: Structure[Array], B: Structure[Array], horizon: float | None = None
) -> Array:
    """(..., n, l) factors φ(a_i + conj b_j) in mode order: −1/s, or (e^{sT} − 1)/s over a horizon.

    Raises
    ------
    SingularEquationError
        Where a sum is 0, without a horizon.
    """
    (decay, frequency), (decay_B, frequency_B) = A.decay_modes, B.decay_modes
    turn = frequency[..., :, None] - frequency_B[..., None, :]
    distance = complex_of(decay[..., :, None] + decay_B[..., None, :], -turn)
    xp = namespace(distance)
    zero = distance == 0
    if horizon is None:
        if not holds(~zero):
            raise SingularEquationError(_singular(smallest_pair(xp.abs(distance), ("A", "B"))))
        with np.errstate(over="ignore", invalid="ignore"):
            factors = 1 / distance
        if not is_finite(factors):
            raise NonFiniteError(
                "the solution overflows: poles are within 1e-308 of the imaginary axis"
            )
        return factors
    one = xp.ones_like(distance)
    safe = xp.where(zero, one, distance)
    return xp.where(zero, horizon * one, -xp.expm1(-horizon * safe) / safe)


def lyapunov_slopes(A: Structure[Array], B: Structure[Array], horizon: float) -> Array:
    """(..., n, l) φ_T'(w) = ∫_0^T t e^{wt} dt with w_ij = a_i + conj b_j, in mode order.

    T² (1 + (x − 1) e^x)/x² with x = wT, T² Σ x^k/(k! (k + 2)) where that would cancel.
    """
    (decay, frequency), (decay_B, frequency_B) = A.decay_modes, B.decay_modes
    turn = frequency[..., :, None] - frequency_B[..., None, :]
    x = horizon * complex_of(-decay[..., :, None] - decay_B[..., None, :], turn)
    xp = namespace(x)
    near = xp.abs(x) < 1
    small, large = xp.where(near, x, 0 * x), xp.where(near, 0 * x + 1, x)
    series = 0 * x
    for k in range(TERMS, -1, -1):
        series = 1 / (k + 2) + small * series / (k + 1)
    # T/x before the square: that of x alone may be too large for a number.
    far = (horizon / large) ** 2 * (1 + (large - 1) * xp.exp(large))
    return xp.where(near, horizon**2 * series, far)


def _singular(pair: str) -> str:
    return (
        f"the Lyapunov equation is singular: the poles of modes {pair} have λ_i + conj λ_j = 0 to "
        "working precision. A finite `horizon` always has a solution"
    )


def _triangular_solver(A: np.ndarray, B: np.ndarray, solve_triangular: Any) -> RawSolver:
    """A = U T Uᴴ, B = V S Vᴴ with triangular T, S; then T Y + Y Sᴴ + Uᴴ Q V = 0, X = U Y Vᴴ."""
    A_schur = schur_form(A)
    return solver_in_schur_forms(A_schur, A_schur if B is A else schur_form(B), solve_triangular)


def triangular_lyapunov_solver(A_schur: SchurForms, B_schur: SchurForms) -> RawSolver:
    """The solver for Schur forms that are known."""
    return solver_in_schur_forms(A_schur, B_schur, _solve_triangular)


def _solve_triangular(T: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """T X + X Sᴴ + F = 0 for upper triangular T and S, by halving the larger side: with
    T = [[T1, T12], [0, T2]] the lower rows X2 come first and enter the upper ones through T12 X2,
    with S split alike the right columns through X S12ᴴ."""
    n, l = F.shape[-2:]
    if max(n, l) <= _LEAF:
        return _solve_leaf(T, F, S)
    first, last = slice(max(n, l) // 2), slice(max(n, l) // 2, None)
    if n >= l:
        lower = _solve_triangular(T[..., last, last], F[..., last, :], S)
        upper = F[..., first, :] + T[..., first, last] @ lower
        upper = _solve_triangular(T[..., first, first], upper, S)
        return np.concatenate([upper, lower], axis=-2)
    right = _solve_triangular(T, F[..., last], S[..., last, last])
    left = F[..., first] + right @ adjoint(S[..., first, last])
    left = _solve_triangular(T, left, S[..., first, first])
    return np.concatenate([left, right], axis=-1)


def _solve_leaf(T: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    poles, others = (np.diagonal(X, axis1=-2, axis2=-1) for X in (T, S))
    gap = np.abs(poles[..., :, None] + others.conj()[..., None, :])
    size = np.maximum(*(np.abs(X).max(axis=(-2, -1), keepdims=True, initial=0) for X in (T, S)))
    if np.all(gap > EPSILON * size):
        X = kernels.find(triangular_equation_reference, F)(T, F, S, True)
        if np.all(np.isfinite(X)):
            return X
    raise SingularEquationError(_singular(smallest_pair(gap / size, ("A", "B"))))


def _mixed_solver(A: Structure, B: np.ndarray) -> RawSolver:
    """Structured A, dense B = V S Vᴴ: column j of the modes, last first, is
    (λ + conj s_jj) ∘ x_j = −(f_j + Σ_{k>j} conj s_jk x_k)."""
    B_schur, poles = schur_form(B), mode_poles(A)

    def solve(Q: Any, adjoint_equation: bool) -> Any:
        here, (S, V) = poles, B_schur
        if adjoint_equation:
            here, (S, V) = poles.conj(), reversed_adjoint(S, V)
        X = to_modes(A, Q) @ V
        for j in range(X.shape[-1] - 1, -1, -1):
            sums = here + S[..., j, j, None].conj()
            if np.any(sums == 0):
                first = int(np.argmin(np.abs(sums))) % sums.shape[-1]
                raise SingularEquationError(_singular(f"{first} and {j}"))
            known = X[..., j + 1 :] @ S[..., j, j + 1 :, None].conj()
            X[..., j] = -(X[..., j] + known[..., 0]) / sums
        return from_modes(A, X @ adjoint(V))

    return solve


def _cayley_solver(A: Array, B: Array, horizon: float | None) -> RawSolver[Array]:
    """For libraries without Schur forms: with M = (αI − A)⁻¹, A' = M (αI + A), B' alike with N,

        A' X B'ᴴ − X + 2α M Q Nᴴ = 0

    has the same solution, and stable A and B give stable A' and B'."""
    if horizon is not None:
        raise ArrayLibraryError(
            "a Lyapunov equation of dense matrices over a horizon needs NumPy arrays"
        )
    xp = namespace(A, B)
    alpha = float(xp.sqrt(xp.linalg.matrix_norm(A) * xp.linalg.matrix_norm(B)).max()) or 1.0

    def resolvent(A: Array) -> tuple[Array, Array]:
        identity = xp.eye(A.shape[-1], dtype=A.dtype)
        M = xp.linalg.inv(alpha * identity - A)
        return M, M @ (alpha * identity + A)

    (M, A_discrete), (N, B_discrete) = (resolvent(X) for X in (A, B))

    def solve(Q: Array, adjoint_equation: bool) -> Array:
        left, right = (adjoint(M), N) if adjoint_equation else (M, adjoint(N))
        pair = (A_discrete, B_discrete)
        A, B = (adjoint(X) for X in pair) if adjoint_equation else pair
        return sum_to_convergence(A, 2 * alpha * left @ Q @ right, B)

    return solve


def _warn_if_lyapunov_sensitive(
    A: StateMatrix,
    Q: np.ndarray,
    B: StateMatrix,
    X: np.ndarray,
    solve: SteinSolver,
    horizon: float | None,
) -> None:
    """Warn where rounding of A, B and Q changes X by more than 1e-6 of itself.

    Measured with random δA, δB and δQ of the size that Schur forms leave; to first order
    A δX + δX Bᴴ + δA X + X δBᴴ + δQ = 0. Integrals over a horizon are computed again.
    """
    if not np.all(np.isfinite(X)):
        return
    if B is A and horizon is None and not is_structured(A):
        with np.errstate(invalid="ignore"):
            grown = 2 * growth_by_solving(A, solve) * np.linalg.norm(A, axis=(-2, -1))
    else:
        # ‖X‖ ≤ ∫ ‖e^{At}‖‖e^{Bt}‖ dt ‖Q‖ for any right side Q.
        growth, size = zip(*map(_growth_in_time, (A, B)), strict=True)
        with np.errstate(invalid="ignore"):  # ∞ · 0 tells nothing
            grown = np.sqrt(growth[0]) * np.sqrt(growth[1]) * (size[0] + size[1])
    if np.all(2 * ROUNDING * EPSILON * grown <= ACCURACY):
        return
    rng = np.random.default_rng(0)
    size, share = np.linalg.norm(X, axis=(-2, -1)), 0.0
    for _ in range(_PROBES):
        of_A, of_B, of_Q = (
            random_rounding(A, rng),
            random_rounding(B, rng),
            random_rounding_of(Q, rng),
        )
        if horizon is None:
            change = solve(of_A @ X + X @ adjoint(of_B) + of_Q)
        else:
            again = lyapunov_solver(to_dense(A) + of_A, to_dense(B) + of_B, horizon)
            change = again(Q + of_Q) - X
        change = np.linalg.norm(change, axis=(-2, -1)) / np.where(size > 0, size, 1)
        # No number is no small one.
        share = float(np.maximum(share, np.max(change, initial=0)))
    if share <= ACCURACY:
        return
    if horizon is not None:
        warn_precision(
            f"rounding may carry a relative error of {share:.0e} into the integral over the "
            "horizon, in the best units of the states"
        )
        return
    poles = [mode_poles(x) for x in (A, B)]
    gap = np.abs(poles[0][..., :, None] + poles[1].conj()[..., None, :])
    warn_precision(
        f"rounding may carry a relative error of {share:.0e} into the solution of the Lyapunov "
        "equation, in the best units of the states and of time: |λ_i + conj λ_j| = "
        f"{gap.min():.1e} of the fastest for the poles of modes {smallest_pair(gap, ('A', 'B'))}. "
        "Diagonal and Oscillation structures keep poles near the imaginary axis exactly"
    )


def _growth_in_time(A: StateMatrix) -> tuple[np.ndarray, np.ndarray]:
    """(...) a bound on ∫ ‖e^{At}‖² dt, infinite where none is found cheaply, and ‖A‖."""
    if not is_structured(A):
        return growth_bound(A, continuous=True), np.linalg.norm(A, axis=(-2, -1))
    decay = np.min(A.decays, axis=-1)
    inside = decay > 0
    return np.where(inside, 0.5 / np.where(inside, decay, 1), np.inf), np.max(A.radii, axis=-1)
