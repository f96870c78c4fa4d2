"""Gramians of a system and their rank-revealing factors."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from ..arrays.checks import (
    check_horizon,
    check_integer,
    check_rtol,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import EPSILON, adjoint, as_complex, real_part
from ..arrays.namespaces import (
    Array,
    Namespace,
    asked_together,
    elementwise,
    holds,
    is_numpy,
    namespace,
    zeros_like_shape,
)
from ..equations.cauchy import cauchy_factor
from ..equations.dense import RawSolver, schur_solver
from ..equations.hammarling import factors_in_schur_form, in_states
from ..equations.low_rank import low_rank_factors, rank_revealing
from ..equations.lyapunov import lyapunov_solver, solve_lyapunov, triangular_lyapunov_solver
from ..equations.stability import (
    HORIZON,
    SchurSystem,
    offering,
    require_stable,
    schur_systems,
)
from ..equations.stein import stein_solver
from ..equations.two_sided import SteinSolver
from ..errors import ArgumentError
from ..matrices.balance import rescaled, state_units
from ..matrices.factors import (
    hermitian_part,
    pivoted_cholesky,
    real_rank_factor,
    weighted_gram,
)
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, SystemLike, as_linear, as_system
from ..systems.lti import LTI, in_double, replaced
from ..systems.modes import from_modes, is_real, to_modes
from ..systems.on_host import computed_on_host
from ..systems.quadratic import (
    QuadraticOutputLTI,
    System,
    forms_of,
    linear_part,
    mapped,
    sandwiched,
)
from ..systems.rotation import Rotation
from ..systems.signals import (
    in_even_states,
    scaled,
    unit_outputs,
    unit_signals,
    within_numbers,
)
from ..systems.structure import StateMatrix, adjoint_of, is_sparse, is_structured
from .scales import balance_gramians, balancing_exponents, sizes_of_states
from .schur_factors import WHAT, dense_factors, dense_gramian, require_finite_gramian

#: Factors are computed without the Gramians from this many states on …
_MANY = 1024
#: … where n is at least this multiple of m and p; below, forming them is faster.
_FEW = 32
#: Pivots below this share of the largest one are rounding noise of a float64 Gramian.
DEFAULT_RTOL = EPSILON


def has_many_states(sys: Any) -> bool:
    """Whether these are factored without Gramians, which suits a device too."""
    return isinstance(sys, LTI) and low_rank_pays(sys)


@offering(HORIZON)
@asked_together
def controllability_gramian(sys: SystemLike[Array], *, horizon: float | None = None) -> Array:
    """P with A P Aᴴ − P + B Bᴴ = 0; with a horizon T the sum Σ_{k<T} A^k B Bᴴ (Aᴴ)^k.

    Returns
    -------
    P : (..., n, n) Hermitian positive semidefinite array, computed in float64 and returned in the
        precision of the system.

    Conditions: all |poles| < 1 unless ``horizon`` is given.

    Accuracy: dense matrices on NumPy as those of a matrix within 1e-15 ‖A‖ of A, in the best units
    of the states; on other libraries over a horizon within 1e-15 ‖A‖² of A², which moves the poles
    of a non-normal A far.

    Cost: O(n² m) structured, O(n³) dense, with log2 T steps of products and a QR factorisation over
    a horizon T.

    CuPy: on the device; the host waits once, for dense A more often (docs/cupy.md).

    Raises
    ------
    UnstableSystemError
        Names the radius and the mode.
    NonFiniteError
        Where the sum over a horizon overflows.

    Warns
    -----
    PrecisionWarning
        As for :func:`gramian_factors`.


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[3.0]])
    >>> lti.controllability_gramian(sys).round(4)  # 1/(1 − 0.36)
    array([[1.5625]])
    >>> integrator = lti.LTI([[1.0]], [[1.0]], [[1.0]])
    >>> lti.controllability_gramian(integrator, horizon=10)
    array([[10.]])

    """
    sys = as_system(sys, continuous=True)
    return like_precision(_gramian_of_any_size(linear_part(sys), horizon, "P"), is_single(sys.B))


@offering(HORIZON)
@asked_together
def observability_gramian(sys: SystemLike[Array], *, horizon: float | None = None) -> Array:
    """Q with Aᴴ Q A − Q + Cᴴ C = 0; with a horizon T the sum Σ_{k<T} (Aᴴ)^k Cᴴ C A^k.

    Quadratic outputs add Σ_i M_i P M_i to Cᴴ C, with P the controllability Gramian over the same
    horizon (Benner, Goyal & Pontes Duff, IEEE TAC 67, 2022).

    Shapes, conditions, accuracy, cost, errors as for :func:`controllability_gramian`.

    CuPy: on the device; the host waits once, for dense A more often (docs/cupy.md).


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[3.0]])
    >>> lti.observability_gramian(sys).round(4)  # 9/(1 − 0.36)
    array([[14.0625]])

    """
    sys = as_system(sys, continuous=True)
    return like_precision(_gramian_of_any_size(sys, horizon, "Q"), is_single(sys.B))


@offering(HORIZON)
@partial(computed_on_host, unless=has_many_states)
def gramian_factors(
    sys: LinearLike[Array],
    *,
    rtol: float | None = None,
    max_rank: int | None = None,
    horizon: float | None = None,
) -> tuple[Array, Array]:
    """Rank-revealing factors (R, S) of both Gramians.

        P ≈ R Rᴴ,   Q ≈ S Sᴴ,   R (..., n, r),   S (..., n, s)

    The states are first scaled by powers of two so that diag P ≈ diag Q (Hankel singular values
    do not see such a scaling, rounding does), then factored by Cholesky elimination with complete
    pivoting, dropping pivots below ``rtol`` times the largest. In a batch the ranks are the largest
    met, padded with zero columns.

    P and Q are not formed, which loses directions that are weak in one and strong in the other,
    * for structured A with n ≥ 1024 and n ≥ 32 max(m, p): the elimination runs on the generators
      (:mod:`lticore.equations.cauchy`);
    * for dense A on NumPy: each factor comes by Hammarling's method, over a horizon by doubling,
      from a Schur form of A in the units of the states that suit its Gramian, powers of two, and a
      QR factorisation with column pivoting takes the place of the elimination.

    Parameters
    ----------
    rtol : float in [0, 1), default 2.2e-16
    max_rank : int ≥ 1, optional
    horizon : int ≥ 1, optional

    Cost: O(n r (m + p + r)) time and O(n (m + p + r)) memory without the Gramians; O(n² (m + p))
    for structured Gramians and O(n r²) for their factors otherwise; dense O(n³).

    CuPy: computed on the host, but for the factors of many states; see docs/cupy.md.

    Raises
    ------
    UnstableSystemError, ArgumentError
    MemoryLimitError
        Where r columns of so many states are too large for this machine: give ``max_rank``.

    Warns
    -----
    PrecisionWarning
        Where rounding of a dense A, in the best units of the states, changes the trace of a Gramian
        in these units by more than 1e-6 of itself.

    Source: Hammarling, Systems & Control Letters 17 (1991), for dense A.


    >>> sys = lti.LTI(lti.Diagonal([0.6, 0.8]), [[1.0], [0.0]], [[1.0, 1.0]])
    >>> R, S = lti.gramian_factors(sys)  # the second state is not reached
    >>> R.shape, S.shape, (R @ R.T).round(4)
    ((2, 1), (2, 2), array([[1.5625, 0.    ],
           [0.    , 0.    ]]))

    """
    sys = as_linear(sys, continuous=True, sparse=True)
    rtol, max_rank = _check_truncation(rtol, max_rank)
    even, d = in_even_states(in_double(sys))
    unit, b, c = unit_signals(even)
    R, S, t = scaled_factors(unit, rtol, max_rank, horizon, each=True)
    # In place: of a million states each copy takes gigabytes.
    R *= scaled(d / t, b[..., None, None])
    S *= scaled(t / d, c[..., None, None])
    single = is_single(sys.B)
    return like_precision(R, single), like_precision(S, single)


def scaled_factors(
    sys: LTI,
    rtol: float | None = None,
    max_rank: int | None = None,
    horizon: float | None = None,
    formed: bool = True,
    each: bool = False,
) -> tuple[Any, Any, Any]:
    """(R̃, S̃, t) with the factors R = R̃/t and S = t S̃ of :func:`gramian_factors`, in float64.

    Sᴴ R = S̃ᴴ R̃. The scale t is (..., n, 1), of powers of two. Without ``rtol`` everything above
    rounding is kept: eps for squares, eps² for factors that come without their squares. With
    ``formed=False`` structured systems never form the Gramians. Warnings of rounding in dense ones
    concern the singular values of Sᴴ R, with ``each`` the factors themselves.
    """
    horizon = check_horizon(horizon, sys.is_continuous)
    if is_sparse(sys.A):
        return sparse_factors(sys, rtol, max_rank, horizon)
    if sys.order == 0:
        B, batch = to_double(sys.B), sys.batch_shape
        none, t = zeros_like_shape(B, (*batch, 0, 0)), zeros_like_shape(B, (*batch, 0, 1))
        return none, none, real_part(t)
    gramians = scaled_gramians(sys, horizon) if formed else None
    if gramians is not None:
        P, Q, t = gramians
        rtol = DEFAULT_RTOL if rtol is None else rtol
        R, S = (pivoted_cholesky(X, rtol=rtol, max_rank=max_rank) for X in (P, Q))
        return R, S, t
    if not has_factors(sys, horizon):
        return dense_factors(sys, EPSILON**2 if rtol is None else rtol, max_rank, horizon, each)
    rtol = DEFAULT_RTOL if rtol is None else rtol
    sys, t = balance_states(sys)
    factors = modal_factors(sys, rtol, max_rank)
    R, S = (_in_states(sys, X, rtol, max_rank) for X in factors)
    return R, S, t


def sparse_factors(
    sys: LTI, rtol: float | None, max_rank: int | None, horizon: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`scaled_factors` of a sparse A, in the states given."""
    refuse_horizon(horizon)
    found = low_rank_factors(sys, max(rtol or 0.0, DEFAULT_RTOL))
    rtol = EPSILON**2 if rtol is None else rtol
    R, S = (rank_revealing(X, rtol, max_rank) for X in (found.R, found.S))
    return R, S, np.ones((sys.order, 1))


