"""The h∞ norm of badly scaled systems and of filters in canonical forms, against many digits."""

import warnings

import flint
import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from oracles import EPS

import lticore as lti
from lticore.analysis import hinf as _hinf
from lticore.analysis.hinf import _ON_CIRCLE

#: (type, critical frequencies as shares of π); a narrow band and one that is stopped are of 1 %.
BANDS = {
    "low": ("lowpass", 0.05),
    "high": ("highpass", 0.6),
    "band": ("bandpass", [0.2, 0.4]),
    "narrow": ("bandpass", [0.3, 0.31]),
    "stop": ("bandstop", [0.3, 0.31]),
    "far below": ("lowpass", 0.005),
}
FILTERS = {
    "butter": scipy.signal.butter,
    "cheby1": lambda n, *where, **how: scipy.signal.cheby1(n, 1, *where, **how),
    "cheby2": lambda n, *where, **how: scipy.signal.cheby2(n, 40, *where, **how),
    "ellip": lambda n, *where, **how: scipy.signal.ellip(n, 1, 40, *where, **how),
    "bessel": scipy.signal.bessel,
}
#: Forms that hold the poles as they were designed.
FORMS = {
    "sections in series": lambda sys: sys,
    "diagonal": lti.diagonalize,
    "rotations": lti.to_rotation,
    "balanced": lambda sys: lti.balanced_truncation(sys, order=sys.order).system,
}


@pytest.fixture(autouse=True)
def _digits():
    before, flint.ctx.prec = flint.ctx.prec, 300
    yield
    flint.ctx.prec = before


