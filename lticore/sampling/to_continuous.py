"""Discrete-time systems as samples of continuous-time ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..arrays.checks import is_single
from ..arrays.namespaces import Array, holds, namespace
from ..errors import ArgumentError
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.on_host import computed_on_host
from .dense import RESTORE_DENSE, converted_dense
from .discretize import Sampling, check_step, prewarped
from .matched import unmatched
from .modes import (
    RESTORE,
    mapped_blocks,
    mapped_diagonal,
    oscillation_by_bilinear,
    oscillation_by_logarithm,
)


@computed_on_host
def to_continuous(
    sys: LinearLike[Array],
    method: Sampling = "zoh",
    *,
    step: float | Array | None = None,
    prewarp: float | None = None,
) -> LTI[Array]:
    """The continuous-time system whose samples these are: the inverse of
    :func:`lticore.discretize`.

        zoh:       A = log(A_d)/Δ,  B = φ_1(AΔ)⁻¹ B_d/Δ,  C = C_d,  D = D_d
        foh:       A = log(A_d)/Δ,  B = φ_1(AΔ)⁻² B_d/Δ,  C = C_d,  D = D_d − Δ C φ_2(AΔ) B
        bilinear:  A = (2/Δ)(A_d + I)⁻¹ (A_d − I),  B = (2/Δ)(A_d + I)⁻¹ B_d,
                   C = 2 C_d (A_d + I)⁻¹,  D = D_d − C_d (A_d + I)⁻¹ B_d
        impulse:   A = log(A_d)/Δ,  B = A_d⁻¹ B_d/Δ,  C = C_d, where D_d = Δ C B
        matched:   poles log(p)/Δ, zeros log(z)/Δ, and the response at rest; one input and output

    The logarithm is the principal one: of all systems with these samples the one whose modes turn
    by less than π in a step. ``discretize(to_continuous(sys), step=…)`` samples at other times.

    Parameters
    ----------
    sys : system in discrete time
    method : "zoh", "foh", "bilinear", "impulse" or "matched" (for one system of one input and one
        output; dense)
    step : Δ > 0; the system's own dt where that is a time, needed where dt is True
    prewarp : float in (0, π/Δ), optional
        Of "bilinear": the frequency ω in rad/s at which the response was kept.

    Returns
    -------
    LTI with dt = 0: an `Oscillation` for `Rotation`, diagonal for `Diagonal`, else dense.

    Conditions: all but "bilinear" need a logarithm: no pole at 0, and for real systems no negative
    real one, which no real system in continuous time has as a sample; blocks of a `Rotation` may
    turn by π. "matched" needs one of the zeros too, "bilinear" no pole at −1.

    Accuracy: structured, to the last digits of 1 − |λ|; dense, that of ``scipy.linalg.logm`` in the
    best units of the states, about 2.2e-16 times the condition of the logarithm, which grows as
    poles come near the negative real axis.

    Cost: O(n (m + p)) structured, O(n³) dense.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        For systems in continuous time, dt = True without a step, poles without a logarithm, samples
        of no impulse response: D_d ≠ Δ C B.
    SingularEquationError
        For a pole at −1 ("bilinear").
    ArrayLibraryError
        For dense systems that are not NumPy arrays, but by "bilinear".

    Warns
    -----
    PrecisionWarning
        Where the exponential of the logarithm of a dense A is off by more than 1e-6.

    Source: Franklin, Powell & Workman, Digital Control of Dynamic Systems; Higham, Functions of
    Matrices (2008), §11, for the logarithm.

    >>> slow = lti.discretize(lti.Diagonal([-1.0]), [[1.0]], [[1.0]], step=0.1)
    >>> lti.to_continuous(slow).poles.round(12)
    array([-1.])
    """
    if method not in (*RESTORE, "matched"):
        raise ArgumentError(f"method={method!r} is not one of {sorted((*RESTORE, 'matched'))}")
    given = as_linear(sys, continuous=True)
    if given.is_continuous:
        raise ArgumentError(f"sys ({type(sys).__name__}) is a continuous-time system already")
    single, full = is_single(given.B), in_double(given)
    delta = check_step(_step_of(given, step), full.B)
    if prewarp is not None:
        delta = prewarped(delta, prewarp, method)
    A: Any = full.A
    if method == "matched":
        found = unmatched(full, delta)
    elif isinstance(A, PairBlocks):
        by = oscillation_by_bilinear if method == "bilinear" else oscillation_by_logarithm
        found = mapped_blocks(full, delta, RESTORE[method], by)
    elif isinstance(A, Diagonal):
        found = mapped_diagonal(full, delta, RESTORE[method])
    else:
        found = converted_dense(full, delta, RESTORE_DENSE[method])
    if method == "impulse":
        found = _without_impulse(full, found, delta, single)
    found = replace(found, dt=0)
    return in_single(found) if single else found


def _without_impulse(sys: LTI, found: LTI, delta: Any, single: bool) -> LTI:
    """Without the rounding that is left of D; more than that is the sample of no response."""
    if found.D is None:
        return found
    xp = namespace(found.B)
    size = delta[..., None, None] * (xp.abs(found.C) @ xp.abs(found.B))
    if sys.D is not None:
        size = size + xp.abs(sys.D)
    # Half of the digits that came in.
    share = 2.0**-11 if single else 2.0**-26
    if not holds(xp.abs(found.D) <= share * size):
        raise ArgumentError(
            "samples of an impulse response begin with Δ C B, but D of this system differs from "
            "that: no system in continuous time without a feedthrough has these samples. "
            "method='zoh' keeps the step response"
        )
    return replace(found, D=None)


def _step_of(sys: LTI, step: Any) -> Any:
    if step is not None:
        return step
    if sys.dt is True:
        raise ArgumentError(
            f"{sys!r} has steps without a unit (dt=True): pass step=, the time between samples"
        )
    return float(sys.dt)
