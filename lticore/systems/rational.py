"""State spaces of transfer functions that are given by poles and zeros, or by polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.checks import check_array
from ..arrays.linalg import log2
from ..arrays.namespaces import is_numpy
from ..errors import ArgumentError, ArrayLibraryError, ShapeError

#: Relative distance of two numbers that are meant to be conjugate.
_CONJUGATE = 1e-8
#: Bits by which the units of the states of one polynomial may differ.
_BITS = 900


@dataclass(frozen=True)
class Section:
    """(s − z_1)(s − z_2)/((s − p_1)(s − p_2)), or less of it: one or two poles, no more zeros than
    poles."""

    poles: tuple[complex, ...]
    zeros: tuple[complex, ...] = ()


def of_poles_and_zeros(zeros: Any, poles: Any, gain: Any) -> tuple[np.ndarray, ...]:
    """(A, B, C, D) of gain Π(s − z)/Π(s − p) as a cascade of sections with one or two of each, in
    which the poles stand as they are given; real for conjugate pairs and a real gain.

    Raises
    ------
    ArgumentError
        For more zeros than poles.
    """
    zeros, poles = numbers("zeros", zeros), numbers("poles", poles)
    gain = check_array("gain", gain, ndim=0)[()]
    if np.ndim(gain):
        raise ShapeError(f"the gain is a number, but has shape {np.shape(gain)}")
    if len(zeros) > len(poles):
        raise ArgumentError(
            f"{len(zeros)} zeros and {len(poles)} poles: a transfer function with more zeros than "
            "poles is not proper and has no state space"
        )
    found = sections(zeros, poles)
    if found is None:
        own = [(complex(z),) for z in zeros] + [()] * (len(poles) - len(zeros))
        found = [Section((complex(p),), z) for p, z in zip(poles, own, strict=True)]
    return _cascade(found, gain)


def of_nested_poles_and_zeros(zeros: Any, poles: Any, gain: Any) -> tuple[np.ndarray, ...]:
    """The same of zeros[i][j], poles[i][j] and gain[i][j], or one gain, from input j to output i:
    with states of their own for each."""
    _check_rows("zeros and poles", zeros, poles)
    shape = len(zeros), len(zeros[0])
    gain = check_array("gain", gain, ndim=0)
    if gain.shape not in ((), shape):
        raise ShapeError(f"gains of {shape} zeros and poles have shape {gain.shape}")
    gain = np.broadcast_to(gain, shape)
    columns = [
        [of_poles_and_zeros(zeros[i][j], poles[i][j], gain[i, j]) for i in range(shape[0])]
        for j in range(shape[1])
    ]
    return _side_by_side([_stacked_outputs(column) for column in columns])


def _check_rows(names: str, first: Any, second: Any) -> None:
    shapes = [[len(row) for row in rows] for rows in (first, second)]
    if len(set(map(tuple, shapes))) > 1 or len(set(shapes[0])) != 1 or 0 in shapes[0]:
        raise ShapeError(
            f"{names} are rows of lists, one row for each output and one list for each input, but "
            f"have rows of {shapes[0]} and {shapes[1]}"
        )


def sections(zeros: np.ndarray, poles: np.ndarray) -> list[Section] | None:
    """Sections of one or two poles, each conjugate pair in one, with the zeros that are nearest;
    None where poles or zeros are not conjugate to each other."""
    of_poles, of_zeros = in_pairs(poles), in_pairs(zeros)
    if of_poles is None or of_zeros is None:
        return None
    (pairs, reals), (zero_pairs, real_zeros) = of_poles, of_zeros
    # Real poles two by two, neighbours together: pairs of zeros need room.
    reals = sorted(reals, key=abs, reverse=True)
    groups: list[tuple[complex, ...]] = [(p, p.conjugate()) for p in pairs]
    groups += [tuple(map(complex, reals[i : i + 2])) for i in range(0, len(reals), 2)]
    found = [Section(group) for group in groups]
    for zero in zero_pairs:
        room = [i for i, s in enumerate(found) if len(s.poles) == 2 and not s.zeros]
        i = _nearest(found, room, zero)
        found[i] = replace(found[i], zeros=(zero, zero.conjugate()))
    for zero in real_zeros:
        room = [i for i, s in enumerate(found) if len(s.zeros) < len(s.poles)]
        i = _nearest(found, room, zero)
        found[i] = replace(found[i], zeros=(*found[i].zeros, complex(zero)))
    return found


def _nearest(found: list[Section], room: list[int], zero: complex) -> int:
    """Of the sections that have room the one with the pole that is nearest to the zero."""
    return min(room, key=lambda i: min(abs(zero - p) for p in found[i].poles))


def in_pairs(numbers: np.ndarray) -> tuple[list[complex], list[float]] | None:
    """(those above the real axis, real ones) of numbers in conjugate pairs; None for others."""
    above = sorted((complex(x) for x in numbers if x.imag > 0), key=lambda x: (x.real, x.imag))
    below = sorted((complex(x) for x in numbers if x.imag < 0), key=lambda x: (x.real, -x.imag))
    if len(above) != len(below):
        return None
    free = list(below)
    for x in above:
        y = free[int(np.argmin(np.abs(np.conj(free) - x)))]
        if abs(y.conjugate() - x) > _CONJUGATE * abs(x):
            return None
        free.remove(y)
    return above, [float(x.real) for x in numbers if x.imag == 0]


def _cascade(found: Sequence[Section], gain: Any) -> tuple[np.ndarray, ...]:
    """The output of each section drives the next; the gain at the end."""
    real = all(_is_real(s) for s in found) and not np.iscomplexobj(gain)
    dtype = np.float64 if real else np.complex128
    n = sum(len(s.poles) for s in found)
    A, B = np.zeros((n, n), dtype), np.zeros((n, 1), dtype)
    C, D, start = np.zeros((1, n), dtype), np.ones((1, 1), dtype), 0
    for section in found:
        a, b, c, d = _state_space(section, real)
        end = start + len(a)
        A[start:end, start:end], A[start:end, :start] = a, b @ C[:, :start]
        B[start:end] = b @ D
        C[:, :start] *= d
        C[:, start:end] = c
        D, start = d * D, end
    return A, B, gain * C, gain * D


def _is_real(section: Section) -> bool:
    both = (x for x in (section.poles, section.zeros) if x)
    return all(abs(sum(x).imag) <= _CONJUGATE * max(map(abs, x)) for x in both)


def _state_space(section: Section, real: bool) -> list[np.ndarray]:
    """(a, b, c, d) of a section, each pole as it is."""
    # One pole: 1/(s − p) and (s − z)/(s − p) = 1 + (p − z)/(s − p).
    if len(section.poles) == 1:
        (p,) = section.poles
        c, d = (p - section.zeros[0], 1.0) if section.zeros else (1.0, 0.0)
        arrays: tuple[Any, ...] = [[p]], [[1.0]], [[c]], [[d]]
    else:
        arrays = _of_two_poles(section, real and section.poles[0].imag != 0)
    found = [np.asarray(x, dtype=complex) for x in arrays]
    return [x.real for x in found] if real else found


def _of_two_poles(section: Section, block: bool) -> tuple[Any, ...]:
    # With x_2 = u/(s − p_2), x_1 = x_2/(s − p_1): of the numerator the part that x_1 sees is its
    # value at p_1, and of two zeros (s − z_1)(s − z_2) − (s − p_1)(s − p_2) is
    # (p_1 + p_2 − z_1 − z_2)(s − p_1) + (p_1 − z_1)(p_1 − z_2).
    (p, q), zeros = section.poles, section.zeros
    if len(zeros) == 2:
        slope, d = p + q - sum(zeros), 1.0
        at = (p - zeros[0]) * (p - zeros[1])
    elif len(zeros) == 1:
        slope, d, at = 1.0, 0.0, p - zeros[0]
    else:
        slope, d, at = 0.0, 0.0, 1.0
    if not block:
        return [[p, 1.0], [0.0, q]], [[0.0], [1.0]], [[at, slope]], [[d]]
    # A pair σ ± iω as a block: x_1 = ω u/((s − σ)² + ω²), x_2 = (s − σ) u/(…), and of the numerator
    # slope · (s − σ) + rest, with the value slope · iω + rest at p.
    sigma, omega = p.real, p.imag
    rest = complex(at).real
    return [[sigma, omega], [-omega, sigma]], [[0.0], [1.0]], [[rest / omega, slope]], [[d]]


def of_polynomials(numerators: Any, denominators: Any) -> tuple[np.ndarray, ...]:
    """(A, B, C, D) of transfer functions as quotients of polynomials, coefficients from the highest
    power down: numerators[i][j] over denominators[i][j] from input j to output i.

    A is in companion form for each input whose outputs have one denominator, else for each of
    them; common roots are not taken out.

    Raises
    ------
    ArgumentError
        For quotients that are not proper, and denominators of zero.
    ShapeError
        For rows of different lengths.
    """
    _check_rows("numerators and denominators", numerators, denominators)
    columns = []
    for j in range(len(numerators[0])):
        column = [
            (_without_leading_zeros(n[j]), _without_leading_zeros(d[j]))
            for n, d in zip(numerators, denominators, strict=True)
        ]
        first = column[0][1]
        if all(np.array_equal(den, first) for _, den in column):
            columns.append(_companion([num for num, _ in column], first))
        else:
            parts = [_companion([num], den) for num, den in column]
            columns.append(_stacked_outputs(parts))
    return _side_by_side(columns)


def _without_leading_zeros(coefficients: Any) -> np.ndarray:
    x = numbers("the coefficients of a polynomial", coefficients)
    return x[np.argmax(x != 0) :] if x.any() else x[:0]


def numbers(name: str, x: Any) -> np.ndarray:
    """A list of numbers, or one number, as a NumPy array with one axis."""
    x = check_array(name, x, ndim=0)
    if not is_numpy(x):
        raise ArrayLibraryError(f"{name} are a list or a NumPy array")
    if x.ndim > 1:
        raise ShapeError(f"{name} are one list of numbers, but have shape {x.shape}")
    return np.atleast_1d(x)


def _companion(numerators: list[np.ndarray], den: np.ndarray) -> tuple[np.ndarray, ...]:
    """One input, several outputs over one denominator: x_i = θ^{i−1} s^{n−i} u/den.

    With a power of two θ of about the size of the poles all entries of A are of it: those of a_i
    alone may fall so far that no algorithm finds units for them.
    """
    if len(den) == 0:
        raise ArgumentError("a denominator is zero")
    n, p = len(den) - 1, len(numerators)
    if any(len(num) > n + 1 for num in numerators):
        raise ArgumentError(
            f"a numerator of degree {max(map(len, numerators)) - 1} over a denominator of degree "
            f"{n} is not proper"
        )
    dtype = np.result_type(np.float64, den, *numerators)
    b = np.zeros((p, n + 1), dtype)
    for row, num in zip(b, numerators, strict=True):
        row[n + 1 - len(num) :] = num
    a, b = den / den[0], b / den[0]
    exponent = _size_of_roots(a)
    units = np.ldexp(1.0, -exponent * np.arange(n))
    A = np.ldexp(1.0, exponent) * np.eye(n, k=-1, dtype=dtype)
    A[:1] = -a[1:] * units
    B = np.eye(n, 1, dtype=dtype)
    return A, B, (b[:, 1:] - b[:, :1] * a[1:]) * units, b[:, :1]


def _size_of_roots(a: np.ndarray) -> int:
    """log2 of max_i |a_i|^{1/i}, within a factor of 2n of the largest root of the polynomial a with
    a_0 = 1; closer to 0 where powers of it would leave the range of float64.

    Source: Fujiwara, Tôhoku Math. J. 10 (1916).
    """
    n = len(a) - 1
    there = np.flatnonzero(a[1:]) + 1
    if len(there) == 0:
        return 0
    size = float((log2(np.abs(a[there])) / there).max())
    return int(np.clip(np.rint(size), -_BITS // n, _BITS // n))


def _stacked_outputs(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """One input to several systems side by side, an output of each."""
    A, C = (scipy.linalg.block_diag(*(part[i] for part in parts)) for i in (0, 2))
    B, D = (np.vstack([part[i] for part in parts]) for i in (1, 3))
    return A, B, C, D


def _side_by_side(columns: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """An input of each of several systems, whose outputs are added."""
    A, B = (scipy.linalg.block_diag(*(part[i] for part in columns)) for i in (0, 1))
    C, D = (np.hstack([part[i] for part in columns]) for i in (2, 3))
    return A, B, C, D
