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

A is here that of one group of states that feed each other. Of several in series, as sections of a
filter are, each answers for itself: perturbations by rounding leave zeros zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import scipy.linalg

from .. import kernels
from ..arrays.checks import to_double
from ..arrays.groups import groups_in_order
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
#: What a singular value must exceed the level by for the first step of inverse iteration to tell.
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
    n, gaps = A.shape[-1], np.empty(A.shape[:-1])
    clear, stable = np.zeros(A.shape[:-2], dtype=bool), np.ones(A.shape[:-1], dtype=bool)
    if n <= _FEW:
        unit = _unit(A, continuous)
        gaps = _gaps(eigenvalues(A / unit[..., None]), continuous)
        clear = _out_of_reach(A / unit[..., None], gaps)
        gaps = gaps * unit
    whole = ~clear & A.all(axis=(-2, -1))
    gaps[whole], stable[whole] = _stable_of_group(A[whole], continuous)
    for index in map(tuple, np.argwhere(~clear & ~whole)):
        gaps[index], stable[index] = _stable_in_groups(A[index], continuous)
    return gaps, stable


def _unit(A: np.ndarray, continuous: bool) -> np.ndarray:
    """(..., 1) the unit in which rates of A have about size one."""
    return 2.0 ** radius_exponent(A)[..., None] if continuous else np.ones((*A.shape[:-2], 1))


def _stable_in_groups(A: np.ndarray, continuous: bool) -> tuple[np.ndarray, np.ndarray]:
    """(gaps, whether they count as stable), (n,) each, of every group of states that feed each
    other for itself: zeros of A are no rounded numbers, and what leads from one group to the next
    carries no pole anywhere."""
    gaps, stable = np.empty(len(A)), np.empty(len(A), dtype=bool)
    groups = groups_in_order(A) or [np.arange(len(A))]
    for size in {len(group) for group in groups}:
        states = np.stack([group for group in groups if len(group) == size])
        blocks = A[states[:, :, None], states[:, None, :]]
        gaps[states], stable[states] = _stable_of_group(blocks, continuous)
    return gaps, stable


def _stable_of_group(A: np.ndarray, continuous: bool) -> tuple[np.ndarray, np.ndarray]:
    """(gaps, whether they count as stable), (..., n) each, of states that feed each other."""
    unit = _unit(A, continuous)
    T, _ = schur_form(balance_matrix(A / unit[..., None], continuous))
    gaps = unit * _gaps(np.diagonal(T, axis1=-2, axis2=-1), continuous)
    return gaps, counted_stable(T, continuous)


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
    """(..., n) which diagonal entries of upper triangular T count as stable; in continuous time T
    have about size one.

    Cost: O(n²) for each pole within 0.1 of the boundary. Further inside, the eigenvalues that were
    computed would lie apart from each other by as much before rounding could carry one so far.
    """
    gaps = _gaps(np.diagonal(T, axis1=-2, axis2=-1), continuous)
    near = (gaps > 0) & (gaps <= _RING)
    if not near.any():
        return gaps > 0
    levels = _ROUNDING * np.linalg.norm(T, axis=(-2, -1))
    held = kernels.find(held_poles_reference, T)(T, near, levels, _start(T.shape[-1]), continuous)
    return (gaps > _RING) | held


