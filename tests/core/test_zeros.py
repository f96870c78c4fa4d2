"""Zeros of systems with several inputs and outputs."""

import mpmath
import numpy as np
import pytest
from continuous import KINDS, system
from models import slicot_file, slicot_model
from oracles import EPS

import lticore as lti


def assert_zeros(found, expected, rtol):
    """Each expected number once, within ``rtol`` of the largest."""
    expected = np.asarray(expected, dtype=complex).ravel()
    assert len(found) == len(expected)
    left = list(found)
    for x in expected:
        nearest = min(left, key=lambda y: abs(x - y))
        left.remove(nearest)
        assert abs(nearest - x) <= rtol * np.abs(expected).max()


def mixed(channels, before, after, dt=0):
    """``after`` · diag(h_1, …) · ``before`` of channels (zeros, poles, gain)."""
    one = None
    for zeros, poles, gain in channels:
        h = lti.from_zpk(zeros, poles, gain, dt=dt)
        one = h if one is None else beside(one, h)
    return lti.LTI(one.A, one.B @ before, after @ one.C, after @ one.D @ before, dt=dt)


def beside(first, second):
    """diag(H_1, H_2)."""
    n, m, p = first.order, first.inputs, first.outputs
    A, B, C, D = (
        np.zeros((len(x) + len(y), x.shape[1] + y.shape[1]))
        for x, y in zip(
            (first.A, first.B, first.C, first.D),
            (second.A, second.B, second.C, second.D),
            strict=True,
        )
    )
    A[:n, :n], A[n:, n:] = first.A, second.A
    B[:n, :m], B[n:, m:] = first.B, second.B
    C[:p, :n], C[p:, n:] = first.C, second.C
    D[:p, :m], D[p:, m:] = first.D, second.D
    return lti.LTI(A, B, C, D, dt=first.dt)


def in_other_states(sys, rng):
    Q, _ = np.linalg.qr(rng.standard_normal((sys.order, sys.order)))
    return lti.LTI(Q @ sys.A @ Q.T, Q @ sys.B, sys.C @ Q.T, sys.D, dt=sys.dt)


CHANNELS = [
    ([-1.0, -3.0], [-2.0, -4.0, -5.0, -6.0], 1.0),
    ([2.0], [-0.5, -0.75], -3.0),
    ([0.25 + 1j, 0.25 - 1j, 0.5], [-1.5, -2.5 + 2j, -2.5 - 2j], 0.5),
]
ZEROS = [-1, -3, 2, 0.25 + 1j, 0.25 - 1j, 0.5]


