"""Transfer functions: poles, zeros, sections and polynomials, and those of other libraries."""

import control
import mpmath
import numpy as np
import pytest
import scipy.signal
from continuous import KINDS, system
from models import slicot_file, slicot_model
from oracles import EPS

import lticore as lti

OMEGA = np.array([0.0, 1e-3, 0.1, 0.5, 1.0, 2.0, 3.0])


def of_zpk(zeros, poles, gain, points):
    """gain Π(s − z)/Π(s − p), factor by factor."""
    points = np.asarray(points, dtype=complex)[:, None]
    top = np.prod(points - np.asarray(zeros, dtype=complex), axis=1)
    return gain * top / np.prod(points - np.asarray(poles, dtype=complex), axis=1)


FILTERS = {
    "butter": lambda n, **how: scipy.signal.butter(n, 0.2, output="zpk", **how),
    "cheby1": lambda n, **how: scipy.signal.cheby1(n, 1, 0.2, output="zpk", **how),
    "cheby2": lambda n, **how: scipy.signal.cheby2(n, 40, 0.2, output="zpk", **how),
    "ellip": lambda n, **how: scipy.signal.ellip(n, 1, 40, 0.2, output="zpk", **how),
}


@pytest.mark.parametrize("analog", [False, True])
@pytest.mark.parametrize("order", [1, 2, 5, 12, 25])
@pytest.mark.parametrize("family", FILTERS)
def test_filters_by_poles_and_zeros(family, order, analog):
    zeros, poles, gain = FILTERS[family](order, analog=analog)
    sys = lti.from_zpk(zeros, poles, gain, dt=0 if analog else True)
    assert sys.order == order
    assert not np.iscomplexobj(sys.A)
    points = 1j * OMEGA if analog else np.exp(1j * OMEGA)
    expected = of_zpk(zeros, poles, gain, points)
    found = lti.frequency_response(sys, OMEGA).ravel()
    # Sections in series: some roundings of the largest response each, which the rest damps.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    # Each section keeps its own.
    for x in poles:
        assert np.abs(sys.poles - x).min() <= 10 * EPS * abs(x)


def test_poles_next_to_the_circle_stand_as_they_are():
    """1 − |p| = 1e-10 at a frequency of 1e-6, of which coefficients of polynomials keep nothing."""
    pole = (1 - 1e-10) * np.exp(1e-6j)
    sys = lti.from_zpk([], [pole, pole.conjugate()], 1.0)
    np.testing.assert_array_equal(sys.A, [[pole.real, pole.imag], [-pole.imag, pole.real]])


@pytest.mark.parametrize("zeros", [[], [0.3], [0.3, -0.2], [0.1 + 0.5j, 0.1 - 0.5j, 0.9]])
@pytest.mark.parametrize("poles", [[0.5, 0.7, 0.9], [0.5, 0.2 + 0.3j, 0.2 - 0.3j], [0.5] * 4])
def test_all_kinds_of_sections(zeros, poles):
    sys = lti.from_zpk(zeros, poles, -2.0)
    expected = of_zpk(zeros, poles, -2.0, np.exp(1j * OMEGA))
    found = lti.frequency_response(sys, OMEGA).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    z, p, k = lti.to_zpk(sys)
    assert len(z) == len(zeros)
    assert k == pytest.approx(-2, rel=1e-11)
    np.testing.assert_allclose(of_zpk(z, p, k, np.exp(1j * OMEGA)), expected, rtol=1e-11)
    rows = lti.to_sections(sys)
    _, response = scipy.signal.sosfreqz(rows, OMEGA)
    np.testing.assert_allclose(response, expected, rtol=1e-11)
    again = lti.frequency_response(lti.from_sections(rows), OMEGA).ravel()
    np.testing.assert_allclose(again, expected, rtol=1e-11)
    assert lti.from_sections(rows).order == len(poles)


