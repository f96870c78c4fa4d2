"""Continuous-time systems, sampled."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import check_array, check_real, is_complex, is_single, to_double
from ..arrays.namespaces import Array, namespace
from ..equations.descriptor import standard_forms
from ..errors import ArgumentError
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.modes import warn_of_lost_distances
from ..systems.on_host import computed_on_host
from ..systems.oscillation import Oscillation
from ..systems.structure import StateMatrix
from .dense import SAMPLE_DENSE, converted_dense
from .matched import matched
from .modes import (
    SAMPLE,
    mapped_blocks,
    mapped_diagonal,
    rotation_by_bilinear,
    rotation_by_exponential,
    sampled_distances,
)

#: What the inputs do between samples, or what is kept.
Sampling: TypeAlias = Literal["zoh", "foh", "bilinear", "impulse", "matched"]


@overload
def discretize(
    A: LinearLike[Array],
    *,
    step: float | Array = 1.0,
    method: Sampling = "zoh",
    prewarp: float | None = None,
) -> LTI[Array]: ...
@overload
def discretize(
    A: Diagonal[np.ndarray] | Oscillation[np.ndarray] | ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    step: ArrayLike = 1.0,
    method: Sampling = "zoh",
    *,
    E: ArrayLike | None = None,
    prewarp: float | None = None,
) -> LTI[np.ndarray]: ...
@overload
def discretize(
    A: StateMatrix[Array],
    B: Array,
    C: Array,
    D: Array | complex | None = None,
    step: float | Array = 1.0,
    method: Sampling = "zoh",
    *,
    E: Array | None = None,
    prewarp: float | None = None,
) -> LTI[Array]: ...
@computed_on_host
def discretize(
    A: Any,
    B: Any = None,
    C: Any = None,
    D: Any = None,
    step: Any = 1.0,
    method: Sampling = "zoh",
    *,
    E: Any = None,
    prewarp: float | None = None,
) -> LTI:
    """Sample the continuous-time system E ẋ = A x + B u, y = C x + D u, or ``discretize(sys)``.

        zoh:       x_{k+1} = e^{AΔ} x_k + (∫_0^Δ e^{At} dt) B u_k        (u held between samples)
        foh:       the same of inputs that are straight between samples, in the states
                   x_k − Δ φ_2(AΔ) B u_k:  (e^{AΔ}, Δ φ_1(AΔ)² B, C, D + Δ C φ_2(AΔ) B),
                   φ_1(X) = Σ X^k/(k + 1)!,  φ_2(X) = Σ X^k/(k + 2)!
        bilinear:  s = (2/Δ)(z − 1)/(z + 1), Tustin, as in SciPy: with M = (I − AΔ/2)⁻¹
                   (M (I + AΔ/2), M B Δ, C M, D + C M B Δ/2)
        impulse:   h_k = Δ h(kΔ):  (e^{AΔ}, Δ e^{AΔ} B, C, Δ C B)
        matched:   poles e^{pΔ}, zeros e^{zΔ}, and the response at rest; one input and output

    All keep stability; bilinear also keeps Hankel singular values and the h∞ norm, zoh the step
    response and foh the response to ramps at the samples. :func:`lticore.to_continuous` is the
    inverse, and from one sampling time to another leads the way through it.

    Parameters
    ----------
    A : Diagonal, Oscillation or (..., n, n) array of the continuous system, or that system: an
        `LTI` with dt = 0, one of python-control or SciPy, a tuple (A, B, C, D, 0)
    B, C, D : as for `LTI`; left out for a system
    step : float or (...) array
        Sampling time Δ > 0, in the time unit of A; one per batch entry when an array.
    method : "zoh", "foh", "bilinear", "impulse" (for systems without D) or "matched" (for one
        system of one input and one output; dense)
    E : (..., n, n) array, optional
        Regular descriptor matrix (:func:`lticore.from_descriptor`): the result is then dense, in
        other states.
    prewarp : float in (0, π/Δ), optional
        Of "bilinear": the frequency ω in rad/s at which the response is kept, by
        s = ω/tan(ωΔ/2) (z − 1)/(z + 1).

    Returns
    -------
    LTI with A diagonal for `Diagonal`, a `Rotation` for `Oscillation`, else dense; in the precision
    of the input. Its dt is the step, True when there are several.

    Accuracy: (e^{λΔ} − 1)/λ is formed without cancellation for poles near 0, and 1 − |e^{λΔ}| of an
    `Oscillation` to the last digit of the radius: complex poles of
    a `Diagonal` hold it to 1.1e-16, in float32 to 6e-8, and a PrecisionWarning states the relative
    error above 1e-6, in float32 1e-3. Dense, entry by entry
    and so in any units of the states: all but bilinear to some n 2.2e-16 (1 + ‖A‖Δ) of e^{|A|Δ} and
    of ∫ e^{|A|t} dt |B|, bilinear of |M||M⁻¹| times the sizes of the result.

    Cost: O(n (m + p)) structured; O(n³) dense (zoh, NumPy only: twenty products, and one or two
    for each doubling of a step below 1/‖A‖).

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        For a step that is not positive, an unknown method, a system in discrete time, samples of
        the impulse response of a system with feedthrough, whose impulse has none, and a frequency
        that is not below π/Δ.
    SingularEquationError
        When E is singular, or a pole sits at 2/Δ (bilinear).
    ArrayLibraryError
        For dense systems that are not NumPy arrays, but by "bilinear".

    Source: Franklin, Powell & Workman, Digital Control of Dynamic Systems; Moler & Van Loan, SIAM
    Review 45 (2003), for the exponential.


    >>> sys = lti.LTI([[-1.0]], [[1.0]], [[1.0]], dt=0)
    >>> sampled = lti.discretize(sys, step=np.log(2))
    >>> sampled.A.round(12), sampled.B.round(12)  # e^{−Δ}, 1 − e^{−Δ}
    (array([[0.5]]), array([[0.5]]))

    """
    if method not in (*SAMPLE, "matched"):
        raise ArgumentError(f"method={method!r} is not one of {sorted((*SAMPLE, 'matched'))}")
    given = _given(A, B, C, D)
    if E is not None:
        given = _fold_descriptor(given, E)
    if method == "impulse" and given.D is not None and bool(namespace(given.D).any(given.D != 0)):
        raise ArgumentError(
            "the impulse response of a system with feedthrough begins with an impulse D δ(t), "
            "which has no samples: method='impulse' is for systems without D"
        )
    single, sys = is_single(given.B), in_double(given)
    delta = check_step(step, sys.B)
    effective = delta if prewarp is None else prewarped(delta, prewarp, method)
    if method == "matched":
        sampled = matched(sys, effective)
    elif isinstance(sys.A, PairBlocks):
        by = rotation_by_bilinear if method == "bilinear" else rotation_by_exponential
        sampled = mapped_blocks(sys, effective, SAMPLE[method], by)
    elif isinstance(sys.A, Diagonal):
        sampled = mapped_diagonal(sys, effective, SAMPLE[method])
    else:
        sampled = converted_dense(sys, effective, SAMPLE_DENSE[method])
    sampled = replace(sampled, dt=float(delta) if delta.ndim == 0 else True)
    sampled = in_single(sampled) if single else sampled
    # Radii of real poles and of a Rotation are right to their last digit.
    if isinstance(sampled.A, Diagonal) and is_complex(sampled.A.poles):
        of: Any = sys.A
        warn_of_lost_distances(sampled_distances(of, effective, method), sampled.A)
    return sampled


def _given(A: Any, B: Any, C: Any, D: Any) -> LTI:
    if B is not None or C is not None:
        return as_linear(LTI(A, B, C, D, dt=0), "the system", continuous=True)
    sys = as_linear(A, continuous=True)
    if not sys.is_continuous:
        raise ArgumentError(
            f"{sys!r} is in discrete time already (dt = {sys.dt}): only systems with dt = 0 are "
            "sampled"
        )
    return sys


def check_step(step: float | Array, like: Array) -> Array:
    """Sampling times Δ > 0 in float64, numbers in the library of ``like``."""
    xp = namespace(like)
    delta = xp.asarray(step) if isinstance(step, int | float) else step
    delta = to_double(check_real("step", check_array("step", delta, ndim=0)))
    if not bool(namespace(like, delta).all(delta > 0)):
        raise ArgumentError(
            f"step must be positive, but its least value is {float(xp.min(delta))!r}: of a layer "
            "that stores log_step it is exp(log_step)"
        )
    return delta


def prewarped(delta: Array, frequency: Any, method: str) -> Array:
    """2 tan(ωΔ/2)/ω, the step in Tustin's formula that keeps the response at ω."""
    if method != "bilinear":
        raise ArgumentError(f"prewarp= is for method='bilinear', and not for {method!r}")
    xp = namespace(delta)
    frequency = float(frequency)
    longest = float(xp.max(delta))
    if not 0 < frequency * longest < math.pi:
        raise ArgumentError(
            f"prewarp={frequency!r} is a frequency in rad/s between 0 and π/step = "
            f"{math.pi / longest:.6g}"
        )
    return 2 * xp.tan(frequency * delta / 2) / frequency


def _fold_descriptor(sys: LTI, E: Any) -> LTI:
    form, left, Z = standard_forms(E, sys.to_dense().A)
    found = LTI(form, left @ sys.B, sys.C @ Z, sys.D, dt=0)
    return in_single(found) if is_single(sys.B) else found
