"""Norms of systems and of their differences."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np

from ..arrays.checks import check_horizon, is_single, like_precision, to_double
from ..arrays.linalg import (
    EPSILON,
    adjoint,
    adjoint_product,
    as_complex,
    conjugate,
    diagonal,
    pad_values,
    real_part,
)
from ..arrays.namespaces import Array, asked_together, holds, is_finite, is_numpy, namespace
from ..equations.cauchy import cauchy_factor
from ..equations.dense import factor_by_doubling, factor_over_time
from ..equations.hammarling import (
    factor_in_schur_form,
    move_at_stake,
    trace_at_stake,
    warn_if_lost,
    warn_if_moved,
)
from ..equations.low_rank import LowRankFactors, following_factor, low_rank_factors
from ..equations.lyapunov import solve_lyapunov
from ..equations.stability import (
    ERROR_OVER_HORIZON,
    HORIZON,
    HORIZON_VALUES,
    in_time,
    in_unit_time,
    offering,
    require_stable,
    schur_systems,
    unit_of_time,
)
from ..equations.stein import solve_stein
from ..errors import ArgumentError, NonFiniteError, SingularEquationError, counted
from ..hankel.gramians import (
    DEFAULT_RTOL,
    balance_states,
    double_gramians,
    has_factors,
    in_unit_signals,
    is_dense_numpy,
    low_rank_pays,
    refuse_horizon,
)
from ..hankel.schur_factors import factors_in_even_units
from ..hankel.values import hankel_singular_values
from ..matrices.factors import leading_svd
from ..systems.algebra import common_dt, feedthrough
from ..systems.doors import LinearLike, SystemLike, as_system
from ..systems.lti import LTI, in_double, replaced, spread
from ..systems.modes import mode_poles, signals_in_modes
from ..systems.quadratic import (
    QuadraticOutputLTI,
    System,
    absolute,
    cross_trace,
    forms_of,
    in_eigenbasis,
    linear_part,
    mapped,
    mean_outputs,
)
from ..systems.signals import scaled, size_exponent, with_outputs
from ..systems.structure import StateMatrix, is_sparse, is_structured, same_in_blocks

_WHAT = "an h2 norm"
#: Negative squares of sums over n states, up to this many times n eps times their terms, are
#: rounding: of the sums, and of equations whose entries are good to some eps.
_ROUNDINGS = 100
#: Differences of squares below this share of them are computed again from factors …
_CANCELLATION = 1e-4
#: … unless there are more states than this, whose factors at full rank are large.
_FEW = 1 << 12
#: Reduced systems whose eigenvectors have at most this condition are measured in their modes.
_WELL_CONDITIONED = 1e6


@offering(HORIZON_VALUES)
def hankel_norm(sys: LinearLike[Array]) -> Array:
    """Largest Hankel singular value σ_1, one per batch entry.

    Cost and errors as for :func:`lticore.hankel_singular_values`.

    CuPy: computed on the host, see docs/cupy.md.


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[1.0]])
    >>> print(lti.hankel_norm(sys).round(4))  # 1/(1 − 0.36)
    1.5625

    """
    largest = pad_values(hankel_singular_values(sys), 1)[..., 0]
    return largest if largest.ndim else largest[()]  # of one system a scalar


@offering(HORIZON)
@asked_together
def h2_norm(sys: SystemLike[Array], *, horizon: float | None = None) -> Array:
    """‖Σ‖_h2 = (Σ_k ‖h_k‖_F²)^{1/2} = (tr C P Cᴴ + ‖D‖_F²)^{1/2}, one per batch entry.

    Dense systems on NumPy: ‖C R‖_F with P = R Rᴴ by Hammarling's method, or by doubling over a
    horizon: a sum of squares.

    With quadratic outputs their kernels h_{jk} = Bᴴ (Aᴴ)^j M_i A^k B count likewise:
    tr C P Cᴴ + Σ_i tr(P M_i P M_i).

    Parameters
    ----------
    horizon : int ≥ 1, optional
        Count the lags k = 1 … T only (and D).

    Accuracy: relative, some 1e-15, unless modes cancel: 1e-15 of what they add up to, ‖|C| √diag P‖
    in the modes. Dense: of a matrix within 1e-15 ‖A‖ of A, in the best units of the states.

    Cost: O(n² (m + p)) structured, O(n³) dense.

    CuPy: on the device; the host waits once, for dense A more often (docs/cupy.md).

    Raises
    ------
    UnstableSystemError, ArgumentError
    SingularEquationError
        When a square comes out more negative than rounding allows.

    Warns
    -----
    PrecisionWarning
        Where the rounding of a dense A, in the best units of the states, can change the square by
        more than 1e-6 of itself.


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[1.0]])
    >>> print(lti.h2_norm(sys).round(4))  # √(1 + 0.36 + 0.36² + …)
    1.25

    """
    sys = as_system(sys, continuous=True, sparse=True)
    horizon = check_horizon(horizon, sys.is_continuous)
    check_strictly_proper(sys)
    unit, exponent = in_unit_signals(sys, horizon)
    square, terms, more = _square(unit, horizon)
    found = _with_feedthrough(_checked_square(square, terms, sys.order), exponent + more, sys)
    return like_precision(found, is_single(sys.B))


@offering(HORIZON)
@asked_together
def h2_error(
    sys: SystemLike[Array],
    reduced: SystemLike[Array],
    *,
    horizon: float | None = None,
) -> Array:
    """‖Σ − Σ̂‖_h2, one per batch entry.

        ‖Σ − Σ̂‖² = ‖Σ‖² + ‖Σ̂‖² − 2 Re tr(C X Ĉᴴ) + ‖D − D̂‖_F²,    A X Âᴴ − X + B B̂ᴴ = 0

    With quadratic outputs less 2 Σ_i tr(Xᴴ M_i X M̂_i); a linear system has M = 0.

    Linear systems: ‖[C, −Ĉ] R‖_F with P = R Rᴴ of both side by side, where the squares would cancel
    (structured, over the infinite horizon) or always (dense, on NumPy).

    Accuracy: absolute, some 1e-15 · (‖Σ‖ + ‖Σ̂‖), times the condition of the modes. Equal systems
    give such a number, or 0. Structured over a horizon, for quadratic outputs and for more than
    4 096 states it is the square that is right to 1e-15 (‖Σ‖² + ‖Σ̂‖²), the error itself to
    3e-8 (‖Σ‖ + ‖Σ̂‖); a square below zero within its rounding is given as 0. A dense system holds
    a pole λ to 1e-16 only, which adds 1e-16/(1 − |λ|) · (‖Σ‖ + ‖Σ̂‖) where one of both is dense;
    in continuous time over a horizon T 1e-16 ‖A‖T.

    Cost: O(n r (m + p)) for the mixed term when both are structured, O(n³ + r³) otherwise.
    Quadratic outputs add O(p n r (n + r)), or O(p n c r) for factors of rank c.

    CuPy: on the device; the host waits once, for dense A more often (docs/cupy.md).

    Raises
    ------
    UnstableSystemError
    ArgumentError
        When inputs or outputs differ in number.
    SingularEquationError
        When a square comes out more negative than rounding allows.

    Warns
    -----
    PrecisionWarning
        Where the rounding of dense matrices, in the best units of their states, moves a system by
        more than 1e-6 · (‖Σ‖ + ‖Σ̂‖).


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[1.0]])
    >>> delay = lti.LTI([[0.0]], [[1.0]], [[1.0]])
    >>> print(lti.h2_error(sys, delay).round(4))  # √(0.36 + 0.36² + …)
    0.75

    """
    sys = as_system(sys, continuous=True, sparse=True)
    reduced = as_system(reduced, "reduced", continuous=True)
    _check_same_signals(sys, reduced)
    horizon = check_horizon(horizon, sys.is_continuous)
    check_strictly_proper(sys, reduced)
    single = is_single(sys.B) and is_single(reduced.B)
    squared, exponent = _squared_difference(sys, reduced, horizon)
    return like_precision(_with_feedthrough(squared, exponent, sys, reduced), single)


def whole_h2_error(sys: System[Array], reduced: Any, horizon: float | None = None) -> Array:
    """:func:`h2_error`, infinite in continuous time for entries whose D differ."""
    if not (sys.is_continuous and isinstance(sys, LTI)):
        return h2_error(sys, reduced, horizon=horizon)
    D, other = (feedthrough(x.C, x.D, x.B) for x in (sys, reduced))
    differ = namespace(D, other).any(other != D, axis=(-2, -1))
    error = h2_error(replaced(sys, D=None), replaced(reduced, D=None), horizon=horizon)
    return namespace(error).where(differ, np.inf, error)


@offering(ERROR_OVER_HORIZON)
@asked_together
def output_shift(sys: SystemLike[Array], reduced: SystemLike[Array]) -> Array:
    """The constant to add to the outputs of ``reduced`` so that they have the mean of those of
    ``sys`` under white noise.

        b_i = tr(M_i P) − tr(M̂_i P̂)

    Without it the mean square of the error under white Gaussian noise of unit variance is
    ‖linear part‖² + 2 ‖quadratic part‖² + |b|², in the h2 norm of the difference.

    Returns
    -------
    (..., p) real array; zero for two linear systems.

    Cost: O(n² (m + p)) structured, O(n³) dense.

    CuPy: on the device; the host waits once, for dense A more often (docs/cupy.md).

    Raises
    ------
    UnstableSystemError


    >>> sys = lti.QuadraticOutputLTI([[0.6]], [[0.8]], [[0.0]], [[[1.0]]])
    >>> reduced = lti.QuadraticOutputLTI([[0.0]], [[0.5]], [[0.0]], [[[1.0]]])
    >>> lti.output_shift(sys, reduced).round(4)  # means of x²: 1 and 0.25
    array([0.75])

    """
    sys, reduced = as_system(sys, continuous=True), as_system(reduced, "reduced", continuous=True)
    _check_same_signals(sys, reduced)
    means = []
    for one in (sys, reduced):
        (P,) = double_gramians(linear_part(one), which="P")
        means.append(mean_outputs(one, P))
    return like_precision(means[0] - means[1], is_single(sys.B) and is_single(reduced.B))


def check_strictly_proper(*systems: System) -> None:
    """In continuous time an impulse passes D as it is, and has no square."""
    D, *other = (None if isinstance(x, QuadraticOutputLTI) else x.D for x in systems)
    if other and other[0] is not None:
        D = other[0] if D is None else D - other[0]
    if systems[0].is_continuous and D is not None and not holds(D == 0):
        raise ArgumentError(
            "the h2 norm of a continuous-time system is infinite unless D = 0"
            + (" for the difference" if other else "")
            + ": leave out D, or look at hinf_norm"
        )


def _square(sys: System, horizon: float | None) -> tuple[Any, Any, Any]:
    """‖Σ‖² without D, the size of the terms that it is a sum of, Σ_k (Σ_i |C_ki| √P_ii)² and
    likewise for the forms, both in units of 4^e, and e; for signals of about size one."""
    xp = namespace(sys.B)
    if isinstance(sys, LTI):
        if is_sparse(sys.A):
            refuse_horizon(horizon)
            size = np.linalg.norm(sys.C @ low_rank_factors(sys, EPSILON, "P").R)
            return size**2, size**2, xp.zeros_like(size)
        if low_rank_pays(sys, horizon):
            square = _square_by_factor(sys, DEFAULT_RTOL)
            return square, square, xp.zeros_like(square)
        if is_dense_numpy(sys):
            return _square_by_schur(sys, horizon)
    linear = linear_part(sys)
    (P,) = double_gramians(linear, horizon, which="P")
    C, M = sys.C, forms_of(sys)
    square = real_part(xp.sum((C @ P) * conjugate(C), axis=(-2, -1)))
    size = _state_sizes(sys.A, P)
    terms = xp.sum((xp.abs(C) @ size) ** 2, axis=(-2, -1))
    cancelled = not holds(square > _CANCELLATION * terms)
    if cancelled and has_factors(linear, horizon) and 0 < sys.order <= _FEW:
        # The modes cancel in the factor as well, but there before anything is squared.
        square = _square_by_factor(linear, EPSILON**2)
    elif cancelled and horizon is not None and is_numpy(sys.B):
        square = _square_by_doubling(linear, horizon)
    square = square + cross_trace(M, P, M)
    terms = terms + cross_trace(absolute(M), size @ adjoint(size), absolute(M))
    return square, terms, xp.zeros_like(square)


def _state_sizes(A: StateMatrix[Array], P: Array) -> Array:
    """(..., n, 1) √P_ii; the two states of a rotation block are computed, and round, together."""
    xp = namespace(P)
    p = same_in_blocks(operator.add, A, real_part(diagonal(P)))
    return xp.sqrt(xp.where(p > 0, p, xp.zeros_like(p)))[..., None]


def _square_by_schur(sys: LTI, horizon: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """‖C R‖_F² with P = R Rᴴ."""
    forms = schur_systems(sys, horizon, what=_WHAT)
    R = factors_in_even_units(sys, forms, "P", horizon, both=True)
    at_stake = trace_at_stake(forms.A, forms.B, forms.C, R, forms.continuous)
    for index in map(tuple, np.argwhere(at_stake)):
        one = forms[index]
        warn_if_lost(one.A, one.T, one.B, one.C, R[index], one.horizon, one.continuous)
    squares = np.linalg.norm(forms.C @ R, axis=(-2, -1)) ** 2
    return squares, squares, (forms.b + forms.c + forms.time).astype(float)


def _square_by_doubling(sys: LTI[Any], horizon: Any) -> np.ndarray:
    """‖C F‖_F² of a structured system over a horizon with P = F Fᴴ, nothing squared before."""
    full, squares = sys.to_dense(), np.zeros(sys.batch_shape)
    factor: Any = factor_over_time if sys.is_continuous else factor_by_doubling
    for index in np.ndindex(sys.batch_shape):
        F = factor(full.A[index], full.B[index], horizon)
        squares[index] = np.linalg.norm(full.C[index] @ F) ** 2
    return squares


def _squared_difference(sys: System, reduced: System, horizon: float | None) -> tuple[Any, Any]:
    """‖Σ − Σ̂‖² without D in units of 4^e, and e."""
    xp = namespace(sys.B, reduced.B)
    order = sys.order + reduced.order
    linear = isinstance(sys, LTI) and isinstance(reduced, LTI)
    modal = linear and horizon is None and 0 < order <= _FEW
    if is_sparse(sys.A):
        return _squared_difference_sparse(linear_part(sys), reduced, horizon)
    if is_structured(sys.A):
        reduced = _in_good_modes(reduced)
    (sys, first), (reduced, second) = (in_unit_signals(x, horizon) for x in (sys, reduced))
    if linear and (is_dense_numpy(sys) or is_dense_numpy(reduced)):
        squares, exponent = _squared_difference_by_schur(sys, reduced, first, second, horizon)
        return _non_negative(squares), exponent
    exponent = xp.maximum(first, second)
    sys, reduced = with_outputs(sys, first - exponent), with_outputs(reduced, second - exponent)
    square, terms, own = _square(sys, horizon)
    other, more, its = _square(reduced, horizon)
    square, terms = scaled(square, 2 * own), scaled(terms, 2 * own)
    other, more = scaled(other, 2 * its), scaled(more, 2 * its)
    A, B, C, A_reduced, B_reduced, C_reduced = (X for x in (sys, reduced) for X in (x.A, x.B, x.C))
    solve: Any = solve_lyapunov if sys.is_continuous else solve_stein
    X = solve(A, B @ adjoint(B_reduced), A_reduced, horizon=horizon)
    mixed = real_part(xp.sum((C @ X) * conjugate(C_reduced), axis=(-2, -1)))
    mixed = mixed + cross_trace(forms_of(sys), X, forms_of(reduced))
    found = square + other - 2 * mixed
    if modal and not holds(found > _CANCELLATION * (terms + more)):
        batch = np.broadcast_shapes(sys.batch_shape, reduced.batch_shape)
        parts, others = (_modal_parts(spread(linear_part(x), batch)) for x in (sys, reduced))
        error = _difference_factor(parts, others, sys.is_continuous)
        return _non_negative(xp.sum(xp.abs(error) ** 2, axis=(-2, -1))), exponent
    return _checked_square(found, terms + more, order), exponent


def _squared_difference_sparse(
    sys: LTI[Any], reduced: System[Any], horizon: float | None
) -> tuple[np.ndarray, np.ndarray]:
    refuse_horizon(horizon)
    if isinstance(reduced, QuadraticOutputLTI):
        raise ArgumentError("a system with quadratic outputs is not compared with a sparse one")
    require_stable(reduced, what=_WHAT)
    (unit, first), (small, second) = (in_unit_signals(x) for x in (sys, reduced))
    exponent = np.maximum(first, second)
    full, other = (
        linear_part(with_outputs(x, e - exponent)) for x, e in ((unit, first), (small, second))
    )
    error = difference_by_factors(full, low_rank_factors(full, EPSILON, "P"), other)
    return np.asarray(error**2), exponent


def difference_by_factors(sys: LTI, factors: LowRankFactors, reduced: LTI) -> float:
    """The h2 norm of the difference of a sparse system and a small one, without D."""
    small = reduced.to_dense()
    R, B = following_factor(small, factors.shifts)
    left = h2_norm(replaced(small, B=B, D=None))
    return float(np.hypot(np.linalg.norm(sys.C @ factors.R - small.C @ R), left))


#: ((radius, phase) or (decay, frequency), B, C) of a structured system in its modes.
Parts: TypeAlias = tuple[Array, Array, Array, Array]


def _modal_parts(sys: LTI[Array], horizon: float | None = None) -> Parts[Array]:
    """With states scaled so that both Gramians over the infinite horizon have about equal
    diagonals."""
    sys = in_double(sys)
    if horizon is None:
        sys, _ = balance_states(sys)
    A = sys.A
    B, C = signals_in_modes(A, sys.B, sys.C)
    poles = A.decay_modes if sys.is_continuous else A.polar_modes
    return *poles, as_complex(B), as_complex(C)


def _square_by_factor(sys: LTI[Array], rtol: float) -> Array:
    """‖C R‖_F² with P = R Rᴴ for a structured system, by a factor without the Gramian."""
    *poles, B, C = _modal_parts(sys)
    error = C @ cauchy_factor((poles[0], poles[1]), B, rtol=rtol, continuous=sys.is_continuous)
    return namespace(error).sum(namespace(error).abs(error) ** 2, axis=(-2, -1))


def _difference_factor(parts: Parts[Array], others: Parts[Array], continuous: bool) -> Array:
    """C R of the difference of two systems in their modes: what they have in common cancels here,
    before it is squared, so that R keeps all that counts in a square."""
    first, second, B, C = _modes_of_difference(parts, others)
    return C @ cauchy_factor((first, second), B, rtol=EPSILON**2, continuous=continuous)


def _modes_of_difference(parts: Parts[Array], others: Parts[Array]) -> Parts[Array]:
    """The modes of the difference of two systems."""
    xp = namespace(parts[0], others[0])
    pairs = zip(parts, (*others[:3], -others[3]), (-1, -1, -2, -1), strict=True)
    first, second, B, C = (xp.concat(pair, axis=axis) for *pair, axis in pairs)
    return first, second, B, C


@offering(HORIZON_VALUES)
def hankel_norm_of_difference(sys: LTI[Array], reduced: LTI[Array]) -> Array:
    """(...) σ_1 of Σ − Σ̂. Of two structured systems from the factors of both Gramians of both in
    their modes side by side: poles keep their digits there, which those of a Rotation lose in the
    Diagonal that it has in common with complex poles."""
    difference = sys - reduced
    structured = is_structured(sys.A) and is_structured(reduced.A)
    if not (structured and 0 < difference.order <= _FEW):
        return hankel_norm(difference)
    xp, continuous = namespace(sys.B, reduced.B), sys.is_continuous
    (one, first), (other, second) = in_unit_signals(sys), in_unit_signals(reduced)
    exponent = xp.maximum(first, second)
    pair: Any = with_outputs(one, first - exponent), with_outputs(other, second - exponent)
    parts, others = (_modal_parts(spread(x, difference.batch_shape)) for x in pair)
    size, turn, B, C = _modes_of_difference(parts, others)
    R, S = (
        cauchy_factor((size, phase), X, rtol=EPSILON**2, continuous=continuous)
        for phase, X in ((turn, B), (-turn, adjoint(C)))
    )
    sigma, _ = leading_svd(adjoint_product(S, R))
    return scaled(pad_values(sigma, 1)[..., 0], exponent)


def _squared_difference_by_schur(
    sys: Any, reduced: Any, first: np.ndarray, second: np.ndarray, horizon: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """‖[C, −Ĉ] R‖_F² with P = R Rᴴ of both systems side by side, in units of 4^e, and e: nothing is
    squared before both outputs are subtracted."""
    batch = np.broadcast_shapes(sys.batch_shape, reduced.batch_shape)
    systems = [spread(x, batch) for x in (sys, reduced)]
    time, continuous = None, sys.is_continuous
    if continuous:
        time = np.maximum(*(unit_of_time(x, horizon) for x in systems))
    (A, T, B, C, own), (A_reduced, T_reduced, B_reduced, C_reduced, other) = (
        _schur_parts(x, horizon, time) for x in systems
    )
    sizes = first + own, second + other
    exponents = np.maximum(*sizes)
    C = scaled(C, (sizes[0] - exponents)[..., None, None])
    C_reduced = scaled(C_reduced, (sizes[1] - exponents)[..., None, None])
    T = _block_diagonal(T, T_reduced)
    B, C = np.concatenate([B, B_reduced], axis=-2), np.concatenate([C, -C_reduced], axis=-1)
    horizons: Any = np.full(batch, horizon, dtype=object)
    if horizon is None:
        R = factor_in_schur_form(T, B, None, continuous)
    else:
        R = np.zeros_like(T, dtype=np.result_type(T, B))
        for index in np.ndindex(batch):
            horizons[index] = horizon if time is None else in_time(horizon, int(time[index]))
            factor = factor_in_schur_form(T[index], B[index], horizons[index], continuous)
            R[index][:, : factor.shape[-1]] = factor
    split = A.shape[-1]
    parts = slice(split), slice(split, None)
    size: Any = sum(np.linalg.norm(C[..., x] @ R[..., x, :], axis=(-2, -1)) for x in parts)
    for one, x in zip((A, A_reduced), parts, strict=True):
        own_T, own_B, own_C, own_R = T[..., x, x], B[..., x, :], C[..., x], R[..., x, :]
        at_stake = move_at_stake(one, own_C, own_R, size, continuous)
        for index in map(tuple, np.argwhere(at_stake)):
            rest = own_R[index], size[index], horizons[index], continuous
            warn_if_moved(one[index], own_T[index], own_B[index], own_C[index], *rest)
    return np.linalg.norm(C @ R, axis=(-2, -1)) ** 2, exponents


def _block_diagonal(T: np.ndarray, S: np.ndarray) -> np.ndarray:
    """The block diagonal matrices of two batches."""
    n, r = T.shape[-1], S.shape[-1]
    joint = np.zeros((*T.shape[:-2], n + r, n + r), np.result_type(T, S))
    joint[..., :n, :n], joint[..., n:, n:] = T, S
    return joint


def _schur_parts(
    sys: LTI, horizon: float | None, time: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(A, T, B, C, e) of the systems 2^e Σ of a batch, T triangular and A the same in other
    orthogonal coordinates; in modes of a structured A."""
    if not is_structured(sys.A):
        forms = schur_systems(sys, horizon, what=_WHAT, time=time)
        factors_in_even_units(sys, forms, "P", horizon, both=True)
        return forms.A, forms.T, forms.B, forms.C, forms.b + forms.c + forms.time
    timed, time = in_unit_time(sys, time)
    poles, (_, _, B, C) = mode_poles(timed.A), _modal_parts(timed, horizon)
    T = poles[..., None] * np.eye(sys.order)
    return T, T, B, C, np.asarray(time)


