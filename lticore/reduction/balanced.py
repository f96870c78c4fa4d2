"""Balanced truncation by the square-root method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, overload

import numpy as np

from ..analysis.norms import difference_by_factors, whole_h2_error
from ..analysis.response import frequency_response
from ..arrays.checks import check_one_given, is_complex, to_double
from ..arrays.linalg import (
    EPSILON,
    adjoint,
    adjoint_product,
    diagonal,
    has_eigenvalues,
    pad_values,
    real_part,
)
from ..arrays.namespaces import Array, holds, namespace, zeros_like_shape
from ..equations.low_rank import LowRankFactors, low_rank_factors
from ..equations.stability import (
    HORIZON,
    KEEP,
    NOTHING,
    is_stable,
    offering,
    require_stable,
)
from ..errors import ArgumentError, counted, warn_precision
from ..hankel.directions import leading_directions
from ..hankel.given_gramians import GivenGramians, check_gramians
from ..hankel.gramians import has_factors, scaled_factors, scaled_gramians
from ..hankel.schur_factors import require_finite_values
from ..hankel.values import modes_cancel
from ..matrices.factors import directions_of_factors, pivoted_cholesky
from ..systems.algebra import feedthrough
from ..systems.doors import LinearLike, SystemLike, as_system
from ..systems.lti import LTI, replaced
from ..systems.modes import multiply
from ..systems.on_host import computed_on_host
from ..systems.quadratic import (
    QuadraticOutputLTI,
    System,
    in_coordinates,
    linear_part,
    mapped,
)
from ..systems.signals import in_even_states, scaled, unit_outputs
from ..systems.structure import (
    StateMatrix,
    is_sparse,
    order_of,
    same_in_blocks,
    structure_of,
)
from .orders import (
    check_not_empty,
    check_order,
    order_for_energy,
    order_for_error,
)
from .repair import off_axis, off_circle, repair
from .result import Reduction, nothing_to_reduce
from .rounding import in_precision_of, lost_in_poles
from .split import lost_in_split, split_unstable

#: Products Wᴴ V are 1 but for rounding where they are off by less than this.
_NEARLY = 1e-4


@overload
def balanced_truncation(
    sys: LinearLike[Array],
    order: int | None = None,
    *,
    energy: float | None = None,
    error: float | None = None,
    horizon: float | None = None,
    gramians: tuple[Any, Any] | None = None,
    match_dc: bool = False,
    unstable: Literal["refuse", "keep"] = "refuse",
) -> Reduction[LTI[Array], Array]: ...
@overload
def balanced_truncation(
    sys: QuadraticOutputLTI[Array],
    order: int | None = None,
    *,
    energy: float | None = None,
    error: float | None = None,
    horizon: float | None = None,
    gramians: tuple[Any, Any] | None = None,
    match_dc: bool = False,
    unstable: Literal["refuse", "keep"] = "refuse",
) -> Reduction[QuadraticOutputLTI[Array], Array]: ...
@computed_on_host
def balanced_truncation(
    sys: SystemLike,
    order: int | None = None,
    *,
    energy: float | None = None,
    error: float | None = None,
    horizon: float | None = None,
    gramians: tuple[Any, Any] | None = None,
    match_dc: bool = False,
    unstable: Literal["refuse", "keep"] = "refuse",
) -> Reduction:
    """Keep the r best reachable and observable states.

        Sᴴ R = U Σ Vᴴ,   W = S U_r Σ_r^{−½},   V = R V_r Σ_r^{−½},   (Wᴴ A V, Wᴴ B, C V, D)
        ‖H − H_r‖_h∞ ≤ 2 Σ_{i>r} σ_i,   and in ``error_bound`` what rounding may have added

    Exactly one criterion chooses r; in a batch the largest r that any entry needs is used for all.

    Parameters
    ----------
    sys : LTI or QuadraticOutputLTI
        With quadratic outputs Q solves Aᴴ Q A − Q + Cᴴ C + Σ_i M_i P M_i = 0, and M_i becomes
        Vᴴ M_i V; there is no bound.
    order : int in 1 … n
        r itself.
    energy : float in (0, 1]
        Smallest r with Σ_{i≤r} σ_i ≥ energy · Σ σ_i.
    error : float ≥ 0
        Smallest r with 2 Σ_{i>r} σ_i ≤ error, an absolute bound on the h∞ error.
    horizon : int ≥ 1, in continuous time a duration, optional
        Balance the Gramians of the first T lags instead (TLBT); the system may be unstable, and the
        result is unstable with it. There is no bound, and the result may be unstable where the
        system is not: such poles are reflected, λ → 1/conj λ, and the outputs fitted again over the
        horizon. A PrecisionWarning says so; ``left`` and ``right`` are None then.
    gramians : (P, Q), two (..., n, n) Hermitian positive semidefinite arrays, optional
        Balance these instead of the system's own: of data (:func:`data_gramians`), of some
        frequencies, of weighted signals. Then σ = √eig(P Q), there is no bound (``error`` goes by
        2 Σ_{i>r} σ_i all the same), and the result may be unstable where the system, which must be
        stable, is not: poles are reflected and outputs fitted again to white inputs, with a
        PrecisionWarning, as over a horizon. Pairs in float32 tell values down to their rounding.
    match_dc : bool
        Balanced singular perturbation: the states beyond r follow at once instead of being dropped,
        so that H_r(1) = H(1), of a mode λ to 1e-16/|1 − λ|; in continuous time H_r(0) = H(0). The
        bound is the same. D changes, and ``left``, ``right`` are None.
    unstable : "refuse" or "keep"
        "keep" reduces the stable part of a system and keeps all other modes: ``order`` counts them,
        the other criteria, σ and the bound are those of the stable part; an ``order`` of just the
        unstable modes drops the stable part, but for its DC gain under ``match_dc``. Poles that
        rounding does not tell from the circle are kept, clusters of them together. One system at a
        time.

    Returns
    -------
    Reduction : the reduced system is dense (see `to_rotation`, `diagonalize`), real for real input,
        stable where the system is, and has the D of the full one. Poles that rounding has put on
        the circle, or across it, are brought inside; the bound is infinite then. Conditions: all
        |poles| < 1 but for the cases above; the system need not be minimal. Values at the level of
        rounding leave nothing to keep: r is lowered to the number of larger ones with a
        PrecisionWarning; a system with B = 0 or C = 0 becomes one state with zero input and output.

    Cost: O(n² (m + p) + n³) structured or dense, one SVD of the numerical rank k; for structured A
    with n ≥ 1024 and n ≥ 32 max(m, p) O(n k (m + p + k)) time and O(n (m + p + k)) memory; for a
    `Sparse` A some ten sparse factorisations beside, and no n × n matrix.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    UnstableSystemError
    ShapeError
        For an empty batch.
    MemoryLimitError
        Where k columns of so many states are too large for this machine.
    ArgumentError
        When not exactly one criterion is given, or it or the options are out of range.
    NonFiniteError
        Where Hankel singular values, or Gramians over the horizon, overflow.

    Source: Tombs & Postlethwaite, Int. J. Control 46 (1987); discrete-time bound: Al-Saggaf &
    Franklin, IEEE TAC 32 (1987), and Enns (1984); singular perturbation: Liu & Anderson, Int. J.
    Control 50 (1989); finite horizons: Gawronski & Juang (1990); quadratic outputs: Benner, Goyal &
    Pontes Duff, IEEE TAC 67 (2022).


    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> sys = lti.LTI(A, B, np.diag([3, 1]) @ B)  # σ = 3, 1
    >>> reduced = lti.balanced_truncation(sys, error=2.5)
    >>> print(reduced.order, reduced.error_bound.round(4))
    1 2.0

    """
    sys = as_system(sys, continuous=True, sparse=True)
    with offering(_remedies(sys)):
        found = truncate(
            sys,
            order=order,
            energy=energy,
            error=error,
            horizon=horizon,
            gramians=gramians,
            match_dc=match_dc,
            unstable=unstable,
        )
    return _told(sys, found, error, horizon, given=gramians is not None, h2=True)


@computed_on_host
def truncate_all_to_order(
    sys: System,
    order: int,
    *,
    horizon: float | None = None,
    gramians: tuple[Any, Any] | None = None,
) -> list[Reduction]:
    """:func:`balanced_truncation` of one system or of a batch to an order, without the h2 error,
    which takes a third of the time where systems are small.

    One reduction of all together where all come out with this order, which takes a half to a third
    of the time; else one of each, since a batch gives all its entries the largest of their orders.
    Gramians have the batch axes of the system.
    """
    with offering(_remedies(sys)):
        found = truncate(sys, order=order, horizon=horizon, gramians=gramians)
    if isinstance(sys, LTI) and sys.batch_shape and not _all_as_wanted(found):
        none = [None] * sys.batch_shape[0]
        pairs = none if gramians is None else zip(*gramians, strict=True)
        return [
            entry
            for x, pair in zip(sys, pairs, strict=True)
            for entry in truncate_all_to_order(x, order, horizon=horizon, gramians=pair)
        ]
    return [_told(sys, found, None, horizon, given=gramians is not None, h2=False)]


def _all_as_wanted(found: Truncation) -> bool:
    """Whether every entry of a batch has all the states that were wanted, and its own poles."""
    left = found.reduction.left
    if found.reduction.order < found.wanted or found.reflected or left is None:
        return False
    xp = namespace(left)
    return holds(xp.any(left != 0, axis=-2))


def _told(
    sys: System,
    found: Truncation,
    error: float | None,
    horizon: float | None,
    *,
    given: bool,
    h2: bool,
) -> Reduction:
    """The reduction with its errors, and warnings of what is not as it was asked for; ``given``
    says that the Gramians were."""
    warn_if_lowered(found, given)
    reduction = in_precision_of(sys, with_errors(found, horizon, h2=h2), horizon)
    bound = reduction.error_bound
    if error and bound is not None and not holds(bound <= 2 * error):
        warn_precision(
            f"an error of {error:.1e} was asked for, but rounding may add more: the error bound is "
            f"{float(namespace(bound).max(bound)):.1e}. Poles next to the circle, or strongly "
            "coupled ones, do not survive in a dense A; modal_truncation keeps them"
        )
    if found.reflected:
        kind = "of given Gramians" if given else "over a horizon"
        boundary = "imaginary axis" if sys.is_continuous else "unit circle"
        warn_precision(
            f"balancing {kind} gave {found.reflected} unstable poles: they were reflected at the "
            f"{boundary} and the outputs fitted again"
        )
    return reduction


@dataclass(frozen=True, eq=False)
class Truncation:
    """A reduction in float64 without its errors, and what makes it another one than was asked for.

    reduction : its bound leaves out what rounding does to poles, its h2 error is None
    wanted : order that the criterion chose
    clear : how many of these states stand clear of rounding
    cut : what :func:`with_errors` measures; None where the errors are there
    reflected : unstable poles that were made stable
    """

    reduction: Reduction
    wanted: int
    clear: int
    cut: _Cut | None = None
    reflected: int = 0


@dataclass(frozen=True, eq=False)
class _Cut(Generic[Array]):
    """What was reduced, to what, and the projections W, V on the way: of the stable part, where the
    rest is kept; of a sparse system the factors, in the units ``unit`` of its signals."""

    full: Any
    reduced: Any
    left: Array
    right: Array
    factors: tuple[LTI, LowRankFactors, Array] | None = None


def truncate(
    sys: System,
    *,
    order: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    horizon: float | None = None,
    gramians: tuple[Any, Any] | None = None,
    match_dc: bool = False,
    unstable: Literal["refuse", "keep"] = "refuse",
) -> Truncation:
    """:func:`balanced_truncation`, which leaves it to the caller to measure errors and to warn."""
    _check_options(sys, order, energy, error, horizon, gramians, match_dc, unstable)
    pair = None if gramians is None else check_gramians(sys, gramians)
    if sys.order == 0:
        _choose_order(zeros_like_shape(real_part(sys.B), (1, 0)), order, energy, error)
        return Truncation(nothing_to_reduce(sys), 0, 0)
    full = mapped(to_double, sys)
    if unstable == "keep" and isinstance(full, LTI) and not is_stable(full.A, full.is_continuous):
        stable, rest = split_unstable(full)
        if rest is not None:
            return _reduce_stable_part(full, stable, rest, order, energy, error, match_dc)
    return _reduce(full, order, energy, error, horizon, match_dc, pair)


def with_errors(found: Truncation, horizon: float | None, *, h2: bool) -> Reduction:
    """The reduction with its whole error bound and, where it is wanted, its h2 error."""
    reduction, cut = found.reduction, found.cut
    if cut is None:
        return reduction
    if not h2:
        measured = None
    elif cut.factors is None:
        measured = whole_h2_error(cut.full, cut.reduced, horizon)
    else:
        measured = _sparse_h2_error(cut.full, cut.reduced, *cut.factors)
    return replace(reduction, error_bound=whole_bound(found), h2_error=measured)


def _sparse_h2_error(
    full: Any, reduced: Any, unit: LTI[Any], factors: LowRankFactors, units: Any
) -> Any:
    """Infinite in continuous time where D has changed."""
    b, e = units
    small = replaced(reduced, B=scaled(reduced.B, -b), C=scaled(reduced.C, b - e))
    error = scaled(np.asarray(difference_by_factors(unit, factors, small)), e)
    D, other = (feedthrough(x.C, x.D, x.B) for x in (reduced, full))
    changed = D - other
    if full.is_continuous:
        return np.where(changed.any(), np.inf, error)
    return np.hypot(error, np.linalg.norm(changed))


def whole_bound(found: Truncation) -> Array | None:
    """The error bound with what rounding does to poles."""
    bound, cut = found.reduction.error_bound, found.cut
    if bound is None or cut is None:
        return bound
    return bound + lost_in_poles(cut.full, cut.left, cut.right, cut.reduced)


def warn_if_lowered(found: Truncation, given: bool = False) -> None:
    if found.clear < found.wanted:
        cause = f"{counted(found.clear, 'Hankel singular value')} stood clear of rounding"
        if given:
            directions = counted(found.clear, "direction")
            cause = f"{directions} lay in both Gramians given, whose ranks may be lower"
        warn_precision(
            f"order {found.wanted} was asked for, but only {cause}: the reduced system has "
            f"{counted(found.reduction.order, 'state')}"
        )


def _reduce(
    sys: System,
    order: int | None,
    energy: float | None,
    error: float | None,
    horizon: float | None,
    match_dc: bool,
    gramians: GivenGramians | None = None,
) -> Truncation:
    def wanted(sigma: Array) -> int:
        return _choose_order(sigma, order, energy, error)

    if gramians is None:
        found = _balance(sys, horizon, wanted)
    else:
        require_stable(linear_part(sys), what="balanced truncation of given Gramians")
        found = _balance_given(sys, gramians)
    reduced = _perturbed if match_dc else _truncated
    return reduced(sys, found, wanted(found.sigma), horizon)


@dataclass(frozen=True, eq=False)
class _Balancing(Generic[Array]):
    """What both reductions need of a system in float64.

    sigma : (..., n) padded with zeros,   clear : which of them stand clear of rounding
    level : (...) size of the rounding errors in σ
    lost : (...) size √eps Σ ‖R_i‖‖S_i‖ of values that formed Gramians, which hold squares, do not
        tell from 0; 0 of factors
    count : how many values the factors have, each with such an error; the others are zeros
    rank : largest number of clear values in the batch
    exact : whether these are the Gramians of the system over all time, so that truncation keeps
        stability and has a bound
    projections : r ↦ the first r columns of W = S U Σ^{−½} and of V = R V Σ^{−½}, zeros where σ is
        not clear, as in batch entries of lower rank than the others
    factors : of a sparse system (Σ', its factors, (b, e)) for the (Σ', b, e) of
        :func:`unit_outputs`
    """

    sigma: Array
    clear: Array
    level: Array
    lost: Array
    count: int
    rank: int
    exact: bool
    projections: Callable[[int], tuple[Array, Array]]
    factors: tuple[LTI, LowRankFactors, Any] | None = None


def _balance(
    sys: System[Array], horizon: float | None, wanted: Callable[[Array], int]
) -> _Balancing[Array]:
    """Of formed Gramians where these tell from rounding the ``wanted`` number of values and the sum
    of the others, else of factors without them."""
    even, d = in_even_states(sys) if isinstance(sys, LTI) else (sys, 1.0)
    unit, b, e = unit_outputs(even)
    if is_sparse(sys.A):
        return _balance_sparse(linear_part(unit), b, e)
    formed, rtol = scaled_gramians(unit, horizon), None
    if formed is not None:
        P, Q, t = formed
        sizes = real_part(diagonal(P)), real_part(diagonal(Q))
        sigma, leading = leading_directions(P, Q)
        exact = horizon is None
        found = _balancing(sys.A, sigma, leading, sizes, (t / d, b, e), exact=exact, formed=True)
        if not has_factors(sys, horizon):
            return found
        order = wanted(found.sigma)
        if not (found.rank < order or _tail_is_lost(found, order) or modes_cancel(P, Q, sigma)):
            return found
        # What is left after the cancellation may be small beside the Gramians themselves.
        rtol = EPSILON**2
    R, S, t = scaled_factors(linear_part(unit), rtol, horizon=horizon, formed=False)
    xp = namespace(R, S)
    with np.errstate(over="ignore"):
        rows = real_part(xp.vecdot(R, R)), real_part(xp.vecdot(S, S))
    require_finite_values(xp.concat(rows, axis=-1))
    exact = horizon is None
    return _balancing(sys.A, *directions_of_factors(R, S), rows, (t / d, b, e), exact=exact)


def _balance_sparse(unit: Any, b: Any, e: Any) -> _Balancing:
    factors = low_rank_factors(unit, EPSILON)
    rows = (np.einsum("ij,ij->i", X, X.conj()).real for X in (factors.R, factors.S))
    directions = directions_of_factors(factors.R, factors.S)
    units = np.ones((unit.order, 1)), b, e
    found = _balancing(unit.A, *directions, tuple(rows), units, exact=True, left_out=factors.rest)
    return replace(found, factors=(unit, factors, (b, e)))


def _balance_given(sys: System[Array], given: GivenGramians[Array]) -> _Balancing[Array]:
    # Of pairs of lower rank n roundings are left, which LAPACK's xPSTRF drops as well.
    rtol = sys.order * given.rounding / 2
    R, S = (pivoted_cholesky(X, rtol=rtol) for X in (given.P, given.Q))
    sigma, leading = directions_of_factors(R, S)
    sizes = real_part(diagonal(given.P)), real_part(diagonal(given.Q))
    units = given.t, given.b, given.e
    return _balancing(
        sys.A, sigma, leading, sizes, units, exact=False, formed=True, rounding=given.rounding
    )


def _tail_is_lost(found: _Balancing, order: int) -> bool:
    """Whether the values that an ``order`` drops are so small that formed Gramians may have lost
    what they add to the bound, √n times what they tell of one value."""
    xp = namespace(found.sigma)
    kept = found.clear & (xp.arange(found.sigma.shape[-1]) < order)
    tail = xp.sum(xp.where(kept, 0.0, found.sigma), axis=-1)
    told = xp.all(kept, axis=-1) | (tail >= 10 * kept.shape[-1] ** 0.5 * found.lost)
    return not holds(told)


def _balancing(
    A: StateMatrix[Array],
    sigma: Array,
    leading: Callable[[int], tuple[Array, Array]],
    sizes: tuple[Array, Array],
    units: tuple[Array, Array, Array],
    *,
    exact: bool,
    formed: bool = False,
    rounding: float = EPSILON,
    left_out: float = 0.0,
) -> _Balancing[Array]:
    """From directions in states scaled by t and the units (b, e) of :func:`unit_outputs`, ``units``
    = (t, b, e); ``sizes`` are the diagonals of both Gramians, ``left_out`` is the size of what
    their factors lack of SᴴR."""
    xp, (t, b, e) = namespace(sigma), units
    count, sigma = sigma.shape[-1], pad_values(sigma, order_of(A))
    level = rounding * _sum_of_sizes(A, *sizes) + left_out  # the same for all scales t
    clear = sigma > level
    rank = int(xp.max(xp.sum(xp.astype(clear, xp.int64), axis=-1)))

    def projections(count: int) -> tuple[Array, Array]:
        kept, values = clear[..., None, :count], sigma[..., None, :count]
        scale = xp.where(kept, 1 / xp.sqrt(xp.where(kept, values, 1.0)), 0.0)
        # R = 2^b R' and S = 2^(e − b) S'.
        unit = 2.0 ** xp.clip((e / 2 - b)[..., None, None], -1000.0, 1000.0)
        left, right = (pad_values(X, count) for X in leading(count))
        for X, row in ((left, t), (right, 1 / t)):
            X *= scale
            X *= row
        left *= unit
        right /= unit
        return _biorthogonal(left, right, kept), right

    with np.errstate(over="ignore"):
        whole, level = (scaled(x, e[..., None]) for x in (sigma, level))
    require_finite_values(whole)
    level = level[..., 0]
    lost = level / rounding**0.5 if formed else 0 * level
    return _Balancing(whole, clear, level, lost, count, rank, exact, projections)


def _biorthogonal(left: Array, right: Array, kept: Array) -> Array:
    """W with Wᴴ V = 1 in the columns that are ``kept``, to rounding.

    Where σ_i is small Wᴴ V comes out 1 + E with E_ij of the order of eps σ_1/(σ_i σ_j)^{½}, and so
    do poles that are all next to 1. W (1 + E)⁻ᴴ projects on the same states.
    """
    xp = namespace(left, right)
    one = xp.eye(left.shape[-1], dtype=left.dtype) * xp.astype(kept, left.dtype)
    error = adjoint_product(left, right) - one
    # The first term of the series; columns as far off as this are not those of balanced states.
    near = xp.max(xp.abs(error), axis=(-2, -1), keepdims=True) < _NEARLY
    left -= left @ adjoint(xp.where(near, error, xp.zeros_like(error)))
    return left


def _truncated(sys: System, found: _Balancing, wanted: int, horizon: float | None) -> Truncation:
    xp = namespace(sys.B)
    order = min(wanted, found.rank)
    kept = found.clear & (xp.arange(sys.order) < order)
    left, right = found.projections(max(order, 1))
    reduced, moved, plausible = _inside(_projected(sys, left, right), found.exact)
    # The exact truncation is stable: one that is not lives on values spoilt by rounding.
    while order > 0 and not plausible:
        order -= 1
        kept = kept & (xp.arange(sys.order) < order)
        columns = xp.astype(kept[..., None, : max(order, 1)], found.sigma.dtype)
        left, right = (X[..., : max(order, 1)] * columns for X in (left, right))
        reduced, moved, plausible = _inside(_projected(sys, left, right), found.exact)
    no_bound = not found.exact or isinstance(sys, QuadraticOutputLTI)
    reflected = 0
    if not found.exact and not _is_stable(reduced):
        reduced, reflected = repair(sys, reduced, horizon)
    reduction = Reduction(
        system=reduced,
        order=reduced.order,
        singular_values=found.sigma,
        error_bound=None if no_bound else _bound(found, kept, moved),
        h2_error=None,
        left=None if reflected else left,
        right=None if reflected else right,
    )
    cut = _Cut(sys, reduced, left, right, found.factors)
    return Truncation(reduction, wanted, order, cut, reflected)


def _bound(found: _Balancing[Array], kept: Array, moved: Array) -> Array:
    """2 Σ σ_i over the values that are not kept, and what rounding may have taken from each;
    infinite for entries whose poles it ``moved`` across the circle, for all that is known."""
    # P and Q are right to eps of their diagonals, and σ² to the square of what is ``lost``. Below
    # that the sum of k values, ⟨S', R'⟩ with R'R'ᴴ and S'S'ᴴ within eps of nothing, is right to √k
    # times it.
    xp = namespace(found.sigma)
    lost = found.lost[..., None]
    above = found.sigma > lost
    whole = xp.where(above, xp.hypot(found.sigma, lost + 0 * found.sigma), found.sigma)
    dropped = xp.sum(xp.where(kept, 0.0, whole), axis=-1)
    below = xp.where(kept | above, 0.0, xp.ones_like(whole))
    dropped = dropped + xp.sqrt(xp.sum(below, axis=-1)) * found.lost
    bound = 2 * (dropped + found.count * found.level)
    return xp.where(moved, xp.full_like(bound, xp.inf), bound)


def _perturbed(sys: Any, found: _Balancing, wanted: int, horizon: float | None) -> Truncation:
    # With balanced states split as (x_1, x_2), x_2 is set to its fixed point for the current x_1
    # and u: x_2 = (I − A22)⁻¹ (A21 x_1 + B2 u), in continuous time −A22⁻¹ (A21 x_1 + B2 u).
    xp = namespace(sys.B)
    rank = max(found.rank, 1)
    order = min(wanted, rank)
    left, right = found.projections(rank)
    balanced = _projected(sys, left, right)
    A, B, C, D = balanced.A, balanced.B, balanced.C, balanced.D
    if order < rank:
        first, second = slice(0, order), slice(order, rank)
        identity = xp.eye(rank - order, dtype=A.dtype)
        at_rest = 0 * identity if sys.is_continuous else identity
        fast = _fixed_point(
            at_rest - A[..., second, second],
            xp.concat([A[..., second, first], B[..., second, :]], axis=-1),
        )
        by_state, by_input = fast[..., :order], fast[..., order:]
        added = C[..., second] @ by_input
        D = added if D is None else D + added
        B = B[..., first, :] + A[..., first, second] @ by_input
        C = C[..., first] + C[..., second] @ by_state
        A = A[..., first, first] + A[..., first, second] @ by_state
    reduced, moved, _ = _inside(replace(sys, A=A, B=B, C=C, D=D), found.exact)
    reflected = 0
    if not found.exact:
        if not _is_stable(reduced):
            reduced, reflected = repair(sys, reduced, horizon)
        reduced = _with_dc_gain_of(sys, reduced)
    remaining = found.clear & (xp.arange(sys.order) < order)
    reduction = Reduction(
        system=reduced,
        order=order,
        singular_values=found.sigma,
        error_bound=_bound(found, remaining, moved) if found.exact else None,
        h2_error=None,
    )
    cut = _Cut(sys, reduced, left, right, found.factors)
    return Truncation(reduction, wanted, order if found.rank else 0, cut, reflected)


def _fixed_point(M: Array, X: Array) -> Array:
    """M⁻¹ X for M = I − A22, which only other Gramians than the system's can leave singular."""
    try:
        return namespace(M).linalg.solve(M, X)
    except np.linalg.LinAlgError:
        raise ArgumentError(
            "match_dc=True: the states beyond this order follow nothing, for 1 is a pole of theirs "
            "as these Gramians balance them: ask for another order"
        ) from None


