"""Which poles count as unstable: the one notion of stability in the library.

A structured A holds its poles exactly, so |λ| < 1 decides, in continuous time Re λ < 0. A dense
matrix is known up to rounding only. Its pole λ counts as unstable when a perturbation of that size
can carry it to the circle, that is when

    σ_min(z I − A) ≤ 16 eps ‖A‖_F      on the way from λ to the nearest point λ/|λ| of the circle.

For a simple pole of condition κ the left side grows to (1 − |λ|)/κ: a threshold of 16 eps κ ‖A‖_F
for its distance to the circle. Poles that rounding splits, as double integrators into 1 ± 1e-8,
have a small left side together: clusters stay together. The middle of the way tells such a pole
from one that only has another pole before it on the circle. In continuous time the same holds for
the imaginary axis and its nearest point i Im λ, in a unit of time in which A has about size one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import scipy.linalg

from ..arrays.checks import to_double
from ..arrays.linalg import EPSILON, adjoint, as_complex, eigenvalues, has_eigenvalues
from ..arrays.namespaces import Array, holds, is_numpy, namespace, to_numpy
from ..errors import UnstableSystemError
from ..matrices.balance import balance_matrix, radius_exponent, rescaled, state_units
from ..systems.lti import LTI, replaced
from ..systems.signals import scaled, size_exponent
from ..systems.structure import StateMatrix, is_structured, structure_of, to_dense
from .dense import schur_form, schur_form_for_powers

#: Size of the perturbation by rounding, relative to the Frobenius norm.
_ROUNDING = 16 * EPSILON
#: Up to this order the eigenvalues alone often show that no pole can reach the circle.
_FEW = 16
#: Only poles this close to the circle are looked at one by one.
_RING = 0.1
#: What a singular value must exceed the level by for the first step to tell.
_FAR_ABOVE = 1e5
#: Poles further out than this are rarely those of a discrete-time system …
_FAR = 2.0
#: … and poles this close to the circle are likely to be meant on it.
_NEAR = 1e-3
#: Norms beyond this are those of vectors that overflow: the matrix is singular to all digits.
_NUMBERS = 1e150
#: The share of its distance to the boundary that a pole keeps in units that suit a system.
_KEPT = 0.5
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)


def stable_poles(A: StateMatrix, continuous: bool = False) -> tuple[Any, Any]:
    """(1 − |λ|, or −Re λ in continuous time, whether λ counts as stable), (..., n) each.

    Dense arrays of libraries other than NumPy: by the sign.

    Cost: O(n) structured; O(n³) dense, eigenvalues or a Schur form.
    """
    if is_structured(A):
        gaps = A.decay_modes[0] if continuous else 1 - A.polar_modes[0]
        return gaps, gaps > 0
    A = to_double(A)
    if not is_numpy(A):
        gaps = _gaps(eigenvalues(to_dense(A)), continuous)
        return gaps, gaps > 0
    unit = 2.0 ** radius_exponent(A) if continuous else np.ones(A.shape[:-2])
    A, n = A / unit[..., None, None], A.shape[-1]
    if n <= _FEW:
        gaps = _gaps(eigenvalues(A), continuous)
        clear = _out_of_reach(A, gaps)
    else:
        gaps, clear = np.empty(A.shape[:-1]), np.zeros(A.shape[:-2], dtype=bool)
    stable = np.ones(A.shape[:-1], dtype=bool)
    for index in np.ndindex(A.shape[:-2]):
        if not clear[index]:
            T, _ = schur_form(balance_matrix(A[index], continuous))
            gaps[index] = _gaps(np.diagonal(T), continuous)
            stable[index] = counted_stable(T, continuous)
    return gaps * unit[..., None], stable


def _gaps(poles: Array, continuous: bool) -> Array:
    """Distances to the boundary of the stable poles, negative beyond it."""
    xp = namespace(poles)
    return -xp.real(as_complex(poles)) if continuous else 1 - xp.abs(poles)


def is_stable(A: StateMatrix, continuous: bool = False) -> bool:
    """Whether all poles count as stable, in the whole batch."""
    if is_structured(A):
        return holds(A.block_decays > 0 if continuous else A.block_radii < 1)
    return holds(stable_poles(A, continuous)[1])


def _out_of_reach(A: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Whether no pole can be carried to the boundary: a sufficient condition, cheap.

    Elsner's bound, Linear Algebra Appl. 71 (1985): under A + E no eigenvalue moves by more than
    (‖A‖ + ‖A + E‖)^{1−1/n} ‖E‖^{1/n}.
    """
    n = A.shape[-1]
    # Where the norm overflows nothing is known.
    with np.errstate(over="ignore", invalid="ignore"):
        reach = 2 * np.linalg.norm(A, axis=(-2, -1)) * (_ROUNDING / 2) ** (1 / max(n, 1))
    return gaps.min(axis=-1, initial=np.inf) > reach