@pytest.mark.parametrize("dt", [0, 0.5])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(3, 3), (5, 3), (3, 4), (6, 5)], ids=lambda x: str(x)
)
def test_zeros_of_mixed_channels(inputs, outputs, dt):
    """Neither inputs and outputs that are mixed, nor more of them than the rank of H, nor other
    states change zeros."""
    rng = np.random.default_rng(inputs + 10 * outputs)
    before, after = rng.standard_normal((3, inputs)), rng.standard_normal((outputs, 3))
    sys = mixed(CHANNELS, before, after, dt)
    for one in (sys, in_other_states(sys, rng)):
        assert_zeros(lti.zeros(one), ZEROS, rtol=1e-9)
        adjoint = lti.LTI(one.A.T, one.C.T, one.B.T, one.D.T, dt=dt)
        assert_zeros(lti.zeros(adjoint), ZEROS, rtol=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_units_change_no_zero(seed):
    """Units of states, inputs, outputs and time from 1e-8 to 1e8, where a peer counts other numbers
    of zeros in half of such systems."""
    rng = np.random.default_rng(seed)
    channels, expected = [], []
    for _ in range(rng.integers(1, 4)):
        order = rng.integers(1, 6)
        zeros = rng.permutation(np.arange(-3, 3) + 0.5)[: rng.integers(order + 1)]
        poles = rng.permutation(np.arange(-3.0, 3.0))[:order]
        channels.append((zeros, poles, rng.uniform(1, 3)))
        expected += list(zeros)
    rank = len(channels)
    inputs, outputs = rank + rng.integers(0, 3, 2)
    before, after = rng.standard_normal((rank, inputs)), rng.standard_normal((outputs, rank))
    sys = mixed(channels, before, after)
    sys = in_other_states(sys, rng) if seed % 3 else sys
    x, u, y = (10.0 ** rng.uniform(-8, 8, count) for count in (sys.order, inputs, outputs))
    rate = 10.0 ** rng.uniform(-8, 8)
    A, B = sys.A * x / x[:, None] * rate, sys.B * u / x[:, None] * rate
    found = lti.zeros((A, B, y[:, None] * sys.C * x, y[:, None] * sys.D * u, 0))
    # Five zeros of one channel have conditions of some 1e6.
    assert_zeros(found / rate, expected, rtol=1e-8)


def test_invertible_feedthrough():
    """The eigenvalues of A − B D⁻¹ C: of A + B D⁻¹ C with D a multiple of a rotation those of A."""
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    expected = np.array([-3.0, -1.0, -0.5, 0.0, 2.0, 4.0])
    B, C = rng.standard_normal((6, 2)), rng.standard_normal((2, 6))
    D = 2.0 * np.array([[0.6, 0.8], [-0.8, 0.6]])
    A = Q * expected @ Q.T + B @ np.linalg.inv(D) @ C
    # Zeros of a symmetric matrix, to the roundings of the other matrices.
    assert_zeros(lti.zeros((A, B, C, D, 0)), expected, rtol=100 * EPS * np.linalg.norm(A))


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_of_all_structures(kind):
    """At a zero the pencil loses rank, and there are n − m of two-by-two systems without D."""
    sys = system(np.random.default_rng(3), kind, m=2, p=2)
    sys = lti.LTI(sys.A, sys.B, sys.C, None, dt=0)
    A, n = sys.to_dense().A, sys.order
    found = lti.zeros(sys)
    assert len(found) == n - 2
    for z in found:
        P = np.block([[A - z * np.eye(n), sys.B], [sys.C, np.zeros((2, 2))]])
        sigma = np.linalg.svd(P, compute_uv=False)
        assert sigma[-1] <= 1e4 * EPS * sigma[0]
        assert sigma[-2] > 1e-6 * sigma[0]


def test_zeros_by_determinants_of_many_digits():
    """Of a random system of three inputs, det P(z) = 0 by Newton's method in 50 digits."""
    rng = np.random.default_rng(5)
    n, m = 8, 3
    A, B, C = (rng.standard_normal(shape) for shape in ((n, n), (n, m), (m, n)))
    D = np.diag([1.0, 0.0, 0.0])
    found = lti.zeros((A, B, C, D))
    # D of rank one, C_2 B_2 of rank two: n − 2 zeros.
    assert len(found) == n - 2
    P = mpmath.matrix(np.block([[A, B], [C, D]]).tolist())
    E = mpmath.diag([1] * n + [0] * m)
    with mpmath.workdps(50):
        for z in found:
            exact = mpmath.findroot(lambda s: mpmath.det(P - s * E), mpmath.mpmathify(complex(z)))
            assert abs(complex(exact) - z) <= 1e-11 * max(1, abs(z))


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (2, 1), (2, 3), (4, 2)])
def test_most_systems_that_are_not_square_have_none(inputs, outputs):
    rng = np.random.default_rng(0)
    B, C = rng.standard_normal((7, inputs)), rng.standard_normal((outputs, 7))
    assert len(lti.zeros((rng.standard_normal((7, 7)) / 4, B, C))) == 0


def test_one_zero_of_a_system_that_is_not_square():
    """(s − 3)/(s + 1) before two outputs 1/(s + 2) and 1/(s + 4), which have none in common."""
    first = lti.from_zpk([3.0], [-1.0], 1.0, dt=0)
    both = lti.from_zpk([[[]], [[]]], [[[-2.0]], [[-4.0]]], 1.0, dt=0)
    assert_zeros(lti.zeros(both @ first), [3], rtol=1e-13)


def test_states_that_no_input_reaches_are_zeros():
    A, B = np.diag([-1.0, -2.0, -3.0]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = lti.zeros((A, B, np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), None, 0))
    assert_zeros(found, [-3], 10 * EPS)


def test_systems_of_rank_zero_and_without_states():
    A = np.diag([0.5, 0.25])
    nothing = np.zeros((2, 2))
    assert_zeros(lti.zeros((A, nothing, nothing)), [0.5, 0.25], 0)
    assert len(lti.zeros((A, nothing, np.eye(2)))) == 0
    assert len(lti.zeros(lti.LTI(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((3, 0))))) == 0


def test_dependent_outputs_and_delays():
    """diag(z⁻², z⁻³ (z − 3)) twice: zeros at infinity are none of the list, 3 is one."""
    delay = lti.LTI(np.eye(2, k=1), [[0.0], [1.0]], [[1.0, 0.0]], [[0.0]])
    late = lti.from_zpk([3.0], [0.0, 0.0, 0.0], 1.0)
    both = beside(delay, late)
    twice = lti.LTI(both.A, both.B, np.vstack([both.C, both.C]), np.vstack([both.D, both.D]))
    assert_zeros(lti.zeros(both), [3], rtol=1e-13)
    assert_zeros(lti.zeros(twice), [3], rtol=1e-13)


def test_zeros_in_descriptor_form():
    """E ẋ = A x + B u with E from 1 to 1e-6, whose zeros are those of E⁻¹ A and E⁻¹ B."""
    rng = np.random.default_rng(2)
    sys = mixed(CHANNELS, rng.standard_normal((3, 3)), rng.standard_normal((3, 3)))
    E = np.diag(np.geomspace(1, 1e-6, 9)) @ np.linalg.qr(rng.standard_normal((9, 9)))[0]
    found = lti.zeros(lti.from_descriptor(E, E @ sys.A, E @ sys.B, sys.C, sys.D, dt=0))
    assert_zeros(found, ZEROS, rtol=1e-7)