def _companion(b, a):
    """(A, B, C, D) of b/a with the coefficients in the first row of A."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.signal.BadCoefficients)
        return scipy.signal.tf2ss(b, a)


def _transfer(A, C, D):
    """ω ↦ |H(e^{iω})| in 90 digits, of the companion form that is stored in float64."""
    top = flint.acb_poly([float(x) for x in C[0, ::-1]])
    bottom = flint.acb_poly([-float(x) for x in A[0, ::-1]] + [1])

    def gain(omega):
        z = flint.acb(0, omega).exp()
        return float(abs(top(z) / bottom(z) + float(D[0, 0])).mid())

    return gain


def _peak(gain, poles):
    """(ω, gain) at the top: on a grid that is finer next to the poles, then by golden sections."""
    phases, gaps = np.abs(np.angle(poles)), np.abs(1 - np.abs(poles))
    near = (phases[:, None] + gaps[:, None] * np.linspace(-4, 4, 17)).ravel()
    grid = np.unique(np.clip(np.concatenate([np.linspace(0, np.pi, 201), near]), 0, np.pi))
    gains = np.array([gain(x) for x in grid])
    best = max(zip(gains, grid, strict=True))
    for k in np.argsort(-gains)[:4]:
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        for _ in range(40):
            third = 0.381966 * (high - low)
            inner = (gain(low + third), low + third), (gain(high - third), high - third)
            best = max(best, *inner)
            low, high = (low, high - third) if inner[0] > inner[1] else (low + third, high)
    return best[1], best[0]


def _rounding(sys, omega, gain):
    """The relative error of the gain that |C (z − A)⁻¹| (|A| + I) |(z − A)⁻¹ B| eps allows, in
    units of the states in which it is exact; the same in all units."""
    n = sys.order
    z = flint.acb(0, omega).exp()
    pencil = flint.acb_mat(n, n, [z if i == j else 0 for i in range(n) for j in range(n)])
    inverse = (pencil - flint.acb_mat(sys.A.tolist())).inv()
    x, y = inverse * flint.acb_mat(sys.B.tolist()), flint.acb_mat(sys.C.tolist()) * inverse
    x, y = (np.array([[float(abs(v).mid()) for v in r] for r in w.table()]) for w in (x, y))
    return EPS * float((y @ (np.abs(sys.A) + np.eye(n)) @ x)[0, 0]) / gain


def _rounding_of_crossings(sys, peak):
    """What QZ, which is right to eps of the norm of its pencil, may do to the eigenvalue next to
    the circle just below the peak, by its condition."""
    unit, exponent = _hinf._system_of_size_one(sys)
    dense, _ = _hinf.in_best_units(unit.to_dense())
    M, N = _hinf._symplectic_pencil(dense, (1 - _hinf._BELOW) * peak / 2.0**exponent)
    z, left, right = scipy.linalg.eig(M, N, left=True)
    k = np.argmin(np.abs(np.abs(z) - 1))
    y, x = left[:, k], right[:, k]
    size = np.linalg.norm(M) + np.linalg.norm(N)
    return EPS * size * np.linalg.norm(x) * np.linalg.norm(y) / abs(y.conj() @ N @ x)


@pytest.mark.parametrize("form", ["controllable", "observable"])
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("family", FILTERS)
def test_filters_of_all_families_in_companion_forms(family, band, form):
    """Right, or a warning, or poles that the coefficients cannot hold inside the circle."""
    kind, frequencies = BANDS[band]
    right = 0
    for order in range(1, 11):
        A, B, C, D = _companion(*FILTERS[family](order, frequencies, kind))
        sys = lti.LTI(A, B, C, D) if form == "controllable" else lti.LTI(A.T, C.T, B.T, D)
        poles = np.array([complex(x) for x in flint.acb_mat(A.tolist()).eig(algorithm="approx")])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = lti.hinf_norm(sys)
            except lti.UnstableSystemError:
                # n eps ‖A‖ to the n-th part, in units that even out its coefficients.
                assert order >= 6, order
                continue
        gain = _transfer(A, C, D)
        omega, peak = _peak(gain, poles)
        share = _rounding(sys, omega, peak)
        if caught:
            assert all(issubclass(w.category, lti.PrecisionWarning) for w in caught)
            blind = _rounding_of_crossings(sys, peak) > _ON_CIRCLE
            said = str(caught[0].message)
            assert share > 1e-7 or (blind and "lower bound" in said), (order, share, said)
            continue
        assert abs(found / peak - 1) <= 1e-8 + 4 * share, (order, found, peak, share)
        right += 1
    assert right >= 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("family", FILTERS)
def test_filters_of_all_families_by_their_poles(family, band, form):
    """All are designed to a largest gain of 1."""
    kind, frequencies = BANDS[band]
    for order in range(1, 11):
        design = FILTERS[family](order, frequencies, kind, output="zpk")
        norm = lti.hinf_norm(FORMS[form](lti.from_zpk(*design)))
        assert norm == pytest.approx(1, rel=2e-8), order


def test_a_low_pass_of_unit_gain_far_below_the_sampling_frequency():
    A, B, C, D = _companion(*scipy.signal.cheby1(4, 1, 0.005))
    _, peak = _peak(_transfer(A, C, D), np.linalg.eigvals(A))
    assert lti.hinf_norm(lti.LTI(A, B, C, D)) == pytest.approx(peak, rel=1e-6)
    assert peak == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("k", [1.0, 1e6, 1e-6, 1e100])
def test_units_of_the_states_do_not_count(k):
    """A = D⁻¹ R D with a rotation R by 0.5 and radius 0.9, D = diag(1, k): all of it cancels."""
    c, q = 0.9 * np.cos(0.5), 0.9 * np.sin(0.5)
    sys = lti.LTI([[c, q * k], [-q / k, c]], [[1.0], [1 / k]], [[1.0, k]])
    plain = lti.LTI([[c, q], [-q, c]], [[1.0], [1.0]], [[1.0, 1.0]])
    # H = 2 (z − c)/(z² − 2 c z + .81), whose gain is found on a fine grid near the resonance.
    omega = np.linspace(0.4, 0.6, 200_001)
    z = np.exp(1j * omega)
    peak = np.abs(2 * (z - c) / (z**2 - 2 * c * z + 0.81)).max()
    assert lti.hinf_norm(plain) == pytest.approx(peak, rel=1e-8)
    assert lti.hinf_norm(sys) == pytest.approx(peak, rel=1e-8)


@pytest.mark.parametrize(("b", "c"), [(-160, -100), (160, -240), (-160, 240), (160, 100)])
@pytest.mark.parametrize("A", [np.diag([0.5, 0.2]), lti.Diagonal([0.5, 0.2])])
def test_signals_of_any_size(A, b, c):
    sys = lti.LTI(A, np.full((2, 1), 2.0) * 10.0**b, np.array([[1.0, 3.0]]) * 10.0**c)
    expected = 2 * (1 / (1 - 0.5) + 3 / (1 - 0.2)) * 10.0**b * 10.0**c
    assert lti.hinf_norm(sys) == pytest.approx(expected, rel=1e-8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("b", "c"), [(0, 0), (600, -560), (-600, 560), (560, 440), (900, -900)])
def test_differences_of_kinds_with_signals_of_any_size(b, c):
    """Both are largest at ω = 0, 1.5/(1 − 0.9) and −1/(1 − 0.5), in units of 2^(b+c)."""
    B, C = np.ones((2, 1)) * 2.0**b, np.array([[1.0, 0.5]]) * 2.0**c
    sys = lti.LTI(lti.Rotation([0.9], [0.0]), B, C)
    other = lti.LTI(lti.Diagonal([0.5]), B[:1], -C[:, :1])
    assert lti.hinf_error(sys, other) == pytest.approx(17 * 2.0 ** (b + c), rel=1e-8)


def test_poles_next_to_the_circle_come_with_a_warning():
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    A = U @ lti.Rotation([1 - 1e-11, 0.5], [1.0, 2.0]).to_dense() @ U.T
    with pytest.warns(lti.PrecisionWarning, match="rounding of the dense A .* h-infinity norm"):
        lti.hinf_norm(lti.LTI(A, np.ones((4, 1)), np.ones((1, 4))))


def _turned(sys, seed):
    """The same system in other orthogonal coordinates."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(sys.order, sys.order)))[0]
    return lti.LTI(Q @ sys.A @ Q.T, Q @ sys.B, sys.C @ Q.T)


