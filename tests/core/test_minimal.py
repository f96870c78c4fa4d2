"""Minimal realizations: of literature, with exact answers, and of systems in all units."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import lticore as lti

RNG = np.random.default_rng(0)
OMEGA = np.array([0.0, 0.1, 0.7, 2.0, 3.1])


def orthogonal(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def in_states(sys, T):
    """The dense system in the states z of x = T z."""
    A, inverse = lti.systems.structure.to_dense(sys.A), np.linalg.inv(T)
    return lti.LTI(inverse @ A @ T, inverse @ sys.B, sys.C @ T, sys.D, dt=sys.dt)


def assert_same_response(found, sys, rtol=1e-12):
    """By Markov parameters, which exist for unstable systems too, and over frequencies."""
    steps = 2 * sys.order
    if sys.is_continuous:
        A = lti.systems.structure.to_dense(sys.A)
        found, sys = (
            lti.LTI(lti.systems.structure.to_dense(x.A) / np.linalg.norm(A), x.B, x.C, x.D)
            for x in (found, sys)
        )
    for response in (
        lambda x: lti.impulse_response(x, steps),
        lambda x: lti.frequency_response(x, OMEGA + 0.05),
    ):
        expected = response(sys)
        np.testing.assert_allclose(
            response(found), expected, rtol=0, atol=rtol * np.abs(expected).max()
        )


# --- dense ------------------------------------------------------------------------------------


def column_of(transfer_functions):
    """One input, states of each transfer function for itself."""
    parts = [scipy.signal.tf2ss(*x) for x in transfer_functions]
    A, C = (scipy.linalg.block_diag(*[part[i] for part in parts]) for i in (0, 2))
    B, D = (np.vstack([part[i] for part in parts]) for i in (1, 3))
    return lti.LTI(A, B, C, D, dt=0)


@pytest.mark.parametrize("power", [3, 4])
def test_powers_of_an_unstable_pole_in_five_outputs(power):
    """(1/s, 1, s, s², …)/(s − 1)^power: ControlSystems.jl kept all 21 states (its issue 890)."""
    den = np.poly(np.ones(power))
    sys = column_of([([1.0], np.append(den, 0))] + [([1.0] + [0.0] * k, den) for k in range(power)])
    found = lti.minimal_realization(sys)
    assert (sys.order, found.order) == ((power + 1) + power**2, power + 1)
    assert found.h2_error is None
    assert_same_response(found.system, sys, 1e-11)
    np.testing.assert_allclose(
        np.poly(found.system.A), np.append(den, 0), atol=1e-11 * np.abs(den).max()
    )
    again = lti.minimal_realization(found.system)
    assert again.system is found.system


def test_repeated_transfer_functions():
    """[W1, −W1 G; 0, W2; 0, W3 G; 1, −G] has 7 states of four different first-order systems
    (ControlSystems.jl, issue 992)."""
    G, W1, W2, W3 = (
        lti.LTI([[-b / a]], [[c / a]], [[1.0]], dt=0)
        for c, a, b in ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
    )
    B, C = np.zeros((7, 2)), np.zeros((4, 7))
    chains = [(W1,), (W1, G), (W2,), (W3, G), (G,)]
    A = np.zeros((8, 8))
    B, C = np.zeros((8, 2)), np.zeros((4, 8))
    k = 0
    for chain, column, row, sign in zip(
        chains, (0, 1, 1, 1, 1), (0, 0, 1, 2, 3), (1, -1, 1, 1, -1), strict=True
    ):
        for i, part in enumerate(reversed(chain)):
            A[k, k] = part.A[0, 0]
            if i:
                A[k, k - 1] = part.B[0, 0]
            else:
                B[k, column] = part.B[0, 0]
            k += 1
        C[row, k - 1] = sign
    A, B, C = A[:k, :k], B[:k], C[:, :k]
    sys = lti.LTI(A, B, C, [[0, 0], [0, 0], [0, 0], [1, 0]], dt=0)
    found = lti.minimal_realization(sys)
    assert (sys.order, found.order) == (7, 4)
    assert found.h2_error < 1e-14
    assert_same_response(found.system, sys)
    np.testing.assert_allclose(
        np.sort(found.system.poles.real), [-1.5, -1.2, -9 / 8, -12 / 11], atol=1e-13
    )


def hidden(unit=None, dt=True, seed=0, complex_numbers=False):
    """Three states that are reached and observed, an integrator and an unstable one among them, and
    two of each other kind, in orthogonal states or in units; and the three alone."""
    rng = np.random.default_rng(seed)
    shift = -1.0 if dt == 0 else 0.0
    core = np.array([[1.0, 0.5, 0.0], [0.0, 1.25, 1.0], [0.0, 0.0, -0.5]]) + shift * np.eye(3)
    A = rng.standard_normal((9, 9)) / 4 + shift * np.eye(9)
    if complex_numbers:
        A = A + 1j * rng.standard_normal((9, 9)) / 4
    # Kalman's form: reached and not observed, both, neither, observed only.
    part = np.repeat([0, 1, 2, 3], [2, 3, 2, 2])
    leads = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    A = A * leads[part[:, None], part]
    A[2:5, 2:5] = core
    B = rng.standard_normal((9, 2)) * np.isin(part, (0, 1))[:, None]
    C = rng.standard_normal((1, 9)) * np.isin(part, (1, 3))
    whole = lti.LTI(A, B, C, np.ones((1, 2)), dt=dt)
    small = lti.LTI(core, B[2:5], C[:, 2:5], np.ones((1, 2)), dt=dt)
    T = orthogonal(9, seed) if unit is None else np.diag(unit)
    if complex_numbers:
        # Of unitary coordinates those that conj(C) sees are others than those that C sees.
        T = np.linalg.qr(T + 1j * orthogonal(9, seed + 1))[0]
    return in_states(whole, T), small


@pytest.mark.parametrize("dt", [True, 0])
@pytest.mark.parametrize("seed", range(8))
def test_subspaces_that_many_steps_from_one_signal_end_in(seed, dt):
    """21 states of which 5 are needed, one of them unstable: thirteen large couplings in a row hide
    from a staircase that the others are not reached."""
    rng = np.random.default_rng(seed)
    core, unseen, unreached = np.diag([1.2, 0.5, 0.3, -0.7, 0.9]), *rng.standard_normal((2, 8, 8))
    A = scipy.linalg.block_diag(core, unseen / 5, unreached / 5) - (dt == 0) * np.eye(21)
    b, c = rng.standard_normal((2, 21))
    b[13:] = c[5:13] = 0
    whole = lti.LTI(A, b[:, None], c[None, :], dt=dt)
    small = lti.LTI(A[:5, :5], b[:5, None], c[None, :5], dt=dt)
    # Left eigenvectors of 21 states are known to some eps times their condition of 10 to 1000.
    found = lti.minimal_realization(in_states(whole, orthogonal(21, seed)), rtol=1e-11)
    assert found.order == 5
    assert_same_response(found.system, small, 1e-9)


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("dt", [True, 0])
@pytest.mark.parametrize("seed", range(5))
def test_hidden_states_of_all_kinds_go(seed, dt, complex_numbers):
    sys, small = hidden(None, dt, seed, complex_numbers)
    found = lti.minimal_realization(sys)
    assert found.order == 3
    assert found.system.dt == dt
    assert_same_response(found.system, small, 1e-11)
    np.testing.assert_allclose(found.left.conj().T @ found.right, np.eye(3), atol=1e-13)
    np.testing.assert_array_equal(found.left.conj().T @ sys.A @ found.right, found.system.A)


@pytest.mark.parametrize("units", [(0, -100), (-100, 0), (-300, 250)])
def test_inputs_and_outputs_far_apart_all_count(units):
    """An input, and an output, that is 2^-100 as large as the other, each of which moves or sees
    what the other does not."""
    sys, small = hidden()
    by = np.ldexp(1.0, units)
    turned = lti.minimal_realization(lti.LTI(sys.A.T, sys.C.T, (sys.B * by).T)).system
    plain = lti.minimal_realization(lti.LTI(sys.A, sys.B * by, sys.C)).system
    expected = lti.impulse_response(lti.LTI(small.A, small.B, small.C), 8)
    for found in (lti.impulse_response(plain, 8), lti.impulse_response(turned, 8).swapaxes(-1, -2)):
        np.testing.assert_allclose(
            found / by, expected, rtol=0, atol=1e-11 * np.abs(expected).max()
        )
    assert plain.order == turned.order == 3
    # Each input alone moves one of two states that are mixed.
    Q = orthogonal(2)
    apart = lti.LTI(Q @ np.diag([0.5, 0.3]) @ Q.T, Q * by, np.ones((1, 2)))
    assert lti.minimal_realization(apart).order == 2


@pytest.mark.parametrize("seed", range(4))
def test_units_of_states_change_nothing(seed):
    """From 2^−200 to 2^200; the patterns of A, B and C tell all but what they share."""
    unit = np.ldexp(1.0, np.random.default_rng(seed).integers(-200, 201, 9))
    sys, small = hidden(unit, seed=seed)
    found = lti.minimal_realization(sys)
    assert found.order == 3
    assert_same_response(found.system, small, 1e-12)
    # The same with hidden states that no pattern shows.
    rotated, small = hidden(seed=seed)
    scaled = lti.minimal_realization(in_states(rotated, np.diag(unit)))
    assert scaled.order == 3
    assert_same_response(scaled.system, small, 1e-11)


@pytest.mark.parametrize("exponent", [-120, 120])
def test_units_of_signals_change_nothing(exponent):
    rotated, _ = hidden()
    unit = 2.0**exponent
    sys = lti.LTI(rotated.A, rotated.B * [1, unit], rotated.C * unit, None)
    one = lti.minimal_realization(lti.LTI(rotated.A, rotated.B, rotated.C))
    other = lti.minimal_realization(sys)
    assert other.order == 3
    np.testing.assert_allclose(
        lti.impulse_response(other.system, 8) / unit / [1, unit],
        lti.impulse_response(one.system, 8),
        atol=1e-12,
    )


@pytest.mark.parametrize("delays", [1, 3, 8])
def test_delays_in_cascade_with_a_cancelled_pole(delays):
    """(z − ½)/z^k · 1/(z − ½), the pole cancelled before or after, is z^{−k}."""
    num, den = np.array([1.0, -0.5]), np.eye(1, delays + 1)[0]
    shifts = lti.LTI(*scipy.signal.tf2ss(np.append(num, []), np.append(den, [])))
    pole = lti.LTI([[0.5]], [[1.0]], [[1.0]])
    for sys in (shifts @ pole, pole @ shifts):
        assert sys.order == delays + 1
        found = lti.minimal_realization(in_states(sys, orthogonal(delays + 1)))
        assert found.order == delays
        expected = np.eye(1, 20, delays)[0]
        np.testing.assert_allclose(
            lti.impulse_response(found.system, 20)[:, 0, 0], expected, atol=1e-13
        )
        np.testing.assert_allclose(np.linalg.matrix_power(found.system.A, delays), 0, atol=1e-13)


def test_repeated_poles_are_kept_as_far_as_they_are_needed():
    """A Jordan block of order 4 next to one of order 2 of the same pole; one input needs four."""
    J = scipy.linalg.block_diag(*(np.eye(k) * 1.5 + np.eye(k, k=1) for k in (4, 2)))
    B, C = np.array([[0, 0, 0, 1.0, 0, 1]]).T, np.array([[1.0, 0, 0, 0, 1, 0]])
    sys = in_states(lti.LTI(J, B, C), orthogonal(6))
    found = lti.minimal_realization(sys)
    assert found.order == 4
    assert_same_response(found.system, sys, 1e-11)


def test_a_difference_of_equal_systems_is_a_gain():
    sys = hidden()[1]
    found = lti.minimal_realization(sys - in_states(sys, orthogonal(3)))
    assert found.order == 0
    np.testing.assert_allclose(found.system.D, np.zeros((1, 2)))


@pytest.mark.parametrize("dt", [True, 0.5, 0])
def test_minimal_systems_are_returned_as_they_are(dt):
    sys = hidden(dt=dt)[1]
    assert lti.minimal_realization(sys).system is sys
    assert lti.minimal_realization(sys).h2_error == 0
    # A long chain of faint couplings is reached all the same.
    chain = lti.LTI(np.eye(30, k=-1) * 1e-3 + np.eye(30) / 2, np.eye(30, 1), np.ones((1, 30)))
    assert lti.minimal_realization(chain).system is chain


@pytest.mark.parametrize("dt", [True, 0])
@pytest.mark.parametrize(("b", "c"), [(-500, -500), (-500, 500), (0, -500), (500, 500)])
def test_chains_in_units_of_states_signals_and_time(dt, b, c):
    """x1 ← x2 ← … through couplings of the size of the poles is minimal in all units: edges of a
    ring in which B and C of 2^−500 are two were 2^−249 beside the poles, and none were left."""
    for n, time, wide in itertools.product((2, 5, 12), (-30, 0, 30), (1, 200)):
        unit = np.random.default_rng(n).integers(-wide, wide + 1, n)
        A = np.ldexp(0.7 * np.eye(n, k=-1) - np.eye(n), time + unit - unit[:, None])
        B, C = np.zeros((n, 2)), np.zeros((2, n))
        B[0, 0], B[:, 1], C[0, -1], C[1] = 1, 0.5, 1, 0.25
        B, C = np.ldexp(B, b - unit[:, None]), np.ldexp(C, c + unit)
        sys = lti.LTI(A, B, C, dt=dt)
        assert lti.minimal_realization(sys).system is sys


def test_inputs_and_outputs_have_no_size_in_bad_units_of_the_states():
    """x2 beside x1: its input and its output are all there is of u1 and y2 in other units."""
    A, unit = np.array([[-0.75, 0.01], [0.0, -0.75]]), np.array([219, 30])
    B, C = np.array([[0.005, 1.0], [1.0, 0.0]]), np.array([[1.7, 0.0], [-0.1, 1.0]])
    A, B, C = (
        np.ldexp(X, e)
        for X, e in ((A, unit - unit[:, None]), (B, -300 - unit[:, None]), (C, unit - 300))
    )
    sys = lti.LTI(A, B, C)
    assert lti.minimal_realization(sys).system is sys


def test_equal_modes_whose_states_have_units_of_their_own():
    """The second mode, in states 2^200 as large, is reached by the input of the first one, too
    faintly to be seen, and by one of its own; all residues are of rank 2."""
    b, c = np.array([[0.0, 1.0], [1.0, 2.0]]), np.array([[2.0, 2.0], [3.0, 1.0]])
    unit = np.array([0, 200])
    b, c = np.ldexp(b, -unit[:, None]), np.ldexp(c, unit)
    for A in (lti.Diagonal([0.5, 0.5]), lti.Rotation([], [], [0.5, 0.5])):
        sys = lti.LTI(A, b, c)
        assert lti.minimal_realization(sys).system is sys
    blocks = lti.LTI(
        lti.Rotation([0.5, 0.5], [1.0, 1.0]), np.repeat(b, 2, axis=0), np.repeat(c, 2, axis=1)
    )
    assert lti.minimal_realization(blocks).system is blocks


def test_equal_modes_of_inputs_that_others_drive_harder():
    """Three modes of one pole, u2 to y1 alone, u1 to y1 and y2 by two of them, of which one is
    2^150 as large as it need be: C B = [[3, 1], [1, 0]] takes two."""
    unit = np.array([0, 0, 150])
    b = np.ldexp([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], unit[:, None])
    c = np.ldexp([[1.0, 1.0, 2.0], [0.0, 0.0, 1.0]], -unit)
    found = lti.minimal_realization((lti.Diagonal([0.5, 0.5, 0.5]), b, c))
    assert found.order == 2
    np.testing.assert_allclose(found.system.C @ found.system.B, [[3, 1], [1, 0]], atol=1e-14)


def test_the_tolerance_decides_on_couplings():
    rotated, small = hidden()
    sys = in_states(rotated, np.eye(9) + 100 * np.eye(9, k=3))
    assert lti.minimal_realization(sys).order > 3
    found = lti.minimal_realization(sys, rtol=1e-10)
    assert found.order == 3
    assert_same_response(found.system, small, 1e-6)
    with pytest.warns(lti.PrecisionWarning, match="the response is another one, by .*lower rtol"):
        lti.minimal_realization(in_states(rotated, np.eye(9) + 300 * np.eye(9, k=3)), rtol=1e-8)


def test_single_precision():
    sys, small = hidden()
    single = lti.LTI(*(x.astype(np.float32) for x in (sys.A, sys.B, sys.C, sys.D)))
    found = lti.minimal_realization(single)
    assert found.order == 3
    assert found.system.A.dtype == np.float32
    assert_same_response(found.system, small, 1e-4)


def test_batches():
    sys = [hidden(seed=seed)[0] for seed in range(3)]
    A, B, C, D = (np.stack([getattr(x, name) for x in sys]) for name in "ABCD")
    found = lti.minimal_realization(lti.LTI(A, B, C, D))
    assert found.system.A.shape == (3, 3, 3)
    for index in range(3):
        assert_same_response(found.system[index], hidden(seed=index)[1], 1e-11)
    with pytest.raises(lti.ShapeError, match="have minimal realizations of 0 to 3 states"):
        lti.minimal_realization(lti.LTI(A, B * np.array([1, 0, 1])[:, None, None], C))


# --- structured -------------------------------------------------------------------------------


def test_modes_without_input_or_output_go():
    A = lti.Diagonal([2.0, 0.5, -0.5, 1.0, 0.25])
    B = np.array([[1.0, 2], [0, 0], [1e-200, 0], [1, 1], [3, 0]])
    C = np.array([[1.0, 1, 1e-100, 0, 2]])
    sys = lti.LTI(A, B, C)
    found = lti.minimal_realization(sys)
    np.testing.assert_array_equal(found.system.A.poles, [2.0, -0.5, 0.25])
    np.testing.assert_array_equal(found.system.B, B[[0, 2, 4]])
    np.testing.assert_array_equal(found.system.C, C[:, [0, 2, 4]])
    cut = lti.minimal_realization(sys, rtol=1e-8)
    np.testing.assert_array_equal(cut.system.A.poles, [2.0, 0.25])
    assert lti.minimal_realization(found.system).system is found.system


def test_equal_poles_keep_the_rank_of_their_residue():
    """Three equal poles with residues of rank 2 in all, two whose residues cancel, in any units."""
    poles = np.array([0.5, 0.5j, 0.5, 0.5, 0.5j])
    b = RNG.standard_normal((5, 3)) + 1j * RNG.standard_normal((5, 3))
    c = RNG.standard_normal((2, 5))
    b[4], c[:, 4] = -2 * b[1], c[:, 1] / 2
    unit = np.ldexp(1.0, [200, -200, 0, -150, 190])
    sys = lti.LTI(lti.Diagonal(poles), b / unit[:, None], c * unit)
    found = lti.minimal_realization(sys)
    np.testing.assert_array_equal(found.system.A.poles, [0.5, 0.5])
    assert_same_response(found.system, lti.LTI(lti.Diagonal(poles), b, c))
    # With an output more all three of the first are needed.
    more = lti.LTI(lti.Diagonal(poles), b, np.vstack([c, [1.0, 0, 2, 3, 0]]))
    assert lti.minimal_realization(more).order == 3


@pytest.mark.parametrize("kind", ["rotation", "oscillation"])
def test_pairs(kind):
    """Equal pairs, one turning the other way; blocks that are two real poles; and one that no
    output sees."""
    if kind == "rotation":
        A = lti.Rotation([0.9, 0.9, 0.5, 0.8, 0.7], [-0.4, 0.4, 0.0, 1.0, np.pi], [0.5, 0.3, -0.7])
        expected = [0.9], [0.5, -0.7]
    else:
        A = lti.Oscillation([0.1, 0.1, 0.5, 0.8, 0.7], [-2, 2, 0.0, 1.0, 0], [-0.5, -0.3, -0.7])
        expected = [0.1], [-0.5, -0.7]
    B, C = RNG.standard_normal((13, 1)), RNG.standard_normal((1, 13))
    C[:, 6:8] = 0
    B[11] = 0
    sys = lti.LTI(A, B, C, dt=True if kind == "rotation" else 0)
    found = lti.minimal_realization(sys)
    assert type(found.system.A) is type(A)
    first, _, real_poles = found.system.A.parameters
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(np.sort(real_poles)[::-1], np.sort(expected[1])[::-1])
    assert found.h2_error < 1e-13
    assert_same_response(found.system, sys)


def test_blocks_of_radius_zero_may_lose_a_state():
    """They are zero whatever their angle, and their states need not stay together."""
    A = lti.Rotation([0.0, 0.5], [1.0, 1.0])
    sys = lti.LTI(A, [[1.0], [0.0], [1.0], [2.0]], np.ones((1, 4)))
    found = lti.minimal_realization(sys)
    assert found.order == 3
    assert_same_response(found.system, sys)


def test_inputs_of_complex_systems_may_reach_half_a_pair():
    A = lti.Rotation([0.9, 0.8], [0.4, 1.0])
    B = np.array([[1.0], [1j], [2.0], [3.0]])
    sys = lti.LTI(A, B, np.ones((1, 4), dtype=complex))
    found = lti.minimal_realization(sys)
    assert found.order == 3
    assert isinstance(found.system.A, lti.Diagonal)
    assert_same_response(found.system, sys)


def test_batches_of_modes():
    A = lti.Diagonal([[0.5, 0.25, 0.75], [0.1, 0.2, 0.3]])
    B, C = np.ones((2, 3, 1)), np.ones((2, 1, 3))
    B[0, 1], C[1, 0, 0] = 0, 0
    found = lti.minimal_realization(lti.LTI(A, B, C))
    np.testing.assert_array_equal(found.system.A.poles, [[0.5, 0.75], [0.2, 0.3]])
    B[0] = 0
    with pytest.raises(lti.ShapeError, match="take them one by one"):
        lti.minimal_realization(lti.LTI(A, B, C))


def test_a_bad_tolerance_is_refused():
    with pytest.raises(lti.ArgumentError, match="rtol must lie in"):
        lti.minimal_realization(hidden()[0], rtol=-1.0)


def test_poles_far_below_the_entries_of_A():
    """A chain of three delays whose poles are near 1e-110, and one state beside it that nothing
    sees: z − A at twice the poles is singular to working precision."""
    A = np.zeros((4, 4))
    A[1, 0] = A[2, 1] = 1.0
    A[0, 2] = 1e-330 + 1e-300
    A[3, 3] = 1e-200
    B, C = np.array([[1.0], [0], [0], [1.0]]), np.array([[0.0, 0, 1, 0]])
    U = np.kron([[0.6, 0.8], [-0.8, 0.6]], np.eye(2))
    for T in (np.eye(4), U):
        found = lti.minimal_realization((T @ A @ T.T, T @ B, C @ T.T))
        assert found.order == 3
        h = lti.impulse_response(found.system, 6).ravel()
        np.testing.assert_allclose(h, [0, 0, 0, 1, 0, 0], atol=1e-14)