def test_sampling_by_tustin_maps_zeros():
    """z = (1 + s Δ/2)/(1 − s Δ/2), and zeros at infinity come to −1."""
    rng = np.random.default_rng(4)
    sys = mixed(CHANNELS[:2], rng.standard_normal((2, 2)), rng.standard_normal((2, 2)))
    half = 0.1
    found = lti.zeros(lti.discretize(sys, step=2 * half, method="bilinear"))
    expected = [(1 + s * half) / (1 - s * half) for s in (-1.0, -3.0, 2.0)]
    # 1/s² and 1/s at infinity.
    assert len(found) == 6
    near = np.abs(found + 1) < 1e-4
    assert near.sum() == 3
    assert_zeros(found[~near], expected, rtol=1e-9)


@pytest.mark.skipif(not slicot_file("CDplayer").exists(), reason="the model file is absent")
def test_zeros_of_the_cd_player():
    """At each the pencil is singular to working precision: 116 of 120 states."""
    model = slicot_model("CDplayer")
    found = lti.zeros((model.A, model.B, model.C, None, 0))
    assert len(found) == 116
    size = np.linalg.norm(model.A, 2)
    for z in found[::5]:
        P = np.block([[model.A - z * np.eye(120), model.B], [model.C, np.zeros((2, 2))]])
        assert np.linalg.svd(P, compute_uv=False)[-1] <= 1e3 * EPS * size


# --- zeros, poles and gains of each pair of an input and an output --------------------------------


@pytest.mark.parametrize("dt", [0, True])
def test_zeros_poles_and_gains_of_pairs(dt):
    zeros = [[[-3.0], []], [[0.5 + 1j, 0.5 - 1j], [2.0]]]
    poles = [[[-0.1, -0.2], [-0.3]], [[-0.4, -0.5], [-0.6, -0.7]]]
    gain = np.array([[1.0, -2.0], [0.5, 3.0]])
    sys = lti.from_zpk(zeros, poles, gain, dt=dt)
    assert sys.order == 7
    found_zeros, found_poles, found_gain = lti.to_zpk(sys)
    np.testing.assert_allclose(found_gain, gain, rtol=1e-12)
    for i in range(2):
        for j in range(2):
            assert_zeros(found_zeros[i][j], zeros[i][j], rtol=1e-12)
            assert_zeros(found_poles[i][j], poles[i][j], rtol=1e-14)
    again = lti.from_zpk(found_zeros, found_poles, found_gain, dt=dt)
    omega = np.array([0.1, 1.0, 2.0])
    expected = lti.frequency_response(sys, omega)
    np.testing.assert_allclose(lti.frequency_response(again, omega), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_structured_systems(kind):
    """H_ij = k Π(s − z)/Π(s − p), with the poles that stand between the two only."""
    sys = system(np.random.default_rng(0), kind, m=2, p=3)
    B = np.array(sys.B)
    B[:2, 1] = 0
    sys = lti.LTI(sys.A, B, sys.C, dt=0)
    zeros, poles, gain = lti.to_zpk(sys)
    assert gain.shape == (3, 2)
    assert len(poles[0][0]) == sys.order
    assert len(poles[0][1]) == (sys.order if "dense" in kind else sys.order - 2)
    points = 1j * np.array([0.1, 1.0, 3.0])
    expected = lti.frequency_response(sys, points.imag)
    for i in range(3):
        for j in range(2):
            z, p = (np.prod(points[:, None] - x[i][j], axis=1) for x in (zeros, poles))
            np.testing.assert_allclose(gain[i, j] * z / p, expected[:, i, j], rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lti.zeros(lti.LTI(np.eye(2)[None] / 2, np.eye(2), np.eye(2))), lti.ShapeError,
         "one system"),
        (lambda: lti.to_zpk(lti.LTI(np.eye(2)[None] / 2, np.eye(2), np.eye(2))), lti.ShapeError,
         "one system"),
        (lambda: lti.to_sections((np.eye(2) / 2, np.eye(2), np.eye(2))), lti.ShapeError,
         "one input and one output"),
        (lambda: lti.from_zpk([[[1.0]]], [0.5]), lti.ShapeError, "both"),
        (lambda: lti.from_zpk([[[1.0]]], [[[0.5], [0.5]]]), lti.ShapeError, "rows of"),
        (lambda: lti.from_zpk([[[1.0]]], [[[0.5]]], [1.0, 2.0]), lti.ShapeError, "gains of"),
        (lambda: lti.from_zpk([[[1.0, 2.0]]], [[[0.5]]]), lti.ArgumentError, "not proper"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