def refuse_horizon(horizon: float | None) -> None:
    """Of a sparse A there are Gramians over all time only."""
    if horizon is not None:
        raise ArgumentError("horizon= is not there for a sparse A: leave it out")


def scaled_gramians(sys: System, horizon: float | None = None) -> tuple[Any, Any, Any] | None:
    """(t P t, Q/t², t) in float64 with about equal diagonals; None where the factors are better
    computed without them: many structured states, and sparse and dense systems on NumPy."""
    if (
        is_sparse(sys.A)
        or low_rank_pays(sys, horizon)
        or (isinstance(sys, LTI) and is_dense_numpy(sys))
    ):
        return None
    if has_factors(sys, horizon):
        sys, t = balance_states(sys)
        P, Q = double_gramians(sys)
        return P, Q, t
    P, Q = double_gramians(sys, horizon)
    return balance_gramians(P, Q, sys.A)


def has_factors(sys: System, horizon: float | None) -> TypeGuard[LTI]:
    """Whether factors can be computed from the poles, without the Gramians."""
    return horizon is None and isinstance(sys, LTI) and is_structured(sys.A) and sys.order > 0


def low_rank_pays(sys: System, horizon: float | None = None) -> bool:
    """Whether the factors are computed without the Gramians: few inputs and outputs."""
    least = max(_MANY, _FEW * max(sys.inputs, sys.outputs))
    return has_factors(sys, horizon) and sys.order >= least


