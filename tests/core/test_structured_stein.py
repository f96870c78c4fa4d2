"""The fused kernels of structured Stein equations against their reference texts."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, dense, size
from strategies import seeds

import lticore as lti
from lticore.equations import modal as _stein_modal
from lticore.kernels import cpu_stein, lapack
from lticore.matrices.factors import leading_svd

GAPS = st.sampled_from([0.5, 1e-2, 1e-6, 1e-12])


def random_poles(rng, batch, count, gap):
    """Radii up to 1 − gap, phases anywhere, some of them close to each other or opposite."""
    radius = 1 - gap * rng.uniform(1, 2, (*batch, count))
    phase = rng.uniform(-np.pi, np.pi, (*batch, count))
    half = count // 2
    phase[..., :half] = phase[..., half : 2 * half] * rng.choice([1, -1, 1 + 1e-9], half)
    return radius, phase


@given(
    seed=seeds(), gap=GAPS, batch=st.sampled_from([(), (3,), (2, 1)]), pairs=st.integers(0, 6),
    real=st.integers(0, 3), columns=st.integers(1, 5),
)  # fmt: skip
def test_rotation_kernel(seed, gap, batch, pairs, real, columns):
    rng = np.random.default_rng(seed)
    a = random_poles(rng, batch, pairs + real, gap)
    a[1][..., pairs:] = np.where(a[1][..., pairs:] > 0, 0, np.pi)
    b = random_poles(rng, batch, columns, gap)
    Q = rng.standard_normal((*batch, 2 * pairs + real, 2 * columns))
    expected = _stein_modal.rotation_stein_reference(*a, *b, Q)
    before = Q.copy()
    X = cpu_stein.rotation_stein(*a, *b, Q)
    assert np.array_equal(Q, before)
    # Each block is divided by 1 − λμ*; near it the phases' difference carries an absolute eps.
    assert np.all(np.abs(X - expected) <= 100 * EPS * max(size(expected), EPS))


@given(seed=seeds(), gap=GAPS, batch=st.sampled_from([(), (3,)]), n=st.integers(0, 7))
def test_diagonal_kernel(seed, gap, batch, n):
    rng = np.random.default_rng(seed)
    a, b = random_poles(rng, batch, n, gap), random_poles(rng, batch, 4, gap)
    Q = rng.standard_normal((*batch, n, 4)) + 1j * rng.standard_normal((*batch, n, 4))
    expected = _stein_modal.diagonal_stein_reference(*a, *b, Q)
    X = cpu_stein.diagonal_stein(*a, *b, Q)
    np.testing.assert_allclose(X, expected, rtol=20 * EPS)


@pytest.mark.parametrize("distance", [0.0, 1e-14, 1e-7, 0.3, 0.999999, 1.000001, 2.5, np.pi])
@pytest.mark.parametrize("gap", [1e-15, 1e-9, 0.3])
def test_every_entry_is_accurate(distance, gap):
    """1/(1 − w) to a few eps however close w is to 1, on both sides of the series' end."""
    radius, phase = np.array([1 - gap]), np.array([0.7])
    X = cpu_stein.diagonal_stein(radius, phase, radius, phase - distance, np.ones((1, 1)))
    with mpmath.workdps(60):
        modulus = mpmath.mpf(float(radius[0])) ** 2
        angle = mpmath.mpf(0.7) - mpmath.mpf(float(phase[0] - distance))
        exact = complex(1 / (1 - modulus * mpmath.expj(angle)))
    assert abs(X[0, 0] / exact - 1) <= 10 * EPS


def test_gramian_of_a_real_structure_is_exactly_symmetric():
    rng = np.random.default_rng(0)
    A = lti.Rotation(rng.uniform(0.5, 1, 6), rng.uniform(0, np.pi, 6), rng.uniform(-1, 1, 3))
    B = rng.standard_normal((15, 2))
    X = lti.solve_stein(A, B @ B.T)
    assert np.array_equal(X, X.T)
    assert size(dense(A) @ X @ dense(A).T - X + B @ B.T) <= 10 * EPS * size(X)


@pytest.mark.parametrize("shape", [(200, 150), (150, 200), (2, 3, 140, 135), (130, 130)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_leading_singular_vectors(shape, dtype):
    rng = np.random.default_rng(0)
    parts = 2 if dtype is np.complex128 else 1
    M = rng.standard_normal((*shape, parts)).view(dtype)[..., 0]
    sigma, vectors = leading_svd(M)
    np.testing.assert_allclose(sigma, np.linalg.svdvals(M), rtol=0, atol=1e-12)
    for r in (1, 9):
        U, V = vectors(r)
        assert size(M @ V - U * sigma[..., None, :r]) <= 1e-12 * sigma.max()
        for X in (U, V):
            assert size(adjoint(X) @ X - np.eye(r)) <= 1e-13


def test_failing_lapack_routine_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match="dbdsdc failed with info = -3"):
        lapack._call(
            "dbdsdc", "U", "I", -1, *(np.empty(1),) * 3, 1, np.empty(1), 1, np.empty(1),
            np.empty(1, np.intc), np.empty(8), np.empty(8, np.intc),
        )  # fmt: skip