def _checked_square(square: Array, terms: Array, order: int) -> Array:
    """``square`` with what rounding may leave below zero set to 0; ``terms`` is the size of what
    it is a sum of, to the rounding of the equations and of sums over the states.

    Raises
    ------
    SingularEquationError
        Where it is more negative than that.
    """
    xp = namespace(square)
    found = _non_negative(square)
    noise = _ROUNDINGS * order * EPSILON * terms
    if not holds(square >= -noise):
        raise SingularEquationError(
            f"a squared h2 norm came out as {float(xp.min(square)):.1e}, which rounding of terms "
            f"of size {float(xp.max(terms)):.1e} does not explain: the equation of the Gramian is "
            "so nearly singular that its solution is not positive. Give the poles as Diagonal or "
            "Rotation, which keep them near the unit circle exactly"
        )
    return found


def _non_negative(squared: Array) -> Array:
    """``squared`` with the negative values that rounding leaves set to 0."""
    xp = namespace(squared)
    _require_finite_norm(squared)
    return xp.where(squared > 0, squared, xp.zeros_like(squared))


def _require_finite_norm(norm: Array) -> None:
    if not is_finite(norm):
        raise NonFiniteError(
            "the norm overflows: scale B and C down, since norms scale with them, or take a "
            "shorter horizon"
        )


