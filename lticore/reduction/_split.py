"""A system as the sum of its stable part and the rest."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from .._arrays import Array, is_numpy, namespace
from .._linalg import adjoint
from ..errors import ArrayLibraryError
from ..structure import Diagonal, Rotation
from ..systems import LTI


def split_unstable(sys: LTI) -> tuple[LTI | None, LTI | None]:
    """(stable part with D, part with the poles on and outside the unit circle) of one system.

    Their sum is the system; a part without states is None. Structured: a choice of
    states. Dense: an ordered Schur form, real for real A, and one Sylvester equation.

    Cost: O(n) structured, O(n³) dense.

    Raises
    ------
    ArrayLibraryError
        For dense systems that are not NumPy arrays.
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
        inside = namespace(sys.B).abs(sys.A.poles) < 1
        return (
            _with_states(sys, sys.D, inside, sys.A.poles[inside]),
            _with_states(sys, None, ~inside, sys.A.poles[~inside]),
        )
    return _split_dense(sys)


def join(first: LTI, second: LTI) -> LTI:
    """The sum of two systems of one batch shape, dense, with the D of the first."""
    xp = namespace(first.B, second.B)
    A, A_2 = first.to_dense().A, second.to_dense().A
    zeros = xp.zeros((*A.shape[:-1], A_2.shape[-1]), dtype=A.dtype)
    A = xp.concat(
        [xp.concat([A, zeros], axis=-1), xp.concat([xp.matrix_transpose(zeros), A_2], axis=-1)],
        axis=-2,
    )
    B, C = xp.concat([first.B, second.B], axis=-2), xp.concat([first.C, second.C], axis=-1)
    return LTI(A, B, C, first.D)


def _with_states(sys: LTI, D: Array | None, chosen: Array, *parameters: Array) -> LTI | None:
    """The states ``chosen`` of a structured system, whose A has these parameters, with this D."""
    B, C = sys.B[chosen, :], sys.C[:, chosen]
    return LTI(type(sys.A)(*parameters), B, C, D) if B.shape[0] else None


def _split_dense(sys: LTI) -> tuple[LTI | None, LTI | None]:
    if not is_numpy(sys.A):
        raise ArrayLibraryError("the stable part of a dense system needs LAPACK and NumPy arrays")
    # "iuc" would count poles on the circle as inside.
    if np.iscomplexobj(sys.A):
        T, U, count = scipy.linalg.schur(sys.A, output="complex", sort=lambda z: abs(z) < 1)
    else:
        T, U, count = scipy.linalg.schur(sys.A, output="real", sort=lambda x, y: np.hypot(x, y) < 1)
    if count == 0:
        return None, LTI(sys.A, sys.B, sys.C)
    if count == sys.order:
        return sys, None
    stable, other = slice(0, count), slice(count, None)
    # [[T1, T12], [0, T2]] becomes blkdiag(T1, T2) in the states z of x = U [[I, X], [0, I]] z.
    X = scipy.linalg.solve_sylvester(T[stable, stable], -T[other, other], -T[stable, other])
    B, C = adjoint(U) @ sys.B, sys.C @ U
    return (
        LTI(T[stable, stable], B[stable] - X @ B[other], C[:, stable], sys.D),
        LTI(T[other, other], B[other], C[:, stable] @ X + C[:, other]),
    )
