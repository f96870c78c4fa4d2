"""A system as the sum of its stable part and the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg

from ..arrays.linalg import adjoint
from ..arrays.namespaces import Array, is_numpy, namespace
from ..equations.stability import clear_of_circle
from ..errors import ArrayLibraryError, SingularEquationError
from ..matrices.balance import balance_dense
from ..systems.lti import LTI
from ..systems.modes import modulus
from ..systems.structure import Diagonal, Rotation


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
    if isinstance(sys.A, Rotation):
        xp, A = namespace(sys.B), sys.A
        blocks, reals = xp.abs(A.radius) < 1, xp.abs(A.real_poles) < 1
        inside = xp.concat([xp.repeat(blocks, 2, axis=-1), reals])
        return (
            _with_states(
                sys, sys.D, inside, A.radius[blocks], A.angle[blocks], A.real_poles[reals]
            ),
            _with_states(
                sys, None, ~inside, A.radius[~blocks], A.angle[~blocks], A.real_poles[~reals]
            ),
        )
    if isinstance(sys.A, Diagonal):
        inside = modulus(sys.A.poles) < 1
        return (
            _with_states(sys, sys.D, inside, sys.A.poles[inside]),
            _with_states(sys, None, ~inside, sys.A.poles[~inside]),
        )
    return _split_dense(sys)


def _with_states(
    sys: LTI[Array], D: Array | None, chosen: Array, *parameters: Array
) -> LTI[Array] | None:
    """The states ``chosen`` of a structured system, whose A has these parameters, with this D."""
    B, C = sys.B[chosen, :], sys.C[:, chosen]
    return replace(sys, A=type(sys.A)(*parameters), B=B, C=C, D=D) if B.shape[0] else None


def _split_dense(sys: LTI) -> tuple[LTI | None, LTI | None]:
    if not is_numpy(sys.A):
        raise ArrayLibraryError("the stable part of a dense system needs LAPACK and NumPy arrays")
    # Both parts have states of their own, so that the scale is not undone.
    A, B, C, _ = balance_dense(sys.A, sys.B, sys.C)
    T, U, count = _stable_poles_first(A)
    if count == 0:
        return None, replace(sys, D=None)
    if count == sys.order:
        return sys, None
    stable, other = slice(0, count), slice(count, None)
    # [[T1, T12], [0, T2]] becomes blkdiag(T1, T2) in the states z of x = U [[I, X], [0, I]] z.
    X = scipy.linalg.solve_sylvester(T[stable, stable], -T[other, other], -T[stable, other])
    B, C = adjoint(U) @ B, C @ U
    to_stable, from_other = B[stable] - X @ B[other], C[:, stable] @ X + C[:, other]
    return (
        replace(sys, A=T[stable, stable], B=to_stable, C=C[:, stable]),
        replace(sys, A=T[other, other], B=B[other], C=from_other, D=None),
    )


def _stable_poles_first(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Schur form A = U T Uᴴ, real for real A, with the poles that count as stable leading."""
    if np.iscomplexobj(A):
        T, U = scipy.linalg.schur(A, output="complex")
        stable = clear_of_circle(T)
    else:
        T, U = scipy.linalg.schur(A, output="real")
        stable = clear_of_circle(scipy.linalg.rsf2csf(T, U)[0])
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