def balance_states(sys: LTI) -> tuple[LTI, Any]:
    """The structured system (A, t B, C/t) whose Gramians have about equal diagonals, and t.

    The scale t, (..., n, 1), consists of powers of two, one for both states of a rotation block, so
    that A does not change. The diagonals ‖b_i‖²/(1 − |λ_i|²) are known without the Gramians.
    """
    if sys.order == 0:
        return sys, real_part(sys.B[..., :1])
    u, *_ = balancing_units(sys, what="an infinite-horizon Gramian")
    t = 2.0 ** within_numbers(u)[..., None]
    return replaced(sys, B=sys.B * t, C=sys.C / namespace(t).matrix_transpose(t)), t


def balancing_units(sys: LTI, *, what: str) -> tuple[Array, Array, Array, Array]:
    """The :func:`lticore.hankel.scales.balancing_exponents` of a structured system.

    Raises
    ------
    UnstableSystemError
    """
    A: Any = sys.A
    drain, stable = (
        _drain_of_decays(A.block_decays) if sys.is_continuous else _drain_of_radii(A.block_radii)
    )
    if not holds(stable):
        require_stable(sys, what=what)
    blocks = sys.order - drain.shape[-1]
    b, c = (sizes_of_states(X, blocks) for X in (sys.B, namespace(sys.C).matrix_transpose(sys.C)))
    return balancing_exponents(b, c, drain)


