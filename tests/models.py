"""Benchmark models of model reduction, in continuous time: from files, and by formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import mpmath
import numpy as np
import scipy.io
import scipy.linalg
import scipy.signal
import scipy.sparse

FOLDER = Path(__file__).parents[2] / "shared" / "benchmarks" / "slicot"
PENZL_FREQUENCIES = (100.0, 200.0, 400.0)


@dataclass(frozen=True, eq=False)
class Model:
    """ẋ = A x + B u, y = C x with real matrices, and the eigenvalues of A."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    poles: np.ndarray

    @property
    def step(self) -> float:
        """The Δ for which bilinear sampling puts the slowest pole as far from z = 1 as the fastest
        from z = −1."""
        size = np.abs(self.poles)
        return 2 / math.sqrt(size.min() * size.max())

    @property
    def stiffness(self) -> float:
        """max |λ|/min |Re λ|: a matrix holds its poles to eps max |λ|, and so their distance from
        the axis to a share of eps times this."""
        return float(np.abs(self.poles).max() / np.abs(self.poles.real).min())


#: An electric power system with two areas, SLICOT's example of ab09ad, ab09nd, ab13ad and ab13bd.
POWER = (
    np.array(
        [
            [-0.04165, 0, 4.92, -4.92, 0, 0, 0],
            [-5.21, -12.5, 0, 0, 0, 0, 0],
            [0, 3.33, -3.33, 0, 0, 0, 0],
            [0.545, 0, 0, 0, -0.545, 0, 0],
            [0, 0, 0, 4.92, -0.04165, 0, 4.92],
            [0, 0, 0, 0, -5.21, -12.5, 0],
            [0, 0, 0, 0, 0, 3.33, -3.33],
        ]
    ),
    np.array([[0, 0], [12.5, 0], [0, 0], [0, 0], [0, 0], [0, 12.5], [0, 0]]),
    np.array([[1.0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0]]),
)


# --- files ------------------------------------------------------------------------------------


def slicot_file(name: str) -> Path:
    return FOLDER / f"{name}.mat"


def slicot_data(name: str) -> dict[str, np.ndarray]:
    """A, B, C; the values ``hsv``; the response ``mag`` at the frequencies ``w``.

    Source: Chahlaoui & Van Dooren, A collection of benchmark examples for model reduction, SLICOT
    Working Note 2002-2.
    """
    data = scipy.io.loadmat(slicot_file(name))
    arrays = {key: x for key, x in data.items() if not key.startswith("__")}
    return {key: x.toarray() if scipy.sparse.issparse(x) else x for key, x in arrays.items()}


def slicot_model(name: str) -> Model:
    data = slicot_data(name)
    A, B, C = (data[key].astype(np.float64) for key in "ABC")
    return Model(A, B, C, np.linalg.eigvals(A))


# --- formulas ---------------------------------------------------------------------------------


