"""Where a reduced system may have its poles, and the kernel of the h2 norm there: what discrete and
continuous time differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...equations.lyapunov import lyapunov_factors, lyapunov_slopes
from ...equations.modal import series_factors, series_slopes
from ...equations.shifted import solve_shifted
from ...systems.oscillation import Oscillation
from ...systems.rotation import Rotation
from ...systems.structure import Structure

#: No pole of a reduced system comes closer to the circle that it stays in; and no closer to the
#: axis, for its size.
LARGEST_RADIUS = 1 - 1e-12
#: ν of |λ| = e^{−e^ν} between 1 − 2e-12 and 2e-24, and of Re λ = −e^ν within the range of numbers.
_NU_IN_CIRCLE, _NU_IN_HALF_PLANE = (-27.0, 4.0), (-600.0, 600.0)


@dataclass(frozen=True)
class Circle:
    """Discrete time: poles in |λ| < radius, inner products of λ^k and μ^k, φ(w) with w = λ conj μ.

    radius : 1, or a little beyond the poles of a system that is unstable, over a horizon
    horizon : number of lags, None for all
    """

    radius: float = 1.0
    horizon: int | None = None

    def factors(self, A: Structure, B: Structure) -> np.ndarray:
        """φ(λ_i conj μ_j)"""
        return series_factors(A, B, self.horizon)

    def slopes(self, A: Structure, B: Structure) -> np.ndarray:
        """φ_T'(λ_i conj μ_j) over the horizon."""
        assert self.horizon is not None
        return series_slopes(A, B, self.horizon)

    def solve_triangular(self, T: np.ndarray, poles: np.ndarray, Q: np.ndarray) -> np.ndarray:
        """X with T X diag(poles) − X + Q = 0."""
        return solve_shifted(T, Q.astype(complex), np.ones_like(poles), poles)

    def curvatures(self, factors: np.ndarray) -> np.ndarray:
        """Inner products of kλ^{k−1} and kμ^{k−1} for all lags: (w φ')' = φ² (2φ − 1)."""
        return factors**2 * (2 * factors - 1)

    def turned(self, X: np.ndarray, AX: np.ndarray) -> np.ndarray:
        """Y with A dX diag(conj μ) − dX + Y diag(d conj μ) = 0 for the X of an equation: A X."""
        return AX

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(ρ² − λ conj μ)/ρ: |λ − μ| over its modulus is the pseudohyperbolic distance."""
        return self.radius - first * np.conj(second) / self.radius

    def duration(self, poles: np.ndarray) -> np.ndarray:
        """1/(1 − |λ|/ρ): how long the powers last, by which starts are drawn."""
        return 1 / (1 - np.minimum(np.abs(poles) / self.radius, LARGEST_RADIUS))

    def holds(self, poles: np.ndarray) -> bool:
        """Whether all poles are inside."""
        return bool(np.abs(poles).max(initial=0) < LARGEST_RADIUS * self.radius)

    def inside(self, poles: np.ndarray) -> np.ndarray:
        """Poles outside reflected at the circle, λ → ρ²/conj λ; those next to it moved inside a
        little."""
        poles = poles / self.radius
        modulus = np.abs(poles)
        poles = np.where(modulus > 1, 1 / np.where(modulus > 1, poles, 1).conj(), poles)
        return self.radius * poles * np.minimum(1, LARGEST_RADIUS / np.maximum(np.abs(poles), 0.5))

    def real_pole(self, like: complex, share: float) -> float:
        """A real pole that decays as ``like``, or faster."""
        return abs(like) * share

    def coordinates(self, poles: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ν, θ) of λ = ρ e^{−e^ν + iθ}."""
        modulus = np.clip(np.abs(poles / self.radius), 1e-12, LARGEST_RADIUS)
        return np.log(-np.log(modulus)), np.angle(poles)

    def from_coordinates(self, nu: np.ndarray, theta: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`coordinates`."""
        return self.radius * np.exp(-np.exp(np.clip(nu, *_NU_IN_CIRCLE)) + 1j * theta)

    def in_coordinates(
        self, g: np.ndarray, poles: np.ndarray, start: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gradient in (ν, θ): dλ = −e^ν λ dν + iλ dθ with e^ν = −log(|λ|/ρ)."""
        along = np.conj(g) * poles
        rate = np.log(np.maximum(np.abs(poles), 1e-300) / self.radius)
        return (along * rate).real, -along.imag

    def real_coordinates(self, poles: np.ndarray) -> np.ndarray:
        """s of λ = ρ tanh s."""
        return np.arctanh(np.clip(poles / self.radius, -LARGEST_RADIUS, LARGEST_RADIUS))

    def from_real_coordinates(self, s: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`real_coordinates`."""
        return self.radius * np.clip(np.tanh(s), -LARGEST_RADIUS, LARGEST_RADIUS)

    def real_slope(self, poles: np.ndarray) -> np.ndarray:
        """dλ/ds = (ρ² − λ²)/ρ."""
        return self.between(poles, poles).real

    def structure(self, pairs: np.ndarray, reals: np.ndarray) -> Rotation:
        """The blocks of conjugate pairs and real poles."""
        return Rotation(np.abs(pairs), -np.angle(pairs), reals)


@dataclass(frozen=True)
class HalfPlane:
    """Continuous time: poles in Re λ < edge, inner products of e^{λt} and e^{μt}, φ(w) with
    w = λ + conj μ: −1/w, or (e^{wT} − 1)/w over a horizon.

    edge : 0, or a little beyond the poles of a system that is unstable, over a horizon
    horizon : seconds, None for all time
    """

    edge: float = 0.0
    horizon: float | None = None

    def factors(self, A: Structure, B: Structure) -> np.ndarray:
        """φ(λ_i + conj μ_j)"""
        return lyapunov_factors(A, B, self.horizon)

    def slopes(self, A: Structure, B: Structure) -> np.ndarray:
        """φ_T'(λ_i + conj μ_j) over the horizon."""
        assert self.horizon is not None
        return lyapunov_slopes(A, B, self.horizon)

    def solve_triangular(self, T: np.ndarray, poles: np.ndarray, Q: np.ndarray) -> np.ndarray:
        """X with T X + X diag(poles) + Q = 0."""
        return solve_shifted(T, Q.astype(complex), -poles)

    def curvatures(self, factors: np.ndarray) -> np.ndarray:
        """Inner products of t e^{λt} and t e^{μt} over all time: φ'' = 2 φ³."""
        return 2 * factors**3

    def turned(self, X: np.ndarray, AX: np.ndarray) -> np.ndarray:
        """Y with A dX + dX diag(conj μ) + Y diag(d conj μ) = 0 for the X of an equation: X."""
        return X

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """2σ − λ − conj μ: |λ − μ| over its modulus is the pseudohyperbolic distance."""
        return 2 * self.edge - first - np.conj(second)

    def depth(self, poles: np.ndarray) -> np.ndarray:
        """σ − Re λ: how fast the exponentials decay."""
        return np.maximum(self.edge - poles.real, (1 - LARGEST_RADIUS) * np.abs(poles))

    def duration(self, poles: np.ndarray) -> np.ndarray:
        """1/√(σ − Re λ): the h2 norm of the exponentials, by which starts are drawn. How long they
        last would never let fast modes win against slow ones that lie decades away."""
        return 1 / np.sqrt(self.depth(poles))

    def holds(self, poles: np.ndarray) -> bool:
        """Whether all poles are inside."""
        return bool(np.all(self.edge - poles.real > (1 - LARGEST_RADIUS) * np.abs(poles)))

    def inside(self, poles: np.ndarray) -> np.ndarray:
        """Poles outside reflected at the edge, λ → 2σ − conj λ; those next to it moved inside a
        little."""
        size = np.abs(poles)
        size = np.where(size > 0, size, size.max(initial=0) or 1.0)
        least = (1 - LARGEST_RADIUS) * size
        return self.edge - np.maximum(np.abs(poles.real - self.edge), least) + 1j * poles.imag

    def real_pole(self, like: complex, share: float) -> float:
        """A real pole that decays as ``like``, or faster."""
        return self.edge - (self.edge - like.real) / share

    def coordinates(self, poles: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ν, θ) of λ = σ − e^ν + i (ω + e^{ν'} θ), ω and ν' those of ``start``: frequencies in
        units of the width that a mode has, slow and fast ones alike."""
        return np.log(self.depth(poles)), (poles.imag - start.imag) / self.depth(start)

    def from_coordinates(self, nu: np.ndarray, theta: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`coordinates`."""
        depth = np.exp(np.clip(nu, *_NU_IN_HALF_PLANE))
        return self.edge - depth + 1j * (start.imag + self.depth(start) * theta)

    def in_coordinates(
        self, g: np.ndarray, poles: np.ndarray, start: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gradient in (ν, θ): dλ = −e^ν dν + i e^{ν'} dθ."""
        return -g.real * self.depth(poles), g.imag * self.depth(start)

    def real_coordinates(self, poles: np.ndarray) -> np.ndarray:
        """s of λ = σ − e^s."""
        return np.log(self.depth(poles))

    def from_real_coordinates(self, s: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`real_coordinates`."""
        return self.edge - np.exp(np.clip(s, *_NU_IN_HALF_PLANE))

    def real_slope(self, poles: np.ndarray) -> np.ndarray:
        """dλ/ds = λ − σ."""
        return poles.real - self.edge

    def structure(self, pairs: np.ndarray, reals: np.ndarray) -> Oscillation:
        """The blocks of conjugate pairs and real poles."""
        return Oscillation(-pairs.real, -pairs.imag, reals)


#: Where poles are stable, or grow no faster than is allowed.
Region: TypeAlias = Circle | HalfPlane


def width(region: Region, poles: np.ndarray) -> np.ndarray:
    """Lengths per unit of the hyperbolic metric of the region."""
    return region.between(poles, poles).real


def distances(region: Region, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pseudohyperbolic distances of the poles of one set, by row, from those of the other."""
    apart = np.abs(first[:, None] - second)
    return apart / np.maximum(np.abs(region.between(first[:, None], second)), 1e-300)


def distance(region: Region, first: np.ndarray, second: np.ndarray) -> float:
    """Largest pseudohyperbolic distance from a pole of one set to the nearest of the other."""
    pseudo = distances(region, first, second)
    return float(max(pseudo.min(axis=0).max(), pseudo.min(axis=1).max()))
