"""Systems in descriptor form."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ..arrays.checks import is_single, to_double
from ..equations.descriptor import standard_forms
from ..errors import SingularEquationError
from ..systems.lti import LTI, in_single
from ..systems.sparse import Sparse


def from_descriptor(
    E: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    *,
    dt: bool | float = True,
) -> LTI[np.ndarray]:
    """The system E x⁺ = A x + B u, y = C x + D u, or E ẋ = A x + B u with dt = 0, for a regular E.

    In the states z of x = Z z of a generalised Schur form A = U S Zᴴ, E = U T Zᴴ:

        z⁺ = T⁻¹ S z + T⁻¹ Uᴴ B u,   y = C Z z + D u

    A triangular A' = T⁻¹ S has each pole where QZ found it: poles far inside those of an
    ill-conditioned E keep their digits, of which E⁻¹ A keeps those of the largest only.

    Parameters
    ----------
    E, A : (..., n, n) arrays, or both sparse matrices of SciPy, which are never filled in
    B : (..., n, m),   C : (..., p, n),   D : (..., p, m), optional
    dt : True, a sampling time, or 0 for continuous time

    Returns
    -------
    LTI with a dense, quasi upper triangular A; of sparse matrices with ``Sparse(A, E)``, in the
    states z = E x.

    Accuracy: that of QZ, whose pencil differs from the given one, with rows and columns of about
    one size, by some n 2.2e-16.

    Cost: O(n³), some 70 n³ operations for QZ.

    Raises
    ------
    SingularEquationError
        For a singular E: algebraic equations are to be taken out first.
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError

    >>> sys = lti.from_descriptor([[2.0]], [[-1.0]], [[1.0]], [[1.0]], dt=0)
    >>> sys.poles.real
    array([-0.5])
    """
    if scipy.sparse.issparse(E) or scipy.sparse.issparse(A):
        return _of_sparse(E, A, LTI(Sparse(A), B, C, D, dt=dt))
    given: LTI[Any] = LTI(A, B, C, D, dt=dt)
    form, left, Z = standard_forms(E, given.A)
    sys = LTI(form, left @ given.B, given.C @ Z, given.D, dt=dt)
    return in_single(sys) if is_single(given.B) else sys


def _of_sparse(E: Any, A: Any, given: LTI[Any]) -> LTI[Any]:
    """In the states E x."""
    try:
        state_matrix = Sparse(A, E)
    except SingularEquationError:
        raise SingularEquationError(
            "E is singular: take out the algebraic equations first, which states obey without delay"
        ) from None
    seen = state_matrix.without_mass(to_double(given.C).conj().T, "H").conj().T
    found = LTI(state_matrix, given.B, seen, given.D, dt=given.dt)
    return in_single(found) if is_single(given.B) else found