# What the diagonals of b bᴴ and of the Gramian in the modes have for a quotient, and whether a pole
# is stable.


@elementwise
def _drain_of_radii(xp: Namespace, radius: Array) -> tuple[Array, Array]:
    return (1 - radius) * (1 + radius), radius < 1


@elementwise
def _drain_of_decays(xp: Namespace, decay: Array) -> tuple[Array, Array]:
    return 2 * decay, decay > 0


def in_unit_signals(
    sys: System[Array], horizon: float | None = None
) -> tuple[System[Array], Array]:
    """(Σ', e) with Σ = 2^e Σ' but for D, which is left out, in float64: B, C and forms of about
    size one, of a structured system over the infinite horizon after its states are balanced, with
    quadratic outputs after they are about equally large."""
    sys = mapped(to_double, sys)
    if isinstance(sys, QuadraticOutputLTI):
        sys = _evenly_driven(sys)
    else:
        if has_factors(sys, horizon):
            sys, _ = balance_states(sys)
        sys, _ = in_even_states(sys)
    unit, _, e = unit_outputs(sys)
    return unit, e


def _evenly_driven(sys: QuadraticOutputLTI[Array]) -> QuadraticOutputLTI[Array]:
    """The system in units of its states, powers of two, in which the inputs drive all alike: forms,
    which are large where states are small, have about size one only then. Modes that are not
    reached, which stay zero, have forms and outputs of zero."""
    xp = namespace(sys.B)
    if sys.order == 0 or not (is_structured(sys.A) or is_numpy(sys.B)):
        return sys
    A: Any = sys.A
    if is_structured(A):
        size = sizes_of_states(sys.B, A.order - A.block_radii.shape[-1])
        d = 2.0 ** xp.round(xp.log2(xp.where(size > 0, size, xp.ones_like(size))))[..., None]
        used = xp.where(size[..., None] > 0, d, xp.zeros_like(d))
    else:
        B: Any = sys.B
        d = state_units(A, B, continuous=sys.is_continuous)[..., None]
        A, used = rescaled(A, xp.matrix_transpose(d), d), d
    row, M = xp.matrix_transpose(used), sys.M
    if isinstance(M, tuple):
        V, s = M[0] * used[..., None, :, :], M[1]
        # The size of a form is that of s, and V may be squared.
        largest = xp.max(xp.abs(V), axis=-2)
        size = xp.round(xp.log2(xp.where(largest > 0, largest, xp.ones_like(largest))))
        M = (scaled(V, -size[..., None, :]), scaled(s, 2 * size))
    else:
        M = M * used[..., None, :, :] * row[..., None, :, :]
    return replace(sys, A=A, B=sys.B / d, C=sys.C * row, M=M)


def modal_factors(
    sys: LTI[Array], rtol: float = DEFAULT_RTOL, max_rank: int | None = None
) -> tuple[Array, Array]:
    """Complex factors R̂, Ŝ of both Gramians in the modes of a stable structured A.

    Uᴴ P U solves Λ X Λᴴ − X + b bᴴ = 0 with b = Uᴴ B, and Uᴴ Q U the same equation with
    conjugate poles and Uᴴ Cᴴ; neither is formed. Hankel singular values are those of Ŝᴴ R̂.
    """
    return modal_factor(sys, "P", rtol, max_rank), modal_factor(sys, "Q", rtol, max_rank)


def modal_factor(
    sys: LTI[Array], which: str, rtol: float = DEFAULT_RTOL, max_rank: int | None = None
) -> Array:
    """One of :func:`modal_factors`, by the name of its Gramian."""
    continuous = sys.is_continuous
    size, turn = sys.A.decay_modes if continuous else sys.A.polar_modes
    root, turn = (sys.B, turn) if which == "P" else (adjoint(sys.C), -turn)
    generator = as_complex(to_modes(sys.A, root))
    return cauchy_factor(
        (size, turn), generator, rtol=rtol, max_rank=max_rank, continuous=continuous
    )


