"""Nearby systems whose modal coordinates are safe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np

from ..analysis.response import frequency_response
from ..arrays.checks import (
    check_integer,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.namespaces import Array, to_numpy
from ..errors import ArgumentError, NonFiniteError
from ..matrices.balance import rescaled, state_units
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.modes import is_real
from ..systems.on_host import computed_on_host
from ..systems.structure import is_structured
from .change import sample_frequencies, unit_response
from .diagonal import (
    MAX_CONDITION,
    check_max_condition,
    condition_of,
    eigenvector_condition,
)

#: Directions tried; the one that needs the smallest change is taken.
_DIRECTIONS = 4
#: Sizes tried are 2^−j: from rounding up to a change of a hundredth, which is not near any more.
_SMALLEST, _LARGEST = 52, 7
_ON_BOUNDARY = 1e-8


@dataclass(frozen=True, eq=False)
class NearbySystem(Generic[Array]):
    """A system with well-conditioned eigenvectors, and how near it is to the given one.

    system : LTI with the B, C and D of the given one
    condition : (...) κ(V) of its eigenvectors
    perturbation : (...) ‖A' − A‖₂/‖A‖₂ in the units of the states in which A was changed: those
        that suit the system best or those that suit A
    response_change : (...) max ‖H' − H‖₂ / max ‖H‖₂ over the phases of the poles and 2n + 1
        frequencies between


    >>> double = lti.from_zpk([], [0.5, 0.5])  # 1/(z − 0.5)²
    >>> nearby = lti.well_conditioned(double)
    >>> bool(0 < nearby.perturbation < 1e-9)
    True

    """

    system: LTI
    condition: Array
    perturbation: Array
    response_change: Array


@computed_on_host
def well_conditioned(
    sys: LinearLike[Array], max_condition: float = MAX_CONDITION, *, seed: int = 0
) -> NearbySystem[Array]:
    """A nearby system that `diagonalize` and `to_rotation` can take.

        A' = A + δ ‖A‖₂ G,     κ(V') ≤ max_condition,     δ = 2^−j as small as found

    in the units of the states that suit the system best (:func:`lticore.eigenvector_condition`) or
    those that suit A alone, whichever changes the response less,
    with G the best of a few random matrices of norm 1, real for real A. Whatever A is, such a
    change leaves κ(V') of the order of n²/δ at worst, and about δ^{−(k−1)/k} where the longest
    chain of equal poles has length k. (Moving the poles on the diagonal of a Schur form apart,
    which comes to mind first, needs changes of size κ^{−1/(k−1)}, larger by decades.)

    Parameters
    ----------
    max_condition : float ≥ 1
        Modal coordinates then round to 2.2e-16 · max_condition. A larger one needs a smaller
        change; the default is the one up to which `diagonalize` and `to_rotation` do not warn.
    seed : int ≥ 0
        Of the random directions; equal seeds give equal systems.

    Returns
    -------
    NearbySystem, with the given system itself where it is well conditioned already (structured
    systems always are). A stable system stays stable. In a batch, entries that need no change get
    none.

    Accuracy: H' − H = C (zI − A)⁻¹ (A' − A) (zI − A')⁻¹ B grows with chains of poles near the unit
    circle; `response_change` measures it. Seen at the default for one chain of length k in random
    systems: 1e-12 for k = 2, 1e-9 for 3, 1e-8 for 4, 1e-7 for 6 and more.

    Cost: about 30 eigenvalue decompositions, O(n³), or twice as many, per entry that is not well
    conditioned.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        When no change below a hundredth of ‖A‖ is enough, or none that keeps the system stable:
        allow a larger condition, or keep the system dense.
    ArrayLibraryError
        For dense systems that are not NumPy arrays.

    Source: Davies, SIAM J. Matrix Anal. 29 (2007); Banks, Kulkarni, Mukherjee & Srivastava, Comm.
    Pure Appl. Math. 74 (2021).


    >>> double = lti.from_zpk([], [0.5, 0.5])  # 1/(z − 0.5)²
    >>> nearby = lti.well_conditioned(double)
    >>> bool(nearby.response_change < 1e-9)
    True
    >>> lti.to_rotation(nearby.system)
    LTI(Rotation, order 2, 1 inputs, 1 outputs, float64)

    """
    sys = as_linear(sys, continuous=True)
    check_max_condition(max_condition)
    check_integer("seed", seed, minimum=0)
    if is_structured(sys.A):
        one = eigenvector_condition(sys)
        return NearbySystem(sys, one, 0 * one, 0 * one)
    condition: Any = np.asarray(to_double(eigenvector_condition(sys)))
    A = np.array(sys.A)
    perturbation, change = np.zeros_like(condition), np.zeros_like(condition)
    for index in np.ndindex(sys.batch_shape):
        if condition[index] <= max_condition:
            continue
        given: LTI = in_double(sys[index])
        A[index], *measures = _nearby_in_best_units(given, is_single(sys.A), max_condition, seed)
        condition[index], perturbation[index], change[index] = measures
    single = is_single(sys.B)
    return NearbySystem(
        replace(sys, A=A) if np.any(perturbation) else sys,
        *(like_precision(x[()], single) for x in (condition, perturbation, change)),
    )


def _nearby_in_best_units(
    sys: LTI, single: bool, max_condition: float, seed: int
) -> tuple[np.ndarray, float, float, float]:
    """(A', κ(V'), size of the change of A, that of the response) of what is found in the units that
    suit the system best, or in those that suit A where the response changes less by that: of
    integrators B and C ask for units so far apart that a small A' − A joins what is far apart."""
    continuous = sys.is_continuous
    units = [
        state_units(sys.A, sys.B, sys.C, continuous),
        state_units(sys.A, continuous=continuous),
    ]
    must_be_stable = _beyond_boundary(sys.A, continuous) < -_ON_BOUNDARY
    best: tuple[np.ndarray, float, float, float] | None = None
    for d in units if np.ptp(np.log2(units[0] / units[1])) > 0 else units[:1]:
        found = _nearest_found(sys, d, single, max_condition, seed, must_be_stable)
        if found is None:
            continue
        A, condition = found
        size, moved = (
            np.linalg.norm(rescaled(X, d, d[:, None]), 2) for X in (sys.A, to_double(A) - sys.A)
        )
        change = _response_change(sys, replace(sys, A=to_double(A)))
        if best is None or change < best[-1]:
            best = A, condition, float(moved / size), change
    if best is None:
        raise ArgumentError(
            f"no{' stable' if must_be_stable else ''} system within {2.0**-_LARGEST:.0e} ‖A‖ was "
            f"found whose eigenvectors have condition {max_condition:.0e} or less: A has long "
            "chains of equal poles. Allow a larger max_condition, or keep the system dense"
        )
    return best


