"""Stein equations of two structured matrices: one division per pair of modes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from .. import kernels
from ..arrays.checks import is_complex
from ..arrays.linalg import EPSILON, adjoint, as_complex, complex_of, one_minus
from ..arrays.namespaces import Array, namespace
from ..systems.diagonal import Diagonal
from ..systems.modes import from_modes, to_modes
from ..systems.pairs import join_pairs, split_pairs
from ..systems.rotation import Rotation
from ..systems.structure import Structure
from .dense import RawSolver, check_solvable
from .stability import is_stable

#: (radius, phase) of some poles.
Polar: TypeAlias = tuple[Array, Array]


def modal_solver(
    A: Structure[Array], B: Structure[Array], horizon: int | None, stable: bool = False
) -> RawSolver[Array]:
    """Solve in the modes, where the equation is X_ij = φ(λ_i conj λ_j) Q_ij.

    Infinite horizon, all poles inside the circle: fused kernels, with nothing of size n × l besides
    Q and X. Else φ is formed, once for all Q.

    stable : whether A and B are known to be stable
    """
    stable = stable or (horizon is None and is_stable(A) and (B is A or is_stable(B)))
    if horizon is not None or not stable:
        return solver_by_factors(A, B, series_factors(A, B, horizon))

    def general() -> RawSolver:
        divide = _quotient(diagonal_stein_reference, attrgetter("polar_modes"), A, B)
        if isinstance(A, Diagonal) and isinstance(B, Diagonal):
            return lambda Q, adjoint: divide(as_complex(Q), adjoint)
        return _solver_in_modes(A, B, divide)

    if not (isinstance(A, Rotation) and isinstance(B, Rotation)):
        return general()
    real = _quotient(rotation_stein_reference, attrgetter("block_poles"), A, B)
    return lambda Q, adjoint: (general() if is_complex(Q) else real)(Q, adjoint)


def solver_by_factors(A: Structure[Array], B: Structure[Array], factors: Array) -> RawSolver[Array]:
    """In the modes X_ij = factors_ij Q_ij, and their conjugates in the adjoint equation."""
    conjugates = namespace(factors).conj(factors)
    return _solver_in_modes(A, B, lambda Y, adjoint: Y * (conjugates if adjoint else factors))


def _quotient(
    reference: Callable[..., Array],
    polar: Callable[[Any], Polar[Array]],
    A: Structure[Array],
    B: Structure[Array],
) -> RawSolver[Array]:
    """The operation of this reference text for the poles that ``polar`` finds in A and B."""
    a = polar(A)
    b = a if B is A else polar(B)

    @cache
    def poles(adjoint_equation: bool) -> tuple[Array, Array, Array, Array]:
        if not adjoint_equation:
            return *a, *b
        # Aᴴ has the modes of A with conjugate poles.
        turn = -a[1]
        return a[0], turn, b[0], turn if b is a else -b[1]

    return lambda Q, adjoint: kernels.find(reference, Q)(*poles(adjoint), Q)


def _solver_in_modes(
    A: Structure[Array],
    B: Structure[Array],
    divide: Callable[[Array, bool], Array],
) -> RawSolver[Array]:
    def solve(Q: Array, adjoint_equation: bool) -> Array:
        Y = adjoint(to_modes(B, adjoint(to_modes(A, Q))))
        Y = divide(as_complex(Y), adjoint_equation)
        return from_modes(A, adjoint(from_modes(B, adjoint(Y))))

    return solve


def diagonal_stein_reference(
    radius_a: Array, phase_a: Array, radius_b: Array, phase_b: Array, Q: Array
) -> Array:
    """X_ij = Q_ij / (1 − λ_i conj μ_j) for λ = ρ e^{iθ} (..., n), μ (..., l), Q (..., n, l).

    Reference text of the kernels of this name; the radii are below 1.
    """
    return Q / _denominator((radius_a, phase_a), (radius_b, phase_b))


def rotation_stein_reference(
    radius_a: Array, phase_a: Array, radius_b: Array, phase_b: Array, Q: Array
) -> Array:
    """X with A X Bᵀ − X + Q = 0 for real Q (..., n, l) and rotation structures A and B.

    The poles (..., q + k) are those λ by which A acts on x_1 + i x_2 of its q blocks, then the k
    real ones; q = n − (q + k). Reference text of the kernels of this name; the radii are below 1.
    """
    # Row pairs become z = x_1 + i x_2 and λz; with the columns likewise,
    #   Γ = (Q11 + Q22) + i (Q21 − Q12) is divided by 1 − λ conj μ,
    #   Ω = (Q11 − Q22) + i (Q21 + Q12)             by 1 − λ μ,
    # which is Γ's equation for the conjugate of z in the columns. Real states have x_2 = 0: then
    # only X11 (and X21 or X12) is kept, and Γ, Ω count half each.
    xp = namespace(Q)
    (n, l), modes_a, modes_b = Q.shape[-2:], radius_a.shape[-1], radius_b.shape[-1]
    pairs_a, pairs_b = n - modes_a, l - modes_b
    Q_1, Q_2 = _both_parts(Q, pairs_a, -2)
    first, second = _both_parts(Q_1 + 1j * Q_2, pairs_b, -1)
    G = (first - 1j * second) / _denominator((radius_a, phase_a), (radius_b, phase_b))
    H = (first + 1j * second) / _denominator((radius_a, phase_a), (radius_b, -phase_b))
    Z = _joined((G + H) / 2, (G - H) * 0.5j, pairs_b, -1)
    return _joined(xp.real(Z), xp.imag(Z), pairs_a, -2)


def _denominator(a: Polar[Array], b: Polar[Array]) -> Array:
    """1 − λ_i conj μ_j without cancellation."""
    return one_minus(*_products(a, b))


def _products(a: Polar[Array], b: Polar[Array]) -> tuple[Array, Array, Array]:
    """(1 − |w|, |w|, arg w) of w_ij = λ_i conj μ_j.

    With gaps g = 1 − ρ and h = 1 − σ, 1 − ρσ = g + h − g h does not cancel.
    """
    rho, sigma = a[0][..., :, None], b[0][..., None, :]
    gap = (1 - rho) + (1 - sigma) - (1 - rho) * (1 - sigma)
    return gap, rho * sigma, a[1][..., :, None] - b[1][..., None, :]


def _both_parts(X: Array, blocks: int, axis: int) -> tuple[Array, Array]:
    """(x_1, x_2) of each mode along an axis: real states have x_2 = 0."""
    concat = namespace(X).concat
    first, second, rest = split_pairs(X, blocks, axis)
    return concat([first, rest], axis=axis), concat([second, 0 * rest], axis=axis)


def _joined(first: Array, second: Array, blocks: int, axis: int) -> Array:
    """The inverse of :func:`_both_parts`."""
    after = (slice(None),) * (-axis - 1)
    of_blocks, of_reals = (..., slice(blocks), *after), (..., slice(blocks, None), *after)
    return join_pairs(first[of_blocks], second[of_blocks], first[of_reals], axis)


def series_factors(
    A: Structure[Array],
    B: Structure[Array],
    horizon: int | None = None,
) -> Array:
    """φ(w_ij) with w_ij = λ_i(A)·conj λ_j(B), in mode order.

    φ(w) = Σ_{k≥0} w^k = 1/(1 − w),      φ_T(w) = Σ_{k<T} w^k = (1 − w^T)/(1 − w),  φ_T(1) = T
    """
    a, b = A.polar_modes, B.polar_modes
    gap, modulus, angle = _products(a, b)
    xp = namespace(gap)
    denominator = one_minus(gap, modulus, angle)
    if horizon is None:
        # The rounding of the gap; for stable matrices always below the gap itself.
        g, h = xp.abs(1 - a[0])[..., :, None], xp.abs(1 - b[0])[..., None, :]
        rounding = 2 * EPSILON * (g + h)
        check_solvable(denominator, rounding, rounding)
        return 1 / denominator

    # Of log ρσ = log(1 − gap) the second form is exact near the circle, the first near zero.
    near, positive = gap < 0.5, modulus > 0
    logarithm = xp.where(
        near,
        xp.log1p(-xp.where(near, gap, xp.zeros_like(gap))),
        xp.log(xp.where(positive, modulus, xp.ones_like(modulus))),
    )
    power_gap = xp.where(positive, -xp.expm1(horizon * logarithm), xp.ones_like(gap))
    numerator = one_minus(power_gap, 1 - power_gap, horizon * angle)
    one = denominator == 0
    return xp.where(
        one,
        xp.full_like(denominator, horizon),
        numerator / xp.where(one, xp.ones_like(denominator), denominator),
    )


def series_slopes(A: Structure[Array], B: Structure[Array], horizon: int) -> Array:
    """φ_T'(w_ij) = Σ_{k<T} k w^{k−1} with w_ij = λ_i(A)·conj λ_j(B), in mode order.

    Along the binary digits of T, where nothing is subtracted; relative error about T eps.
    """
    _, modulus, angle = _products(A.polar_modes, B.polar_modes)
    xp = namespace(modulus)
    w = complex_of(modulus * xp.cos(angle), modulus * xp.sin(angle))
    # After T terms: their sum, its derivative, w^{T−1} and w^T.
    terms, total, slope, below, power = 1, xp.ones_like(w), xp.zeros_like(w), xp.ones_like(w), w
    for digit in bin(horizon)[3:]:
        slope = slope + power * slope + terms * below * total
        total, below, power, terms = total + power * total, power * below, power * power, 2 * terms
        if digit == "1":
            slope = slope + terms * below
            total, below, power, terms = total + power, power, power * w, terms + 1
    return slope