def heat_rod(n: int) -> tuple[Model, Model]:
    """A rod with cold ends, heated at one third and measured at two thirds of its length, in the
    n inner points of a grid and in its modes: second differences have sines as eigenvectors."""
    h = 1 / (n + 1)
    A = (np.eye(n, k=1) + np.eye(n, k=-1) - 2 * np.eye(n)) / h**2
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[n // 3], C[0, 2 * n // 3] = 1 / h, 1
    k = np.arange(1, n + 1)
    poles = -4 / h**2 * np.sin(k * np.pi * h / 2) ** 2
    sines = np.sqrt(2 * h) * np.sin(np.outer(k, k) * np.pi * h)
    return Model(A, B, C, poles), Model(np.diag(poles), sines @ B, C @ sines, poles)


def penzl(n: int) -> Model:
    """FOM: three weakly damped pairs and the real poles −1 … −n; n = 1000 is the benchmark.

    Source: Penzl, Linear Algebra Appl. 415 (2006).
    """
    pairs = [np.array([[-1.0, w], [-w, -1.0]]) for w in PENZL_FREQUENCIES]
    decay = -np.arange(1.0, n + 1)
    B = np.concatenate([np.full(6, 10.0), np.ones(n)])[:, None]
    poles = penzl_modes(n)[0]
    return Model(scipy.linalg.block_diag(*pairs, np.diag(decay)), B, B.T, poles)


def penzl_modes(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(λ, b, c) of the same system: a pair is x_1 + i x_2 with λ = −1 − iω, and its conjugate."""
    pole, one = -1 - 1j * np.array(PENZL_FREQUENCIES), np.ones(3)
    poles = np.concatenate([pole, pole.conj(), -np.arange(1.0, n + 1)])
    b = np.concatenate([(10 + 10j) * one, (10 - 10j) * one, np.ones(n)])
    c = np.concatenate([(5 - 5j) * one, (5 + 5j) * one, np.ones(n)])
    return poles, b[:, None], c[None]


def butterworth_ladder(n: int) -> Model:
    """The low-pass of order n, |H|² = 1/(1 + ω^{2n}), as a chain of coils and capacitors between
    two unit resistors: skew but for the two ends, where the energy leaves."""
    g = 2 * np.sin((2 * np.arange(n) + 1) * np.pi / (2 * n))
    coupling = 1 / np.sqrt(g[:-1] * g[1:])
    A = np.diag(coupling, -1) - np.diag(coupling, 1)
    A[0, 0], A[-1, -1] = -1 / g[0], -1 / g[-1]
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[0], C[0, -1] = 1 / np.sqrt(g[0]), 2 / np.sqrt(g[-1])
    return Model(A, B, C, np.linalg.eigvals(A))


def butterworth_sections(n: int, cutoff: float) -> tuple[np.ndarray, ...]:
    """(A, B, C, D) of the digital low-pass as a cascade of n/2 sections g (z + 1)²/|z − λ|².

    A section is x⁺ = λ x + b u, y = Re(c x) + g u in the real states Re x, Im x, with c b twice the
    residue. The cut-off counts in units of half the sampling rate.
    """
    _, poles, _ = scipy.signal.butter(n, cutoff, output="zpk")
    A, B, C, D = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), np.eye(1)
    for pole in poles[poles.imag > 0]:
        gain = abs(1 - pole) ** 2 / 4
        residue = gain * (pole + 1) ** 2 / (2j * pole.imag)
        b = math.sqrt(2 * abs(residue))
        c = 2 * residue / b
        turn = np.array([[pole.real, -pole.imag], [pole.imag, pole.real]])
        enters = np.array([[b], [0.0]])
        A = np.block([[A, np.zeros((len(A), 2))], [enters @ C, turn]])
        B = np.vstack([B, enters @ D])
        C, D = np.hstack([gain * C, [[c.real, -c.imag]]]), gain * D
    return A, B, C, D


def pade_coefficients(n: int) -> list[int]:
    """c_k of p(s) = Σ c_k s^k with e^{−s} ≈ p(−s)/p(s): positive, up to (2n)!/n!."""
    return [
        math.factorial(2 * n - k) // (math.factorial(k) * math.factorial(n - k))
        for k in range(n + 1)
    ]


def pade_delay(n: int) -> tuple[Model, np.ndarray]:
    """The all-pass p(−s)/p(s) in companion form, and its feedthrough (−1)^n."""
    p = np.array(pade_coefficients(n)[::-1], dtype=np.float64)
    mirrored = p * (-1.0) ** np.arange(n, -1, -1)
    A, B = np.eye(n, k=-1), np.eye(n)[:, :1]
    A[0] = -p[1:] / p[0]
    D = mirrored[:1] / p[0]
    return Model(A, B, (mirrored - D * p)[None, 1:] / p[0], np.roots(p)), D[None]


def pade_modes(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(λ, b, c) of the same system; the residues p(−λ)/p′(λ) alternate and grow with n."""
    with mpmath.workdps(50):
        p = [mpmath.mpf(c) for c in pade_coefficients(n)[::-1]]
        poles = mpmath.polyroots(p, maxsteps=500, extraprec=200)
        residues = [mpmath.polyval(p, -z) / mpmath.polyval(p, z, derivative=1)[1] for z in poles]
        poles, residues = (np.array([complex(z) for z in x]) for x in (poles, residues))
    b = np.sqrt(np.abs(residues))
    return poles, b[:, None], (residues / b)[None]