def counted_stable(T: np.ndarray, continuous: bool = False) -> np.ndarray:
    """(n,) which diagonal entries of an upper triangular T count as stable; in continuous time T
    has about size one.

    Cost: O(n²) for each pole within 0.1 of the boundary. Further inside, the eigenvalues that were
    computed would lie apart from each other by as much before rounding could carry one so far.
    """
    poles = np.diagonal(T)
    gaps = _gaps(poles, continuous)
    stable = gaps > 0
    level = _ROUNDING * float(np.linalg.norm(T))
    rng = np.random.default_rng(0)
    start = rng.standard_normal(len(T)) + 1j * rng.standard_normal(len(T))
    shifted = np.asfortranarray(-T, dtype=np.complex128)
    for i in np.flatnonzero(stable & (gaps <= _RING)):
        end = 1j * poles[i].imag if continuous else poles[i] / abs(poles[i])
        for z in (end, (end + poles[i]) / 2):
            np.fill_diagonal(shifted, z - poles)
            if _smallest_singular_value(shifted, start, level) > level:
                break
        else:
            stable[i] = False
    return stable


def _smallest_singular_value(T: np.ndarray, start: np.ndarray, level: float) -> float:
    """Of an upper triangular T, at most a few times too large, by inverse iteration; anything
    larger than ``level`` where it is far above that."""
    x, largest = start, 0.0
    for transposed in (0, 2, 0, 2):
        x, singular = _trtrs(T, x / np.linalg.norm(x), trans=transposed)
        if singular:
            return 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            largest = max(largest, float(np.nan_to_num(np.linalg.norm(x), nan=np.inf)))
        if largest > _NUMBERS:
            return 0.0
        # A random start has a share of about 1/√n in every direction.
        if largest * level * _FAR_ABOVE < 1:
            break
    return 1 / largest


@dataclass(frozen=True, eq=False)
class SchurSystem:
    """One system (T, 2^b B, 2^c C) in the states z of x = D U z, T = Uᴴ D⁻¹ A D U upper triangular,
    the largest entries of B and C having been about 1.

    A : D⁻¹ A D,   units : (n, 1), the diagonal of D
    asked : (n, 1), the units that suit the system best, or were given: ``units`` are others where
        rounding in those would carry poles across the boundary

    In continuous time the system is in a unit of time in which A has about size one, or that of a
    shorter horizon: A stands for A/4^time, B for B/2^time, C for C/2^time, which leave the Gramians
    as they are, and the horizon for that times 4^time.
    """

    T: np.ndarray
    B: np.ndarray
    C: np.ndarray
    A: np.ndarray
    U: np.ndarray
    units: np.ndarray
    asked: np.ndarray
    b: int
    c: int
    continuous: bool
    time: int
    horizon: Any


def schur_systems(
    sys: LTI,
    horizon: float | None = None,
    *,
    what: str,
    reached: bool = True,
    observed: bool = True,
    units: np.ndarray | None = None,
    time: np.ndarray | None = None,
) -> Iterator[tuple[tuple[int, ...], SchurSystem]]:
    """The entries of a dense batch on NumPy, in Schur form in the best units of their states; with
    a horizon in the real form for powers of A, with 2 × 2 blocks, and stable or not.

    reached, observed : whether B and C help to decide the units, and are not left out as zero
    units : (..., n, 1) powers of two, where they are known better
    time : (...) of another system, to be joined with

    Cost: O(n³): one Schur form for the stability and all that follows.

    Raises
    ------
    UnstableSystemError
    """
    timed, time = in_unit_time(sys, time, horizon)
    d = units
    if d is None:
        given = timed.B if reached else None, timed.C if observed else None
        # Over a horizon states have its time beside their own.
        d = state_units(timed.A, *given, sys.is_continuous and horizon is None)[..., None]
    for index in np.ndindex(sys.batch_shape):
        entry = timed[index]
        unit = asked = d[index]
        A = rescaled(entry.A, unit.T, unit)
        T, U = schur_form(A) if horizon is None else schur_form_for_powers(A)
        if horizon is None and not counted_stable(T, sys.is_continuous).all():
            # Names the mode by its place in the whole batch.
            require_stable(sys, what=what)
            # Units that B and C ask for can make A so non-normal that rounding moves its poles to
            # the boundary or beyond; in those that A alone decides it does not.
            alone = state_units(entry.A, continuous=sys.is_continuous)[:, None]
            A_alone = rescaled(entry.A, alone.T, alone)
            T_alone, U_alone = schur_form(A_alone)
            here, there = (_gaps(np.diagonal(X), sys.is_continuous).min() for X in (T, T_alone))
            if here < _KEPT * there:
                unit, A, T, U = alone, A_alone, T_alone, U_alone
        # What is not asked for may overflow in units that suit the other.
        B = entry.B / unit if reached else 0 * entry.B
        C = entry.C * unit.T if observed else 0 * entry.C
        (B, b), (C, c) = _matrix_of_size_one(B), _matrix_of_size_one(C)
        k = int(time[index])
        sizes = unit, asked, b, c, sys.is_continuous, k, in_time(horizon, k)
        yield index, SchurSystem(T, adjoint(U) @ B, C @ U, A, U, *sizes)


