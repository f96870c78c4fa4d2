"""Hypothesis strategies that draw systems by their spectrum.

A draw names the structure, the kind of spectrum and the kind of coupling, so that the hard cases
(poles near the circle, repeated, clustered or zero poles, unreachable and unobservable states,
graded couplings) come up in every run. The numbers follow from one drawn seed.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import lticore as lti

STRUCTURES = (
    "real diagonal",
    "complex diagonal",
    "rotation",
    "rotation with real poles",
    "dense",
    "complex dense",
    "non-normal",
)
REAL_STRUCTURES = tuple(name for name in STRUCTURES if "complex" not in name)
SPECTRA = ("plain", "marginal", "repeated", "clustered", "zero", "negative")
#: Spectra whose Gramians are well conditioned enough to compare two algorithms digit by digit.
MILD_SPECTRA = ("plain", "zero", "negative")
COUPLINGS = ("full", "non-minimal", "graded")
BATCHES = ((), (3,), (2, 3))


def draw_radii(rng, spectrum, shape, dtype="float64"):
    """Moduli below 1; float32 cannot hold those closest to it."""
    if spectrum == "marginal":
        return 1 - 10.0 ** -rng.uniform(1, 9 if dtype == "float64" else 5, shape)
    if spectrum == "repeated":
        return np.full(shape, rng.uniform(0.3, 0.9))
    if spectrum == "clustered":
        return rng.uniform(0.3, 0.9) + 1e-6 * rng.uniform(size=shape)
    radii = rng.uniform(0.2, 0.95, shape)
    if spectrum == "zero":
        radii[..., ::2] = 0
    return radii


def draw_phases(rng, spectrum, shape):
    if spectrum == "negative":
        return np.full(shape, np.pi)
    if spectrum == "repeated":
        return np.full(shape, rng.uniform(0.1, 3))
    if spectrum == "clustered":
        return rng.uniform(0.1, 3) + 1e-6 * rng.uniform(size=shape)
    return rng.uniform(-np.pi, np.pi, shape)


def draw_real_poles(rng, spectrum, shape, dtype="float64"):
    poles = draw_radii(rng, spectrum, shape, dtype)
    if spectrum == "negative":
        return -poles
    # One sign for repeated poles keeps them repeated.
    return poles if spectrum == "repeated" else poles * rng.choice([-1, 1], shape)


def random_unitary(rng, batch, n, complex_=False):
    X = rng.standard_normal((*batch, n, n))
    if complex_:
        X = X + 1j * rng.standard_normal(X.shape)
    return np.linalg.qr(X)[0]


def build_state_matrix(rng, structure, spectrum="plain", batch=(), n=5, dtype="float64"):
    """A state matrix of about n states (rotations without real poles take an even number)."""
    cast = _caster(dtype)
    if structure == "real diagonal":
        return lti.Diagonal(cast(draw_real_poles(rng, spectrum, (*batch, n), dtype)))
    if structure == "complex diagonal":
        radii = draw_radii(rng, spectrum, (*batch, n), dtype)
        phases = draw_phases(rng, spectrum, (*batch, n))
        return lti.Diagonal(cast(radii * np.exp(1j * phases)))
    if structure.startswith("rotation"):
        q = max(1, n // 2)
        k = max(1, n - 2 * q) if "real poles" in structure else 0
        radius = draw_radii(rng, spectrum, (*batch, q), dtype)
        angle = draw_phases(rng, spectrum, (*batch, q))
        real_poles = draw_real_poles(rng, spectrum, (*batch, k), dtype)
        return lti.Rotation(cast(radius), cast(angle), cast(real_poles))
    if structure == "dense":
        A = build_state_matrix(rng, "rotation with real poles", spectrum, batch, n, dtype)
        U = random_unitary(rng, batch, A.order)
        return cast(U @ A.to_dense() @ U.swapaxes(-1, -2))
    if structure == "complex dense":
        A = build_state_matrix(rng, "complex diagonal", spectrum, batch, n, dtype)
        U = random_unitary(rng, batch, n, complex_=True)
        return cast(U @ A.to_dense() @ U.conj().swapaxes(-1, -2))
    if structure == "non-normal":
        # Rounding moves the poles of a non-normal matrix far, so they stay off the circle.
        poles = 0.8 * draw_real_poles(rng, spectrum, (*batch, n), dtype)
        T = np.triu(rng.standard_normal((*batch, n, n)), 1) / 2
        U = random_unitary(rng, batch, n)
        return cast(U @ (T + poles[..., None] * np.eye(n)) @ U.swapaxes(-1, -2))
    raise ValueError(structure)


def build_system(
    rng,
    structure,
    spectrum="plain",
    coupling="full",
    batch=(),
    n=5,
    m=2,
    p=2,
    dtype="float64",
    feedthrough=False,
):
    """A stable system from one random generator."""
    A = build_state_matrix(rng, structure, spectrum, batch, n, dtype)
    n = A.shape[-1] if isinstance(A, np.ndarray) else A.order
    shapes = [(*batch, n, m), (*batch, p, n), (*batch, p, m)]
    B, C, D = (rng.standard_normal(shape) for shape in shapes)
    if "complex" in structure:
        B, C, D = (X + 1j * rng.standard_normal(X.shape) for X in (B, C, D))
    if coupling == "non-minimal":
        B[..., ::3, :] = 0
        C[..., :, 1::3] = 0
    if coupling == "graded":
        grades = np.geomspace(1, 1e-10, n)
        B, C = B * grades[:, None], C * rng.permutation(grades)
    cast = _caster(dtype)
    return lti.LTI(A, cast(B), cast(C), cast(D) if feedthrough else None)


def seeds():
    return st.integers(0, 2**32 - 1)


@st.composite
def state_matrices(
    draw, structures=STRUCTURES, spectra=SPECTRA, batches=BATCHES, dtypes=("float64",), max_order=7
):
    rng = np.random.default_rng(draw(seeds()))
    return build_state_matrix(
        rng,
        draw(st.sampled_from(structures)),
        draw(st.sampled_from(spectra)),
        draw(st.sampled_from(batches)),
        draw(st.integers(1, max_order)),
        draw(st.sampled_from(dtypes)),
    )


@st.composite
def systems(
    draw,
    structures=STRUCTURES,
    spectra=SPECTRA,
    couplings=COUPLINGS,
    batches=BATCHES,
    dtypes=("float64",),
    max_order=7,
):
    return build_system(
        np.random.default_rng(draw(seeds())),
        draw(st.sampled_from(structures)),
        draw(st.sampled_from(spectra)),
        draw(st.sampled_from(couplings)),
        draw(st.sampled_from(batches)),
        n=draw(st.integers(1, max_order)),
        m=draw(st.integers(1, 3)),
        p=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(dtypes)),
        feedthrough=draw(st.booleans()),
    )


def _caster(dtype):
    if dtype == "float64":
        return lambda x: x
    return lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)