def _nearest_found(
    sys: LTI,
    d: np.ndarray,
    single: bool,
    max_condition: float,
    seed: int,
    must_be_stable: bool,
) -> tuple[np.ndarray, float] | None:
    """(A', κ(V')) with the smallest change found in the units d of the states, in the precision
    that is asked for."""
    size = np.linalg.norm(rescaled(sys.A, d, d[:, None]), 2)
    continuous = sys.is_continuous
    found: tuple[np.ndarray, float] | None = None
    exponent = _LARGEST - 1
    for G in _directions(sys.A, seed):
        step = rescaled(size * G, 1 / d, 1 / d[:, None])

        def moved(j: int, step: np.ndarray = step) -> tuple[np.ndarray, float]:
            # Rounded first, since the rounding of float32 moves eigenvectors too.
            other = like_precision(sys.A + 2.0**-j * step, single)
            return other, float(condition_of(replace(sys, A=to_double(other))))

        # The condition falls as the change grows: bisection between a size that is enough and one
        # that is not. A direction that does not beat the best one is left at once.
        enough, too_small = exponent + 1, _SMALLEST + 1
        best = moved(enough)
        if best[1] > max_condition:
            continue
        while too_small - enough > 1:
            middle = (enough + too_small) // 2
            other = moved(middle)
            if other[1] <= max_condition:
                enough, best = middle, other
            else:
                too_small = middle
        # Smaller changes move poles less, so the smallest is the one to ask for stability.
        if not must_be_stable or _beyond_boundary(best[0], continuous) < 0:
            exponent, found = enough, best
    return found


def _directions(A: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Random matrices of 2-norm 1, real for real A."""
    rng = np.random.default_rng(seed)
    for _ in range(_DIRECTIONS):
        G = rng.standard_normal(A.shape)
        if is_complex(A):
            G = G + 1j * rng.standard_normal(A.shape)
        yield G / np.linalg.norm(G, 2)


def _beyond_boundary(A: np.ndarray, continuous: bool) -> float:
    """How far the least stable pole is outside, negative inside."""
    poles = np.linalg.eigvals(to_double(A))
    return float(np.max(poles.real if continuous else np.abs(poles) - 1))


def _response_change(sys: LTI, nearby: LTI) -> float:
    """Largest ‖H' − H‖₂ over sampled frequencies, relative to the largest ‖H‖₂."""
    poles = to_numpy(in_double(sys).poles)
    # On a pole on the boundary there is no response.
    if sys.is_continuous:
        next_to_poles = poles.imag[np.abs(poles.real) > _ON_BOUNDARY * np.abs(poles)]
    else:
        next_to_poles = np.angle(poles[np.abs(np.abs(poles) - 1) > _ON_BOUNDARY])
    omega = np.concatenate([sample_frequencies(sys), next_to_poles])
    if not (is_real(sys.A) and not is_complex(sys.B)):
        omega = np.concatenate([omega, -omega])
    # Rounding splits equal poles on the boundary, and one of them may stand for all by its phase.
    with np.errstate(invalid="ignore"):  # infinite complex numbers in other units
        units = [unit_response(in_double(x), omega, in_double(sys)) for x in (sys, nearby)]
    omega = omega[np.all([np.isfinite(x).all(axis=(-2, -1)) for x in units], axis=0)]
    H, other = (frequency_response(in_double(x), omega) for x in (sys, nearby))
    if not np.all(np.isfinite([H, other])):
        raise NonFiniteError("the response overflows: scale B and C down, it scales with them")
    size = np.max(np.linalg.norm(H, 2, axis=(-2, -1)))
    change = np.max(np.linalg.norm(other - H, 2, axis=(-2, -1)))
    return float(change / size) if size > 0 else float(change)
