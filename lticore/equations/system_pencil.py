"""Zeros of systems with several inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint
from ..matrices.balance import balance_dense
from ..systems.lti import LTI
from ..systems.modes import is_real
from ..systems.signals import in_even_states, scaled
from .stability import in_unit_time
from .zeros import conjugate_pairs, plain_matrices

#: Singular values of this many roundings of a matrix, times the size of the pencil, are none.
_ROUNDING = 16
#: Turns in which units of signals and of states suit each other.
_TURNS = 3


@dataclass(frozen=True)
class SystemPencil:
    """P(s) = [[A − s I, B], [C, D]], and which singular values of A, B, C and D are rounding."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    floors: tuple[float, float, float, float]

    @property
    def H(self) -> SystemPencil:
        """The pencil of conjugate zeros, whose rows are the columns of this one."""
        a, b, c, d = self.floors
        A, B, C, D = (adjoint(X) for X in (self.A, self.B, self.C, self.D))
        return SystemPencil(A, C, B, D, (a, c, b, d))


def zeros_of_pencil(sys: LTI) -> np.ndarray:
    """The finite s at which the rank of P(s) falls below the usual one, of one system on NumPy in
    float64.

    P is reduced to a pencil of fewer states with the same finite zeros and an invertible D, by rows
    and by columns: what is at infinity, and inputs that outnumber the outputs, are gone, and QZ
    finds the zeros of the rest.

    Source: Emami-Naeini & Van Dooren, Automatica 18 (1982).
    """
    timed, time = in_unit_time(sys)
    A, B, C, D = _in_even_units(timed)
    rounding = _ROUNDING * EPSILON * (sys.order + sys.inputs + sys.outputs)
    a, b, c, d = (rounding * float(np.linalg.norm(X)) for X in (A, B, C, D))
    rows = _without_dependent_rows(SystemPencil(A, B, C, D, (a, b, c, d)))
    while len(rows.C) < rows.B.shape[1]:
        # Once, but where the two ways decide otherwise about ranks.
        rows = _without_dependent_rows(_without_dependent_rows(rows.H).H)
    zeros = _of_invertible_feedthrough(rows) * 4.0 ** float(np.asarray(time))
    real = is_real(sys.A) and not np.iscomplexobj(sys.B)
    return conjugate_pairs(zeros) if real else zeros


def _in_even_units(sys: LTI) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(A, B, C, D) with states in their best units, and columns of [B; D] and rows of [C, D] of
    about size one: what inputs and outputs are counted in moves no zero."""
    A, B, C = plain_matrices(in_even_states(sys)[0])
    D = np.zeros((sys.outputs, sys.inputs)) if sys.D is None else sys.D
    for _ in range(_TURNS):
        inputs = -_exponents(np.vstack([B, D]), 0)
        B, D = scaled(B, inputs), scaled(D, inputs)
        outputs = -_exponents(np.hstack([C, D]), 1)
        C, D = scaled(C, outputs), scaled(D, outputs)
        A, B, C, _ = balance_dense(A, B, C, sys.is_continuous)
    return A, B, C, D


def _exponents(X: np.ndarray, axis: int) -> np.ndarray:
    """log2 of the largest entries, rounded; 0 of none."""
    largest = np.abs(X).max(axis=axis, keepdims=True, initial=0)
    return np.frexp(largest)[1].astype(float)


def _without_dependent_rows(pencil: SystemPencil) -> SystemPencil:
    """One of the same finite zeros, whose D has linearly independent rows.

    y = 0 holds the states x_2 at zero that outputs without feedthrough see. What drives these is
    the output of the others, 0 = A_21 x_1 + B_2 u, and outputs that see nothing go.
    """
    A, B, C, D = pencil.A, pencil.B, pencil.C, pencil.D
    a, b, c, d = pencil.floors
    while len(C):
        U, sigma, _ = np.linalg.svd(D)
        rank = int(np.sum(sigma > d))
        if rank == len(C):
            break
        C, D = adjoint(U) @ C, adjoint(U[:, :rank]) @ D
        _, sigma, Vh = np.linalg.svd(C[rank:])
        seen = int(np.sum(sigma > c))
        V, rest = np.roll(adjoint(Vh), -seen, axis=1), len(A) - seen
        A, B, C = adjoint(V) @ A @ V, adjoint(V) @ B, C[:rank] @ V
        C, D = np.vstack([C[:, :rest], A[rest:, :rest]]), np.vstack([D, B[rest:]])
        A, B = A[:rest, :rest], B[:rest]
        c, d = max(a, c), max(b, d)
    return SystemPencil(A, B, C, D, (a, b, c, d))


def _of_invertible_feedthrough(pencil: SystemPencil) -> np.ndarray:
    """The eigenvalues of A − B D⁻¹ C without D⁻¹: with [C, D] W = [0, D'] those of the pencil
    [A − s I, B] W_1 of the first n columns of a unitary W."""
    n = len(pencil.A)
    if n == 0:
        return np.zeros(0, complex)
    below = np.hstack([pencil.C, pencil.D])
    W = np.linalg.qr(adjoint(below), mode="complete").Q[:, len(below) :]
    alpha, beta = scipy.linalg.eigvals(
        np.hstack([pencil.A, pencil.B]) @ W, W[:n], homogeneous_eigvals=True
    )
    return alpha[beta != 0] / beta[beta != 0]
