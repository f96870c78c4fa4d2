"""The parts of Hankel-sum gradients: fused kernels against their references, and iterations."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, size
from strategies import build_system, seeds

import lticore as lti
from lticore.arrays.linalg import weighted_gram_reference
from lticore.hankel import directions as _directions
from lticore.hankel import gradients as _pull_back
from lticore.hankel.functions import as_spectral_function
from lticore.kernels import cpu_stein, lapack
from lticore.matrices.factors import weighted_gram
from lticore.matrices.geometric_mean import _coefficients, nuclear_cotangents

BATCHES = [(), (1,), (3,), (2, 2), (0,)]


def random_array(rng, shape, complex_):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_ else x


def gramians(rng, batch, n, complex_, decay=1.0, rank=None):
    """P and Q whose product has the eigenvalues σ_i² = decay^{2i}, and σ."""
    sigma = decay ** np.arange(n)
    sigma[n if rank is None else rank :] = 0
    T = random_array(rng, (*batch, n, n), complex_) / np.sqrt(n) + 2 * np.eye(n)
    inverse = np.linalg.inv(T)
    return (T * sigma) @ adjoint(T), adjoint(inverse) @ (sigma[:, None] * inverse), sigma


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
def test_weighted_gram(batch, complex_):
    rng = np.random.default_rng(0)
    for n, k in ((1, 1), (5, 3), (3, 70), (40, 40), (4, 0)):
        wide = random_array(rng, (*batch, k, n), complex_)
        signs = rng.standard_normal((*batch, k))
        for X in (wide.swapaxes(-1, -2), adjoint(wide), np.ascontiguousarray(adjoint(wide))):
            for weights in (None, np.abs(signs), signs):
                found, expected = (f(X, weights) for f in (weighted_gram, weighted_gram_reference))
                assert np.array_equal(found, adjoint(found)) or weights is signs
                assert np.abs(found - expected).max(initial=0) <= 100 * EPS * max(k, 1)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("n", "decay", "rank"), [(6, 0.7, None), (30, 0.5, None), (12, 0.1, None), (20, 0.6, 5)]
)
def test_balancing_directions(n, decay, rank, batch, complex_):
    """One round where values are close to each other, several where not, and missing directions."""
    P, Q, sigma = gramians(np.random.default_rng(1), batch, n, complex_, decay, rank)
    before = P.copy(), Q.copy()
    SU, found, RV = lapack.balancing_directions(P, Q)
    assert np.array_equal(P, before[0])
    assert np.array_equal(Q, before[1])
    k = found.shape[-1]
    assert SU.shape == RV.shape == (*batch, n, k)
    if 0 in batch:
        return
    # Forming P and Q costs eps ‖P‖‖Q‖/σ_i.
    known = sigma > 1e-9
    assert np.count_nonzero(known) <= k
    assert np.all(np.diff(found, axis=-1) <= 0)
    error = np.abs(found[..., : known.sum()] - sigma[known]) * sigma[known]
    assert error.max() <= 1e4 * EPS
    # (R V)ᴴ Q (R V) = Σ² and Q R V = S U Σ.
    assert size(adjoint(RV) @ Q @ RV - np.eye(k) * found[..., None, :] ** 2) <= 1e3 * EPS
    assert size(Q @ RV - SU * found[..., None, :]) <= 1e4 * EPS


def test_balancing_directions_of_different_ranks():
    rng = np.random.default_rng(2)
    parts = [gramians(rng, (), 8, False, 0.5, rank) for rank in (8, 0, 3)]
    P, Q = (np.stack(x) for x in zip(*[part[:2] for part in parts], strict=True))
    SU, sigma, RV = lapack.balancing_directions(P, Q)
    for entry, (_, _, expected) in enumerate(parts):
        np.testing.assert_allclose(sigma[entry], expected[: sigma.shape[-1]], rtol=0, atol=1e-14)
        zero = sigma[entry] < 1e-14
        assert np.abs(SU[entry, :, zero]).max(initial=0) <= 1e-7
        assert np.abs(RV[entry, :, zero]).max(initial=0) <= 1e-7


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (0,)])
@pytest.mark.parametrize(
    ("n", "decay", "rank"), [(140, 0.98, None), (140, 0.7, None), (130, 0.95, 20), (30, 0.8, None)]
)
def test_leading_directions(n, decay, rank, batch, complex_):
    """By the tridiagonal form where values stay close to the largest, by factors where not."""
    P, Q, sigma = gramians(np.random.default_rng(7), batch, n, complex_, decay, rank)
    before = P.copy(), Q.copy()
    found, directions = lapack.leading_directions(P, Q)
    if 0 in batch:
        return
    assert np.all(np.diff(found, axis=-1) <= 0)
    known = sigma > 1e-9
    error = np.abs(found[..., : known.sum()] - sigma[known]) * sigma[known]
    assert error.max() <= 1e4 * EPS
    for count in (1, 7):
        SU, RV = directions(count)
        assert SU.shape == RV.shape == (*batch, n, count)
        squares = np.eye(count) * found[..., None, :count] ** 2
        assert size(adjoint(RV) @ Q @ RV - squares) <= 1e4 * EPS
        assert size(adjoint(SU) @ P @ SU - squares) <= 1e4 * EPS
        assert size(Q @ RV - SU * found[..., None, :count]) <= 1e4 * EPS
    assert np.array_equal(P, before[0])
    assert np.array_equal(Q, before[1])


def test_leading_directions_of_a_mixed_batch():
    rng = np.random.default_rng(8)
    parts = [gramians(rng, (), 140, False, decay) for decay in (0.98, 0.5)]
    P, Q = (np.stack(x) for x in zip(*[part[:2] for part in parts], strict=True))
    found, directions = lapack.leading_directions(P, Q)
    for entry, (_, _, sigma) in enumerate(parts):
        np.testing.assert_allclose(found[entry, :10], sigma[:10], rtol=1e-10)
    SU, RV = directions(4)
    squares = np.eye(4) * found[..., None, :4] ** 2
    assert size(adjoint(SU) @ P @ SU - squares) <= 1e4 * EPS
    assert size(adjoint(RV) @ Q @ RV - squares) <= 1e4 * EPS


@given(
    seed=seeds(), batch=st.sampled_from([(), (3,), (2, 1)]), pairs=st.integers(0, 6),
    real=st.integers(1, 3),
)  # fmt: skip
def test_rotation_gradient(seed, batch, pairs, real):
    rng = np.random.default_rng(seed)
    n = 2 * pairs + real
    radius, angle = rng.uniform(-1, 1, (*batch, pairs)), rng.uniform(-4, 4, (*batch, pairs))
    real_poles = rng.uniform(-1, 1, (*batch, real))
    X, P, Y, Q = (x + x.swapaxes(-1, -2) for x in rng.standard_normal((4, *batch, n, n)))
    arguments = radius, angle, real_poles, (X, Y), (P, Q)
    found = cpu_stein.rotation_gradient(*arguments)
    expected = _pull_back.rotation_gradient_reference(*arguments)
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        assert np.abs(x - y).max(initial=0) <= 400 * EPS * max(n, 1)


def test_turning_a_scalar_block_changes_nothing():
    """X = x I, P = p I of one block: the derivative by the angle is zero, not x p eps."""
    X, P, none = 1e9 * np.eye(2), 3e8 * np.eye(2), np.zeros(0)
    for angle in np.linspace(0, 3, 50):
        _, tangential, _ = cpu_stein.rotation_gradient(
            np.array([0.9]), np.array([angle]), none, (X, X), (P, P)
        )
        assert tangential == 0


# --- the iteration of matrix products -----------------------------------------------------------


def test_steps_take_the_interval_to_one():
    x = np.geomspace(1e-6, 1, 10_000)
    for a, b, c in _coefficients():
        x = x * (a + b * x**2 + c * x**4)
    assert np.abs(x - 1).max() <= 1e-14
    # Below, the weights never exceed what they are at the cut by much.
    slope = np.prod([a for a, _, _ in _coefficients()])
    assert slope <= 1e7


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2), (0,)])
def test_iteration_gives_what_the_eigendecomposition_gives(batch, complex_):
    P, Q, sigma = gramians(np.random.default_rng(3), batch, 12, complex_, decay=0.4)
    value, G_P, G_Q, largest, before = nuclear_cotangents(P, Q)
    expected = _directions.gramian_cotangents(P, Q, as_spectral_function("nuclear"), None)
    np.testing.assert_allclose(value, np.broadcast_to(sigma.sum(), batch), rtol=1e-10)
    np.testing.assert_allclose(value, expected.value, rtol=1e-10)
    for found, direct in ((G_P, expected.P), (G_Q, expected.Q)):
        assert np.array_equal(found, adjoint(found))
        np.testing.assert_allclose(
            found, direct, rtol=0, atol=1e-8 * size(direct) if direct.size else 0
        )
    assert np.all(np.abs(value - before) <= 1e-10 * value)
    assert np.all((largest >= 0.999) & (largest <= 12**0.125))


@pytest.mark.parametrize(("decay", "rank"), [(0.5, None), (0.8, 20), (0.2, None), (0.9, 1)])
def test_iteration_with_singular_gramians(decay, rank):
    """No shift, no factor: values below the cut, and none at all, do no harm."""
    P, Q, sigma = gramians(np.random.default_rng(4), (), 60, False, decay, rank)
    value, G_P, G_Q, _, before = nuclear_cotangents(P, Q)
    assert abs(value / sigma.sum() - 1) <= 1e-6
    assert abs(value - before) <= 1e-5 * value
    # Euler: 2 ⟨G_P, P⟩ = 2 ⟨G_Q, Q⟩ = f.
    for G, X in ((G_P, P), (G_Q, Q)):
        assert np.sum(G * X) == pytest.approx(value, rel=1e-10)
        # Rounding, times the slope 4e6 of the weights at zero.
        assert np.linalg.eigvalsh(G).min() >= -1e-9 * np.linalg.norm(G)


def test_iteration_of_nothing():
    value, G_P, G_Q, largest, before = nuclear_cotangents(*np.zeros((2, 3, 4, 4)))
    for x in (value, G_P, G_Q, before):
        assert np.all(x == 0)
    assert largest.shape == (3,)


def badly_matched(weak, angle=0.7):
    """‖P‖‖Q‖ = σ_1²/weak, with P strong where Q is weak."""
    c, s = np.cos(angle), np.sin(angle)
    U = np.array([[c, -s], [s, c]])
    return (U * [1, weak]) @ U.T, (U * [weak, 1]) @ U.T


@pytest.mark.parametrize("weak", [1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-11])
def test_iteration_knows_when_it_has_failed(monkeypatch, weak):
    """As on a device: NumPy's arrays pass for CuPy's here."""
    monkeypatch.setattr(_directions, "suits_products", lambda x: True)
    nuclear = as_spectral_function("nuclear")
    for angle in np.linspace(0, 3, 40):
        with np.errstate(all="ignore"):
            found = _directions.gramian_cotangents(*badly_matched(weak, angle), nuclear, None)
        assert abs(found.value / (2 * np.sqrt(weak)) - 1) <= 10 * EPS / weak


def test_what_does_not_converge_is_done_directly(monkeypatch):
    """As on a device: NumPy's arrays pass for CuPy's here."""
    monkeypatch.setattr(_directions, "suits_products", lambda x: True)
    nuclear = as_spectral_function("nuclear")
    for weak, tolerance in ((1e-2, 1e-12), (1e-11, 1e-4)):
        with np.errstate(all="ignore"):
            found = _directions.gramian_cotangents(*badly_matched(weak), nuclear, None)
        assert found.value == pytest.approx(2 * np.sqrt(weak), rel=tolerance)
        assert found.uncertainty >= tolerance * EPS


@pytest.mark.parametrize("structure", ["rotation with real poles", "complex diagonal", "dense"])
def test_gradients_through_the_iteration(monkeypatch, structure):
    sys = build_system(np.random.default_rng(6), structure, batch=(2,))
    expected_value, expected = lti.hankel_sum_and_gradient(sys)
    monkeypatch.setattr(_directions, "suits_products", lambda x: True)
    value, found = lti.hankel_sum_and_gradient(sys)
    np.testing.assert_allclose(value, expected_value, rtol=1e-7)
    for g, h in zip(
        (*found.A, found.B, found.C), (*expected.A, expected.B, expected.C), strict=True
    ):
        np.testing.assert_allclose(g, h, rtol=0, atol=1e-6 * np.abs(h).max())
    assert np.all(found.discrepancy <= 1e-6)


def test_iteration_runs_on_any_array_library():
    P, Q, _ = gramians(np.random.default_rng(5), (2,), 7, False, decay=0.5)
    expected = nuclear_cotangents(P, Q)
    found = nuclear_cotangents(*map(array_api_strict.asarray, (P, Q)))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(x), y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (2.0**-400, 2.0**300), (2.0**300, 2.0**-400)])
def test_cotangents_of_gramians_of_far_sizes(p, q):
    """Σ √(P_i Q_i) of diagonal Gramians has the derivatives ½ √(Q_i/P_i) and ½ √(P_i/Q_i), which
    come doubled."""
    diagonals = p * np.array([4.0, 1.0, 0.25]), q * np.array([1.0, 4.0, 0.25])
    P, Q = (np.diag(x) for x in diagonals)
    found = _directions.gramian_cotangents(P, Q, as_spectral_function("nuclear"), None)
    assert found.value == pytest.approx(4.25 * np.sqrt(p) * np.sqrt(q), rel=1e-14)
    assert found.slope == pytest.approx(found.value, rel=1e-14)
    x, y = (np.sqrt(x) for x in diagonals)
    for G, expected in ((found.P, y / x), (found.Q, x / y)):
        assert np.diag(G) == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(G, np.diag(expected), rtol=1e-14, atol=1e-15 * expected.max())
