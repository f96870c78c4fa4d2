"""Impulse and frequency responses."""

import warnings

import mpmath
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import EPS, EPS_SINGLE, entries, markov_parameters, response_by_inversion
from strategies import MILD_SPECTRA, STRUCTURES, build_system, seeds, systems

import lticore as lti


@given(sys=systems(dtypes=("float32", "float64")), steps=st.integers(1, 9))
def test_impulse_response_is_the_markov_parameters(sys, steps):
    h = lti.impulse_response(sys, steps)
    assert h.shape == (*sys.batch_shape, steps, sys.outputs, sys.inputs)
    assert h.dtype == sys.dtype
    single = h.dtype in (np.float32, np.complex64)
    h = h.reshape(-1, *h.shape[-3:])
    for found, (A, B, C, D) in zip(h, entries(sys), strict=True):
        expected = markov_parameters(A, B, C, D, steps)
        growth = max(1, np.linalg.norm(A, 2)) ** steps
        size = np.linalg.norm(D) + np.linalg.norm(B) * np.linalg.norm(C) * growth
        tolerance = 20 * steps * EPS + (2 * EPS_SINGLE if single else 0)
        assert np.abs(found - expected).max() <= tolerance * size


@given(sys=systems())
def test_first_terms(sys):
    h = lti.impulse_response(sys, 2)
    D = np.zeros_like(h[..., 0, :, :]) if sys.D is None else sys.D
    assert np.array_equal(h[..., 0, :, :], D)
    assert np.array_equal(h[..., 1, :, :], sys.C @ sys.B)


@given(sys=systems(spectra=MILD_SPECTRA))
def test_frequency_response_agrees_with_inversion(sys):
    omega = np.linspace(-np.pi, np.pi, 9)
    H = lti.frequency_response(sys, omega)
    assert H.shape == (*sys.batch_shape, 9, sys.outputs, sys.inputs)
    assert np.iscomplexobj(H)
    H = H.reshape(-1, *H.shape[-3:])
    for found, (A, B, C, D) in zip(H, entries(sys), strict=True):
        expected = response_by_inversion(A, B, C, D, omega)
        # Distance from the circle ≥ 0.05, non-normal draws have condition < 1e3.
        size = np.linalg.norm(D) + np.linalg.norm(B) * np.linalg.norm(C) * 1e3
        assert np.abs(found - expected).max() <= 100 * EPS * size


@given(
    sys=systems(structures=STRUCTURES[4:], spectra=MILD_SPECTRA, couplings=("full", "graded")),
    copies=st.integers(8, 11),
)
def test_many_frequencies_of_dense_systems_agree_with_few(sys, copies):
    """From 32 on they are solved for in one Schur form."""
    omega = np.linspace(-np.pi, np.pi, 5)
    few = lti.frequency_response(sys, omega)
    many = lti.frequency_response(sys, np.tile(omega, copies))
    assert many.shape == (*sys.batch_shape, 5 * copies, sys.outputs, sys.inputs)
    size = 1e3 * np.abs(sys.B).max() * np.abs(sys.C).max()
    for k in range(copies):
        assert np.abs(many[..., 5 * k : 5 * k + 5, :, :] - few).max() <= 100 * EPS * size


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_dense_systems_of_any_order_agree_with_their_modes(n):
    """Orders around those at which a triangular solve is cut into blocks."""
    sys = build_system(np.random.default_rng(n), "rotation with real poles", n=n, m=3)
    omega = np.linspace(-np.pi, np.pi, 40)
    expected = lti.frequency_response(sys, omega)
    found = lti.frequency_response(sys.to_dense(), omega)
    assert np.abs(found - expected).max() <= 100 * EPS * np.abs(expected).max() / 0.05