def _in_states(sys: LTI[Array], factor: Array, rtol: float, max_rank: int | None) -> Array:
    """A modal factor in the coordinates of the states; real for real systems.

    For real P = X Xᴴ = Re X Re Xᵀ + Im X Im Xᵀ; the two parts have the rank of P together, which
    a QR factorisation with column pivoting of their transposes brings out.
    """
    X = from_modes(sys.A, factor)
    if not is_real(sys.A) or is_complex(sys.B):
        return X
    xp = namespace(X)
    if isinstance(sys.A, Diagonal):  # the states are the modes: X is real already, as b and λ are
        return xp.real(X)
    parts = xp.concat([xp.real(X), xp.imag(X)], axis=-1)
    return real_rank_factor(parts, rtol=math.sqrt(rtol), max_rank=max_rank)


def double_gramians(sys: System, horizon: Any = None, which: str = "PQ") -> list[Any]:
    """The Gramians named in ``which``, in float64."""
    linear = in_double(linear_part(sys))
    quadratic = isinstance(sys, QuadraticOutputLTI) and "Q" in which
    names = "PQ" if quadratic else which
    solve: SteinSolver | None = None
    horizon = check_horizon(horizon, sys.is_continuous)
    if is_dense_numpy(linear):
        found = {name: dense_gramian(linear, name, horizon) for name in names}
        integral = linear.is_continuous and horizon is not None
        solver_of = gramian_solver if integral else balanced_solver
        solve = solver_of(linear, horizon) if quadratic else None
    else:
        if horizon is None:
            require_stable(linear, what=WHAT)
        solve = gramian_solver(linear, horizon)
        found = {name: gramian(linear, solve, name) for name in names}
    if quadratic and solve is not None:
        P, M = found["P"], forms_of(sys)
        found["Q"] = found["Q"] + hermitian_part(solve(sandwiched(M, P, M), adjoint=True))
    return [found[name] for name in which]


def _gramian_of_any_size(sys: System[Array], horizon: float | None, which: str) -> Array:
    """One Gramian in float64. Those of structured systems over units in which all states are driven
    alike, or seen alike, and which A does not notice: B Bᴴ and Cᴴ C may be no numbers where the
    Gramian is. (Dense ones on NumPy are formed of factors.)"""
    if not (isinstance(sys, LTI) and is_structured(sys.A) and sys.order > 0):
        (X,) = double_gramians(sys, horizon, which)
        return X
    sys, xp = in_double(sys), namespace(sys.B)
    d = driven_units(sys.A, sys.B if which == "P" else xp.matrix_transpose(sys.C))
    row = xp.matrix_transpose(d)
    sys = replaced(sys, B=sys.B / d) if which == "P" else replaced(sys, C=sys.C / row)
    (X,) = double_gramians(sys, horizon, which)
    with np.errstate(over="ignore"):
        X = _in_given_units(X, d, row)
    return require_finite_gramian(X, which)


def driven_units(A: StateMatrix[Array], B: Array, continuous: bool = False) -> Array:
    """(..., n, 1) powers of two as units of the states in which inputs drive all alike, of a
    structured A, which does not notice, or of a dense one on NumPy; of others as they are."""
    if is_structured(A):
        return _powers_of_two(sizes_of_states(B, A.order - A.block_radii.shape[-1]))[..., None]
    if not is_numpy(B):
        return namespace(B).ones_like(real_part(B[..., :1]))
    given: tuple[Any, Any] = A, B
    found: Any = state_units(*given, continuous=continuous)
    return found[..., None]


@elementwise
def _powers_of_two(xp: Namespace, size: Array) -> Array:
    """Next to the sizes, whose reciprocals are numbers too."""
    least, largest = 2.0**-1000, 2.0**1000
    size = xp.where(size == 0, 1.0, xp.where(size < least, least, size))
    return 2.0 ** xp.round(xp.log2(xp.where(size > largest, largest, size)))


