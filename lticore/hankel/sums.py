"""Sums of functions of the Hankel singular values, and their gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

import numpy as np

from ..arrays.checks import (
    check_horizon,
    check_rtol,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import (
    Array,
    Namespace,
    asked_together,
    elementwise,
    holds,
    is_finite,
    namespace,
)
from ..equations.integrals import integral_solver
from ..equations.stability import HORIZON, offering, require_stable
from ..equations.stein import doubling_solver
from ..equations.two_sided import ROUNDING, SteinSolver
from ..errors import NonFiniteError, UnstableSystemError, warn_precision
from ..matrices.factors import inner_product
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, replaced
from ..systems.on_host import computed_on_host, is_modal
from ..systems.signals import (
    in_best_units,
    in_even_states,
    in_units_of_A,
    scaled,
    size_exponent,
    unit_signals,
)
from ..systems.structure import is_structured
from .directions import Cotangents, factor_cotangents, gramian_cotangents
from .functions import SpectralFunction, SpectralLike, as_spectral_function
from .gradients import pull_back
from .gramians import (
    balanced_gramians,
    balancing_units,
    gramian,
    gramian_solver,
    has_factors,
    is_dense_numpy,
)
from .scales import balance_gramians
from .schur_factors import factors_together
from .values import hankel_singular_values

#: A sum that may be further off than this comes with a warning.
_ACCURACY = 1e-6


@offering(HORIZON)
@asked_together
def hankel_sum(
    sys: LinearLike[Array], function: SpectralLike = "nuclear", *, horizon: float | None = None
) -> Array:
    """Σ_i φ(σ_i), one value per batch entry.

    Parameters
    ----------
    function : "nuclear" (φ = σ, the HSVR regulariser), "log" (log(1 + σ)), `schatten(p)`,
        `tail(r)`, or a pair (φ, φ') of functions of the (..., n) array of descending values.
    horizon : int ≥ 1, in continuous time a duration, optional

    Returns
    -------
    (...) real array in the precision of the system.

    Cost and errors as for :func:`hankel_singular_values`.

    CuPy: its values on the host; see docs/cupy.md.


    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> sys = lti.LTI(A, B, np.diag([3, 1]) @ B)  # σ = 3, 1
    >>> print(lti.hankel_sum(sys).round(4))
    4.0
    >>> print(lti.hankel_sum(sys, lti.tail(1)).round(4))
    1.0

    """
    sys, phi = as_linear(sys, continuous=True), as_spectral_function(function)
    sigma = to_double(hankel_singular_values(in_double(sys), horizon=horizon))
    return like_precision(namespace(sigma).sum(phi.value(sigma), axis=-1), is_single(sys.B))


@dataclass(frozen=True, eq=False)
class LTIGradient(Generic[Array]):
    """Gradient with respect to a system: df = Re⟨g, dx⟩ for each array x of it.

    A : tuple of arrays, in the order of the structure's parameters:
        Diagonal (poles,); Rotation (radius, angle, real_poles); dense (A,)
    B : (..., n, m),  C : (..., p, n)
    discrepancy : (...) relative error of f that was met: the largest deviation from Euler's
        identities Re⟨g_B, B⟩ = Re⟨g_C, C⟩ = Σ φ'(σ_i) σ_i, plus what the rounding of formed
        Gramians does to σ_1, plus what an iteration has left out


    >>> A = lti.Rotation([0.5], [1.0], real_poles=[0.2])
    >>> sys = lti.LTI(A, np.ones((3, 1)), np.ones((1, 3)))
    >>> value, gradient = lti.hankel_sum_and_gradient(sys)
    >>> [g.shape for g in gradient.A]  # radius, angle, real_poles
    [(1,), (1,), (1,)]
    >>> print(((gradient.B * sys.B).sum() / value).round(6))  # Euler's identity
    1.0

    """

    A: tuple[Array, ...]
    B: Array
    C: Array
    discrepancy: Array


@offering(HORIZON)
@partial(computed_on_host, unless=is_modal)
@asked_together
def hankel_sum_and_gradient(
    sys: LinearLike[Array],
    function: SpectralLike = "nuclear",
    *,
    rtol: float | None = None,
    horizon: float | None = None,
) -> tuple[Array, LTIGradient[Array]]:
    """f = Σ_i φ(σ_i) and its gradient in closed form.

        M = Sᴴ R = U Σ Vᴴ,     G_P = ½ (S U) diag(φ'(σ)/σ) (S U)ᴴ,   G_Q likewise with R V
        Aᴴ Y A − Y + G_P = 0,  A Z Aᴴ − Z + G_Q = 0
        g_A = 2 (Y A P + Q A Z),   g_B = 2 Y B,   g_C = 2 C Z,

    g_A read off on the parameters of the structure only, in O(n²). With a horizon T, P, Q, Y and Z
    are sums of T terms, and g_A is the derivative of those; in continuous time they are integrals
    over T, and without a horizon

        Aᴴ Y + Y A + G_P = 0,  A Z + Z Aᴴ + G_Q = 0,   g_A = 2 (Y P + Q Z).

    Parameters
    ----------
    function : as for :func:`hankel_sum`
    rtol : float in [0, 1), default 1e-12
        Directions with σ_i ≤ rtol · σ_1 contribute their value and no gradient. This is a Clarke
        subgradient where values vanish (unreachable states, B = 0), and the only cut there is, but
        for dense A on NumPy over a horizon: of σ_i < 1.5e-8 σ_1 those directions get no weight in
        which rounding of the gradient would outweigh what they bring.
        CuPy arrays with φ = σ and no ``rtol`` given: weights fall to zero below 1e-6 σ_1 instead.
    horizon : int ≥ 1, optional; in continuous time a float > 0 in the unit of time of A

    Returns
    -------
    value : (...) real array,   gradient : LTIGradient, in the precision of the system.

    Conditions: all |poles| < 1 unless ``horizon`` is given. Poles may repeat; singular values may
    coincide or vanish.

    Accuracy: the states are scaled first (diag P ≈ diag Q). Values and directions are then those of
    formed Gramians, with errors of about 1e-15 · ‖P‖‖Q‖/σ_i in σ_i, for dense A on NumPy over a
    horizon those of factors, 1e-15 · ‖R‖‖S‖; the error met is in ``gradient.discrepancy``. For
    dense A on NumPy they are those of a matrix within 1e-15 ‖A‖ of A, which no identity tells from
    A. CuPy: a few times 1e-7 of f.

    Cost: O(n² (m + p)) products, O(n²) elementwise, and O(n³) in one factor and one symmetric
    eigendecomposition of the numerical rank (CuPy, φ = σ: 53 matrix products). On one CPU thread
    about three times the eigendecomposition ``scipy.linalg.eigh`` of order n for n = m = p, less
    where the system is compressible. Dense O(n³), with Schur forms.

    CuPy: on the device for φ = σ and structured A, about a hundred launches for a batch of any size
    and one wait (docs/cupy.md); else by decompositions on the host.

    Raises
    ------
    UnstableSystemError, ArgumentError

    Warns
    -----
    PrecisionWarning
        When the discrepancy exceeds 1e-6, with what rounding of a dense A costs by this gradient.

    Source: derivations above the code; the sum for φ = σ is eq. (11) of Schwerdtner et al., HSVR.


    >>> sys = lti.LTI(lti.Diagonal([0.6]), [[0.8]], [[0.8]])  # σ = b c/(1 − λ²)
    >>> value, gradient = lti.hankel_sum_and_gradient(sys)
    >>> gradient.A[0].round(4), gradient.B.round(4)
    (array([1.875]), array([[1.25]]))

    """
    sys, phi = as_linear(sys, continuous=True), as_spectral_function(function)
    rtol = None if rtol is None else check_rtol(rtol)
    horizon = check_horizon(horizon, sys.is_continuous)
    single = is_single(sys.B)
    value, g_A, g_B, g_C, (discrepancy, lost, accurate) = sum_and_gradient(
        in_double(sys), phi, rtol, horizon
    )
    if not holds(accurate):
        _warn_of(lost)
    gradient = LTIGradient(
        tuple(like_precision(g, single) for g in g_A),
        *(like_precision(x, single) for x in (g_B, g_C, discrepancy)),
    )
    return like_precision(value, single), gradient


def sum_and_gradient(
    sys: LTI[Array], phi: SpectralFunction, rtol: float | None = None, horizon: float | None = None
) -> tuple[Array, tuple[Array, ...], Array, Array, tuple[Array, Array, Array]]:
    """f, g_A, g_B, g_C and (the discrepancy met, with what rounding of a dense A costs, whether
    that is small) of :func:`hankel_sum_and_gradient`, of a system in double precision."""
    work = _prepare(sys, horizon)
    phi, e = _function_in_units(phi, work.size, sys.order)
    found = _cotangents(work, phi, rtol, balanced=has_factors(work.sys, horizon))
    g_A, g_B, g_C = pull_back(work.sys, *work.gramians, found.P, found.Q, work.solve, work.horizon)
    discrepancy = _discrepancy(
        found.slope,
        inner_product(g_B, work.sys.B),
        inner_product(g_C, work.sys.C),
        found.uncertainty,
        _lost_in_state_matrix(work.sys, g_A, found.slope),
    )
    value = scaled(found.value, e)
    with np.errstate(over="ignore"):  # what overflows is refused
        g_A, g_B, g_C = _gradient_in_given_units(work, e, g_A, g_B, g_C)
    if not all(is_finite(x) for x in (value, *g_A, g_B, g_C)):
        raise NonFiniteError(
            "the Hankel sum or its gradient overflows: scale B or C down, which they grow with, or "
            "take a shorter horizon"
        )
    return value, g_A, g_B, g_C, discrepancy


@dataclass(frozen=True, eq=False)
class _Work(Generic[Array]):
    """A system in states and units in which its ``gramians``, P and Q, are computed:
    B' = Uᴴ (2^x B) and C' = (C 2^y) U with U = 1 for None, x (..., n, 1), y (..., 1, n), and Hankel
    singular values 2^-size times as large.

    solve : the solver of its A over the horizon; of dense continuous-time systems in units of
        time of their own, (...) horizons
    factored : whether ``gramians`` are their factors R and S; with a horizon no gradient asks for
        P and Q
    """

    sys: LTI[Array]
    gramians: tuple[Array, Array]
    solve: SteinSolver
    x: Array
    y: Array
    U: Array | None
    size: Array
    horizon: Any = None
    factored: bool = False


def _prepare(sys: LTI, horizon: Any) -> _Work:
    """Structured systems with balanced states, dense ones in the best units of theirs.

    Raises
    ------
    UnstableSystemError
    """
    dense, what = is_dense_numpy(sys), "a Hankel sum"
    if has_factors(sys, horizon):
        _, x, y, size = balancing_units(sys, what=what)
        x, y = x[..., None], y[..., None, :]
        sys = replaced(sys, B=scaled(sys.B, x), C=scaled(sys.C, y), D=None)
        solve = gramian_solver(sys)
        return _Work(sys, _both_gramians(sys, solve), solve, x, y, None, size)
    if horizon is not None and dense:
        return _prepare_powers(sys, horizon)
    if horizon is None and not dense:
        require_stable(sys, what=what)
    xp = namespace(sys.B)
    if not dense:
        even, d = in_even_states(sys)
        unit, b, c = unit_signals(even)
        solve = gramian_solver(sys, horizon)
        P, Q = _both_gramians(unit, solve)
    else:
        given, (sys, d) = sys, in_best_units(sys)
        try:
            unit, b, c = unit_signals(sys)
            P, Q, solve = balanced_gramians(unit, what=what)
        except UnstableSystemError:
            sys, d = in_units_of_A(given)
            unit, b, c = unit_signals(sys)
            P, Q, solve = balanced_gramians(unit, what=what)
    u = -xp.log2(d)
    x, y = u - b[..., None, None], -xp.matrix_transpose(u) - c[..., None, None]
    return _Work(unit, (P, Q), solve, x, y, None, b + c, horizon)


def _both_gramians(sys: LTI[Array], solve: SteinSolver) -> tuple[Any, Any]:
    return gramian(sys, solve, "P"), gramian(sys, solve, "Q")


def _prepare_powers(sys: LTI, horizon: Any) -> _Work:
    """Dense systems on NumPy over a horizon, stable or not: in the best units of their states, in
    continuous time also in one of time, and in a Schur form that is good for powers of A; with
    factors in place of the Gramians."""
    # Factors, since squares of them lose what hardly passes a chain of states within the horizon.
    forms, R, S = factors_together(sys, horizon, warn=False)
    unit = LTI(forms.T, forms.B, forms.C, dt=sys.dt)
    if sys.is_continuous:
        horizon = np.ldexp(float(horizon), 2 * forms.time)
        solve = integral_solver(unit.A, horizon)
    else:
        solve = doubling_solver(unit.A, horizon)
    b, c, u = forms.b.astype(float), forms.c.astype(float), -np.log2(forms.units)
    x, y = (
        v - (e + forms.time)[..., None, None] for v, e in ((u, b), (-np.swapaxes(u, -1, -2), c))
    )
    return _Work(unit, (R, S), solve, x, y, forms.U, b + c, horizon, factored=True)


def _cotangents(
    work: _Work[Array], phi: SpectralFunction, rtol: float | None, *, balanced: bool
) -> Cotangents[Array]:
    """Of Gramians that are not ``balanced`` after they are."""
    P, Q = work.gramians
    if work.factored:
        return factor_cotangents(P, Q, phi, rtol)
    if balanced:
        return gramian_cotangents(P, Q, phi, rtol)
    P, Q, t = balance_gramians(P, Q, work.sys.A)
    found = gramian_cotangents(P, Q, phi, rtol)
    row = namespace(t).matrix_transpose(t)
    return replace(found, P=found.P * t * row, Q=found.Q / t / row)


def _gradient_in_given_units(
    work: _Work[Array], e: Array, g_A: tuple[Array, ...], g_B: Array, g_C: Array
) -> tuple[tuple[Array, ...], Array, Array]:
    """2^e times the gradient, in the states and units given; of states and signals at once, since
    on the way numbers may be too large."""
    x, y, U, size = work.x, work.y, work.U, e[..., None, None]
    if U is not None:
        g_A, g_B, g_C = (U @ g_A[0] @ adjoint(U),), U @ g_B, g_C @ adjoint(U)
    if is_structured(work.sys.A):
        g_A = tuple(scaled(g, e[..., None]) for g in g_A)
    else:
        g_A = (scaled(g_A[0], size, x, y, work.size[..., None, None]),)
    return g_A, scaled(g_B, size, x), scaled(g_C, size, y)


def _function_in_units(
    phi: SpectralFunction, exponent: Array, order: int
) -> tuple[SpectralFunction, Array]:
    """(ψ, e) with φ(2^exponent σ) = 2^e ψ(σ) and a ψ of about size one for such σ."""
    if phi.name == "nuclear":
        return phi, exponent
    xp, unit = namespace(exponent), exponent[..., None]
    # Values of this size may be too large for φ; those that there are need not be of this size.
    with np.errstate(over="ignore"):
        like = xp.broadcast_to(scaled(xp.ones_like(unit), unit), (*exponent.shape, order))
        e = size_exponent(phi.derivative(like), axes=1) + exponent
    size = e[..., None]

    def derivative(sigma: Array) -> Array:
        slope = phi.derivative(scaled(sigma, unit))
        # No weight is taken from zeros, whose slope in these units may be no number.
        return scaled(xp.where(sigma > 0, slope, xp.zeros_like(slope)), unit - size)

    def value(sigma: Array) -> Array:
        return scaled(phi.value(scaled(sigma, unit)), -size)

    return SpectralFunction(phi.name, value, derivative), e


@elementwise
def _discrepancy(
    xp: Namespace, slope: Array, by_B: Array, by_C: Array, uncertainty: Array, lost: Array | float
) -> tuple[Array, Array, Array]:
    """Relative deviation from Euler's identities, σ_i being homogeneous in B and in C, and what is
    uncertain besides; with what is ``lost``; and whether that is small."""
    size = xp.where(xp.abs(slope) > 0, xp.abs(slope), 1.0)
    met = xp.maximum(xp.abs(by_B - slope), xp.abs(by_C - slope)) / size + uncertainty
    return met, met + lost, met + lost <= _ACCURACY


def _lost_in_state_matrix(sys: LTI[Array], g_A: tuple[Array, ...], slope: Array) -> Any:
    """Share that the rounding of a dense A on NumPy costs, to first order: Re⟨g_A, δA⟩ of a random
    δA as large as a Schur form leaves. Both Gramians are those of a matrix near A, which satisfy
    Euler's identities all the same."""
    if not is_dense_numpy(sys) or sys.order == 0:
        return 0.0
    xp = namespace(slope)
    size = xp.where(slope == 0, xp.ones_like(slope), xp.abs(slope))
    norms = (xp.linalg.matrix_norm(X) for X in (g_A[0], sys.A))
    return ROUNDING * EPSILON / sys.order * math.prod(norms) / size


def _warn_of(discrepancy: Array) -> None:
    xp = namespace(discrepancy)
    warn_precision(
        f"the Hankel sum and its gradient may carry a relative error of "
        f"{float(xp.max(discrepancy)):.0e}: the Gramians are so badly scaled or so nearly singular "
        "that small values drown in the rounding of large ones"
    )