def _with_another_mode(gain):
    """A dense system, and the same with a mode of that gain besides, in other coordinates."""
    rng = np.random.default_rng(1)
    A = lti.Rotation(rng.uniform(0.5, 0.99, 5), rng.uniform(0, 3, 5)).to_dense()
    T = np.triu(rng.normal(size=(10, 10)), 1) + 2 * np.eye(10)
    B, C = rng.normal(size=(10, 2)), rng.normal(size=(2, 10))
    sys = lti.LTI(np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T)
    # gain/2 / (z − 1/2) is largest at z = 1.
    return sys, _turned(sys + lti.LTI([[0.5]], [[gain / 2, 0]], [[1], [0]]), 2)


def _warned(function, *systems):
    """(value, messages of warnings)"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = function(*systems)
    return value, [str(one.message) for one in caught]


def test_rounding_of_a_small_difference_counts_beside_both_systems():
    """The gain of 1e-8 has seven digits, those of about 1 of both systems fifteen."""
    sys, larger = _with_another_mode(1e-8)
    error, of_both = _warned(lti.hinf_error, larger, sys)
    norm, of_itself = _warned(lti.hinf_norm, larger - sys)
    assert error == norm
    assert abs(error / 1e-8 - 1) < 1e-3
    assert any("rounding of the dense A" in text for text in of_itself)
    assert not any("rounding of the dense A" in text for text in of_both)


def test_a_lower_bound_is_said_in_the_units_of_the_system():
    sys, larger = _with_another_mode(1e-9)
    norm, messages = _warned(lti.hinf_norm, larger - sys)
    assert abs(norm / 1e-9 - 1) < 1e-2
    assert any(f"norm {norm:.17g}, the gain" in text for text in messages)


# --- where the peak is ------------------------------------------------------------------------


@pytest.mark.parametrize("zeta", [0.5, 0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("rate", [1.0, 1e-6, 1e9])
def test_the_frequency_of_a_resonance(zeta, rate):
    """1/(s² + 2ζs + 1) peaks at √(1 − 2ζ²) with 1/(2ζ√(1 − ζ²)), here in other units of time."""
    A = rate * np.array([[0.0, 1.0], [-1.0, -2 * zeta]])
    sys = lti.LTI(A, [[0.0], [rate]], [[1.0, 0.0]], dt=0)
    gain, omega = lti.hinf_norm(sys, return_frequency=True)
    assert gain == pytest.approx(1 / (2 * zeta * np.sqrt(1 - zeta**2)), rel=1e-7)
    # The gain is flat over a width of ζ: within ε of the peak, the frequency is ζ√ε off.
    assert omega / rate == pytest.approx(np.sqrt(1 - 2 * zeta**2), abs=2e-4 * zeta)
    (there,) = np.abs(lti.frequency_response(sys, [omega]).ravel())
    assert there == pytest.approx(gain, rel=1e-12)


def test_frequencies_of_batches_and_of_both_times():
    A = lti.Rotation([[0.99], [0.9]], [[1.0], [2.5]])
    sys = lti.LTI(A, np.ones((2, 2, 1)), np.ones((2, 1, 2)))
    gains, omega = lti.hinf_norm(sys, return_frequency=True)
    grid = np.linspace(0, np.pi, 200_001)
    for i in range(2):
        response = np.abs(lti.frequency_response(sys[i], grid).ravel())
        assert omega[i] == pytest.approx(grid[response.argmax()], abs=2 * grid[1])
        assert gains[i] == pytest.approx(response.max(), rel=1e-6)
    np.testing.assert_array_equal(gains, lti.hinf_norm(sys))


def test_peaks_at_rest_and_at_infinity():
    low, high = (lti.LTI([[-2.0]], [[b]], [[1.0]], [[1.0]], dt=0) for b in (2.0, -1.0))
    assert lti.hinf_norm(low, return_frequency=True) == pytest.approx((2.0, 0.0), abs=1e-7)
    assert lti.hinf_norm(high, return_frequency=True) == (pytest.approx(1.0), np.inf)
    gain = lti.LTI(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[3.0]], dt=0)
    assert lti.hinf_norm(gain, return_frequency=True) == (3.0, 0.0)


def test_peaks_of_complex_systems_may_be_at_negative_frequencies():
    sys = lti.LTI(lti.Diagonal([-0.1 - 3j]), [[1.0]], [[1.0]], dt=0)
    gain, omega = lti.hinf_norm(sys, return_frequency=True)
    assert (gain, omega) == (pytest.approx(10), pytest.approx(-3, abs=1e-5))


@pytest.mark.parametrize("theta", [0.2622524262376533, 1.9, 3.0])
def test_a_peak_as_narrow_as_the_rounding_of_its_phase(theta):
    """1 − ρ = 2^−50: next to the phase as it is given, and not to that of ρ e^{iθ} as rounded,
    whose gain is lower by the square of a share of the width."""
    radius = 1 - 2.0**-50
    sys = lti.LTI(lti.Rotation([radius], [theta]), [[1.0], [0.0]], [[1.0, 0.0]])
    with mpmath.workdps(60):
        z, pole = mpmath.expj(theta), radius * mpmath.expj(theta)
        peak = abs((z - mpmath.re(pole)) / ((z - pole) * (z - mpmath.conj(pole))))
    assert lti.hinf_norm(sys) == pytest.approx(float(peak), rel=2e-8)


@pytest.mark.parametrize("dt", [0, True, 0.1])
@pytest.mark.parametrize("structured", [False, True])
def test_a_peak_at_rest_is_at_rest(dt, structured):
    """1/(s + 1) + 1/(s + 3), and 1/(z − 0.5) + 1/(z − 0.25): largest at rest, where H is flat."""
    poles = np.array([-1.0, -3.0]) if dt == 0 else np.array([0.5, 0.25])
    A = lti.Diagonal(poles) if structured else np.diag(poles)
    sys = lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)), dt=dt)
    norm, frequency = lti.hinf_norm(sys, return_frequency=True)
    assert norm == pytest.approx(4 / 3 if dt == 0 else 2 + 4 / 3, rel=1e-14)
    assert frequency == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gap", [2.0**-28, 2.0**-40, 2.0**-50])
@pytest.mark.parametrize("reverse", [False, True])
def test_differences_of_a_structured_and_a_dense_system(gap, reverse):
    """1/(1 − ρ) at z = 1, less 1/(1 − 0.6): a matrix would hold 1 − ρ to eps/(1 − ρ) of itself."""
    sys = lti.LTI(lti.Diagonal([1 - gap, 0.5]), [[1.0], [0.0]], [[1.0, 1.0]])
    dense = lti.LTI([[0.6, 0.0], [0.3, 0.2]], [[1.0], [0.0]], [[1.0, 0.0]])
    pair = (dense, sys) if reverse else (sys, dense)
    assert lti.hinf_error(*pair) == pytest.approx(1 / gap - 2.5, rel=4 * EPS)


@pytest.mark.parametrize("structure", [np.diag, lti.Diagonal])
def test_rounding_counts_in_the_part_that_is_dense(structure):
    """A matrix with a pole of 1 − 1e-11 beside a structured system of small gains."""
    A = np.diag([1 - 1e-11, 0.5]) @ np.array([[1.0, 0.0], [0.3, 1.0]])
    other = lti.LTI(structure([0.3, 0.2]), np.ones((2, 1)), np.ones((1, 2)))
    sys = lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)))
    for first, second in ((sys, other), (other, sys)):
        with pytest.warns(lti.PrecisionWarning, match="rounding of the dense A"):
            lti.hinf_error(first, second)


@pytest.mark.parametrize("dt", [True, 0])
def test_differences_of_nothing(dt):
    """Systems of two structures whose inputs drive no state: the power of two that is the size of
    their difference is none."""
    poles = np.array([-0.25, -0.5, -0.75])
    first = lti.LTI(lti.Diagonal(poles), np.zeros((3, 1)), np.ones((2, 3)), dt=dt)
    block = lti.Rotation([0.5], [0.25]) if dt else lti.Oscillation([0.5], [0.25])
    for B in (np.zeros((2, 1)), -np.zeros((2, 1))):
        second = lti.LTI(block, B, np.ones((2, 2)), dt=dt)
        assert lti.hinf_error(first, second) == 0
    seen = lti.LTI(block, np.ones((2, 1)), np.zeros((2, 2)), dt=dt)
    assert lti.hinf_error(first, seen) == 0
    assert lti.hinf_norm(seen, return_frequency=True) == (0, 0)


def test_feedthrough_beside_inputs_that_nothing_sees():
    """|D| of 2 beside B of 2^760, whose unit it is counted in: its square is no number there."""
    A = np.diag(np.full(2, 0.5), -1)
    hidden = lti.LTI(A, np.full((3, 2), 2.0**760), np.zeros((1, 3)), [[1.2, 1.6]])
    seen = lti.LTI(A, np.zeros((3, 2)), np.ones((1, 3)))
    assert lti.hinf_norm(hidden) == pytest.approx(2, rel=4 * EPS)
    assert lti.hinf_error(hidden, seen) == pytest.approx(2, rel=4 * EPS)
    assert lti.hinf_error(seen, hidden) == pytest.approx(2, rel=4 * EPS)