def test_zeros_stand_in_the_sections_of_the_poles_that_are_nearest():
    """Three peaks, each beside its notch, and real poles with those of about their size."""
    turns = np.exp(1j * np.array([0.5, 1.5, 2.5]))
    poles, zeros = 0.9 * turns, 1.0 * turns[[2, 0, 1]]
    poles, zeros = (np.concatenate([x, x.conj()]) for x in (poles, zeros))
    rows = lti.to_sections(lti.from_zpk(zeros, poles, 1.0))
    for row in rows:
        np.testing.assert_allclose(row[1:3], np.divide(row[4:], [0.9, 0.81]) * row[0], rtol=1e-9)
    real = lti.to_sections(lti.from_zpk([], [-0.2, 0.9, 0.1, 0.8], 1.0))
    found = sorted(tuple(sorted(np.roots(row[3:]))) for row in real)
    np.testing.assert_allclose(found, [(-0.2, 0.1), (0.8, 0.9)], rtol=1e-11)


def test_complex_systems():
    zeros, poles = [0.3j], [0.5 + 0.1j, -0.2j]
    sys = lti.from_zpk(zeros, poles, 1 + 2j)
    expected = of_zpk(zeros, poles, 1 + 2j, np.exp(1j * OMEGA))
    np.testing.assert_allclose(lti.frequency_response(sys, OMEGA).ravel(), expected, rtol=1e-13)
    z, _, k = lti.to_zpk(sys)
    np.testing.assert_allclose(z, zeros, atol=1e-14)
    assert k == pytest.approx(1 + 2j, rel=1e-13)
    with pytest.raises(lti.NotRealError):
        lti.to_sections(sys)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("D", [None, 0.7])
@pytest.mark.parametrize("speed", [1.0, 2.0**60])
def test_zeros_of_random_systems(kind, D, speed):
    """The product is the response, and one zero less for each order of D, C B, … that vanishes."""
    rng = np.random.default_rng(0)
    sys = system(rng, kind, m=1, p=1)
    A = sys.A * speed if isinstance(sys.A, np.ndarray) else sys.A.times(np.asarray(speed))
    sys = lti.LTI(A, sys.B * speed, sys.C, D, dt=0)
    zeros, poles, gain = lti.to_zpk(sys)
    assert (len(zeros), len(poles)) == (6 if D is None else 7, 7)
    omega = speed * np.array([0.0, 0.1, 1.0, 10.0])
    found = of_zpk(zeros / speed, poles / speed, 1.0, 1j * omega / speed) * gain
    found = found * speed ** (len(zeros) - len(poles))
    expected = lti.frequency_response(sys, omega).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_zeros_at_infinity():
    """A rod heated at one place and measured k places further: relative degree k + 1."""
    n = 30
    A = 400.0 * (np.eye(n, k=1) + np.eye(n, k=-1) - 2 * np.eye(n))
    for k in (0, 1, 7):
        sys = lti.LTI(A, np.eye(n)[:, 10:11], np.eye(n)[10 + k : 11 + k], dt=0)
        zeros, _, gain = lti.to_zpk(sys)
        assert len(zeros) == n - k - 1
        assert gain == pytest.approx(400.0**k, rel=1e-6)
    zeros, poles, gain = lti.to_zpk(lti.LTI(A, np.eye(n)[:, :1], np.zeros((1, n)), dt=0))
    assert (len(zeros), len(poles), gain) == (0, n, 0)


def test_zeros_at_infinity_in_other_coordinates():
    """1/((s + 1) (s + 2) (s + 3) (s + 4)), whose C B, C A B and C A² B rounding leaves at 1e-16."""
    sys = lti.from_zpk([], [-1, -2, -3, -4], 1.0, dt=0)
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
    A, B, C = Q @ sys.A @ Q.T, Q @ sys.B, sys.C @ Q.T
    assert (C @ B).item() != 0
    zeros, _, gain = lti.to_zpk(lti.LTI(A, B, C, dt=0))
    assert len(zeros) == 0
    assert gain == pytest.approx(1, rel=1e-11)