def test_units_of_the_states_cost_no_digits():
    """‖A‖ grows to 1e9 in them, and a Schur form is right to eps ‖A‖."""
    sys = build_system(np.random.default_rng(0), "non-normal", n=6)
    t = 2.0 ** (6 * np.arange(6))[:, None]
    scaled = lti.LTI(sys.A * t / t.T, sys.B * t, sys.C / t.T)
    omega = np.linspace(-np.pi, np.pi, 40)
    expected = lti.frequency_response(sys, omega)
    found = lti.frequency_response(scaled, omega)
    assert np.abs(found - expected).max() <= 100 * EPS * np.abs(expected).max()


@settings(max_examples=10)
@given(sys=systems(spectra=MILD_SPECTRA, structures=STRUCTURES[:6]))
def test_frequency_response_is_the_transform_of_the_impulse_response(sys):
    steps = 700  # 0.95^700 < 3e-16
    omega = np.array([-2.0, 0.0, 0.3, np.pi])
    h = lti.impulse_response(sys, steps)
    waves = np.exp(-1j * omega[:, None] * np.arange(steps))
    expected = np.einsum("lk,...kpm->...lpm", waves, h)
    H = lti.frequency_response(sys, omega)
    size = np.abs(h).sum() + np.abs(sys.B).sum() * np.abs(sys.C).sum()
    assert np.abs(H - expected).max() <= steps * EPS * size


@given(sys=systems(structures=("real diagonal", "rotation", "dense"), spectra=MILD_SPECTRA))
def test_real_systems_have_mirrored_responses(sys):
    omega = np.linspace(0.1, 3, 5)
    H, mirrored = lti.frequency_response(sys, omega), lti.frequency_response(sys, -omega)
    # e^{iω} − λ is at least 0.05 for these normal A and known to eps: a share of 20 eps.
    size = np.linalg.norm(sys.B, axis=(-2, -1)) * np.linalg.norm(sys.C, axis=(-2, -1)) / 0.05
    D = 0 if sys.D is None else np.abs(sys.D).max()
    assert np.abs(H - mirrored.conj()).max() <= EPS * (size.max() / 0.05 + D)


@pytest.mark.parametrize("gap", [1e-3, 1e-9, 1e-13])
def test_resonance_near_the_circle(gap):
    """At the phase of its pole a mode with C adj B = 1 responds with 1/(1 − ρ), exactly."""
    radius = 1 - gap
    sys = lti.LTI(lti.Rotation([radius], [0.0]), np.eye(2), np.eye(2))
    H = lti.frequency_response(sys, [0.0])[0]
    assert H.real == pytest.approx(np.eye(2) / (1 - radius), rel=10 * EPS)


def test_chunks_make_no_difference(monkeypatch):
    sys = build_system(np.random.default_rng(0), "rotation", batch=(2,), feedthrough=True)
    omega = np.linspace(0, 3, 50)
    whole = lti.frequency_response(sys, omega)
    monkeypatch.setattr("lticore.analysis.response._CHUNK", 64)
    assert np.array_equal(whole, lti.frequency_response(sys, omega))
    dense = lti.frequency_response(sys.to_dense(), omega)
    # Radii up to 0.95: the Schur form is off by eps, and its response by eps/0.05.
    assert np.abs(dense - whole).max() <= 10 * EPS / 0.05 * np.abs(whole).max()


@pytest.mark.parametrize("count", [3, 40])
@given(sys=systems(spectra=MILD_SPECTRA), seed=seeds())
def test_each_system_of_a_batch_may_have_its_own_frequencies(count, sys, seed):
    omega = np.random.default_rng(seed).uniform(-np.pi, np.pi, (*sys.batch_shape, count))
    H = lti.frequency_response(sys, omega)
    assert H.shape == (*sys.batch_shape, count, sys.outputs, sys.inputs)
    own, H = omega.reshape(-1, count), H.reshape(-1, *H.shape[-3:])
    for found, w, (A, B, C, D) in zip(H, own, entries(sys), strict=True):
        size = np.linalg.norm(D) + np.linalg.norm(B) * np.linalg.norm(C) * 1e3
        assert np.abs(found - response_by_inversion(A, B, C, D, w)).max() <= 100 * EPS * size


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("count", [3, 40])
def test_own_frequencies_of_continuous_systems_that_meet_poles(structured, count, monkeypatch):
    decay = np.array([[0.0], [2.0], [3.0]])
    A = lti.Diagonal(-decay) if structured else -decay[..., None]
    sys = lti.LTI(A, np.ones((3, 1, 1)), np.ones((3, 1, 1)), dt=0)
    omega = np.linspace(0, 3, 3 * count).reshape(count, 3).T
    monkeypatch.setattr("lticore.analysis.response._CHUNK", 7 * 3)
    H = lti.frequency_response(sys, omega)[..., 0, 0]
    assert H[0, 0] == np.inf
    met = np.zeros(omega.shape, dtype=bool)
    met[0, 0] = True
    np.testing.assert_allclose(H[~met], 1 / (decay + 1j * omega)[~met], rtol=10 * EPS)


