"""Sums, products, parts and loops of systems against their responses and matrices by hand."""

import itertools
import operator
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, dense
from strategies import STRUCTURES, build_system, seeds

import lticore as lti

OMEGA = np.linspace(-3, 3, 13)


def make(rng, structure, m=2, p=2, batch=(), feedthrough=True):
    return build_system(rng, structure, m=m, p=p, batch=batch, feedthrough=feedthrough)


def response(sys):
    return lti.frequency_response(sys, OMEGA)


def assert_close(found, expected, size):
    """Responses of one system in two orders of the states: sums of n terms of this size."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e3 * EPS * size


@pytest.mark.parametrize("second", STRUCTURES)
@pytest.mark.parametrize("first", STRUCTURES)
def test_responses_are_added_and_multiplied(first, second):
    rng = np.random.default_rng(STRUCTURES.index(first) + 10 * STRUCTURES.index(second))
    G, H = make(rng, first, batch=(3, 1)), make(rng, second, batch=(2,), feedthrough=False)
    g, h = response(G), response(H)
    size = np.abs(g).max() * np.abs(h).max() + np.abs(g).max() + np.abs(h).max()
    assert_close(response(G + H), g + h, size)
    assert_close(response(G - H), g - h, size)
    assert_close(response(G @ H), g @ h, size)
    assert_close(response(H @ G), h @ g, size)
    assert_close(response(-G), -g, size)
    assert_close(response(G * 2.5 - G / 2), 2 * g, size)
    assert (G + H).order == (G @ H).order == G.order + H.order


def kinds(first, second):
    rng = np.random.default_rng(0)
    return type((make(rng, first) + make(rng, second)).A)


def test_sums_keep_structure():
    rotations = {s for s in STRUCTURES if "rotation" in s}
    assert kinds("real diagonal", "real diagonal") is lti.Diagonal
    assert kinds("complex diagonal", "real diagonal") is lti.Diagonal
    for rotation in rotations:
        assert kinds(rotation, "real diagonal") is kinds("real diagonal", rotation) is lti.Rotation
        assert all(kinds(rotation, other) is lti.Rotation for other in rotations)
        assert kinds(rotation, "complex diagonal") is lti.Diagonal
    assert kinds("dense", "real diagonal") is np.ndarray


def test_sums_of_real_diagonal_systems_stay_real():
    rng = np.random.default_rng(0)
    found = make(rng, "real diagonal") + make(rng, "real diagonal")
    assert found.dtype == np.float64
    assert found.A.poles.dtype == np.float64


def test_matrices_of_a_series():
    first = lti.LTI([[0.5]], [[2.0]], [[3.0]], [[7.0]])
    second = lti.LTI([[0.25]], [[5.0]], [[11.0]], [[13.0]])
    sys = second @ first
    assert np.array_equal(sys.A, [[0.5, 0], [15.0, 0.25]])
    assert np.array_equal(sys.B, [[2.0], [35.0]])
    assert np.array_equal(sys.C, [[39.0, 11.0]])
    assert np.array_equal(sys.D, [[91.0]])
    assert (replace(second, D=None) @ first).D is None


@pytest.mark.parametrize("structure", STRUCTURES)
def test_matrices_are_gains(structure):
    rng = np.random.default_rng(1)
    sys, M = make(rng, structure, m=2, p=3), rng.normal(size=(4, 3))
    for found, expected in (
        (M @ sys, M @ response(sys)),
        (sys @ M[:2], response(sys) @ M[:2]),
        (sys + M[:3, :2], response(sys) + M[:3, :2]),
        (M[:3, :2] - sys, M[:3, :2] - response(sys)),
    ):
        assert type(found.A) is type(sys.A)
        assert found.order == sys.order
        assert_close(response(found), expected, np.abs(expected).max() + np.abs(M).max() * 10)


def test_numbers_change_neither_precision_nor_structure():
    rng = np.random.default_rng(2)
    sys = make(rng, "rotation")
    single = lti.LTI(
        lti.Rotation(sys.A.radius.astype("f4"), sys.A.angle.astype("f4")),
        *(x.astype("f4") for x in (sys.B, sys.C, sys.D)),
    )
    for factor in (2, 2.0, np.float64(2), np.float32(2), np.array(2)):
        for product in (factor * single, single * factor, single / (1 / factor)):
            assert product.dtype == np.float32
            assert np.array_equal(product.C, 2 * single.C)
            assert np.array_equal(product.D, 2 * single.D)
    assert np.iscomplexobj((1j * sys).C)
    assert (single + sys).dtype == np.float64


@pytest.mark.parametrize("order", [0, 3])
def test_difference_with_itself_is_zero(order):
    rng = np.random.default_rng(3)
    sys = lti.LTI(
        lti.Diagonal(rng.uniform(-0.9, 0.9, order)),
        rng.normal(size=(order, 2)),
        rng.normal(size=(2, order)),
        np.ones((2, 2)),
    )
    nothing = sys - sys
    assert lti.hankel_norm(nothing) <= 1e-7 * max(float(lti.hankel_norm(sys)), 1)
    assert np.array_equal(nothing.D, np.zeros((2, 2)))


def test_what_functions_take_for_a_system_is_an_operand():
    control = pytest.importorskip("control")
    rng = np.random.default_rng(4)
    sys = make(rng, "dense", m=1, p=1)
    A, B, C, D, dt = lti.to_statespace(sys, "tuple")
    objects = [
        (A, B, C, D),
        (A, B, C, D, dt),
        scipy.signal.dlti(A, B, C, D),
        control.ss(A, B, C, D, True),
    ]
    for other in objects:
        for found in (sys + other, sys @ other, sys - other):
            assert found.order == 2 * sys.order
    assert (objects[0] + sys).order == (objects[0] @ sys).order == 2 * sys.order


@pytest.mark.parametrize(
    ("combine", "error", "message"),
    [
        (lambda sys: sys + 1, lti.ArgumentError, "the other operand .int. is not a system"),
        (lambda sys: sys * sys, lti.ArgumentError, "with @"),
        (lambda sys: sys * np.ones((2, 2)), lti.ArgumentError, "with @"),
        (lambda sys: sys * "a", lti.ArgumentError, "with @"),
        (lambda sys: sys * np.nan, lti.NonFiniteError, "factor"),
        (lambda sys: sys / 0, lti.ArgumentError, "/ 0 is not a system"),
        (lambda sys: sys[[0, [1]]], lti.BatchIndexError, "of a batch of shape ()"),
        (lambda sys: sys + np.ones(2), lti.ShapeError, "a gain has shape"),
        (lambda sys: sys + np.ones((1, 2)), lti.ShapeError, "have no sum"),
        (lambda sys: np.ones((3, 1)) @ sys, lti.ShapeError, "the first system has 2 outputs"),
        (
            lambda sys: sys + lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, np.zeros((2, 1, 1))),
            lti.ArgumentError,
            "quadratic outputs",
        ),
        (lambda sys: sys[0], lti.BatchIndexError, "of a batch of shape ()"),
        (list, lti.BatchIndexError, "no batch"),
        (lambda sys: lti.feedback(sys, sign=2), lti.ArgumentError, "sign=2"),
        (lambda sys: lti.feedback(sys, np.ones((1, 2))), lti.ShapeError, "the controller"),
        (lambda sys: lti.feedback(np.ones((1, 2)) @ sys), lti.ShapeError, "give a controller"),
        (lambda sys: lti.feedback(sys + np.eye(2), sign=1), lti.SingularEquationError, "loop"),
    ],
)
def test_what_does_not_go_together_is_refused(combine, error, message):
    sys = lti.LTI([[0.5]], [[1.0, 2.0]], [[1.0], [0.0]])
    with pytest.raises(error, match=message):
        combine(sys)


# --- parts of a batch -------------------------------------------------------------------------

INDICES = [
    0,
    -1,
    (1, 0),
    slice(1),
    (slice(None), 1),
    Ellipsis,
    (..., 1),
    (1, ...),
    [0, 2],
    np.array([True, False, True]),
    ([0, 1], [1, 0]),
    (None, 0),
    (),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_parts_are_those_of_the_arrays(structure, index):
    sys = make(np.random.default_rng(5), structure, batch=(3, 2))
    found = sys[index]
    numbers = np.arange(6).reshape(3, 2)[index]
    assert found.batch_shape == np.shape(numbers)
    assert type(found.A) is type(sys.A)
    flat = [dense(sys.A), sys.B, sys.C, sys.D]
    for X, Y in zip(flat, (dense(found.A), found.B, found.C, found.D), strict=True):
        whole = X.reshape(6, *X.shape[2:])[np.ravel(numbers)]
        assert np.array_equal(Y.reshape(whole.shape), whole)


def test_batches_are_walked_through_and_end():
    sys = make(np.random.default_rng(5), "rotation", batch=(3, 2))
    assert [part.batch_shape for part in sys] == [(2,)] * 3
    for index in (3, (0, 2), (0, 0, 0), "a", 0.5):
        with pytest.raises(lti.BatchIndexError, match="of a batch of shape"):
            sys[index]


# --- feedback ---------------------------------------------------------------------------------


@given(seed=seeds(), sign=st.sampled_from([-1, 1]))
def test_closed_loops_answer_as_their_equations(seed, sign):
    rng = np.random.default_rng(seed)
    H = make(rng, STRUCTURES[seed % len(STRUCTURES)], m=3, p=2)
    K = make(rng, STRUCTURES[seed // 7 % len(STRUCTURES)], m=2, p=3)
    h, k = response(H), response(K)
    loop = np.eye(2) - sign * h @ k
    expected = np.linalg.solve(loop, h)
    found = response(lti.feedback(H, K, sign))
    closed = lti.feedback(H, K, sign)
    # Both solve with the loop, at each frequency and at once through its states.
    near = np.abs(np.exp(1j * OMEGA)[:, None] - closed.poles).min()
    condition = np.linalg.cond(loop).max() * np.linalg.cond(np.eye(3) - sign * K.D @ H.D)
    size = condition * np.linalg.norm(dense(closed.A), 2) / near
    scale = np.linalg.norm(closed.B) * np.linalg.norm(closed.C) / near + np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e3 * EPS * size * scale


def test_a_loop_by_hand():
    """H = 1/(z − 1/2) + 1, K = 3: H/(1 + 3 H) = (z + 1/2)/(4 z + 1)."""
    sys = lti.LTI([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    closed = lti.feedback(sys, [[3.0]] @ np.eye(1))
    assert closed.A.item() == float(Fraction(-1, 4))
    z = np.exp(1j * OMEGA)
    assert np.abs(response(closed)[:, 0, 0] - (z + 0.5) / (4 * z + 1)).max() <= 10 * EPS
    gain = lti.feedback(lti.LTI(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), 1.0))
    assert gain.order == 0
    assert gain.D.item() == 0.5


def test_loops_as_python_control_closes_them():
    control = pytest.importorskip("control")
    rng = np.random.default_rng(6)
    H, K = (replace(make(rng, "dense", m=2, p=2), dt=0.1) for _ in range(2))
    expected = control.feedback(*(lti.to_statespace(x, "control") for x in (H, K)))
    found = lti.feedback(H, K)
    assert found.dt == 0.1
    for name in "ABCD":
        scale = np.abs(getattr(expected, name)).max()
        assert np.abs(getattr(found, name) - getattr(expected, name)).max() <= 1e3 * EPS * scale


# --- sampling time ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "joint"),
    [(True, True, True), (True, 0.5, 0.5), (0.5, 0.5, 0.5), (1, True, 1.0), (0, 0, 0.0)],
)
def test_sampling_times_that_go_together(first, second, joint):
    systems = [lti.LTI([[0.5]], [[1.0]], [[1.0]], dt=dt) for dt in (first, second)]
    for pair in (systems, systems[::-1]):
        for combine in (operator.add, operator.sub, operator.matmul):
            dt = combine(*pair).dt
            assert dt == joint
            assert type(dt) is type(joint)


@pytest.mark.parametrize("times", [(0.5, 0.25), (0, True), (0, 0.5), (1.0, 0)])
def test_sampling_times_that_do_not(times):
    first, second = (lti.LTI([[0.5]], [[1.0]], [[1.0]], dt=dt) for dt in times)
    for pair in ((first, second), (second, first)):
        with pytest.raises(lti.ArgumentError, match="do not go together"):
            operator.add(*pair)
    if 0 not in times:
        for function in (lti.h2_error, lti.hinf_error, lti.hankel_error, lti.feedback):
            with pytest.raises(lti.ArgumentError, match="do not go together"):
                function(first, second)


@pytest.mark.parametrize("dt", [None, False, -1, np.nan, np.inf, "a", 1j, [0.1], np.False_])
def test_what_is_no_sampling_time(dt):
    with pytest.raises(lti.ArgumentError, match="dt = "):
        lti.LTI([[0.5]], [[1.0]], [[1.0]], dt=dt)


def test_continuous_systems_are_added_but_refused_where_time_is_discrete():
    sys = lti.LTI(lti.Diagonal([-1.0, -2.0]), [[1.0], [1.0]], [[1.0, 1.0]], dt=0)
    assert sys.is_continuous
    assert not lti.LTI([[0.5]], [[1.0]], [[1.0]], dt=0.1).is_continuous
    assert (sys - sys).is_continuous
    assert (2 * sys @ sys).is_continuous
    assert "dt 0" in repr(sys)
    with pytest.raises(lti.ArgumentError, match="continuous-time system"):
        lti.simulate(sys, np.zeros((3, 1)))


def quadratic(sys):
    forms = np.stack([np.eye(sys.order)] * sys.outputs)
    return lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, forms, dt=sys.dt)


#: Functions that make a system of another.
MADE = {
    "to_dense": lambda sys: sys.to_dense(),
    "part": lambda sys: lti.LTI(sys.A, sys.B[None], sys.C, dt=sys.dt)[0],
    "negative": operator.neg,
    "twice": lambda sys: sys + sys,
    "feedback": lti.feedback,
    "balanced_truncation": lambda sys: lti.balanced_truncation(sys, order=2).system,
    "match_dc": lambda sys: lti.balanced_truncation(sys, order=2, match_dc=True).system,
    "horizon": lambda sys: lti.balanced_truncation(sys, order=2, horizon=5).system,
    "keep": lambda sys: lti.balanced_truncation(sys, order=2, unstable="keep").system,
    "modal_truncation": lambda sys: lti.modal_truncation(sys, 2).system,
    "h2_reduction": lambda sys: lti.h2_reduction(sys, 2, starts=1).system,
    "refit_outputs": lambda sys: (
        lti.refit_outputs(sys, [(np.ones((9, 2)) * np.arange(9)[:, None], np.ones((9, 2)))]).system
    ),
    "diagonalize": lti.diagonalize,
    "to_rotation": lti.to_rotation,
    "well_conditioned": lambda sys: lti.well_conditioned(sys).system,
    "scipy": lambda sys: lti.from_statespace(lti.to_statespace(sys)),
    "control": lambda sys: lti.from_statespace(lti.to_statespace(sys, "control")),
    "tuple": lambda sys: lti.from_statespace(lti.to_statespace(sys, "tuple")),
    "quadratic": lambda sys: (
        lti.balanced_truncation(
            lti.QuadraticOutputLTI(
                sys.A, sys.B, sys.C, np.stack([np.eye(sys.order)] * 2), dt=sys.dt
            ),
            order=2,
        ).system.linear
    ),
    "quadratic h2": lambda sys: (
        lti.h2_reduction(
            lti.QuadraticOutputLTI(
                sys.A, sys.B, sys.C, np.stack([np.eye(sys.order)] * 2), dt=sys.dt
            ),
            2,
            starts=1,
        ).system.linear
    ),
}


@pytest.mark.parametrize("dt", [True, 0.125])
@pytest.mark.parametrize("structure", ["rotation", "dense", "real diagonal"])
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("single", [False, True])
def test_sampling_time_survives(name, structure, dt, single):
    if name == "control":
        pytest.importorskip("control")
    rng = np.random.default_rng(7)
    sys = replace(build_system(rng, structure, n=4), dt=dt)
    if single:
        sys = lti.LTI(
            lti.systems.structure.map_parameters(np.float32, sys.A),
            np.float32(sys.B),
            np.float32(sys.C),
            dt=dt,
        )
    found = MADE[name](sys).dt
    assert found == dt
    assert type(found) is type(dt)


def test_complex_truncation_keeps_the_sampling_time():
    A = lti.Rotation([0.9, 0.5], [0.3, 1.0])
    sys = lti.LTI(A, np.ones((4, 1)), np.ones((1, 4)), dt=0.5)
    assert lti.complex_balanced_truncation(sys, order=2).system.dt == 0.5


def test_discretize_gives_the_step():
    A, B, C = [[-1.0]], [[1.0]], [[1.0]]
    for method in ("zoh", "bilinear"):
        for state_matrix in (A, lti.Diagonal([-1.0])):
            assert lti.discretize(state_matrix, B, C, step=0.25, method=method).dt == 0.25
            several = lti.discretize(state_matrix, B, C, step=np.array([0.25, 0.5]), method=method)
            assert several.dt is True
    assert lti.discretize(A, B, C, step=0.25, E=[[2.0]]).dt == 0.25


def test_another_sampling_time_on_the_way_out():
    sys = lti.LTI([[0.5]], [[1.0]], [[1.0]])
    assert lti.to_statespace(sys).dt is True
    assert lti.to_statespace(sys, dt=0.01).dt == 0.01


# --- errors -----------------------------------------------------------------------------------


def test_errors_by_hand():
    """1/(z − 1/2) − 1/(z − 1/4): σ of the difference and its peak by exact formulas."""
    full, small = (lti.LTI([[a]], [[1.0]], [[1.0]]) for a in (0.5, 0.25))
    # Markov parameters 2^-k − 4^-k; the largest gain is at z = 1.
    assert lti.hinf_error(full, small) == pytest.approx(2 - Fraction(4, 3), rel=1e-6)
    k = np.arange(1, 120)
    h = 0.5 ** (k - 1) - 0.25 ** (k - 1)
    sigma = scipy.linalg.svdvals(scipy.linalg.hankel(h[:60], h[59:]))
    assert lti.hankel_error(full, small) == pytest.approx(sigma[0], rel=1e-13)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_errors_are_norms_of_the_difference(structure):
    sys = make(np.random.default_rng(8), structure, batch=(2,))
    reduction = lti.balanced_truncation(sys, order=max(1, sys.order // 2))
    small = reduction.system
    assert np.all(lti.hinf_error(sys, small) <= reduction.error_bound)
    tail = reduction.singular_values[..., small.order]
    # No system of r states comes nearer in the Hankel norm than σ_{r+1}.
    assert np.all(lti.hankel_error(sys, small) >= tail * (1 - 1e-9))
    assert np.all(lti.hankel_error(sys, small) <= lti.hinf_error(sys, small) * (1 + 1e-9))


@pytest.mark.parametrize("continuous", [False, True])
def test_errors_between_structures_of_single_precision_are_those_of_double(continuous):
    """From a dense system that gives nothing a weakly damped mode differs by all of itself. A dense
    A in float32 moves its pole by some 6e-8, which is 6e-4 of its distance to the boundary."""
    size, turn = np.float32([1e-4 if continuous else 1 - 1e-4]), np.float32([0.7])
    A = lti.Oscillation(size, turn) if continuous else lti.Rotation(size, turn)
    B, C = np.float32([[1.0], [0.5]]), np.float32([[0.3, 1.0]])
    dt = 0 if continuous else True
    sys = lti.LTI(A, B, C, dt=dt)
    nothing = lti.LTI(np.float32([[-0.5]]), np.float32([[1]]), np.float32([[0]]), dt=dt)
    for error, norm in ((lti.hinf_error, lti.hinf_norm), (lti.hankel_error, lti.hankel_norm)):
        for pair in ((sys, nothing), (nothing, sys)):
            assert error(*pair).dtype == np.float32
            assert error(*pair) == pytest.approx(norm(sys), rel=2.0**-21)


def test_errors_beside_complex_poles_keep_the_distance_to_the_circle():
    """1 − ρ = 2^−33, which the two poles ρ e^{±iθ} as complex numbers hold to 1e-6; for the real
    system of x⁺ = ρ Q_θ x + e_1 u, y = x_1, less 1/(z − i/2)."""
    radius, theta = 1 - 2.0**-33, 0.7
    sys = lti.LTI(lti.Rotation([radius], [theta]), [[1.0], [0.0]], [[1.0, 0.0]])
    other = lti.LTI(lti.Diagonal([0.5j]), [[1.0 + 0j]], [[1.0 + 0j]])
    with mpmath.workdps(50):
        poles = [mpmath.mpf(radius) * mpmath.expjpi(s * theta / mpmath.pi) for s in (1, -1)]
        poles.append(mpmath.mpc(0, 0.5))
        residues = [mpmath.mpf(0.5), mpmath.mpf(0.5), mpmath.mpf(-1)]
        z = mpmath.expj(mpmath.mpf(theta))
        peak = abs(sum(r / (z - x) for r, x in zip(residues, poles, strict=True)))
        # b_i = 1 and c_i = r_i.
        P, Q = mpmath.matrix(3), mpmath.matrix(3)
        for i, j in itertools.product(range(3), repeat=2):
            P[i, j] = 1 / (1 - poles[i] * mpmath.conj(poles[j]))
            Q[i, j] = residues[i] * residues[j] / (1 - mpmath.conj(poles[i]) * poles[j])
        squares, _ = mpmath.eig(P * Q)
        sigma = mpmath.sqrt(max(abs(x) for x in squares))
    for first, second in ((sys, other), (other, sys)):
        assert lti.hankel_error(first, second) == pytest.approx(float(sigma), rel=1e-13)
        assert lti.hinf_error(first, second) == pytest.approx(float(peak), rel=2e-8)