def test_gains_are_not_taken_at_a_pole():
    """Of poles 1 and (8/7)² the point 8/7 of their mean is one."""
    pole = (8 / 7) ** 2
    sys = lti.LTI(lti.Diagonal([1.0, pole]), np.ones((2, 1)), [[1.0, -1.0]], dt=0)
    zeros, _, gain = lti.to_zpk(sys)
    assert len(zeros) == 0
    assert gain == pytest.approx(1 - pole, rel=1e-13)


@pytest.mark.skipif(not slicot_file("build").exists(), reason="the model file is absent")
@pytest.mark.parametrize("name", ["build", "CDplayer"])
def test_models_through_sections(name):
    """Through SciPy's polynomials the response of `build`, reduced to order 10, is 311 % off."""
    model = slicot_model(name)
    full = lti.LTI(model.A, model.B[:, :1], model.C[:1], dt=0)
    omega = np.geomspace(1e-2, 1e3, 60)
    for sys in (full, lti.balanced_truncation(full, order=10).system):
        expected = lti.frequency_response(sys, omega).ravel()
        again = lti.from_sections(lti.to_sections(sys), dt=0)
        found = lti.frequency_response(again, omega).ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_gains_and_single_poles():
    none = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0))
    gain = lti.LTI(*none, [[3.0]])
    assert [len(x) for x in lti.to_zpk(gain)[:2]] == [0, 0]
    assert lti.to_zpk(gain)[2] == 3
    np.testing.assert_array_equal(lti.to_sections(gain), [[3, 0, 0, 1, 0, 0]])
    analog = lti.to_sections(lti.LTI([[-2.0]], [[1.0]], [[3.0]], dt=0))
    np.testing.assert_allclose(analog, [[0, 0, 3, 0, 1, 2]], rtol=1e-14)


def test_what_sections_have_at_zero():
    """z⁻¹ (1 + z⁻¹)/(z⁻¹ (1 + z⁻¹/2)) is a delay that both have, s (s + 1)/(s (s + 2)) a pole at 0
    that a zero covers."""
    rows = [[1.0, 1.0, 0.0, 1.0, 0.5, 0.0]]
    assert lti.from_sections(rows).poles.tolist() == [-0.5]
    poles = lti.from_sections(rows, dt=0).poles
    np.testing.assert_allclose(np.sort(poles.real), [-0.5, 0], atol=EPS)


# --- polynomials ------------------------------------------------------------------------------


def test_polynomials_of_several_inputs_and_outputs():
    num = [[[1.0], [2.0, 1.0]], [[1.0, 0.0], [3.0]]]
    den = [[[1.0, 0.5], [1.0, 0.1]], [[1.0, 0.5], [1.0, 0.2, 0.3]]]
    sys = lti.from_transfer_function(num, den)
    # The first column has one denominator, the second two.
    assert sys.order == 1 + 1 + 2
    z = np.exp(1j * OMEGA)
    for i in range(2):
        for j in range(2):
            expected = np.polyval(num[i][j], z) / np.polyval(den[i][j], z)
            found = lti.frequency_response(sys, OMEGA)[:, i, j]
            np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_leading_zeros_and_constants():
    sys = lti.from_transfer_function([0.0, 0.0, 4.0], [0.0, 2.0])
    assert (sys.order, sys.D.item()) == (0, 2.0)