def _check_same_signals(sys: System, reduced: System) -> None:
    namespace(sys.B, reduced.B)  # of one library, on one device
    if (sys.inputs, sys.outputs) != (reduced.inputs, reduced.outputs):
        raise ArgumentError(
            f"the systems map {counted(sys.inputs, 'input')} to "
            f"{counted(sys.outputs, 'output')} and {reduced.inputs} to "
            f"{reduced.outputs}: their difference is not defined"
        )
    common_dt(sys.dt, reduced.dt)


def _in_good_modes(sys: System) -> System:
    """A dense system in its modes, where they are well conditioned, in float64.

    Next to the circle the rounding of a pole counts for much. In modes all terms of an error have
    the same poles, and it counts once, not as the difference of two large norms.
    """
    if not is_dense_numpy(sys) or sys.order == 0:
        return sys
    sys = mapped(to_double, sys)
    poles, V = np.linalg.eig(sys.A)
    if not np.max(np.linalg.cond(V), initial=0) <= _WELL_CONDITIONED:
        return sys
    return in_eigenbasis(sys, poles, V)


def _with_feedthrough(squared: Array, exponent: Array, *systems: System[Array]) -> Array:
    """(4^e ‖Σ‖² + ‖D‖_F²)^{1/2} for the difference D of the feedthroughs of one or two systems."""
    xp = namespace(squared)
    norm = scaled(xp.sqrt(squared), exponent)
    D, *other = (None if isinstance(x, QuadraticOutputLTI) else x.D for x in systems)
    if other and other[0] is not None:
        D = -other[0] if D is None else to_double(D) - to_double(other[0])
    if D is not None:
        D = to_double(D)
        size = size_exponent(D)
        units = scaled(D, -size[..., None, None])
        direct = xp.sqrt(xp.sum(xp.abs(units) ** 2, axis=(-2, -1)))
        norm = xp.hypot(norm, scaled(direct, size))
    _require_finite_norm(norm)
    return norm
