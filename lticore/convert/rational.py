"""Transfer functions as poles, zeros, sections and polynomials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..analysis.zeros import one_system
from ..arrays.checks import check_array
from ..arrays.groups import connected_states
from ..equations.zeros import poles_zeros_gain
from ..errors import NotRealError, ShapeError
from ..systems.doors import LinearLike
from ..systems.lti import LTI
from ..systems.modes import is_real
from ..systems.rational import (
    of_nested_poles_and_zeros,
    of_poles_and_zeros,
    of_polynomials,
    sections,
)
from ..systems.structure import same_in_blocks, structure_of, to_dense


def to_zpk(sys: LinearLike) -> tuple[Any, Any, Any]:
    """Zeros, poles and gain of H(s) = k Π(s − z_i)/Π(s − p_j), in discrete time of z for s.

    Poles are those of A, of structured A as they stand. Zeros are the finite eigenvalues of
    Rosenbrock's pencil [[A − s I, B], [C, D]] by QZ in the best units of states and signals, of up
    to 50 states refined where the response asks for it; polynomials are never formed. As many
    zeros are at infinity as Markov parameters D, C B, … vanish.

    Parameters
    ----------
    sys : one system, no batch

    Returns
    -------
    zeros, poles : complex arrays, in conjugate pairs for real systems;  k : number, real for these
        Poles that zeros cancel are both there: :func:`lticore.minimal_realization` takes them out.
        Of several inputs or outputs nested lists, ``zeros[i][j]`` and ``poles[i][j]`` from input j
        to output i, and a (p, m) array k. States that no chain of entries of A leads to from the
        input or from which none leads to the output are not those of the pair.
        (:func:`lticore.zeros` are those of the system as a whole.)

    Accuracy: of the response at points off the zeros about that of
    :func:`lticore.frequency_response`; a zero itself is as well conditioned as H' is large there.

    Cost: O(n³) for each pair of an input and an output.

    Raises
    ------
    ShapeError
        For batches.
    ArrayLibraryError
        For arrays that are not NumPy's.

    Warns
    -----
    PrecisionWarning
        Where they do not give the response between them to 1e-6, measured at up to 24 points: for
        poles and zeros many decades apart in a dense A that holds the small ones to 1e-16 ‖A‖ only.

    >>> sys = lti.LTI([[-1.0]], [[1.0]], [[1.0]], [[1.0]], dt=0)  # (s + 2)/(s + 1)
    >>> zeros, poles, gain = lti.to_zpk(sys)
    >>> zeros.real.round(12), poles.real, round(gain, 12)
    (array([-2.]), array([-1.]), 1.0)
    """
    one = one_system(sys)
    if (one.inputs, one.outputs) == (1, 1):
        return _zpk(one)
    rows = [
        [_zpk(_between_signals(one, i, j)) for j in range(one.inputs)] for i in range(one.outputs)
    ]
    zeros, poles, gain = ([[found[k] for found in row] for row in rows] for k in range(3))
    return zeros, poles, np.array(gain).reshape(one.outputs, one.inputs)


def _zpk(sys: LTI) -> tuple[np.ndarray, np.ndarray, float | complex]:
    zeros, poles, gain = poles_zeros_gain(sys)
    real = is_real(sys.A) and not np.iscomplexobj(sys.B)
    return zeros, poles, complex(gain).real if real else gain


def _between_signals(sys: LTI, i: int, j: int) -> LTI:
    """From input j to output i, with the states between them."""
    B, C = sys.B[:, j : j + 1], sys.C[i : i + 1]
    between = connected_states(to_dense(sys.A), B, C)
    states = np.flatnonzero(same_in_blocks(np.logical_or, sys.A, between))
    D = None if sys.D is None else sys.D[i : i + 1, j : j + 1]
    return LTI(structure_of(sys.A).of_states(states), B[states], C[:, states], D, dt=sys.dt)


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
    ShapeError
        For batches, several inputs or outputs.
    ArrayLibraryError

    >>> lti.to_sections(lti.LTI([[0.5]], [[1.0]], [[1.0]]))
    array([[ 0. ,  1. ,  0. ,  1. , -0.5,  0. ]])
    """
    given = one_system(sys)
    if (given.inputs, given.outputs) != (1, 1):
        raise ShapeError(
            "second-order sections describe one input and one output, but this system has "
            f"{given.inputs} inputs and {given.outputs} outputs"
        )
    zeros, poles, gain = _zpk(given)
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
    zeros: Any, poles: Any, gain: ArrayLike = 1.0, *, dt: bool | float = True
) -> LTI[np.ndarray]:
    """The system with H(s) = gain Π(s − z_i)/Π(s − p_j), in discrete time of z for s; of nested
    lists, ``zeros[i][j]``, ``poles[i][j]`` and ``gain[i][j]`` from input j to output i.

    A cascade of sections of one or two states, in which the poles stand as they are given: those
    next to the boundary keep their distance, which coefficients of polynomials lose.

    Parameters
    ----------
    zeros, poles : lists of numbers; real systems have them in conjugate pairs
    gain : number; of several inputs or outputs a (p, m) array, or one number for all
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
    if _both_nested("zeros and poles", zeros, poles):
        return LTI(*of_nested_poles_and_zeros(zeros, poles, gain), dt=dt)
    return LTI(*of_poles_and_zeros(zeros, poles, gain), dt=dt)


def from_sections(sos: ArrayLike, *, dt: bool | float = True) -> LTI[np.ndarray]:
    """The system of second-order sections (b_0, b_1, b_2, a_0, a_1, a_2), as those of scipy.signal:
    of z⁻¹, in continuous time (dt = 0) of falling powers of s.

    Raises
    ------
    ArgumentError
        For sections that are not proper.
    ShapeError, NonFiniteError, DtypeError

    >>> lti.from_sections([[0.0, 1.0, 0.0, 1.0, -0.5, 0.0]])  # 1/(z − 0.5)
    LTI(dense, order 1, 1 inputs, 1 outputs, float64)
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
    lists, ``numerator[i][j]`` over ``denominator[i][j]`` from input j to output i.

    In companion form, whose entries are the coefficients; poles are as well conditioned as they are
    in these. Of several outputs those with one denominator share their states, others have states
    of their own: :func:`lticore.minimal_realization` finds what they have in common.

    Raises
    ------
    ArgumentError
        For quotients that are not proper, and denominators of zero.
    ShapeError, NonFiniteError, DtypeError

    >>> sys = lti.from_transfer_function([1.0], [1.0, 3.0, 2.0], dt=0)
    >>> np.sort(sys.poles.real).round(12)
    array([-2., -1.])
    """
    if not _both_nested("numerator and denominator", numerator, denominator):
        numerator, denominator = [[numerator]], [[denominator]]
    return LTI(*of_polynomials(numerator, denominator), dt=dt)


def _both_nested(names: str, first: Any, second: Any) -> bool:
    """Whether both are rows of lists, and not one list of numbers each."""
    nested = _is_nested(first), _is_nested(second)
    if any(nested) and not all(nested):
        raise ShapeError(f"{names} are both one list of numbers, or both nested rows of lists")
    return all(nested)


def _is_nested(lists: Any) -> bool:
    rows: Any = list | tuple | np.ndarray
    for _ in range(2):
        if not isinstance(lists, rows) or len(lists) == 0:
            return False
        lists = lists[0]
    return isinstance(lists, rows)