def _with_dc_gain_of(sys: LTI, reduced: Any) -> LTI:
    """What the directions without a value would have added to H(1) goes to D."""
    xp = namespace(sys.B)
    full, small = (frequency_response(x, xp.zeros(1))[..., 0, :, :] for x in (sys, reduced))
    missing = full - small
    missing = missing if is_complex(reduced.B) else real_part(missing)
    return replace(reduced, D=missing if reduced.D is None else reduced.D + missing)


def _reduce_stable_part(
    sys: LTI,
    stable: LTI | None,
    rest: LTI,
    order: int | None,
    energy: float | None,
    error: float | None,
    match_dc: bool,
) -> Truncation:
    if order is not None and check_order(order, sys.order) < rest.order:
        raise ArgumentError(
            f"order is {order}, but {rest.order} unstable modes are kept: ask for at least as many"
        )
    if stable is None:
        xp = namespace(sys.B)
        nothing = real_part(xp.zeros_like(sys.B[0, 0]))
        nothing_left = Reduction(sys.to_dense(), sys.order, nothing[None][:0], nothing, nothing)
        return Truncation(nothing_left, sys.order, sys.order)
    lost = lost_in_split(sys, stable, rest)
    if order == rest.order:
        found = _balance(stable, None, lambda sigma: 0)
        alone = _without(stable, rest, found, match_dc)
        alone = replace(alone, error_bound=alone.error_bound + lost)
        return Truncation(alone, rest.order, rest.order)
    left = None if order is None else order - rest.order
    part = _reduce(stable, left, energy, error, None, match_dc)
    whole = part.reduction.system + rest
    bound = part.reduction.error_bound
    joined = replace(
        part.reduction,
        system=whole,
        order=whole.order,
        error_bound=None if bound is None else bound + lost,
        left=None,
        right=None,
    )
    return Truncation(joined, part.wanted + rest.order, part.clear + rest.order, part.cut)