def test_no_frequencies_give_an_empty_response():
    sys = build_system(np.random.default_rng(0), "dense", m=3, p=2)
    assert lti.frequency_response(sys, np.zeros(0)).shape == (0, 2, 3)


def test_unstable_systems_respond_too():
    sys = lti.LTI(lti.Diagonal([2.0]), [[1.0]], [[1.0]])
    assert lti.frequency_response(sys, [0.0])[0, 0, 0] == pytest.approx(-1)
    assert np.array_equal(lti.impulse_response(sys, 4).ravel(), [0, 1, 2, 4])


@pytest.mark.parametrize("A", [lti.Diagonal([1.0]), lti.Rotation([], [], [1.0]), np.eye(1)])
@pytest.mark.parametrize("count", [1, 50])
def test_an_integrator_responds_to_dc_with_infinity(A, count):
    omega = np.append(np.linspace(0.5, 3, count), 0.0)
    H = lti.frequency_response(lti.LTI(A, [[1.0]], [[1.0]], [[2.0]]), omega)[:, 0, 0]
    assert H[-1] == np.inf
    np.testing.assert_allclose(H[:-1], 1 / (np.exp(1j * omega[:-1]) - 1) + 2, rtol=10 * EPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_that_do_not_see_the_pole_stay_finite(dtype):
    """Structured systems know the residues: those of equal poles can cancel."""
    A = lti.Diagonal(np.array([1.0, 0.5, 1.0], dtype))
    B = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1]], dtype)
    C = np.array([[1, 1, -1]], dtype)
    H = lti.frequency_response(lti.LTI(A, B, C), [0.0])
    assert np.array_equal(H, [[[np.inf, 2, 2]]])


@pytest.mark.parametrize("count", [1, 50])
def test_dense_batches_are_infinite_where_they_are_singular(count):
    double = np.array([[1.0, 0.1], [0.0, 1.0]])
    A = np.stack([double, np.diag([0.5, 0.25])])
    omega = np.append(np.linspace(0.5, 3, count), 0.0)
    H = lti.frequency_response(lti.LTI(A, [[0.0], [1.0]], [[1.0, 0.0]]), omega)[..., 0, 0]
    z = np.exp(1j * omega[:-1])
    np.testing.assert_allclose(H[0, :-1], 0.1 / (z - 1) ** 2, rtol=20 * EPS)
    assert H[0, -1] == np.inf
    assert np.all(H[1] == 0)