def test_a_transfer_function_of_order_49():
    """Coefficients from 1 to 1e-49, as a peer's issue has them. In discrete time poles of about
    0.1: values against Gramians of the companion form in 100 digits."""
    rng = np.random.default_rng(0)
    den, num = 10.0 ** -np.arange(50) * rng.uniform(0.5, 1.5, 50), np.zeros(49)
    den[0] = 1
    num[:] = 10.0 ** -np.arange(49) * rng.standard_normal(49)
    sys = lti.from_transfer_function(num, den)
    sigma = lti.hankel_singular_values(sys)
    with mpmath.workdps(100):
        # h_k decays as 0.18^k: 200 of them are all.
        h, a = [], [mpmath.mpf(x) for x in den.tolist()]
        for k in range(200):
            value = mpmath.mpf(num[k]) if k < 49 else mpmath.mpf(0)
            value -= sum(a[i] * h[k - i] for i in range(1, min(k, 49) + 1))
            h.append(value)
        values = [
            mpmath.svd_r(
                mpmath.matrix(12, 12)
                + mpmath.matrix([[h[i + j] for j in range(12)] for i in range(12)]),
                compute_uv=False,
            )
        ]
    # Rows and columns beyond the twelfth hold less than 0.18^12 = 1e-9 of the first.
    expected = np.array([float(x) for x in values[0]])[:3]
    np.testing.assert_allclose(sigma[:3], expected, rtol=1e-6)
    small = lti.balanced_truncation(sys, order=4)
    omega = np.linspace(0, np.pi, 200)
    responses = [lti.frequency_response(x, omega) for x in (sys, small.system)]
    assert np.abs(responses[0] - responses[1]).max() <= small.error_bound * (1 + 1e-6)
    # In continuous time most of its poles are unstable, which is said.
    with pytest.raises(lti.UnstableSystemError, match=r"unstable=\"keep\""):
        lti.balanced_truncation(lti.from_transfer_function(num, den, dt=0), order=4)


def test_an_unstable_transfer_function_of_order_49():
    """10⁴⁹ (10 s − 1)/((10 s)⁵⁰ − 1): poles on a circle, of which no algorithm finds the units from
    coefficients that fall to 1e-49. Responses against 100 digits."""
    sys = lti.from_transfer_function([1.0], 10.0 ** -np.arange(50), dt=0)
    expected = np.exp(2j * np.pi * np.arange(1, 50) / 50) / 10
    distance = np.abs(sys.poles[:, None] - expected).min(axis=0)
    assert distance.max() <= 1e-13
    omega = np.geomspace(1e-2, 1, 21)
    with mpmath.workdps(100):
        den = [mpmath.mpf(x) for x in (10.0 ** -np.arange(50)).tolist()]
        exact = [complex(1 / mpmath.polyval(den, mpmath.mpc(0, x))) for x in omega.tolist()]
    exact = np.array(exact)
    found = lti.frequency_response(sys, omega).ravel()
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13 * np.abs(exact).max())
    small = lti.balanced_truncation(sys, order=30, unstable="keep")
    # Those with a positive cosine: k = 1 … 12 and 38 … 49.
    assert np.sum(small.system.poles.real > 0) == 24
    error = lti.frequency_response(small.system, omega).ravel() - exact
    assert np.abs(error).max() <= small.error_bound
    assert small.error_bound < 0.01 * np.abs(exact).max()


def companion(num, den):
    """1 on the diagonal below the main one, coefficients in the first row and in C."""
    n = len(den) - 1
    A, C = np.eye(n, k=-1), np.zeros((1, n))
    A[0], C[0, n - len(num) :] = -den[1:], num
    return A, np.eye(n, 1), C


@pytest.mark.parametrize("order", [30, 44])
@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.filterwarnings("ignore:order 44 was asked for:lticore.PrecisionWarning")
def test_a_companion_form_of_order_49_as_a_state_space(seed, order):
    """Entries 1 and 10⁻¹ to 10⁻⁴⁹, whose poles of size 0.1 are lost in the states given: of a
    reduced system the error against 100 digits is within its bound, which is small."""
    den, num = 10.0 ** -np.arange(50), np.array([1.0])
    if seed is not None:
        rng = np.random.default_rng(seed)
        den[1:] *= rng.uniform(0.5, 1.5, 49)
        num = 10.0 ** -np.arange(49) * rng.standard_normal(49)
    small = lti.balanced_truncation((*companion(num, den), None, 0), order, unstable="keep")
    omega = np.geomspace(1e-3, 10, 81)
    with mpmath.workdps(100):
        top, bottom = ([mpmath.mpf(x) for x in y.tolist()] for y in (num, den))
        points = [mpmath.mpc(0, x) for x in omega.tolist()]
        exact = [mpmath.polyval(top, s) / mpmath.polyval(bottom, s) for s in points]
    exact = np.array([complex(x) for x in exact])
    error = np.abs(lti.frequency_response(small.system, omega).ravel() - exact).max()
    assert error <= small.error_bound
    assert small.error_bound < {30: 0.01, 44: 1e-8}[order] * np.abs(exact).max()


