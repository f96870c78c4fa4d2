"""Zeros of transfer functions."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint, eigenvalues
from ..errors import NonFiniteError
from ..systems.lti import LTI
from ..systems.modes import is_real, mode_poles, signals_in_modes
from ..systems.signals import in_best_units, in_even_states, scaled, unit_signals
from ..systems.structure import is_structured
from .stability import in_unit_time

#: Markov parameters below this many roundings of their terms are zero.
_ROUNDINGS = 64
#: Points that are nearer to a pole than this share of the furthest tell no gain.
_APART = 1 / 8


def poles_zeros_gain(sys: LTI) -> tuple[np.ndarray, np.ndarray, complex]:
    """(zeros, poles, k) with H(s) = k Π(s − z_i)/Π(s − p_j), for one system of one input and one
    output on NumPy in float64.

    Zeros are the finite eigenvalues of Rosenbrock's pencil [[A − s I, B], [C, D]] by QZ, in the
    best units of states and signals: those of a system whose matrices differ in the last digits.
    As many count as infinite as Markov parameters D, C B, C A B, … vanish, and one. The gain is
    that of H at a point of the positive real axis.

    Source: Emami-Naeini & Van Dooren, Automatica 18 (1982), for the pencil.
    """
    timed, time = in_unit_time(sys)
    even, b, c = unit_signals(in_even_states(timed)[0])
    A, B, C = plain_matrices(even)
    structured = is_structured(even.A)
    poles = np.asarray(mode_poles(even.A) if structured else eigenvalues(A), complex)
    n, D = len(A), 0.0 if sys.D is None else complex(sys.D[0, 0])
    rate = 4.0 ** float(np.asarray(time))
    if not (B.any() and C.any()):
        # Nothing but D: its zeros are where it has poles.
        return poles * rate if D else np.zeros(0, complex), poles * rate, D
    unit = np.asarray(b + c)
    D = complex(scaled(np.asarray(D), -unit))
    excess = _relative_degree(A, B, C, D)
    if excess > n:
        return np.zeros(0, complex), poles * rate, 0.0
    zeros = _finite_zeros(A, B, C, D, excess)
    if excess and len(zeros) < n - excess:
        zeros = _finite_zeros(*_without_integrations(A, B, C, D, excess))
    if is_real(sys.A) and not np.iscomplexobj(sys.B):
        zeros, poles = conjugate_pairs(zeros), conjugate_pairs(poles)
    point, value = _best_point(A, B, C, D, poles)
    # In logarithms: of many zeros at infinity the powers of the rate may be too large for numbers.
    exponent = _log_product(point - poles) - _log_product(point - zeros)
    with np.errstate(over="ignore", invalid="ignore"):
        gain = value * np.exp(exponent + (n - len(zeros)) * math.log(rate))
        gain = scaled(np.asarray(gain), unit)
    if not np.isfinite(gain):
        raise NonFiniteError(
            f"the gain of {excess} zeros at infinity overflows: scale B or C down, or take another "
            "unit of time"
        )
    return zeros * rate, poles * rate, complex(gain)


def _without_integrations(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, excess: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, complex]:
    """A system with these finite zeros, whose D does not vanish, of ``excess`` states fewer.

    Where D = 0, y = 0 holds the last of the states with C = (0, …, 0, γ) at zero, and 0 = A_n x +
    B_n u is the output of the others with the input that does so. Zeros at infinity are one
    defective eigenvalue of the pencil, and rounding may take finite ones for these. (Elsewhere the
    pencil is better: its entries keep the sizes that Q mixes.)
    """
    for _ in range(excess):
        Q = np.linalg.qr(adjoint(C), mode="complete").Q[:, ::-1]
        A, B = adjoint(Q) @ A @ Q, adjoint(Q) @ B
        A, B, C, D = A[:-1, :-1], B[:-1], A[-1:, :-1], complex(B[-1, 0])
    return A, B, C, D


def _finite_zeros(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, excess: int = 0
) -> np.ndarray:
    """The n − ``excess`` zeros by QZ, and fewer where rounding takes some for infinite."""
    n = len(A)
    pencil = np.block([[A, B], [C, np.array([[D]])]])
    alpha, beta = scipy.linalg.eigvals(
        pencil, np.diag(np.append(np.ones(n), 0.0)), homogeneous_eigvals=True
    )
    finite = np.argsort(np.abs(beta) / np.maximum(np.abs(alpha), np.abs(beta)))[1 + excess :]
    finite = finite[beta[finite] != 0]
    return alpha[finite] / beta[finite]


def conjugate_pairs(x: np.ndarray) -> np.ndarray:
    """Numbers that are conjugate to each other but for rounding, exactly so."""
    left, found = list(x), []
    while left:
        one = left.pop()
        other = min(left, key=lambda y: abs(y - one.conjugate()), default=None)
        alone = abs(2 * one.imag)
        if other is None or abs(other - one.conjugate()) >= alone:
            found.append(complex(one.real))
            continue
        left.remove(other)
        mean = (one + other.conjugate()) / 2
        found += [mean, mean.conjugate()]
    return np.array(found, dtype=complex)


def plain_matrices(sys: LTI) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, B, C) as arrays, in the best units of the states or in the modes."""
    if is_structured(sys.A):
        B, C = signals_in_modes(sys.A, sys.B, sys.C)
        return np.diag(np.asarray(mode_poles(sys.A))), B, C
    best, _ = in_best_units(sys)
    return best.A, best.B, best.C


def _relative_degree(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex) -> int:
    """How many of D, C B, C A B, … vanish before the first that does not; n + 1 for all."""
    if D != 0:
        return 0
    X, size = B, np.abs(B)
    for k in range(1, len(A) + 1):
        if abs((C @ X).item()) > _ROUNDINGS * EPSILON * k * (np.abs(C) @ size).item():
            return k
        X, size = A @ X, np.abs(A) @ size
    return len(A) + 1


def _best_point(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, poles: np.ndarray
) -> tuple[float, complex]:
    """(s_0, H(s_0)) on the positive real axis, where H is large and no pole near."""
    sizes = np.abs(poles[poles != 0])
    middle = math.exp(np.log(sizes).mean()) if len(sizes) else 1.0
    points = middle * 2.0 ** np.array([0.0, 1.5, -1.5, 3.0, -3.0]) * (1 + 1 / 7)
    apart = np.minimum(np.abs(1 - poles / points[:, None]).min(axis=1), 1)
    points = points[apart >= _APART * apart.max()]
    pencils = points[:, None, None] * np.eye(len(A)) - A
    values = D + (C @ np.linalg.solve(pencils, B.astype(complex)))[:, 0, 0]
    best = int(np.argmax(np.where(np.isfinite(values), np.abs(values), 0)))
    return float(points[best]), complex(values[best])


def _log_product(x: np.ndarray) -> complex:
    return complex(np.sum(np.log(x.astype(complex))))