@cache
def _start(n: int) -> np.ndarray:
    """A random vector, which has a share of about 1/√n in every direction."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(n) + 1j * rng.standard_normal(n)


def held_poles_reference(
    T: np.ndarray, near: np.ndarray, levels: np.ndarray, start: np.ndarray, continuous: bool
) -> np.ndarray:
    """(..., n) which poles that are ``near`` the boundary no perturbation of the size ``levels``
    carries there: σ_min(z I − T) is larger at the boundary or half way to it."""
    held = np.zeros_like(near)
    for *index, i in np.argwhere(near):
        entry = tuple(index)
        poles, level = np.diagonal(T[entry]), float(levels[entry])
        shifted = np.asfortranarray(-T[entry], dtype=np.complex128)
        end = 1j * poles[i].imag if continuous else poles[i] / abs(poles[i])
        for z in (end, (end + poles[i]) / 2):
            np.fill_diagonal(shifted, z - poles)
            if _smallest_singular_value(shifted, start, level) > level:
                held[(*entry, i)] = True
                break
    return held


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
        if largest * level * _FAR_ABOVE < 1:
            break
    return 1 / largest


@dataclass(frozen=True, eq=False)
class SchurSystem:
    """Systems (T, 2^b B, 2^c C), one or a batch, in the states z of x = D U z, T = Uᴴ D⁻¹ A D U
    upper triangular, the largest entries of B and C having been about 1.

    A : D⁻¹ A D,   units : (..., n, 1), the diagonal of D
    asked : (..., n, 1), the units that suit the system best, or were given: ``units`` are others
        where rounding in those would carry poles across the boundary

    In continuous time the system is in a unit of time in which A has about size one, or that of a
    shorter horizon: A stands for A/4^time, B for B/2^time, C for C/2^time, which leave the Gramians
    as they are, and of one system of a batch (``forms[index]``) the horizon for that times 4^time.
    """

    T: np.ndarray
    B: np.ndarray
    C: np.ndarray
    A: np.ndarray
    U: np.ndarray
    units: np.ndarray
    asked: np.ndarray
    b: Any
    c: Any
    time: Any
    continuous: bool
    horizon: Any

    def __getitem__(self, index: tuple[int, ...]) -> SchurSystem:
        arrays = {name: getattr(self, name)[index] for name in _OF_EACH}
        horizon = in_time(self.horizon, int(self.time[index]))
        return replace(self, **arrays, horizon=horizon)

    def __setitem__(self, index: tuple[int, ...], one: SchurSystem) -> None:
        for name in _OF_EACH:
            getattr(self, name)[index] = getattr(one, name)

    def entries(self) -> Iterator[tuple[tuple[int, ...], SchurSystem]]:
        """Each system of a batch, in turn."""
        for index in np.ndindex(self.T.shape[:-2]):
            yield index, self[index]


#: The arrays of systems in Schur form.
_OF_EACH = ("T", "B", "C", "A", "U", "units", "asked", "b", "c", "time")


def schur_systems(
    sys: LTI,
    horizon: float | None = None,
    *,
    what: str,
    reached: bool = True,
    observed: bool = True,
    units: np.ndarray | None = None,
    time: np.ndarray | None = None,
) -> SchurSystem:
    """A dense batch on NumPy in Schur form in the best units of its states; with a horizon in the
    real form for powers of A, with 2 × 2 blocks, and stable or not.

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
        slowest = 0.0 if horizon is None else np.ldexp(1 / horizon, -2 * np.asarray(time, int))
        d = state_units(timed.A, *given, sys.is_continuous, slowest)[..., None]
    asked, A = d, rescaled(timed.A, np.swapaxes(d, -1, -2), d)
    T, U = schur_form(A) if horizon is None else schur_form_for_powers(A)
    if horizon is None:
        unsure = ~counted_stable(T, sys.is_continuous).all(axis=-1)
        if unsure.any():
            # Names the mode by its place in the whole batch.
            require_stable(sys, what=what)
            d = d.copy()
            for index in map(tuple, np.argwhere(unsure)):
                _leave_signals_out(timed.A[index], d[index], A[index], T[index], U[index], sys)
    # What is not asked for may overflow in units that suit the other.
    B = timed.B / d if reached else 0 * timed.B
    C = timed.C * np.swapaxes(d, -1, -2) if observed else 0 * timed.C
    (B, b), (C, c) = _matrices_of_size_one(B), _matrices_of_size_one(C)
    k = np.asarray(time, dtype=int)
    signals = adjoint(U) @ B, C @ U
    return SchurSystem(T, *signals, A, U, d, asked, b, c, k, sys.is_continuous, horizon)


def _leave_signals_out(
    given: np.ndarray, d: np.ndarray, A: np.ndarray, T: np.ndarray, U: np.ndarray, sys: LTI
) -> None:
    """In place, the units d that A alone decides, and its Schur form in them, where those that B
    and C ask for make A so non-normal that rounding moves its poles to the boundary or beyond."""
    alone = state_units(given, continuous=sys.is_continuous)[:, None]
    A_alone = rescaled(given, alone.T, alone)
    T_alone, U_alone = schur_form(A_alone)
    here, there = (_gaps(np.diagonal(X), sys.is_continuous).min() for X in (T, T_alone))
    if here < _KEPT * there:
        d[:], A[:], T[:], U[:] = alone, A_alone, T_alone, U_alone


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


def _matrices_of_size_one(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(X', e) with X = 2^e X' for each matrix of a batch."""
    exponent = np.where(X.any(axis=(-2, -1)), size_exponent(X), 0).astype(int)
    return scaled(X, -exponent[..., None, None].astype(float)), exponent


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
            ". If A is that of a continuous-time system, say so by LTI(A, B, C, D, dt=0), or "
            "sample it: lticore.discretize(A, B, C, D, step)"
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
HORIZON_VALUES = "hankel_singular_values(…, horizon=…) exist for any system"
KEEP = '`unstable="keep"` keeps the unstable part of a system and reduces the rest'
KEEP_BALANCED = f"In balanced_truncation {KEEP}"
ERROR_OVER_HORIZON = (
    "Outputs have no mean under noise that lasts; h2_error(…, horizon=…) compares any two systems"
)
GAINS = "frequency_response has the gains of any system at given frequencies"