@pytest.mark.parametrize("exponent", [-1000, 1000])
def test_sizes_of_roots_at_the_ends_of_the_range(exponent):
    """1/(s² + θ s + θ²) with θ = 2^(±400) and of degree 1 with 2^(±1000): exact poles."""
    theta = 2.0 ** (exponent // 2.5)
    poles = lti.from_transfer_function([1.0], [1.0, theta, theta**2], dt=0).poles
    np.testing.assert_allclose(np.abs(poles) / theta, 1, rtol=1e-15)
    one = lti.from_transfer_function([1.0], [1.0, 2.0**exponent], dt=0)
    assert one.poles == -(2.0**exponent)


@pytest.mark.parametrize("dt", [0, 0.5, True])
def test_systems_of_python_control(dt):
    num, den = [[[1.0, 2.0], [1.0]]], [[[1.0, 0.4, 0.3], [1.0, 0.5]]]
    sys = lti.from_statespace(control.tf(num, den, dt))
    assert sys.dt == dt
    assert sys.order == 3
    points = 1j * OMEGA if dt == 0 else np.exp(1j * OMEGA)
    for j in range(2):
        expected = np.polyval(num[0][j], points) / np.polyval(den[0][j], points)
        found = lti.frequency_response(sys, OMEGA)[:, 0, j]
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("dt", [None, 0.5])
def test_systems_of_scipy(dt):
    zeros, poles = [-0.3], [-0.5, -0.1 + 0.3j, -0.1 - 0.3j]
    how = {} if dt is None else {"dt": dt}
    by_zeros = scipy.signal.ZerosPolesGain(zeros, poles, 2.0, **how)
    by_polynomials = scipy.signal.TransferFunction([2.0, 0.6], np.real(np.poly(poles)), **how)
    points = 1j * OMEGA if dt is None else np.exp(1j * OMEGA)
    for obj in (by_zeros, by_polynomials):
        sys = lti.from_statespace(obj)
        assert sys.dt == (0 if dt is None else dt)
        expected = of_zpk(zeros, poles, 2.0, points)
        np.testing.assert_allclose(lti.frequency_response(sys, OMEGA).ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lti.from_zpk([1.0, 2.0], [0.5], 1.0), lti.ArgumentError, "not proper"),
        (lambda: lti.from_zpk([np.nan], [0.5], 1.0), lti.NonFiniteError, "zeros"),
        (lambda: lti.from_transfer_function([1, 2, 3], [1, 2]), lti.ArgumentError, "not proper"),
        (lambda: lti.from_transfer_function([1], [0, 0]), lti.ArgumentError, "denominator is zero"),
        (lambda: lti.from_zpk([[0.1, 0.2]], [0.5, 0.6]), lti.ShapeError, "one list of numbers"),
        (lambda: lti.from_zpk(["z"], [0.5]), lti.DtypeError, "zeros"),
        (lambda: lti.from_sections([[1, 2], [3]]), lti.LticoreError, "the sections"),
        (lambda: lti.from_transfer_function([1.0], []), lti.ArgumentError, "is zero"),
        (lambda: lti.from_transfer_function([[[1], [1]]], [[[1, 2]]]), lti.ShapeError, "rows of"),
        (lambda: lti.from_transfer_function([[[1]]], [1, 2]), lti.ShapeError, "nested"),
        (lambda: lti.from_transfer_function([[1]], [1, 2]), lti.ShapeError, "one list of numbers"),
        (lambda: lti.from_sections([[1, 2, 3]]), lti.ShapeError, "six coefficients"),
        (lambda: lti.from_sections([[1, 0, 0, 0, 1, 0]]), lti.ArgumentError, "not proper"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_roundings_of_conjugate_pairs_stay_real():
    poles = np.array([0.3 + 0.4j, 0.3 - 0.4j * (1 + 4 * EPS)])
    assert not np.iscomplexobj(lti.from_zpk([], poles, 1.0).A)


@pytest.mark.filterwarnings("error")
def test_a_zero_beside_many_at_infinity_is_found():
    """QZ takes the zero far inside the poles for one of those at infinity, five and one more."""
    pairs = [-9.67443997e8 - 1.74165189e8j, -8.41732437e8 - 2.87970793e9j]
    poles = [*pairs, *np.conj(pairs), -7.72120145e8, -6.02006114e8]
    sys = lti.from_zpk([1.591387234e7], poles, -8.2e-21, dt=0)
    zeros, _, gain = lti.to_zpk(sys)
    np.testing.assert_allclose(zeros, [1.591387234e7], rtol=1e-7)
    assert gain == pytest.approx(-8.2e-21, rel=1e-7)


#: Powers of two, some 2^26 apart: a cascade of these has exact entries.
APART_ZEROS = -(2.0 ** np.array([-10, -1, 1, 3, 8, 13]))
APART_POLES = -(2.0 ** np.array([-13, -12, -6, -5, 11, 12]))


def shuffled_cascade():
    """A cascade whose rows are in an order in which elimination loses the small ones."""
    sys = lti.from_zpk(APART_ZEROS, APART_POLES, 4.0, dt=0)
    order = [3, 0, 5, 1, 4, 2]
    return lti.LTI(sys.A[np.ix_(order, order)], sys.B[order], sys.C[:, order], sys.D, dt=0)


def rounding_of_response(sys, s):
    """(H', what rounding of each entry does to H at s): eps |C| |M⁻¹| (|A| + |s|) |M⁻¹ B|."""
    inverse = np.linalg.inv(s * np.eye(sys.order) - sys.A)
    x, y = np.abs(inverse @ sys.B), np.abs(sys.C @ inverse)
    size = y @ (np.abs(sys.A) + abs(s) * np.eye(sys.order)) @ x
    return abs((sys.C @ inverse @ inverse @ sys.B).item()), EPS * size.item()


def test_responses_of_states_decades_apart():
    sys = shuffled_cascade()
    omega = 2.0 ** np.arange(-16, 16, 2.0)
    s = 1j * omega[:, None]
    exact = 4 * np.prod(s - APART_ZEROS, axis=1) / np.prod(s - APART_POLES, axis=1)
    level = np.array([rounding_of_response(sys, x)[1] for x in s[:, 0]])
    for frequencies in (slice(None), slice(1)):
        found = lti.frequency_response(sys, omega[frequencies])[:, 0, 0]
        assert np.all(np.abs(found - exact[frequencies]) <= 8 * sys.order * level[frequencies])


def test_zeros_decades_apart():
    zeros, poles, gain = lti.to_zpk(shuffled_cascade())
    np.testing.assert_array_equal(np.sort(poles.real), np.sort(APART_POLES))
    zeros = zeros[np.argsort(-zeros.real)]
    for found, exact in zip(zeros, APART_ZEROS, strict=True):
        slope, rounding = rounding_of_response(shuffled_cascade(), exact)
        assert rounding < 1e-9 * slope * abs(exact)
        assert abs(found - exact) <= 8 * 6 * rounding / slope + 8 * EPS * abs(exact)
    assert gain == pytest.approx(4, rel=1e-12)


def test_zeros_that_turned_states_have_lost_come_with_a_warning():
    sys = lti.from_zpk([], -(10.0 ** np.arange(-6, 6, 2.0)), 1.0, dt=0)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    with pytest.warns(lti.PrecisionWarning, match="relative error"):
        _, poles, gain = lti.to_zpk((Q @ sys.A @ Q.T, Q @ sys.B, sys.C @ Q.T, sys.D, 0))
    # C A^k B vanish in the rounding of large powers, the response at rest does not.
    assert abs(gain / np.prod(-poles)) > 0