def _without(stable: LTI, rest: LTI, found: _Balancing, match_dc: bool) -> Reduction:
    """The unstable part alone; of the stable one D remains, or its DC gain."""
    xp = namespace(stable.B)
    D, error = stable.D, replaced(stable, D=None)
    none = xp.zeros_like(found.clear)
    if match_dc:
        gain = frequency_response(stable, xp.zeros(1))[0]
        D = gain if is_complex(stable.B) else real_part(gain)
        error = replaced(stable, D=-D if stable.D is None else stable.D - D)
    return Reduction(
        system=replace(rest.to_dense(), D=D),
        order=rest.order,
        singular_values=found.sigma,
        error_bound=_bound(found, kept=none, moved=xp.any(none, axis=-1)),
        h2_error=whole_h2_error(error, replaced(error, D=None, C=0 * error.C), None),
    )


def _projected(sys: System, left: Array, right: Array) -> Any:
    """The system of W and V; states for which an entry of a batch has no direction do nothing."""
    A = adjoint_product(left, multiply(sys.A, right))
    if sys.is_continuous:
        # In discrete time their poles are at 0, here −1 or as fast as the others.
        xp = namespace(A)
        size = xp.linalg.matrix_norm(A)
        size = xp.where(size > 0, size, xp.ones_like(size))[..., None]
        idle = xp.astype(xp.all(right == 0, axis=-2), size.dtype)
        A = A - (size * idle)[..., None] * xp.eye(A.shape[-1], dtype=A.dtype)
    return in_coordinates(sys, right, A=A, B=adjoint_product(left, sys.B))


