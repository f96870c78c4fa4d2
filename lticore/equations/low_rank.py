"""Gramian factors of sparse systems: the low-rank alternating direction implicit iteration (ADI).

Both times are one pencil. In continuous time F = A, E = I, W_0 = B; in discrete time F = A − I,
E = A + I, W_0 = √2 B, since (A − I) P (A + I)ᴴ + (A + I) P (A − I)ᴴ = 2 (A P Aᴴ − P). A step with a
shift p, Re p < 0, of

    F P Eᴴ + E P Fᴴ + W Wᴴ = 0,     V = (F + p E)⁻¹ W,     P = −2 Re p V Vᴴ + P',

leaves the same equation for P' with W' = W − 2 Re p E V = (F − conj p E) V: what is left out is a
Gramian itself, so P is approached from below, and W tells the residual. Of a real system two steps
with p and conj p are one real step (Benner, Kürschner & Saak, Numer. Algorithms 62, 2013): with
V = (F + p E)⁻¹ W, X = Re V + (Re p/Im p) Im V and g = −4 Re p,

    W' = W + g E X,     columns √g X and √g (1 + (Re p/Im p)²)^{½} Im V.

The observability Gramian takes the adjoint pencil, and so the same factorisations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON
from ..errors import SingularEquationError, UnstableSystemError
from ..matrices.sparse_factors import SparseSolver
from ..systems.lti import LTI
from ..systems.sparse import Sparse
from .shifts import ritz_values, sweep_of_shifts

#: Steps of Arnoldi's process with A, and with its inverse at the boundary.
_KRYLOV = 20
#: Sweeps over the shifts before giving up.
_SWEEPS = 30
#: A sweep that leaves more than this share asks for shifts from where the remainder lies …
_SLOW = 0.5
#: … this many times.
_RENEWALS = 6
#: A remainder as large as this beside what it began with is that of an unstable pole.
_GROWN = 1e6
_WHAT = "an infinite-horizon Gramian"


@dataclass(frozen=True, eq=False)
class LowRankFactors:
    """P ≈ R Rᴴ, Q ≈ S Sᴴ by ADI.

    R : (n, r),   S : (n, s); what was not asked for has no columns
    shifts : those that were used, in order
    rest : estimate of what all further sweeps would add to Sᴴ R, in the Frobenius norm
    """

    R: np.ndarray
    S: np.ndarray
    shifts: tuple[complex, ...]
    rest: float


def low_rank_factors(sys: LTI, rtol: float, which: str = "PQ") -> LowRankFactors:
    """Factors of the Gramians of a sparse system, until a sweep over the shifts adds less than
    ``rtol`` to the trace of each, and of both less than √rtol to Sᴴ R, which may be far smaller
    than they are: the later ones add less than that, as sweeps fall geometrically.

    Cost: some ten factorisations of A + p I, and for each sweep as many solutions with both
    Gramians' right-hand sides; O(n r (m + p)) more, and O(n r) memory.

    Raises
    ------
    UnstableSystemError
        Where the remainder does not shrink: at poles beyond the boundary, on it or next to it.
    """
    real = sys.A.is_real and not any(np.iscomplexobj(X) for X in (sys.B, sys.C))
    pencil = _SparsePencil(sys.A, sys.is_continuous, real)
    size = 1.0 if sys.is_continuous else math.sqrt(2)
    roots = {"P": sys.B, "Q": np.conj(sys.C).T}
    sides = {name: _Side(size * roots[name], pencil, name == "Q") for name in which}
    used = _iterate(sys, pencil, list(sides.values()), rtol)
    none = np.zeros((sys.order, 0), dtype=pencil.dtype)
    R, S = (sides[name].factor if name in sides else none for name in "PQ")
    rest = _rest(R, S, *sides.values()) if which == "PQ" else 0.0
    return LowRankFactors(R, S, tuple(used), rest)


def _iterate(sys: LTI, pencil: _SparsePencil, sides: list[_Side], rtol: float) -> list[complex]:
    """Sweeps until both sides are done; the shifts that were used."""
    used: list[complex] = []
    if not any(side.W.any() for side in sides):
        return used
    ritz = pencil.ritz_values(np.sum([side.start for side in sides], axis=0))
    shifts, renewals = _shifts(sys, ritz, pencil.real), 0
    for _ in range(_SWEEPS):
        before = max(side.remainder for side in sides)
        for side in sides:
            side.latest = []
        for p in shifts:
            for side in sides:
                side.step(p)
        used += shifts
        for side in sides:
            side.end_of_sweep()
        after = max(side.remainder for side in sides)
        if after == 0 or (all(side.added <= rtol for side in sides) and _met(sides, rtol)):
            return used
        if after > _SLOW * before:
            if renewals == _RENEWALS or after > _GROWN:
                break
            renewals += 1
            ritz = np.concatenate([ritz, pencil.ritz_values_in(sides)])
            shifts = _shifts(sys, ritz, pencil.real)
            pencil.solvers.clear()
    raise _unstable(sys, ritz)


def _met(sides: list[_Side], rtol: float) -> bool:
    """Whether of both factors what is to come is nothing beside Sᴴ R, or its rounding."""
    if len(sides) < 2:
        return True
    R, S = (side.factor for side in sides)
    known = math.sqrt(rtol) * float(np.linalg.norm(S.conj().T @ R))
    rounding = EPSILON * float(np.linalg.norm(R) * np.linalg.norm(S))
    return _rest(R, S, *sides) <= max(known, rounding)


def _shifts(sys: LTI, ritz: np.ndarray, real: bool) -> list[complex]:
    if not np.any(ritz.real < 0):
        raise _unstable(sys, ritz)
    return sweep_of_shifts(ritz, real)


def following_factor(small: LTI, shifts: Sequence[complex]) -> tuple[np.ndarray, np.ndarray]:
    """(R̂, B') of a small dense system after these shifts: P̂ − R̂ R̂ᴴ is the Gramian of (Â, B').

    Beside the R of a sparse system R̂ is the factor of both side by side, so the squared h2 norm of
    their difference is ‖C R − Ĉ R̂‖² and what B' adds, with nothing squared before.
    """
    real = not any(np.iscomplexobj(X) for X in (small.A, small.B, small.C))
    size = 1.0 if small.is_continuous else math.sqrt(2)
    side = _Side(size * small.B, _DensePencil(small.A, small.is_continuous, real), False)
    for p in shifts:
        side.step(p)
    return _joined_columns([side.W[:, :0], *side.latest]), side.W / size


def _rest(R: np.ndarray, S: np.ndarray, *sides: _Side) -> float:
    """From what the last sweep has added, as later ones fall at least as fast as it."""
    r, s = (side.before for side in sides)
    by_R, by_S = S.conj().T @ R[:, r:], S[:, s:].conj().T @ R[:, :r]
    last = math.hypot(np.linalg.norm(by_R), np.linalg.norm(by_S))
    rate = min(max(side.rate for side in sides), 0.5)
    return last * rate / (1 - rate)


@dataclass(eq=False)
class _Side:
    """One of both equations: W, the columns so far, and of the last sweep how many there were
    ``before`` it, which share of the trace it ``added``, and the ``rate`` of the columns' size to
    that of the sweep before."""

    W: np.ndarray
    pencil: _Pencil
    adjoint: bool
    columns: list[np.ndarray] = field(default_factory=list)
    total: float = 0.0
    added: float = 1.0
    rate: float = 1.0
    before: int = 0
    latest: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = float(np.linalg.norm(self.W)) or 1.0

    @property
    def start(self) -> np.ndarray:
        """A vector in which all modes have a part, those of W a large one."""
        noise = np.random.default_rng(0).standard_normal(len(self.W))
        return self.W.sum(axis=1) / self.first + noise / math.sqrt(len(noise))

    @property
    def remainder(self) -> float:
        return float(np.linalg.norm(self.W)) / self.first

    @property
    def factor(self) -> np.ndarray:
        return _joined_columns([self.W[:, :0], *self.columns])

    def step(self, p: complex) -> None:
        real = self.pencil.real
        solve = self.pencil.solver(p)
        trans: Literal["N", "T", "H"] = "N" if not self.adjoint else "T" if real else "H"
        if not real or p.imag == 0:
            V = solve(self.W, trans)
            self.W = self.W - 2 * p.real * self.pencil.mass(V, self.adjoint)
            self.latest.append(math.sqrt(-2 * p.real) * V)
            return
        V = solve(self.W.astype(np.complex128), trans)
        slope, g = p.real / p.imag, -4 * p.real
        X = V.real + slope * V.imag
        self.W = self.W + g * self.pencil.mass(X, self.adjoint)
        self.latest += [math.sqrt(g) * X, math.sqrt(g * (1 + slope**2)) * V.imag]

    def end_of_sweep(self) -> None:
        sweep = sum(float(np.linalg.norm(X)) ** 2 for X in self.latest)
        self.before = sum(X.shape[1] for X in self.columns)
        self.columns += self.latest
        previous = self.added * self.total
        self.total += sweep
        self.added = sweep / self.total if self.total > 0 else 0.0
        self.rate = math.sqrt(sweep / previous) if previous > 0 else 1.0


def _joined_columns(columns: list[np.ndarray]) -> np.ndarray:
    """np.hstack in the order of memory in which columns lie together."""
    width = sum(X.shape[1] for X in columns)
    dtype = np.result_type(*columns)
    out, at = np.empty((len(columns[0]), width), dtype=dtype, order="F"), 0
    for X in columns:
        out[:, at : at + X.shape[1]] = X
        at += X.shape[1]
    return out


class _Pencil(Protocol):
    """F + p E; real where all of the system is."""

    real: bool

    def solver(self, p: complex) -> SparseSolver: ...
    def mass(self, V: np.ndarray, adjoint: bool) -> np.ndarray:
        """E V, or Eᴴ V."""
        ...


class _SparsePencil:
    """That of a sparse A, with the factorisations that are made."""

    def __init__(self, A: Sparse, continuous: bool, real: bool) -> None:
        self.A, self.continuous, self.real = A, continuous, real
        self.dtype = np.dtype(np.float64 if real else np.complex128)
        self.solvers: dict[complex, SparseSolver] = {}

    def at(self, a: complex, b: complex) -> SparseSolver:
        """The solver of a A + b I."""
        if self.real and a.imag == 0 == b.imag:
            a, b = a.real, b.real
        return self.A.solver(a, b)

    def solver(self, p: complex) -> SparseSolver:
        if p not in self.solvers:
            self.solvers[p] = self.at(*_of_pencil(p, self.continuous))
        return self.solvers[p]

    def mass(self, V: np.ndarray, adjoint: bool) -> np.ndarray:
        if self.continuous:
            return V
        return V + (self.A.multiply_adjoint(V) if adjoint else self.A.multiply(V))

    def ritz_values(self, start: np.ndarray) -> np.ndarray:
        """Estimates of poles of the pencil: of A, far from the boundary's point at rest, and by
        its inverse there, next to it."""
        rest = 0.0 if self.continuous else 1.0
        try:
            solve = self.at(1.0 + 0j, -rest + 0j)
        except SingularEquationError:
            raise UnstableSystemError(
                f"{_WHAT} needs all poles inside the region of stability, but {rest:g} is one"
            ) from None
        start = start.astype(self.dtype)
        inverse = ritz_values(lambda v: solve(v[:, None], "N")[:, 0], start, _KRYLOV)
        direct = ritz_values(lambda v: self.A.multiply(v[:, None])[:, 0], start, _KRYLOV)
        inverse = inverse[inverse != 0]
        return self.to_pencil(np.concatenate([direct, rest + 1 / inverse]))

    def ritz_values_in(self, sides: Sequence[_Side]) -> np.ndarray:
        """The same in the space of the last sweep, where the remainder lies."""
        basis = [
            scipy.linalg.qr(np.hstack(side.latest), mode="economic")[0]
            for side in sides
            if side.latest
        ]
        return self.to_pencil(
            np.concatenate([np.linalg.eigvals(U.conj().T @ self.A.multiply(U)) for U in basis])
        )

    def to_pencil(self, poles: np.ndarray) -> np.ndarray:
        poles = poles.astype(np.complex128)
        if self.continuous:
            return poles
        poles = poles[poles != -1]
        return (poles - 1) / (poles + 1)


class _DensePencil:
    """That of a small dense A."""

    def __init__(self, A: np.ndarray, continuous: bool, real: bool) -> None:
        self.A, self.continuous, self.real, self.one = A, continuous, real, np.eye(len(A))

    def solver(self, p: complex) -> SparseSolver:
        a, b = _of_pencil(p, self.continuous)
        if self.real and p.imag == 0:
            a, b = a.real, b.real
        return lambda W, trans: np.linalg.solve(a * self.A + b * self.one, W)

    def mass(self, V: np.ndarray, adjoint: bool) -> np.ndarray:
        return V if self.continuous else V + self.A @ V


def _of_pencil(p: complex, continuous: bool) -> tuple[complex, complex]:
    """F + p E = a A + b I."""
    return (complex(1), p) if continuous else (1 + p, p - 1)


def rank_revealing(X: np.ndarray, rtol: float, max_rank: int | None = None) -> np.ndarray:
    """F (n, r) with F Fᴴ = X Xᴴ but for ``rtol`` of its largest eigenvalue."""
    _, sigma, V = np.linalg.svd(np.linalg.qr(X, mode="r"))
    count = np.count_nonzero(sigma**2 > rtol * sigma[:1] ** 2) if sigma.size else 0
    return X @ V[: count if max_rank is None else min(count, max_rank)].conj().T


def _unstable(sys: LTI, ritz: np.ndarray) -> UnstableSystemError:
    where = "left of the imaginary axis" if sys.is_continuous else "inside the unit circle"
    worst = ritz[np.argmax(ritz.real)]
    if not sys.is_continuous:
        worst = (1 + worst) / (1 - worst)
    return UnstableSystemError(
        f"{_WHAT} needs all poles {where}, but the iteration for a sparse A does not converge, and "
        f"the pole estimate nearest to the boundary or farthest beyond is {complex(worst):.6g}"
    )
