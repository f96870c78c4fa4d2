"""Transfer functions as poles, zeros, sections and polynomials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import check_array
from ..arrays.namespaces import is_numpy
from ..equations.zeros import poles_zeros_gain
from ..errors import ArrayLibraryError, NotRealError, ShapeError
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.modes import is_real
from ..systems.rational import of_poles_and_zeros, of_polynomials, sections


def to_zpk(sys: LinearLike) -> tuple[np.ndarray, np.ndarray, float | complex]:
    """Zeros, poles and gain of H(s) = k Π(s − z_i)/Π(s − p_j), in discrete time of z for s.

    Poles are those of A, of structured A as they stand. Zeros are the finite eigenvalues of
    Rosenbrock's pencil [[A − s I, B], [C, D]] by QZ in the best units of states and signals;
    polynomials are never formed. As many zeros are at infinity as Markov parameters D, C B, …
    vanish.

    Parameters
    ----------
    sys : one system of one input and one output

    Returns
    -------
    zeros, poles : complex arrays, in conjugate pairs for real systems;  k : number, real for these
        Poles that zeros cancel are both there: :func:`lticore.minimal_realization` takes them out.

    Accuracy: of the response at points off the zeros about that of
    :func:`lticore.frequency_response`; a zero itself is as well conditioned as H' is large there.

    Cost: O(n³).

    Raises
    ------
    ShapeError
        For batches, several inputs or outputs.
    ArrayLibraryError
        For arrays that are not NumPy's.

    >>> zeros, poles, gain = lti.to_zpk(lti.LTI([[-1.0]], [[1.0]], [[1.0]], [[1.0]], dt=0))
    >>> zeros.real, poles.real, gain
    (array([-2.]), array([-1.]), 1.0)
    """
    one = in_double(as_linear(sys, continuous=True))
    if one.batch_shape or (one.inputs, one.outputs) != (1, 1):
        raise ShapeError(
            "poles, zeros and a gain describe one system of one input and one output, but this one "
            f"has batch {one.batch_shape}, {one.inputs} inputs and {one.outputs} outputs"
        )
    if not is_numpy(one.B):
        raise ArrayLibraryError("zeros need LAPACK and so NumPy arrays")
    zeros, poles, gain = poles_zeros_gain(one)
    if is_real(one.A) and not np.iscomplexobj(one.B):
        return zeros, poles, complex(gain).real
    return zeros, poles, gain


def to_sections(sys: LinearLike) -> np.ndarray:
    """Second-order sections of a real system, as `scipy.signal.sosfilt` takes them.

        H(z) = Π_l (b_0 + b_1 z⁻¹ + b_2 z⁻²)/(1 + a_1 z⁻¹ + a_2 z⁻²),

    each with the zeros that are nearest to its poles (:func:`lticore.to_zpk`); in continuous time
    (b_0 s² + b_1 s + b_2)/(s² + a_1 s + a_2), or of lower degree with leading zeros.

    Returns
    -------
    (sections, 6) array of rows (b_0, b_1, b_2, a_0, a_1, a_2), the gain in the first.

    Cost: O(n³).

    Raises
    ------
    NotRealError
        For systems that are not real.
    ShapeError, ArrayLibraryError

    >>> lti.to_sections(lti.LTI([[0.5]], [[1.0]], [[1.0]]))
    array([[ 0. ,  1. ,  0. ,  1. , -0.5,  0. ]])
    """
    given = as_linear(sys, continuous=True)
    zeros, poles, gain = to_zpk(given)
    found = sections(zeros, poles) if not isinstance(gain, complex) else None
    if found is None:
        raise NotRealError("second-order sections are real, and the system is not")
    of = _falling_powers if given.is_continuous else _delays
    rows = np.array([[*of(s.zeros, len(s.poles)), *of(s.poles, len(s.poles))] for s in found])
    if not found:
        rows = np.array([[*of((), 0), *of((), 0)]])
    rows[0, :3] *= gain
    return rows


def _delays(roots: tuple[complex, ...], degree: int) -> np.ndarray:
    """z^{−degree} Π(z − root) in 1, z⁻¹, z⁻²."""
    found = np.zeros(3)
    late = degree - len(roots)
    found[late : late + len(roots) + 1] = np.real(np.poly(roots))
    return found


def _falling_powers(roots: tuple[complex, ...], degree: int) -> np.ndarray:
    """Π(s − root) in s², s, 1."""
    found = np.zeros(3)
    found[2 - len(roots) :] = np.real(np.poly(roots))
    return found


def from_zpk(
    zeros: ArrayLike, poles: ArrayLike, gain: float | complex = 1.0, *, dt: bool | float = True
) -> LTI[np.ndarray]:
    """The system with H(s) = gain Π(s − z_i)/Π(s − p_j), in discrete time of z for s.

    A cascade of sections of one or two states, in which the poles stand as they are given: those
    next to the boundary keep their distance, which coefficients of polynomials lose.

    Parameters
    ----------
    zeros, poles : lists of numbers; real systems have them in conjugate pairs
    gain : number
    dt : True, a sampling time, or 0 for continuous time

    Returns
    -------
    LTI with a dense A, real where all can be.

    Raises
    ------
    ArgumentError
        For more zeros than poles.
    ShapeError, NonFiniteError, DtypeError

    >>> lti.from_zpk([], [-1 + 1j, -1 - 1j], 2.0, dt=0).order
    2
    """
    return LTI(*of_poles_and_zeros(zeros, poles, gain), dt=dt)


def from_sections(sos: ArrayLike, *, dt: bool | float = True) -> LTI[np.ndarray]:
    """The system of second-order sections (b_0, b_1, b_2, a_0, a_1, a_2), as those of scipy.signal:
    of z⁻¹, in continuous time (dt = 0) of falling powers of s.

    Raises
    ------
    ArgumentError
        For sections that are not proper.
    ShapeError, NonFiniteError, DtypeError

    >>> lti.from_sections([[0.0, 1.0, 0.0, 1.0, -0.5, 0.0]]).order
    2
    """
    rows = check_array("the sections", sos, ndim=2)
    if rows.ndim != 2 or rows.shape[1] != 6 or not len(rows):
        raise ShapeError(f"sections are rows of six coefficients, (sections, 6), not {rows.shape}")
    whole: Any = None
    for row in rows:
        b, a = row[:3], row[3:]
        while dt and len(a) > 1 and a[-1] == b[-1] == 0:
            b, a = b[:-1], a[:-1]  # a delay that both have
        part: LTI = LTI(*of_polynomials([[b]], [[a]]), dt=dt)
        whole = part if whole is None else part @ whole
    return whole


def from_transfer_function(
    numerator: Any, denominator: Any, *, dt: bool | float = True
) -> LTI[np.ndarray]:
    """The system of a quotient of polynomials, coefficients from the highest power down; of nested
    lists, numerator[i][j] over denominator[i][j] from input j to output i.

    In companion form, whose entries are the coefficients; poles are as well conditioned as they are
    in these. Of several outputs those with one denominator share their states, others have states
    of their own: :func:`lticore.minimal_realization` finds what they have in common.

    Raises
    ------
    ArgumentError
        For quotients that are not proper, and denominators of zero.
    ShapeError, NonFiniteError, DtypeError

    >>> lti.from_transfer_function([1.0], [1.0, 3.0, 2.0], dt=0).poles.real.round(12)
    array([-1., -2.])
    """
    if not (_is_nested(numerator) or _is_nested(denominator)):
        numerator, denominator = [[numerator]], [[denominator]]
    elif not (_is_nested(numerator) and _is_nested(denominator)):
        raise ShapeError("numerator and denominator are both one polynomial, or both nested rows")
    return LTI(*of_polynomials(numerator, denominator), dt=dt)


def _is_nested(polynomials: Any) -> bool:
    """Whether these are rows of polynomials, and not one."""
    rows: Any = list | tuple | np.ndarray
    for _ in range(2):
        if not isinstance(polynomials, rows) or len(polynomials) == 0:
            return False
        polynomials = polynomials[0]
    return isinstance(polynomials, rows)
