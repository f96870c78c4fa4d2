"""Discrete-time systems as samples of continuous-time ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from ..arrays.checks import is_single
from ..arrays.namespaces import Array
from ..errors import ArgumentError
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.on_host import computed_on_host
from .dense import RESTORE_DENSE, converted_dense
from .discretize import check_step
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
    method: Literal["zoh", "foh", "bilinear"] = "zoh",
    *,
    step: float | Array | None = None,
) -> LTI[Array]:
    """The continuous-time system whose samples these are: the inverse of
    :func:`lticore.discretize`.

        zoh:       A = log(A_d)/Δ,  B = φ_1(AΔ)⁻¹ B_d/Δ,  C = C_d,  D = D_d
        foh:       A = log(A_d)/Δ,  B = φ_1(AΔ)⁻² B_d/Δ,  C = C_d,  D = D_d − Δ C φ_2(AΔ) B
        bilinear:  A = (2/Δ)(A_d + I)⁻¹ (A_d − I),  B = (2/Δ)(A_d + I)⁻¹ B_d,
                   C = 2 C_d (A_d + I)⁻¹,  D = D_d − C_d (A_d + I)⁻¹ B_d

    The logarithm is the principal one: of all systems with these samples the one whose modes turn
    by less than π in a step. ``discretize(to_continuous(sys), step=…)`` samples at other times.

    Parameters
    ----------
    sys : system in discrete time
    method : "zoh", "foh" or "bilinear"
    step : Δ > 0; the system's own dt where that is a time, needed where dt is True

    Returns
    -------
    LTI with dt = 0: an `Oscillation` for `Rotation`, diagonal for `Diagonal`, else dense.

    Conditions: "zoh" and "foh" need a logarithm: no pole at 0, and for real systems no negative
    real one, which no real system in continuous time has as a sample; blocks of a `Rotation` may
    turn by π. "bilinear" needs no pole at −1.

    Accuracy: structured, to the last digits of 1 − |λ|; dense, that of ``scipy.linalg.logm`` in the
    best units of the states, about 2.2e-16 times the condition of the logarithm, which grows as
    poles come near the negative real axis.

    Cost: O(n (m + p)) structured, O(n³) dense.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        For systems in continuous time, dt = True without a step, poles without a logarithm.
    SingularEquationError
        For a pole at −1 ("bilinear").
    ArrayLibraryError
        For dense systems that are not NumPy arrays ("zoh", "foh").

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
    if method not in RESTORE:
        raise ArgumentError(f"method={method!r} is not one of {sorted(RESTORE)}")
    given = as_linear(sys, continuous=True)
    if given.is_continuous:
        raise ArgumentError(f"sys ({type(sys).__name__}) is a continuous-time system already")
    single, full = is_single(given.B), in_double(given)
    delta = check_step(_step_of(given, step), full.B)
    A: Any = full.A
    if isinstance(A, PairBlocks):
        by = oscillation_by_bilinear if method == "bilinear" else oscillation_by_logarithm
        found = mapped_blocks(full, delta, RESTORE[method], by)
    elif isinstance(A, Diagonal):
        found = mapped_diagonal(full, delta, RESTORE[method])
    else:
        found = converted_dense(full, delta, RESTORE_DENSE[method])
    found = replace(found, dt=0)
    return in_single(found) if single else found


def _step_of(sys: LTI, step: Any) -> Any:
    if step is not None:
        return step
    if sys.dt is True:
        raise ArgumentError(
            f"{sys!r} has steps without a unit (dt=True): pass step=, the time between samples"
        )
    return float(sys.dt)
