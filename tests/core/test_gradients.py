"""Gradients of sums of Hankel singular values, against central differences."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, central_difference, entries, inner, stein_condition
from strategies import COUPLINGS, STRUCTURES, build_system, systems

import lticore as lti
from lticore.systems.structure import parameters

FUNCTIONS = {
    "nuclear": "nuclear",
    "log": "log",
    "schatten(1/2)": lti.schatten(0.5),
    "schatten(2)": lti.schatten(2),
    "tail(2)": lti.tail(2),
    "pair": (lambda s: s**2 / (1 + s), lambda s: s * (2 + s) / (1 + s) ** 2),
}


#: Sums may be as small as the rounding of σ_1; how well they are met is compared with that here.
anything_goes = pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")


def arrays_of(sys):
    return [*parameters(sys.A), sys.B, sys.C]


def gradient_arrays(gradient):
    return [*gradient.A, gradient.B, gradient.C]


def rebuilt(sys, arrays):
    *A, B, C = arrays
    A = type(sys.A)(*A) if lti.systems.structure.is_structured(sys.A) else A[0]
    return lti.LTI(A, B, C)


def random_like(rng, x):
    dx = rng.standard_normal(x.shape)
    return dx + 1j * rng.standard_normal(x.shape) if np.iscomplexobj(x) else dx


def assert_matches_differences(sys, function, tolerance=1e-6, horizon=None):
    value, gradient = lti.hankel_sum_and_gradient(sys, function, horizon=horizon)
    assert value == pytest.approx(lti.hankel_sum(sys, function, horizon=horizon), rel=1e-12)
    rng = np.random.default_rng(0)
    arrays, gradients = arrays_of(sys), gradient_arrays(gradient)
    for position, (x, g) in enumerate(zip(arrays, gradients, strict=True)):
        assert g.shape == x.shape
        assert g.dtype == x.dtype
        if x.size == 0:
            continue
        dx = random_like(rng, x)

        def total(x, position=position):
            changed = [*arrays[:position], x, *arrays[position + 1 :]]
            return np.sum(lti.hankel_sum(rebuilt(sys, changed), function, horizon=horizon))

        expected = central_difference(total, x, dx)
        # Truncation 1e-12 · f''' and rounding 1e-16/1e-6 · f: about 1e-9 of these sizes.
        scale = np.linalg.norm(g) * np.linalg.norm(dx) + np.sum(np.abs(value))
        assert abs(inner(g, dx) - expected) <= tolerance * scale


# --- central differences ----------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient_matches_central_differences(structure, batch, name):
    # Four well separated states keep every value far above rounding, also for schatten(1/2).
    sys = build_system(np.random.default_rng(11), structure, batch=batch, n=4, m=2, p=3)
    # The smallest values of these draws are about 1e-4, and σ^(1/2) bends like 1/σ there.
    assert_matches_differences(sys, FUNCTIONS[name], 1e-5 if "1/2" in name else 1e-6)


@given(
    sys=systems(
        structures=("real diagonal", "complex diagonal", "rotation", "rotation with real poles"),
        spectra=("repeated",),
        couplings=("full",),
        batches=((), (2,)),
        max_order=4,
    )
)
def test_gradient_at_repeated_poles(sys):
    """Poles may coincide; the squares of the values are smooth there, whatever their rank."""
    assert_matches_differences(sys, lti.schatten(2))


@pytest.mark.parametrize("horizon", [1, 2, 7, 100])
@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient_over_a_horizon(structure, batch, horizon):
    sys = build_system(np.random.default_rng(12), structure, batch=batch, n=4, m=2, p=3)
    # One term of each Gramian has the rank of B or C only: squares are smooth there too.
    assert_matches_differences(sys, lti.schatten(2), 1e-6, horizon)


@pytest.mark.parametrize("structure", ["complex diagonal", "rotation with real poles", "dense"])
def test_gradient_over_a_horizon_of_an_unstable_system(structure):
    sys = build_system(np.random.default_rng(13), structure, n=4)
    A = lti.systems.structure.map_parameters(lambda x: 1.3 * x, sys.A)
    assert_matches_differences(lti.LTI(A, sys.B, sys.C), "nuclear", 1e-6, horizon=9)


@given(sys=systems(spectra=("plain", "repeated", "zero"), couplings=("full",)))
@anything_goes
def test_long_horizons_are_infinite_ones(sys):
    """0.95^1500 is 1e-33."""
    found, expected = (
        lti.hankel_sum_and_gradient(sys, lti.schatten(2), horizon=horizon)[1]
        for horizon in (1500, None)
    )
    for g, h in zip(gradient_arrays(found), gradient_arrays(expected), strict=True):
        # Dense powers lose their digits in 1500 products; 1/(1 − 0.95²) counts twice.
        assert np.allclose(g, h, rtol=0, atol=1e-9 * np.abs(h).max(initial=1e-300))


def test_gradient_of_one_state_in_closed_form():
    """σ = |b||c|/(1 − a²): ∂σ/∂a = 2a σ/(1 − a²), ∂σ/∂b = σ/b, ∂σ/∂c = σ/c."""
    a, b, c = 0.8, 2.0, -3.0
    value, gradient = lti.hankel_sum_and_gradient(lti.LTI(lti.Diagonal([a]), [[b]], [[c]]))
    sigma = abs(b * c) / (1 - a * a)
    assert value == pytest.approx(sigma, rel=1e-15)
    assert gradient.A[0][0] == pytest.approx(2 * a * sigma / (1 - a * a), rel=1e-14)
    assert gradient.B[0, 0] == pytest.approx(sigma / b, rel=1e-14)
    assert gradient.C[0, 0] == pytest.approx(sigma / c, rel=1e-14)


# --- structures agree with each other ---------------------------------------------------------


@given(
    sys=systems(
        structures=("rotation with real poles",), spectra=("plain", "negative"), couplings=("full",)
    )
)
def test_rotation_gradient_is_the_dense_one_on_its_parameters(sys):
    _, structured = lti.hankel_sum_and_gradient(sys, lti.schatten(2))
    _, full = lti.hankel_sum_and_gradient(sys.to_dense(), lti.schatten(2))
    q = sys.A.blocks
    first, second = np.arange(0, 2 * q, 2), np.arange(1, 2 * q, 2)
    G = full.A[0]
    g_a = G[..., first, first] + G[..., second, second]
    g_b = G[..., first, second] - G[..., second, first]
    cosine, sine = np.cos(sys.A.angle), np.sin(sys.A.angle)
    radius, angle, real_poles = structured.A
    # Gradients are sums of products of Gramians conditioned by 1/(1 − 0.95²) ≈ 10, squared: 100
    # roundings each.
    level = np.abs(G).max()
    tolerance = 1e4 * EPS
    assert np.allclose(radius, g_a * cosine + g_b * sine, rtol=0, atol=tolerance * level)
    angular = sys.A.radius * (g_b * cosine - g_a * sine)
    assert np.allclose(angle, angular, rtol=0, atol=tolerance * level)
    real = np.arange(2 * q, sys.order)
    assert np.allclose(real_poles, G[..., real, real], rtol=0, atol=tolerance * level)
    assert np.allclose(structured.B, full.B, rtol=0, atol=tolerance * np.abs(full.B).max())


@given(sys=systems(structures=("complex diagonal",), spectra=("plain",), couplings=("full",)))
def test_gradient_is_a_batch_of_gradients(sys):
    _, gradient = lti.hankel_sum_and_gradient(sys)
    for index in np.ndindex(sys.batch_shape):
        alone = lti.LTI(lti.Diagonal(sys.A.poles[index]), sys.B[index], sys.C[index])
        _, single = lti.hankel_sum_and_gradient(alone)
        for whole, part in zip(gradient_arrays(gradient), gradient_arrays(single), strict=True):
            assert np.allclose(whole[index], part, rtol=1e-6, atol=1e-6 * np.abs(part).max())


# --- invariances the gradient must obey -------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
@given(data=st.data())
@anything_goes
def test_euler_identity(structure, data):
    """Σσ is homogeneous of degree one in B and in C: ⟨g_B, B⟩ = ⟨g_C, C⟩ = Σσ."""
    # Rotations and dense matrices round a weak state relative to the others it is mixed with, and
    # report by `discrepancy` what graded couplings then lose.
    couplings = COUPLINGS if "diagonal" in structure else COUPLINGS[:2]
    sys = data.draw(systems(structures=(structure,), couplings=couplings))
    value, gradient = lti.hankel_sum_and_gradient(sys)
    # Directions that formed Gramians hold to √eps of the largest, σ² to eps, count in the value
    # alone; gradients of dense systems solve the adjoint of an equation with its condition.
    R, S = lti.gramian_factors(sys)
    if 0 in R.shape or 0 in S.shape:
        return
    level = np.linalg.norm(R, axis=(-2, -1)) * np.linalg.norm(S, axis=(-2, -1))
    share = sys.order * np.sqrt(EPS)
    if not lti.systems.structure.is_structured(sys.A):
        share = share + EPS * max(stein_condition(A) for A, *_ in entries(sys))
    for g, x in ((gradient.B, sys.B), (gradient.C, sys.C)):
        paired = np.sum(g.conj() * x, axis=(-2, -1)).real
        assert np.all(np.abs(paired - value) <= share * level)


@given(sys=systems(structures=("real diagonal", "complex diagonal"), spectra=("plain",)))
@anything_goes
def test_gradient_does_not_see_units_of_the_states(sys):
    """x_i → t_i x_i changes no value: row i of g_B pairs with B as column i of g_C with C."""
    _, gradient = lti.hankel_sum_and_gradient(sys, lti.schatten(2))
    rows = np.sum(gradient.B.conj() * sys.B, axis=-1).real
    columns = np.sum(gradient.C.conj() * sys.C, axis=-2).real
    assert np.allclose(rows, columns, rtol=0, atol=1e-9 * (np.abs(rows).max() + 1e-300))


# --- finite where it has to be ----------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@given(sys=systems())
@anything_goes
def test_gradient_is_finite(name, sys):
    value, gradient = lti.hankel_sum_and_gradient(sys, FUNCTIONS[name])
    assert np.all(np.isfinite(value))
    assert all(np.all(np.isfinite(g)) for g in gradient_arrays(gradient))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient_of_a_zero_system_is_zero(structure, name):
    sys = build_system(np.random.default_rng(0), structure, batch=(2,))
    for changed in (lti.LTI(sys.A, 0 * sys.B, sys.C), lti.LTI(sys.A, sys.B, 0 * sys.C)):
        value, gradient = lti.hankel_sum_and_gradient(changed, FUNCTIONS[name])
        assert np.all(value == 0)
        assert all(np.all(g == 0) for g in gradient_arrays(gradient))


@pytest.mark.parametrize("make", ["rotation", "diagonal"])
def test_128_equal_values(make):
    """Orthogonal inputs and outputs at equal poles: every σ is 1/(1 − ρ²)."""
    n, radius = 128, 0.9
    A = (
        lti.Rotation(np.full(n // 2, radius), np.full(n // 2, 0.4))
        if make == "rotation"
        else lti.Diagonal(np.full(n, radius))
    )
    B, C = (np.linalg.qr(np.random.default_rng(s).standard_normal((n, n)))[0] for s in (0, 1))
    value, gradient = lti.hankel_sum_and_gradient(lti.LTI(A, B, C))
    assert value == pytest.approx(n / (1 - radius**2), rel=1e-12)
    slope = 2 * radius / (1 - radius**2) ** 2
    states = 2 if make == "rotation" else 1
    np.testing.assert_allclose(gradient.A[0], states * slope, rtol=1e-10)
    # σ is homogeneous in B, and B is orthogonal.
    np.testing.assert_allclose(gradient.B, B / (1 - radius**2), rtol=0, atol=1e-11)


def test_unreachable_states_get_no_gradient_through_the_cut():
    sys = build_system(np.random.default_rng(0), "real diagonal", n=4)
    B = sys.B.copy()
    B[1] = 0
    _, gradient = lti.hankel_sum_and_gradient(lti.LTI(sys.A, B, sys.C))
    assert gradient.A[0][1] == 0
    assert np.all(gradient.C[:, 1] == 0)


def test_gradient_is_finite_where_all_values_coincide():
    """A delay chain is all-pass: every σ is 1, and a tail takes the sorted choice."""
    sys = lti.LTI(0.999 * np.eye(5, k=-1), np.eye(5)[:, :1], np.eye(5)[-1:])
    value, gradient = lti.hankel_sum_and_gradient(sys, lti.tail(2))
    assert value == pytest.approx(3 * 0.999**4, rel=1e-12)
    assert all(np.all(np.isfinite(g)) for g in gradient_arrays(gradient))


def test_rtol_cuts_the_weak_directions():
    sys = build_system(np.random.default_rng(2), "real diagonal", n=5)
    _, full = lti.hankel_sum_and_gradient(sys)
    _, cut = lti.hankel_sum_and_gradient(sys, rtol=0.5)
    assert not np.allclose(full.B, cut.B, rtol=1e-6)
    # With only σ_1 kept, the gradient is that of the Hankel norm.
    sigma = lti.hankel_singular_values(sys)
    assert np.all(sigma[1:] < 0.999 * sigma[0])
    _, largest = lti.hankel_sum_and_gradient(sys, rtol=0.999)
    direction = random_like(np.random.default_rng(0), sys.B)
    expected = central_difference(
        lambda B: lti.hankel_norm(lti.LTI(sys.A, B, sys.C)), sys.B, direction
    )
    assert inner(largest.B, direction) == pytest.approx(expected, rel=1e-7)


@given(sys=systems(dtypes=("float32",)))
def test_single_precision_gradients(sys):
    value, gradient = lti.hankel_sum_and_gradient(sys)
    assert value.dtype == np.float32
    for x, g in zip(arrays_of(sys), gradient_arrays(gradient), strict=True):
        assert g.dtype == x.dtype
        assert g.shape == x.shape


# --- the accuracy met ---------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_accuracy_is_reported(structure):
    sys = build_system(np.random.default_rng(3), structure, batch=(2,))
    _, gradient = lti.hankel_sum_and_gradient(sys)
    assert gradient.discrepancy.shape == (2,)
    assert np.all(gradient.discrepancy <= 1e-10)


def test_badly_scaled_states_are_scaled_first():
    """Structures before their Gramians are formed, dense systems after."""
    sys = build_system(np.random.default_rng(4), "rotation", n=6)
    t = 10.0 ** np.repeat([9, -3, -12], 2)
    scaled = lti.LTI(sys.A, t[:, None] * sys.B, sys.C / t)
    for given_sys, expected_sys in ((scaled, sys), (scaled.to_dense(), sys.to_dense())):
        value, gradient = lti.hankel_sum_and_gradient(given_sys)
        expected, expected_gradient = lti.hankel_sum_and_gradient(expected_sys)
        assert value == pytest.approx(expected, rel=1e-12)
        assert gradient.discrepancy <= 1e-12
        np.testing.assert_allclose(gradient.B * t[:, None], expected_gradient.B, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-130, 1e-100, 1e80])
def test_units_of_inputs_and_outputs(scale):
    """The sum has the unit of B C, its gradient to B that of C."""
    A = lti.Rotation([0.9, 0.5], [1.0, 2.0])
    B, C = np.arange(1.0, 5.0)[:, None], np.array([[1.0, -1.0, 2.0, 0.3]])
    expected, expected_gradient = lti.hankel_sum_and_gradient(lti.LTI(A, B, C))
    value, gradient = lti.hankel_sum_and_gradient(lti.LTI(A, scale * B, scale * C))
    assert value / scale / scale == pytest.approx(expected, rel=1e-12)
    assert gradient.discrepancy <= 1e-12
    np.testing.assert_allclose(gradient.B / scale, expected_gradient.B, rtol=1e-10)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.5])
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_the_reported_accuracy_covers_small_powers(p):
    """Σσ^p counts values that are rounding beside σ_1."""
    poles = np.linspace(0.1, 0.9, 16)
    sys = lti.LTI(lti.Diagonal(poles), np.ones((16, 1)), np.ones((1, 16)))
    value, gradient = lti.hankel_sum_and_gradient(sys, lti.schatten(p))
    exact = np.sum(lti.hankel_singular_values(sys, accuracy="relative") ** p)
    assert abs(value / exact - 1) <= gradient.discrepancy


def test_lost_accuracy_comes_with_a_warning():
    """P is strong where Q is weak, in directions that no scaling of the states separates."""
    c, s = np.cos(0.7), np.sin(0.7)
    U, weak = np.array([[c, -s], [s, c]]), 1e-6
    sys = lti.LTI(lti.Diagonal([0.5, 0.5]), U @ np.diag([1, weak]), np.diag([weak, 1]) @ U.T)
    with pytest.warns(lti.PrecisionWarning, match="relative error of") as caught:
        value, gradient = lti.hankel_sum_and_gradient(sys)
    error = abs(value / (2 * weak / 0.75) - 1)
    assert 1e-6 < error < gradient.discrepancy < 1e-3
    assert caught[0].filename == __file__


def test_values_far_below_others_next_to_a_slow_pole():
    """Tails of σ_i keep 1e-15 ‖P‖‖Q‖/σ_i: residuals of a Gramian's equation, of which a pole 3e-6
    from the axis makes more, do not count. (A companion form; values in 50 digits.)"""
    A = np.eye(5, k=-1) * 2
    A[0] = (
        -133.4445146191186,
        -2255.4135356992615,
        -863.1864359226693,
        -3088.3765225180164,
        -18.307744610855135,
    )
    b = [
        -0.03123476100134564,
        -7.333005159591377e-05,
        -1.30653600112533e-10,
        1.1651653043837078e-12,
        -3.731832873373892e-16,
    ]
    c = [
        -0.5608756387637809,
        -8.050405325003633e-09,
        -6.889946894961636e-13,
        9.177288710363307e-05,
        3.3671676941668353e-16,
    ]
    sys = lti.LTI(A, np.reshape(b, (5, 1)), [c], dt=0)
    with mpmath.workdps(50):
        P, Q = (_lyapunov(F, W @ W.T) for F, W in ((A, sys.B), (A.T, sys.C.T)))
        sigma = sorted(mpmath.sqrt(abs(x)) for x in mpmath.eig(P * Q, left=False, right=False))
    # tr P tr Q in states in which both have the same diagonal.
    sizes = sum(math.sqrt(P[i, i] * Q[i, i]) for i in range(5)) ** 2
    allowed = sum(1e-15 * sizes / float(x) for x in sigma[:-1])
    value, _ = lti.hankel_sum_and_gradient(sys, lti.tail(1))
    assert value == pytest.approx(float(sum(sigma[:-1])), rel=0, abs=allowed)


def _lyapunov(A, Q):
    """A X + X Aᵀ + Q = 0 in the digits at hand."""
    n, eye = len(A), np.eye(len(A))
    equations = mpmath.matrix((np.kron(A, eye) + np.kron(eye, A)).tolist())
    x = mpmath.lu_solve(equations, mpmath.matrix((-Q.ravel()).tolist()))
    return mpmath.matrix(np.array(list(x)).reshape(n, n).tolist())