def _remedies(sys: System) -> str:
    """What there is for unstable systems."""
    if is_sparse(sys.A):
        return NOTHING
    if isinstance(sys, QuadraticOutputLTI) or sys.batch_shape:
        return HORIZON
    return f"{KEEP}. {HORIZON}"


def _inside(reduced: Any, exact: bool) -> tuple[Any, Any, bool]:
    """``reduced`` with all poles inside the circle, which entries that has changed, (...), and
    whether the rounding of A alone explains it (:func:`off_circle`); of Gramians that are not the
    system's over all time, and where general matrices have no eigenvalues, as it is."""
    xp = namespace(reduced.B)
    if not exact or not has_eigenvalues(reduced.B):
        return reduced, xp.zeros(reduced.batch_shape, dtype=xp.bool), True
    A, moved, plausible = (off_axis if reduced.is_continuous else off_circle)(reduced.A)
    return replace(reduced, A=A), moved, plausible


def _is_stable(sys: System) -> bool:
    # By the poles as they are, since those of a structured system may be next to the circle.
    # Libraries without eigenvalues of general matrices cannot tell; there we trust the theory.
    if not has_eigenvalues(sys.B):
        return True
    if sys.is_continuous:
        return holds(structure_of(sys.A).decays > 0)
    return sys.spectral_radius < 1