@elementwise
def _in_given_units(xp: Namespace, X: Array, column: Array, row: Array) -> Array:
    return X * column * row


def gramian_solver(sys: LTI, horizon: Any = None) -> SteinSolver:
    """The solver of the Stein or Lyapunov equations of A, by the time of the system; without a
    horizon the system is stable."""
    if not sys.is_continuous:
        return stein_solver(sys.A, horizon=horizon, stable=horizon is None)
    if not is_dense_numpy(sys):
        return lyapunov_solver(sys.A, horizon=horizon)

    def solve(Q: Any, adjoint: bool = False) -> Any:
        return solve_lyapunov(adjoint_of(sys.A) if adjoint else sys.A, Q, horizon=horizon)

    return solve


def is_dense_numpy(sys: System) -> bool:
    """Whether LAPACK's Schur form of A is at hand, and with it a factor of the Gramian."""
    return is_numpy(sys.B) and not is_structured(sys.A) and not is_sparse(sys.A)


def balanced_gramians(sys: LTI, *, what: str = WHAT) -> tuple[Any, Any, SteinSolver]:
    """P and Q of a dense stable system on NumPy, of moderate signals, and the solver of its
    equations, from one Schur form.

    P and Q are formed of their factors: rounding moves X_ij by some eps √(X_ii X_jj). Triangular
    solves leave a residual of some eps ‖A‖‖X‖, of which poles close to the boundary make more.

    Raises
    ------
    UnstableSystemError
    """
    forms = schur_systems(sys, what=what)
    P, Q = np.empty((2, *sys.A.shape), dtype=np.result_type(sys.A, sys.B))
    for index, one in forms.entries():
        factors = factors_in_schur_form(one.T, one.B, one.C, continuous=one.continuous)
        units = np.ldexp(one.units, one.b), np.ldexp(1 / one.units, one.c)
        for X, F, d in zip((P, Q), factors, units, strict=True):
            X[index] = weighted_gram(in_states(one.U, F, not np.iscomplexobj(X)) * d)
    P, Q = require_finite_gramian(P, "P"), require_finite_gramian(Q, "Q")
    return P, Q, _solver_in_schur_forms(sys, forms)


def balanced_solver(sys: LTI, horizon: float | None = None) -> SteinSolver:
    """:func:`lticore.equations.stein.stein_solver` of a dense A on NumPy, stable unless there is a
    horizon, which works in the best units of the states; one Schur form tells the stability and
    solves.

    Raises
    ------
    UnstableSystemError
    """
    return _solver_in_schur_forms(sys, schur_systems(sys, horizon, what=WHAT), horizon)


def _solver_in_schur_forms(
    sys: LTI, systems: SchurSystem, horizon: float | None = None
) -> SteinSolver:
    forms, d = (systems.T, systems.U), systems.units
    time = 4.0 ** systems.time[..., None, None]
    raw: RawSolver
    if sys.is_continuous:
        raw = triangular_lyapunov_solver(forms, forms)
    else:
        raw = schur_solver(forms, forms, horizon)
    row = np.swapaxes(d, -1, -2)
    real = not np.iscomplexobj(sys.A)

    def solve(Q: Array, adjoint: bool = False) -> Array:
        scaled = (Q * d * row if adjoint else Q / d / row) / time
        X = raw(scaled, adjoint)
        X = real_part(X) if real and not is_complex(Q) else X
        return X / d / row if adjoint else X * d * row

    return solve


def gramian(sys: LTI, solve: SteinSolver, which: str) -> Any:
    """P or Q of ``sys`` by the solver of its A."""
    adjoint_equation = which == "Q"
    root = adjoint(to_double(sys.C)) if adjoint_equation else to_double(sys.B)
    X = require_finite_gramian(solve(weighted_gram(root), adjoint=adjoint_equation), which)
    # The fused kernel divides an entry and its mirror image alike.
    exact = is_numpy(X) and isinstance(sys.A, Rotation) and not is_complex(X)
    return X if exact else hermitian_part(X)


def _check_truncation(rtol: float | None, max_rank: int | None) -> tuple[float, int | None]:
    rtol = check_rtol(DEFAULT_RTOL if rtol is None else rtol)
    return rtol, None if max_rank is None else check_integer("max_rank", max_rank, minimum=1)
