"""Norms of systems and of their differences."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from ._arrays import Array, holds, is_numpy, namespace
from ._check import is_single, like_precision, to_double
from ._doors import as_linear, as_system
from ._linalg import adjoint, conjugate, pad_values, real_part
from ._modes import to_modes
from ._stability import HORIZON, NOTHING, offering, require_stable
from .algebra import common_dt
from .errors import (
    ArgumentError,
    ArrayLibraryError,
    NonFiniteError,
    SingularEquationError,
    warn_precision,
)
from .gramians import balance_states, double_gramians, low_rank_pays, modal_factor
from .hankel import hankel_singular_values
from .quadratic import (
    QuadraticOutputLTI,
    System,
    cross_trace,
    forms_of,
    in_eigenbasis,
    linear_part,
    mapped,
    mean_outputs,
)
from .response import frequency_response
from .stein import solve_stein
from .structure import is_structured, map_parameters
from .systems import LTI, in_double

#: An eigenvalue of the symplectic pencil this close to the circle counts as on it. One too many
#: only adds a frequency to look at; one too few can hide a peak.
_ON_CIRCLE = 1e-4
_MAX_LEVELS = 60
#: Negative squares up to this share of what they are sums of are rounding, in equations that are
#: solved without a warning.
_NOISE = 1e-6
#: Reduced systems whose eigenvectors have at most this condition are measured in their modes.
_WELL_CONDITIONED = 1e6


@offering(NOTHING)
def hankel_norm(sys: LTI) -> Array:
    """Largest Hankel singular value σ_1, one per batch entry.

    Cost and errors as for :func:`lticore.hankel_singular_values`.
    """
    return pad_values(hankel_singular_values(sys), 1)[..., 0]


@offering(HORIZON)
def h2_norm(sys: System, *, horizon: int | None = None) -> Array:
    """‖Σ‖_h2 = (Σ_k ‖h_k‖_F²)^{1/2} = (tr C P Cᴴ + ‖D‖_F²)^{1/2}, one per batch entry.

    With quadratic outputs their kernels h_{jk} = Bᴴ (Aᴴ)^j M_i A^k B count likewise:
    tr C P Cᴴ + Σ_i tr(P M_i P M_i).

    Parameters
    ----------
    horizon : int ≥ 1, optional
        Count the lags k = 1 … T only (and D).

    Cost: O(n² (m + p)) structured, O(n³) dense.

    Raises
    ------
    UnstableSystemError, ArgumentError
    SingularEquationError
        When a dense Gramian is so far off that the square is negative.
    """
    sys = as_system(sys)
    squared = _squared_norm(sys, horizon) + _squared_feedthrough(_feedthrough(sys))
    return like_precision(namespace(squared).sqrt(squared), is_single(sys.B))


@offering(HORIZON)
def h2_error(
    sys: System,
    reduced: System,
    *,
    horizon: int | None = None,
) -> Array:
    """‖Σ − Σ̂‖_h2, one per batch entry.

        ‖Σ − Σ̂‖² = ‖Σ‖² + ‖Σ̂‖² − 2 Re tr(C X Ĉᴴ) + ‖D − D̂‖_F²,    A X Âᴴ − X + B B̂ᴴ = 0

    With quadratic outputs less 2 Σ_i tr(Xᴴ M_i X M̂_i); a linear system has M = 0.

    Accuracy: absolute, about 1e-16 · ‖Σ‖² in the square, so 1e-8 · ‖Σ‖ in the error itself;
    negative squares from rounding become 0. A dense system holds a pole λ to 1e-16 only, which
    adds 1e-16/(1 − |λ|) · ‖Σ̂‖ to the error where ``reduced`` is dense, and 1e-16/(1 − |λ|) · ‖Σ‖²
    to its square where ``sys`` is, or where the modes of ``reduced`` have a condition above 1e6.

    Cost: O(n r (m + p)) for the mixed term when both are structured, O(n³ + r³) otherwise.
    Quadratic outputs add O(p n r (n + r)), or O(p n c r) for factors of rank c.

    Raises
    ------
    UnstableSystemError
    ArgumentError
        When inputs or outputs differ in number.
    """
    sys, reduced = as_system(sys), as_system(reduced, "reduced")
    _check_same_signals(sys, reduced)
    xp = namespace(sys.B, reduced.B)
    single = is_single(sys.B) and is_single(reduced.B)
    reduced = _in_modes(reduced)
    A, A_reduced = (map_parameters(to_double, x.A) for x in (sys, reduced))
    B, C, B_reduced, C_reduced = map(to_double, (sys.B, sys.C, reduced.B, reduced.C))
    own = _squared_norm(sys, horizon) + _squared_norm(reduced, horizon)
    X = solve_stein(A, B @ adjoint(B_reduced), A_reduced, horizon=horizon)
    mixed = real_part(xp.sum((C @ X) * conjugate(C_reduced), axis=(-2, -1)))
    mixed = mixed + cross_trace(forms_of(sys), X, forms_of(reduced))
    D, D_reduced = _feedthrough(sys), _feedthrough(reduced)
    if D is None or D_reduced is None:
        D = D_reduced if D is None else D
    else:
        D = to_double(D) - to_double(D_reduced)
    squared = _non_negative(own - 2 * mixed) + _squared_feedthrough(D)
    return like_precision(xp.sqrt(squared), single)


def output_shift(sys: System, reduced: System) -> Array:
    """The constant to add to the outputs of ``reduced`` so that they have the mean of those of
    ``sys`` under white noise.

        b_i = tr(M_i P) − tr(M̂_i P̂)

    Without it the mean square of the error under white Gaussian noise of unit variance is
    ‖linear part‖² + 2 ‖quadratic part‖² + |b|², in the h2 norm of the difference.

    Returns
    -------
    (..., p) real array; zero for two linear systems.

    Cost: O(n² (m + p)) structured, O(n³) dense.

    Raises
    ------
    UnstableSystemError
    """
    sys, reduced = as_system(sys), as_system(reduced, "reduced")
    _check_same_signals(sys, reduced)
    means = []
    for one in (sys, reduced):
        (P,) = double_gramians(linear_part(one), which="P")
        means.append(mean_outputs(one, P))
    return like_precision(means[0] - means[1], is_single(sys.B) and is_single(reduced.B))


def hinf_norm(sys: LTI, *, rtol: float = 1e-8) -> Array:
    """‖Σ‖_h∞ = max_ω σ_max(H(e^{iω})), one per batch entry.

    A level γ is exceeded somewhere exactly where the symplectic pencil of (A, B, C, D, γ) has an
    eigenvalue on the unit circle. Starting from sampled frequencies (poles' phases included),
    the level is raised to the largest response found between crossings until a level
    (1 + rtol) γ has none: no peak can hide between samples.

    Parameters
    ----------
    rtol : float in [1e-12, 1)
        The result γ satisfies γ ≤ ‖Σ‖ ≤ (1 + rtol) γ, up to the rounding of the eigenvalue test,
        which sees no responses below about 1e-15 · ‖B‖‖C‖.

    Returns
    -------
    (...) real array. The certificate is computed by LAPACK on NumPy arrays, one entry at a time.

    Cost: a few QZ decompositions of order 2n + m + p: O(n³).

    Raises
    ------
    UnstableSystemError, ArgumentError, ArrayLibraryError

    Source: Bruinsma & Steinbuch, Systems & Control Letters 14 (1990); Boyd & Balakrishnan (1990).
    """
    sys = as_linear(sys)
    if not 1e-12 <= rtol < 1:
        raise ArgumentError(f"rtol must lie in [1e-12, 1), but is {rtol!r}")
    if not is_numpy(sys.B):
        raise ArrayLibraryError("hinf_norm needs LAPACK's QZ and so NumPy arrays")
    require_stable(sys, what="the h-infinity norm")
    full = in_double(sys)
    peaks = [_peak_gain(full[index], rtol) for index in np.ndindex(sys.batch_shape)]
    return like_precision(np.reshape(np.asarray(peaks), sys.batch_shape), is_single(sys.B))


def _peak_gain(sys: LTI, rtol: float) -> float:
    # Gains come from the structured system, whose poles near the circle keep their digits.
    def gain(omega: np.ndarray) -> float:
        return float(np.max(np.linalg.norm(frequency_response(sys, omega), 2, axis=(-2, -1))))

    dense = sys.to_dense()
    level = gain(np.concatenate([np.linspace(-np.pi, np.pi, 64), np.angle(sys.poles)]))
    for _ in range(_MAX_LEVELS):
        if level == 0:
            return 0.0
        crossings = _level_crossings(dense, (1 + rtol) * level)
        if len(crossings) == 0:
            return level
        # Between two neighbouring crossings the gain stays above the level, or below it.
        following = np.append(crossings[1:], crossings[0] + 2 * np.pi)
        higher = gain((crossings + following) / 2)
        if higher <= level * (1 + rtol):
            return max(level, higher)
        level = higher
    warn_precision(
        f"the h-infinity norm still grew after {_MAX_LEVELS} levels: {level} is a lower bound"
    )
    return level


def _level_crossings(sys: LTI, level: float) -> np.ndarray:
    """Sorted phases ω at which some singular value of H(e^{iω}) equals ``level``.

    They are the unit-circle eigenvalues of the extended symplectic pencil M − zN in the variables
    (x, λ, u, y), of x⁺ = A x + B u, γ y = C x + D u, λ = Aᴴ λ⁺ + Cᴴ y, γ u = Bᴴ λ⁺ + Dᴴ y: no
    inverse is taken and γ enters scaled.
    """
    A, B, C = sys.A, sys.B, sys.C
    n, m, p = sys.order, sys.inputs, sys.outputs
    D = np.zeros((p, m)) if sys.D is None else sys.D
    size = 2 * n + m + p
    M, N = np.zeros((2, size, size), dtype=np.complex128)
    x, lam, u, y = np.split(np.arange(size), np.cumsum([n, n, m]))
    scale = np.sqrt(level)

    def put(target: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: np.ndarray) -> None:
        target[np.ix_(rows, columns)] = block

    put(M, x, x, A)
    put(M, x, u, B / scale)
    put(N, x, x, np.eye(n))
    put(M, lam, lam, np.eye(n))
    put(M, lam, y, -adjoint(C) / scale)
    put(N, lam, lam, adjoint(A))
    put(M, u, u, -np.eye(m))
    put(M, u, y, adjoint(D) / level)
    put(N, u, lam, -adjoint(B) / scale)
    put(M, y, x, C / scale)
    put(M, y, u, D / level)
    put(M, y, y, -np.eye(p))
    alpha, beta = scipy.linalg.eigvals(M, N, homogeneous_eigvals=True)
    finite = np.abs(beta) > _ON_CIRCLE * np.abs(alpha)
    z = alpha[finite] / beta[finite]
    on_circle = np.abs(np.abs(z) - 1) < _ON_CIRCLE
    return np.sort(np.angle(z[on_circle]))


def _squared_norm(sys: System, horizon: int | None) -> Array:
    if isinstance(sys, QuadraticOutputLTI):
        (P,) = double_gramians(sys.linear, horizon, which="P")
        return _squared_norm(sys.linear, horizon) + cross_trace(forms_of(sys), P, forms_of(sys))
    if low_rank_pays(sys, horizon):
        xp = namespace(sys.B)
        scaled, _ = balance_states(in_double(sys))
        R = modal_factor(scaled, "P")
        modal_C = adjoint(to_modes(scaled.A, adjoint(scaled.C)))
        return xp.sum(xp.abs(modal_C @ R) ** 2, axis=(-2, -1))
    (P,) = double_gramians(sys, horizon, which="P")
    xp, C = namespace(P), to_double(sys.C)
    squared = real_part(xp.sum((C @ P) * conjugate(C), axis=(-2, -1)))
    terms = (xp.abs(C) @ xp.abs(P)) * xp.abs(C)
    # An overflow is no negative square.
    found = _non_negative(squared)
    if not holds(squared >= -_NOISE * xp.sum(terms, axis=(-2, -1))):
        raise SingularEquationError(
            "the squared h2 norm came out negative, far beyond rounding: the equation of the "
            "Gramian is so nearly singular that its solution is not positive. Balance the units of "
            "the states (scipy.linalg.matrix_balance), or give the poles as Diagonal or Rotation"
        )
    return found


def _non_negative(squared: Array) -> Array:
    """``squared`` with the negative values that rounding leaves set to 0."""
    xp = namespace(squared)
    if not holds(xp.isfinite(squared)):
        raise NonFiniteError(
            "the squared norm overflows: scale B and C down, since norms scale with them"
        )
    return xp.where(squared > 0, squared, xp.zeros_like(squared))


def _check_same_signals(sys: System, reduced: System) -> None:
    if (sys.inputs, sys.outputs) != (reduced.inputs, reduced.outputs):
        raise ArgumentError(
            f"the systems map {sys.inputs} inputs to {sys.outputs} outputs and {reduced.inputs} "
            f"to {reduced.outputs}: their difference is not defined"
        )
    common_dt(sys.dt, reduced.dt)


def _in_modes(sys: System) -> System:
    """A dense system in its modes, where they are well conditioned, in float64.

    Next to the circle the rounding of a pole counts for much. In modes all terms of an error have
    the same poles, and it counts once, not as the difference of two large norms.
    """
    if is_structured(sys.A) or not is_numpy(sys.B) or sys.order == 0:
        return sys
    sys = mapped(to_double, sys)
    poles, V = np.linalg.eig(sys.A)
    if not np.max(np.linalg.cond(V), initial=0) <= _WELL_CONDITIONED:
        return sys
    return in_eigenbasis(sys, poles, V)


def _feedthrough(sys: System) -> Array | None:
    return None if isinstance(sys, QuadraticOutputLTI) else sys.D


def _squared_feedthrough(D: Array | None) -> Array | float:
    if D is None:
        return 0.0
    xp = namespace(D)
    return xp.sum(xp.abs(to_double(D)) ** 2, axis=(-2, -1))