def _check_options(
    sys: System,
    order: int | None,
    energy: float | None,
    error: float | None,
    horizon: float | None,
    gramians: Any,
    match_dc: bool,
    unstable: str,
) -> None:
    check_one_given(order=order, energy=energy, error=error)
    check_not_empty(sys.batch_shape)
    if gramians is not None and (horizon is not None or unstable == "keep"):
        raise ArgumentError(
            "gramians= takes the place of the system's own Gramians, over a horizon or of its "
            "stable part: leave out horizon= and unstable="
        )
    if is_sparse(sys.A) and (horizon is not None or gramians is not None or unstable == "keep"):
        raise ArgumentError(
            "horizon=, gramians= and unstable='keep' are not there for a sparse A: leave them out"
        )
    if unstable not in ("refuse", "keep"):
        raise ArgumentError(f"unstable={unstable!r} is not 'refuse' or 'keep'")
    quadratic = isinstance(sys, QuadraticOutputLTI)
    if match_dc and (horizon is not None or quadratic):
        raise ArgumentError("match_dc=True is for linear outputs and the infinite horizon")
    if error is not None and (horizon is not None or quadratic):
        raise ArgumentError(
            "error= is a bound that finite horizons and quadratic outputs do not have: give "
            "order= or energy="
        )
    if unstable == "keep" and (horizon is not None or quadratic or sys.batch_shape):
        raise ArgumentError(
            "unstable='keep' is for one system with linear outputs and the infinite horizon"
        )


def _choose_order(
    sigma: Array, order: int | None, energy: float | None, error: float | None
) -> int:
    if energy is not None:
        return order_for_energy(sigma, energy)
    if error is not None:
        return order_for_error(sigma, error)
    return check_order(order, sigma.shape[-1])


def _sum_of_sizes(A: StateMatrix[Array], p: Array, q: Array) -> Array:
    """(..., 1) Σ_i ‖R_i‖‖S_i‖ over the states i, for the diagonals p and q of P = R Rᴴ and
    Q = S Sᴴ: eps times this is the size of the rounding errors in SᴴR.

    The sum bounds Σσ from above and does not change when the states are rescaled. The two states
    of a rotation block are computed from the same two modes, so they round, and count, together.
    """
    xp = namespace(p, q)
    p, q = (same_in_blocks(lambda first, second: (first + second) / 2, A, x) for x in (p, q))
    return xp.sum(xp.sqrt(p) * xp.sqrt(q), axis=-1, keepdims=True)