def in_unit_time(
    sys: LTI, time: np.ndarray | None = None, horizon: float | None = None
) -> tuple[LTI, np.ndarray]:
    """(Σ', k) for a system on NumPy: in continuous time A/4^k, B/2^k and C/2^k by
    :func:`unit_of_time`, or with the k given; else as it is."""
    if not sys.is_continuous:
        return sys, np.zeros(sys.batch_shape)
    k = unit_of_time(sys, horizon) if time is None else time
    half = 2.0**-k
    A, signal = structure_of(sys.A).times(half**2), half[..., None, None]
    return replaced(sys, A=A, B=sys.B * signal, C=sys.C * signal), k


def unit_of_time(sys: LTI, horizon: float | None = None) -> np.ndarray:
    """(...) k for which A/4^k has about size one, or less in units no longer than a horizon: what A
    does later decides nothing."""
    exponent = time_exponent(sys.A)
    if horizon is not None:
        exponent = np.maximum(exponent, -math.log2(horizon))
    return np.rint(exponent / 2)


def in_time(horizon: Any, k: int) -> Any:
    """A horizon in the unit of time of A/4^k; k = 0 in discrete time."""
    return horizon if horizon is None or k == 0 else math.ldexp(horizon, 2 * k)


def time_exponent(A: StateMatrix) -> np.ndarray:
    """(...) log2 of the size of the fastest poles, rounded: 2 to minus this is a unit of time."""
    if not is_structured(A):
        return radius_exponent(A)
    fastest = np.max(A.radii, axis=-1, initial=0)
    return np.rint(np.log2(np.where(fastest > 0, fastest, 1)))


def _matrix_of_size_one(X: np.ndarray) -> tuple[np.ndarray, int]:
    exponent = int(size_exponent(X)) if X.any() else 0
    return scaled(X, np.float64(-exponent)), exponent


def require_stable(sys: LTI, *, what: str) -> None:
    """Raise :class:`UnstableSystemError` unless the system is stable."""
    if not is_structured(sys.A) and not has_eigenvalues(sys.B):
        # The series that solves dense equations there stops with an error of its own.
        return
    if is_structured(sys.A) and is_stable(sys.A, sys.is_continuous):
        return
    gaps, stable = stable_poles(sys.A, sys.is_continuous)
    if holds(stable):
        return
    xp = namespace(gaps)
    gaps = xp.where(stable, xp.inf + xp.zeros_like(gaps), gaps)
    worst = int(xp.argmin(xp.reshape(gaps, (-1,))))
    where = f"mode {worst % sys.order}" + (
        f" of batch entry {worst // sys.order}" if sys.batch_shape else ""
    )
    gap = float(xp.min(gaps))
    if sys.is_continuous:
        doubt = ", which the rounding of A does not tell from 0" if gap > 0 else ""
        raise UnstableSystemError(
            f"{what} needs all poles left of the imaginary axis, but {where} has real part "
            f"{-gap:.17g}{doubt}"
        )
    raise UnstableSystemError(
        f"{what} needs all poles inside the unit circle, but {where} has modulus {1 - gap:.17g}"
        + _cause(sys, 1 - gap)
    )


def _cause(sys: LTI, modulus: float) -> str:
    """The likely cause of an unstable pole, as the end of a sentence."""
    if modulus > 1 and (modulus > _FAR or bool(np.all(to_numpy(sys.poles).real <= 0))):
        return (
            ". If A is that of a continuous-time system, sample it first: "
            "lticore.discretize(A, B, C, D, step)"
        )
    if abs(modulus - 1) > _NEAR:
        return ""
    beyond = ", which the rounding of A does not tell from 1" if modulus < 1 else ""
    return (
        f"{beyond}. A pole on the circle is an integrator, an undamped oscillation, or a radius "
        "that rounded to 1, as all above 1 − 3e-8 do in float32"
    )


class offering:
    """Every :class:`UnstableSystemError` from inside ends with what the function at hand offers
    instead; of several the outermost counts, which the caller sees. A context or a decorator."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, UnstableSystemError):
            raise UnstableSystemError(error.seen, self.remedy) from None

    def __call__(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def wrapper(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
            with self:
                return function(*args, **options)

        return wrapper


#: What functions offer for unstable systems.
NOTHING = ""
HORIZON = "A finite `horizon` exists for any system"
KEEP = '`unstable="keep"` keeps the unstable part of a system and reduces the rest'