def _exact_response(A, B, C, omega):
    """C (e^{iω} I − A)⁻¹ B of the very arrays, and the size of what its terms round by."""
    n = len(A)
    with mpmath.workdps(40):
        z = mpmath.expj(mpmath.mpf(float(omega)))
        M = mpmath.matrix(n, n)
        for i in range(n):
            for j in range(n):
                M[i, j] = (z if i == j else 0) - mpmath.mpf(float(A[i, j]))
        inverse = M**-1
        x = inverse * mpmath.matrix(B.tolist())
        y = mpmath.matrix(C.tolist()) * inverse
        response = complex((mpmath.matrix(C.tolist()) * x)[0])
        rows, columns = (np.array([float(abs(v)) for v in w]) for w in (y, x))
    return response, rows @ (np.abs(A) + np.eye(n)) @ columns


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("form", ["companion", "transposed"])
@pytest.mark.parametrize(
    "A",
    [
        [[2.0, -1.0], [1.0, 0.0]],
        [[3.0, -3.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[2 - 2.0**-30, 2.0**-30 - 1], [1.0, 0.0]],
    ],
)
def test_poles_that_rounding_splits(A, form, count):
    """Poles 1, 1; 1, 1, 1; 1, 1 − 2^−30: I − A is singular to the last digit, and Schur forms have
    eigenvalues some √eps or eps^⅓ away from 1."""
    A = np.array(A)
    B, C = np.eye(len(A))[:, :1], np.ones((1, len(A)))
    if form == "transposed":
        A, B, C = A.T, C.T, B.T
    omega = np.append(0.0, np.linspace(0.5, 3, count))
    found = lti.frequency_response(lti.LTI(A, B, C), omega)[:, 0, 0]
    assert found[0] == np.inf
    for w, value in zip(omega[1:], found[1:], strict=True):
        expected, sensitivity = _exact_response(A, B, C, w)
        assert abs(value - expected) <= 2 * len(A) * EPS * sensitivity


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("form", ["companion", "transposed"])
def test_sharp_peaks_of_companion_forms(form, count):
    """Each entry of A is known to its last digit, and the response no better than that allows."""
    for order in (2, 4, 6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.signal.BadCoefficients)
            A, B, C, _ = scipy.signal.tf2ss(*scipy.signal.cheby1(order, 1, 0.02))
        if form == "transposed":
            A, B, C = A.T, C.T, B.T
        peak = np.abs(np.angle(np.linalg.eigvals(A))).max()
        omega = peak * np.linspace(1, 1.1, count)
        found = lti.frequency_response(lti.LTI(A, B, C), omega)[:: max(1, count // 4), 0, 0]
        for w, value in zip(omega[:: max(1, count // 4)], found, strict=True):
            expected, sensitivity = _exact_response(A, B, C, w)
            assert abs(value - expected) <= 2 * order * EPS * sensitivity


@given(sys=systems(dtypes=("float32",)))
def test_single_precision(sys):
    assert lti.frequency_response(sys, [0.1]).dtype == np.complex64
    assert lti.impulse_response(sys, 2).dtype == sys.dtype


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("structured", [False, True])
def test_poles_as_small_as_they_go_beside_signals_as_large(structured, complex_):
    """h_2 = c a b for one state, whose units take a below the range of numbers."""
    a, b, c = (0.3 + 0.7j, 1 - 4j, -3 + 2j) if complex_ else (0.3, 1.0, -3.0)
    A = np.array([[a]]) * 2.0**-570
    A = lti.Diagonal(A[0]) if structured else A
    for of_b, of_c in ((-900, 950), (-170, 820), (950, -900)):
        sys = lti.LTI(A, [[b * 2.0**of_b]], [[c * 2.0**of_c]])
        h = lti.impulse_response(sys, 3)[:, 0, 0]
        assert h[1] == pytest.approx(b * c * 2.0 ** (of_b + of_c), rel=4 * EPS)
        assert h[2] == pytest.approx(a * b * c * 2.0 ** (of_b + of_c - 570), rel=8 * EPS)


@pytest.mark.parametrize("structured", [False, True])
def test_terms_beyond_the_largest_number_cancel(structured):
    """h_k = (3 · 0.5^{k−1} − 2.9 · 0.6^{k−1}) 1e308, of which h_1 = 1e307 and h_4 = −2.5e307."""
    A = lti.Diagonal([0.5, 0.6]) if structured else np.diag([0.5, 0.6])
    sys = lti.LTI(A, [[3e200], [-2.9e200]], [[1e108, 1e108]])
    k = np.arange(5)
    exact = (3 * 0.5**k - 2.9 * 0.6**k) * 1e308
    found = lti.impulse_response(sys, 6)[1:, 0, 0]
    np.testing.assert_allclose(found, exact, rtol=0, atol=10 * EPS * 3 * 1e308)
