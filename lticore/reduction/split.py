"""A system as the sum of its stable part and the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, is_numpy, namespace
from ..convert.change import relative_difference, sample_frequencies, unit_response
from ..convert.diagonal import MAX_CONDITION
from ..equations.stability import counted_stable, in_unit_time
from ..errors import ArrayLibraryError, SingularEquationError, warn_precision
from ..matrices.balance import balance_dense
from ..systems.lti import LTI
from ..systems.signals import scaled, unit_signals
from ..systems.structure import is_structured, structure_of


def split_unstable(sys: LTI[Array]) -> tuple[LTI[Array] | None, LTI[Array] | None]:
    """(stable part with D, part with the poles that count as unstable) of one system.

    Their sum is the system; a part without states is None. Structured: a choice of
    states. Dense: an ordered Schur form, real for real A, and one Sylvester equation.
    :mod:`lticore.equations.stability` tells which poles are stable; clusters stay together.

    Cost: O(n) structured, O(n³) dense.

    Raises
    ------
    ArrayLibraryError
        For dense systems that are not NumPy arrays.
    SingularEquationError
        When rounding does not tell stable and unstable poles of a dense system apart.
    """
    if not is_structured(sys.A):
        return _split_dense(sys)
    inside = sys.A.decays > 0 if sys.is_continuous else sys.A.radii < 1
    stable, other = (namespace(inside).nonzero(x)[0] for x in (inside, ~inside))
    return (
        of_states(sys, stable) if stable.shape[0] else None,
        of_states(replace(sys, D=None), other) if other.shape[0] else None,
    )


def of_states(sys: LTI[Array], states: Array) -> LTI[Array]:
    """A system with the states at ascending positions (..., r) only, both of a block or none;
    entries of a structured batch keep as many blocks each."""
    xp, r = namespace(sys.B), states.shape[-1]
    rows = xp.broadcast_to(states[..., :, None], (*sys.batch_shape, r, sys.inputs))
    columns = xp.broadcast_to(states[..., None, :], (*sys.batch_shape, sys.outputs, r))
    B, C = (
        xp.take_along_axis(X, where, axis=axis)
        for X, where, axis in ((sys.B, rows, -2), (sys.C, columns, -1))
    )
    return replace(sys, A=structure_of(sys.A).of_states(states), B=B, C=C)


def _split_dense(sys: LTI) -> tuple[LTI | None, LTI | None]:
    if not is_numpy(sys.A):
        raise ArrayLibraryError("the stable part of a dense system needs LAPACK and NumPy arrays")
    # Both parts have states of their own, so that the scale is not undone.
    timed, time = in_unit_time(sys)
    A, B, C, _ = balance_dense(timed.A, timed.B, timed.C, sys.is_continuous)
    T, U, count = _stable_poles_first(A, sys.is_continuous)
    if count == 0:
        return None, replace(sys, D=None)
    if count == sys.order:
        return sys, None
    stable, other = slice(0, count), slice(count, None)
    # [[T1, T12], [0, T2]] becomes blkdiag(T1, T2) in the states z of x = U [[I, X], [0, I]] z.
    X = scipy.linalg.solve_sylvester(T[stable, stable], -T[other, other], -T[stable, other])
    B, C = adjoint(U) @ B, C @ U
    to_stable, from_other = B[stable] - X @ B[other], C[:, stable] @ X + C[:, other]
    slow, signal = 4.0 ** float(time), 2.0 ** float(time)
    parts = (
        (T[stable, stable], to_stable, C[:, stable], sys.D),
        (T[other, other], B[other], from_other, None),
    )
    first, second = (
        replace(sys, A=slow * A, B=signal * B, C=signal * C, D=D) for A, B, C, D in parts
    )
    return first, second


def lost_in_split(sys: LTI, first: LTI, second: LTI) -> float:
    """By how much the parts add up to another response, 0 for structured systems: twice what is
    seen at 2n + 1 frequencies, between which it may be more.

    Cost: O(n³) dense.

    Warns
    -----
    PrecisionWarning
        Where it is more than 1e-9 of its peak.
    """
    if is_structured(sys.A):
        return 0.0
    given, omega = replace(sys, D=None), sample_frequencies(sys)
    found = sum(unit_response(replace(part, D=None), omega, given) for part in (first, second))
    response = unit_response(given, omega)
    share = relative_difference(response, found)
    if not share <= MAX_CONDITION * EPSILON:
        warn_precision(
            f"the stable and the unstable part add up to another response, by {share:.0e} of its "
            "peak: their poles lie too close together, or states are in bad units. Give structured "
            "systems, transfer functions or poles where they are known"
        )
    _, b, c = unit_signals(given)
    largest = np.linalg.norm(response, 2, axis=(-2, -1)).max()
    lost = float(scaled(2 * largest * share, b + c))
    return lost if lost < np.inf else np.inf


def _stable_poles_first(A: np.ndarray, continuous: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Schur form A = U T Uᴴ, real for real A, with the poles that count as stable leading."""
    if np.iscomplexobj(A):
        T, U = scipy.linalg.schur(A, output="complex")
        stable = counted_stable(T, continuous)
    else:
        T, U = scipy.linalg.schur(A, output="real")
        stable = counted_stable(scipy.linalg.rsf2csf(T, U)[0], continuous)
        # The two poles of a 2×2 block go together.
        first = np.flatnonzero(np.diagonal(T, -1))
        stable[first] = stable[first + 1] = stable[first] & stable[first + 1]
    (reorder,) = scipy.linalg.get_lapack_funcs(("trsen",), (T,))
    T, U, *_, info = reorder(stable, T, U, job="N")
    if info != 0:
        raise SingularEquationError(
            "poles on the unit circle and stable ones lie so close together that rounding does not "
            "tell them apart. A finite `horizon` needs no such split"
        )
    return T, U, int(np.sum(stable))
