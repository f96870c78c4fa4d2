"""States, inputs and outputs in extreme units: powers of two, which change no digit of a result."""

import flint
import mpmath
import numpy as np
import pytest
from oracles import EPS, adjoint, hankel_values_by_mpmath

import lticore as lti
from lticore.analysis import hinf
from lticore.matrices.balance import balance_dense, state_units

#: Sizes of B and C whose squares are no numbers any more, though their products are.
SIZES = [(-332, -332), (450, -140), (-530, 300), (-900, 1000), (480, 500)]


def first_order(kind, b, c):
    """x⁺ = x/2 + b u, y = c x."""
    if kind == "rotation":
        return lti.LTI(lti.Rotation([], [], [0.5]), [[b]], [[c]])
    return lti.LTI(lti.Diagonal([0.5]) if kind == "diagonal" else [[0.5]], [[b]], [[c]])


@pytest.mark.parametrize("kind", ["diagonal", "rotation", "dense"])
@pytest.mark.parametrize(("b", "c"), SIZES)
def test_norms_and_values_of_signals_of_any_size(kind, b, c):
    """Of the first order all is known: h_k = b c/2^{k−1}."""
    sys, size = first_order(kind, 2.0**b, 3 * 2.0**c), 3 * 2.0 ** (b + c)
    known = {
        lti.h2_norm: 1 / np.sqrt(1 - 0.25),
        lti.hankel_norm: 1 / (1 - 0.25),
        lti.hankel_sum: 1 / (1 - 0.25),
        lti.hinf_norm: 1 / (1 - 0.5),
    }
    for norm, expected in known.items():
        assert norm(sys) == pytest.approx(
            expected * size, rel=2e-8 if norm is lti.hinf_norm else 8 * EPS
        )
    assert lti.h2_norm(sys, horizon=2) == pytest.approx(np.sqrt(1.25) * size, rel=8 * EPS)
    other = first_order(kind, 2.0 ** (b + 10), -(2.0 ** (c - 10)))
    assert lti.h2_error(sys, other) == pytest.approx(
        4 / np.sqrt(0.75) * 2.0 ** (b + c), rel=8 * EPS
    )
    assert lti.h2_error(sys, other, horizon=1) == pytest.approx(4 * 2.0 ** (b + c), rel=8 * EPS)
    nothing = first_order(kind, 0.0, 1.0)
    assert lti.h2_error(sys, nothing) == pytest.approx(lti.h2_norm(sys), rel=8 * EPS)
    assert lti.h2_error(nothing, nothing) == lti.h2_norm(nothing) == 0


@pytest.mark.parametrize("kind", ["diagonal", "rotation", "dense"])
@pytest.mark.parametrize(("b", "c"), SIZES)
def test_gradients_of_signals_of_any_size(kind, b, c):
    """σ = b c/(1 − a²): ∂/∂b = σ/b, ∂/∂c = σ/c, ∂/∂a = 2 a σ/(1 − a²)."""
    sys, sigma = first_order(kind, 2.0**b, 3 * 2.0**c), 4 * 2.0 ** (b + c)
    value, gradient = lti.hankel_sum_and_gradient(sys)
    assert value == pytest.approx(sigma, rel=16 * EPS)
    assert pytest.approx(np.array([[4 * 2.0**c]]), rel=16 * EPS) == gradient.B
    assert pytest.approx(np.array([[4 / 3 * 2.0**b]]), rel=16 * EPS) == gradient.C
    assert gradient.A[-1].ravel() == pytest.approx([sigma / 0.75], rel=16 * EPS)
    value, gradient = lti.hankel_sum_and_gradient(sys, lti.schatten(0.5))
    assert value == pytest.approx(np.sqrt(sigma), rel=16 * EPS)
    # ½ σ^{−½} σ/b, of which σ/b is the number above.
    expected = 0.5 / np.sqrt(sigma) * (4 * 2.0**c)
    assert pytest.approx(np.array([[expected]]), rel=16 * EPS) == gradient.B


@pytest.mark.parametrize("structure", ["rotation", "dense"])
@pytest.mark.parametrize(("b", "c"), [(-300, -300), (-530, 300), (300, 200)])
def test_h2_reduction_of_signals_of_any_size(structure, b, c):
    rng = np.random.default_rng(0)
    A = lti.Rotation([0.9, 0.7, 0.5], [0.3, 1.0, 2.0])
    A = A if structure == "rotation" else A.to_dense()
    B, C, D = rng.standard_normal((6, 1)), rng.standard_normal((1, 6)), [[2.0]]
    plain = lti.h2_reduction(lti.LTI(A, B, C, D), 2)
    sys = lti.LTI(A, B * 2.0**b, C * 2.0**c, D)
    found = lti.h2_reduction(sys, 2)
    size = 2.0 ** (b + c)
    assert found.h2_error == pytest.approx(plain.h2_error * size, rel=1e-6)
    assert found.h2_error == pytest.approx(lti.h2_error(sys, found.system), rel=1e-8)
    assert found.singular_values == pytest.approx(plain.singular_values * size, rel=1e-12)
    assert found.system.D == 2


def test_quadratic_outputs_of_any_size():
    """One state: y = c x + m x², h2² = c² P + m² P², P = b²/(1 − a²)."""
    for b, c, m in [(-400, 300, 700), (300, -400, -700), (-300, -300, -100)]:
        sys = lti.QuadraticOutputLTI([[0.5]], [[2.0**b]], [[2.0**c]], [[[2.0**m]]])
        small = -600 if b + c < -500 else 0
        terms = 2.0 ** (b + c - small), 2.0 ** (2 * b + m - small)
        expected = np.hypot(terms[0] / np.sqrt(0.75), terms[1] / 0.75) * 2.0**small
        assert lti.h2_norm(sys) == pytest.approx(expected, rel=8 * EPS)
        factors = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, (np.ones((1, 1, 1)), [[2.0**m]]))
        assert lti.h2_norm(factors) == pytest.approx(expected, rel=8 * EPS)


def shift_register(units, *, inputs=True, outputs=True):
    """Ones on the subdiagonal, one input at the front, all states summed; in the units given."""
    n, d = len(units), units[:, None]
    B, C = np.eye(n)[:, :1] * inputs, np.ones((1, n)) * outputs
    return lti.LTI(np.eye(n, k=-1) * d / d.T, B * d, C / d.T)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reach", [0, 30, 240])
def test_shift_registers_in_any_units(seed, reach):
    n = 6
    units = 2.0 ** np.random.default_rng(seed).integers(-reach, reach + 1, n)
    sys = shift_register(units)
    hankel = np.fliplr(np.triu(np.ones((n, n))))
    expected = np.linalg.svd(hankel, compute_uv=False)
    assert lti.hankel_singular_values(sys) == pytest.approx(expected, rel=100 * EPS)
    assert lti.hankel_sum(sys) == pytest.approx(expected.sum(), rel=100 * EPS)
    assert lti.hankel_sum_and_gradient(sys)[0] == pytest.approx(expected.sum(), rel=100 * EPS)
    assert lti.h2_norm(sys) == pytest.approx(np.sqrt(n), rel=10 * EPS)
    assert lti.h2_error(sys, shift_register(np.ones(n))) <= 10 * EPS
    assert lti.hinf_norm(sys) == pytest.approx(n, rel=2e-8)
    reduction = lti.balanced_truncation(sys, order=3)
    assert reduction.singular_values == pytest.approx(expected, rel=100 * EPS)


@pytest.mark.parametrize(("inputs", "outputs"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("reach", [0, 30, 200])
def test_factors_of_systems_without_inputs_or_outputs(inputs, outputs, reach):
    """P = I and Q_ij = Σ_k of the states behind both, n − max(i, j), or zero; in their units."""
    n = 6
    units = 2.0 ** np.random.default_rng(1).integers(-reach, reach + 1, n)
    sys = shift_register(units, inputs=inputs, outputs=outputs)
    R, S = lti.gramian_factors(sys)
    R, S = R / units[:, None], S * units[:, None]
    index = np.arange(n)
    Q = n - np.maximum(index[:, None], index)
    assert np.abs(R @ R.T - inputs * np.eye(n)).max() <= 100 * EPS
    assert np.abs(S @ S.T - outputs * Q).max() <= 100 * n * EPS
    assert lti.hankel_norm(sys) == 0 or (inputs and outputs)
    P = lti.controllability_gramian(sys) / units[:, None] / units
    assert np.abs(P - inputs * np.eye(n)).max() <= 100 * EPS


def test_a_state_that_no_input_reaches_costs_no_other_state_its_digits():
    """It is observed, but feeds nothing that is: its units, and its row, must not count."""
    A = np.array([[0.0, 1e-278, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    B, C = np.array([[0.0], [2.0], [1.0]]), np.array([[3.0, 0.0, 1.0]])
    # h_1 = 1, h_2 = 2 and nothing else that is a number above rounding.
    expected = np.linalg.svd([[1.0, 2.0], [2.0, 0.0]], compute_uv=False)
    sigma = lti.hankel_singular_values(lti.LTI(A, B, C))
    assert sigma == pytest.approx([*expected, 0], rel=10 * EPS, abs=10 * EPS)


def test_parts_that_are_not_reached_in_units_of_their_own():
    """Blocks beside each other, one of them without inputs: it must not set the scale."""
    rng = np.random.default_rng(0)
    blocks = [0.9 * np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2)]
    A = np.block([[blocks[0], np.zeros((3, 3))], [np.zeros((3, 3)), blocks[1]]])
    B, C = rng.standard_normal((6, 1)), rng.standard_normal((1, 6))
    B[:3] = 0
    alone = lti.LTI(blocks[1], B[3:], C[:, 3:])
    for exponent in (-200, 200):
        d = np.where(np.arange(6) < 3, 2.0**exponent, 1.0)[:, None]
        for order in (slice(None), slice(None, None, -1)):
            sys = lti.LTI((A * d / d.T)[order, order], (B * d)[order], (C / d.T)[:, order])
            dual = lti.LTI(sys.A.T, sys.C.T, sys.B.T)
            for one in (sys, dual):
                assert lti.h2_norm(one) == pytest.approx(float(lti.h2_norm(alone)), rel=1e-13)
                assert lti.hankel_norm(one) == pytest.approx(
                    float(lti.hankel_norm(alone)), rel=1e-13
                )
                assert lti.hinf_norm(one) == pytest.approx(float(lti.hinf_norm(alone)), rel=2e-8)


@pytest.mark.parametrize("n", [1, 4, 12])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_best_units_keep_their_bounds_in_any_units(n, density):
    """|a_ij| ≤ θ, |b_i|, |c_j| ≤ √h up to the rounding to powers of two, h = max r_i o_i."""
    rng = np.random.default_rng(n)
    A, B, C = rng.standard_normal((n, n)), rng.standard_normal((n, 2)), rng.standard_normal((2, n))
    A *= rng.uniform(size=A.shape) < density
    theta = 1.01 * max(1, np.abs(np.linalg.eigvals(np.abs(A))).max())
    resolvent = np.linalg.inv(theta * np.eye(n) - np.abs(A))
    h = np.max((resolvent @ np.abs(B).max(axis=1)) * (np.abs(C).max(axis=0) @ resolvent))
    for _ in range(10):
        t = 2.0 ** rng.integers(-150, 151, (n, 1))
        scaled = balance_dense(A * t / t.T, B * t, C / t.T)
        assert np.abs(scaled[0]).max() <= 4 * theta
        # The resolvent is taken at a θ nearer to the spectral radius, where it is larger.
        assert np.abs(scaled[1]).max() * np.abs(scaled[2]).max() <= 200 * theta * h


@pytest.mark.parametrize("case", ["poles near zero", "states that are not seen"])
def test_values_of_companion_forms_whose_signs_cancel(case):
    """ρ(|A|) > 1 is that of a cycle of |A| only, and leaves the last states units in which they
    hardly act on A, and ‖R‖‖S‖ of 1e4 σ_1 where 4 σ_1 can be."""
    A = np.eye(4, k=-1)
    if case == "poles near zero":
        A[0] = -0.9646413769519603, -0.23307763530305434, -6.3e-18, 1.5e-34
        B = np.array([[-2.4, 4.2], [0.27, 3.5], [1.2, -2.8], [-3.2, -0.76]])
        C = np.array([[-0.75, 1.5, -4.6, -5.3], [-1.6, 4.6, 3.6, 1.3], [-0.69, 4.2, 1.3, 0.43]])
        unit = 2.0 ** np.array([-193, -63, 25, 70])
    else:
        A[0] = 1.1570773839890143, -0.33470701813471515, -1.86e-17, 0.0
        B = np.array([[0.0, 0.0], [-0.91, -1.6], [2.0, -0.11], [0.0, 0.0]])
        C = np.array([[0.86, 0.0, -1.0, -0.12], [-0.84, 0.0, -0.59, 0.42], [0.72, 0.0, 0.1, -1.3]])
        unit = np.ones(4)
    sys = lti.LTI(A * unit[:, None] / unit, B * unit[:, None], C / unit)
    exact = hankel_values_by_mpmath(A, B, C)
    P, Q = (f(lti.LTI(A, B, C)) for f in (lti.controllability_gramian, lti.observability_gramian))
    # As documented, by the norms of factors in these states, for n + m + p terms.
    allowed = 9 * 1e-15 * np.sqrt(np.trace(P) * np.trace(Q))
    np.testing.assert_allclose(lti.hankel_singular_values(sys), exact, rtol=0, atol=allowed)
    found = lti.balanced_truncation(sys, order=2).singular_values
    np.testing.assert_allclose(found, exact, rtol=0, atol=allowed)


def test_units_stay_in_the_range_of_numbers():
    """A delay line but for terms below 1e-37, which alone show the last state, by 1e-300: no units
    make it as large as others. Q_ij = Σ_k c_{i+k}ᵀ c_{j+k} for all states but that one."""
    A = np.eye(8, k=-1)
    A[0] = (-1.0) ** np.arange(1, 9) * 10.0 ** (-37.5 * np.arange(1, 9))
    C = np.array([[0.43, 0.84, -0.1, -0.35, 0, 0, 1.2, 0], [0, 0, -1.9, 0, 0, 1.1, 0.33, 0]])
    unit = np.array([235, 54, 56, 53, 184, -56, -37, 32])
    scaled = np.ldexp(A, unit[:, None] - unit), np.ones((8, 1)), np.ldexp(C, -unit)
    found = np.ldexp(lti.observability_gramian(lti.LTI(*scaled)), unit[:, None] + unit)[:7, :7]
    H = np.vstack([C @ np.linalg.matrix_power(np.eye(8, k=-1), k) for k in range(8)])[:, :7]
    exact = H.T @ H
    sizes = np.sqrt(np.diag(exact))
    assert np.max(np.abs(found - exact) / np.outer(sizes, sizes)) <= 8 * 10 * EPS


@pytest.mark.parametrize(("n", "seed"), [(20, 7), (30, 2)])
def test_chains_whose_paths_add_up_to_more_than_there_are_digits_for(n, seed):
    """One pole of 1 − 1e-6 for all states, each of which leads to all that follow: of paths that
    grow by 1e4 with every state the sums are a singular system, alone and in a batch."""
    rng = np.random.default_rng(seed)
    A = (1 - 1e-6) * np.eye(n) + 0.1 * np.eye(n, k=1) + np.triu(0.1 * rng.normal(size=(n, n)), 1)
    B, C = np.eye(n)[:, -1:], np.eye(n)[:1]
    before, flint.ctx.prec = flint.ctx.prec, 4000
    try:
        power, b = flint.arb_mat(A.tolist()), flint.arb_mat(B.tolist())
        P = b * b.transpose()
        for _ in range(30):
            P, power = P + power * P * power.transpose(), power * power
        norm = float(P[0, 0].sqrt())
    finally:
        flint.ctx.prec = before
    # Of the pole eps stands for 2e-10 of its distance to the circle, to the power n − 1/2 in P.
    assert lti.h2_norm((A, B, C)) == pytest.approx(norm, rel=n * 2.3e-10)
    faster = A - 0.1 * np.eye(n)
    units = state_units(np.stack([A, faster]), B, C)
    assert np.array_equal(units[0], state_units(A, B, C))
    assert np.array_equal(units[1], state_units(faster, B, C))


def test_units_of_batches_are_those_of_their_entries():
    rng = np.random.default_rng(0)
    A, B, C = (rng.standard_normal((3, *s)) for s in ((4, 4), (4, 1), (1, 4)))
    A[1] = np.triu(A[1], 1)
    B[2] = 0
    units = state_units(A, B, C)
    for k in range(3):
        assert np.array_equal(units[k], state_units(A[k], B[k], C[k]))


@pytest.mark.parametrize("b", [0.0, 0.5, 1e-300])
def test_stein_equations_of_one_state(b):
    X = lti.solve_stein(np.array([[0.0]]), np.array([[2.0]]), np.array([[b]]))
    assert np.array_equal(X, [[2.0]])


@pytest.mark.parametrize("exponent", [-700, 700])
def test_stein_equations_with_right_sides_of_any_size(exponent):
    A, Q = np.array([[0.5, 1.0], [0.0, 0.25]]), np.array([[1.0, 2.0], [2.0, 8.0]])
    X = lti.solve_stein(A, Q * 2.0**exponent)
    assert np.array_equal(X, lti.solve_stein(A, Q) * 2.0**exponent)


def test_factors_of_graded_inputs_without_outputs():
    """A = 0: P = B Bᵀ, of which no entry may be lost."""
    B = np.array([[1e-150, 0.0], [3.0, 1e-40], [0.0, 1e95]])
    R, _ = lti.gramian_factors(lti.LTI(np.zeros((3, 3)), B, np.zeros((1, 3))))
    sizes = np.linalg.norm(B, axis=1)
    found, expected = R / sizes[:, None], B / sizes[:, None]
    assert np.abs(found @ adjoint(found) - expected @ expected.T).max() <= 10 * EPS


@pytest.mark.parametrize(("b", "c"), [(260, 258), (200, 140)])
def test_hankel_values_too_large_for_numbers_are_refused(b, c):
    """σ of 1e518 and 1e340: there is no reduced system whose error could be told."""
    A = np.array([[0.5, 0.2], [0.0, 0.3]])
    sys = lti.LTI(A, np.array([[1.0], [2.0]]) * 10.0**b, np.array([[1.0, 1.0]]) * 10.0**c)
    with pytest.raises(lti.NonFiniteError, match="overflow"):
        lti.balanced_truncation(sys, order=1)


@pytest.mark.parametrize("match_dc", [False, True])
def test_balanced_truncation_of_signals_whose_squares_underflow(match_dc):
    """Units of inputs and outputs change the result by just these powers of two."""
    A = np.array([[0.5, 0.2], [0.0, 0.3]])
    B, C = np.array([[1.0], [2.0]]), np.array([[1.0, 1.0]])
    plain = lti.balanced_truncation(lti.LTI(A, B, C), order=1, match_dc=match_dc)
    b, c = 2.0**-600, 2.0**-100
    tiny = lti.balanced_truncation(lti.LTI(A, B * b, C * c), order=1, match_dc=match_dc)
    assert tiny.order == 1
    for name in ("singular_values", "error_bound", "h2_error"):
        found, expected = getattr(tiny, name), getattr(plain, name) * 2.0**-700
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    root = 2.0**-350
    np.testing.assert_allclose(tiny.system.A, plain.system.A, rtol=1e-14)
    np.testing.assert_allclose(tiny.system.B, plain.system.B * root, rtol=1e-14)
    np.testing.assert_allclose(tiny.system.C, plain.system.C * root, rtol=1e-14)


def test_states_that_formed_gramians_lose_are_kept():
    """σ_2 = 1e-11 σ_1 of two modes next to each other: eps (‖R‖‖S‖/σ_2)² > 1, not that of factors.

    Of x_i⁺ = λ_i x_i + u, y = x_1 + x_2 the Gramians are both G_ij = 1/(1 − λ_i λ_j): σ are the
    eigenvalues of G, σ_1 σ_2 = det G = (λ_1 − λ_2)²/((1 − λ_1²)(1 − λ_2²)(1 − λ_1 λ_2)²).
    """
    poles = np.array([0.5, 0.5 + 2.0**-18])
    sys = lti.LTI(lti.Diagonal(poles), np.ones((2, 1)), np.ones((1, 2)))
    found = lti.balanced_truncation(sys, order=2)
    assert found.order == 2
    gaps = (1 - poles) * (1 + poles)
    both = (1 - poles[0] * poles[1]) ** 2
    det = (poles[1] - poles[0]) ** 2 / (gaps.prod() * both)
    trace = (1 / gaps).sum()
    first = (trace + np.sqrt(trace**2 - 4 * det)) / 2
    # Rounding of σ is absolute: eps Σ ‖R_i‖‖S_i‖ with the trace in place of the sum, a few times.
    np.testing.assert_allclose(found.singular_values, [first, det / first], atol=4 * EPS * trace)
    # Nor may the bound leave out what they lose: 2 σ_2, and some eps Σ ‖R_i‖‖S_i‖.
    cut = lti.balanced_truncation(sys, order=1)
    assert 2 * det / first <= cut.error_bound <= 2 * det / first + 100 * EPS * trace


def _two_modes(b, c):
    """h_k = 2^(b+c) (0.5^k + 2 · 0.3^k) from k = 1 on, inputs in units of 2^−b, outputs of 2^c."""
    A = lti.Diagonal([0.5, 0.3])
    return lti.LTI(A, 2.0**b * np.array([[0.5], [0.3]]), 2.0**c * np.array([[1.0, 2.0]]))


@pytest.mark.parametrize("dense", [False, True])
def test_impulse_response_where_states_underflow(dense):
    """A^k B ~ 1e-350 behind C ~ 1e200."""
    sys = lti.LTI(lti.Diagonal([1e-50]), [[1e-200]], [[1e200]])
    h = lti.impulse_response(sys.to_dense() if dense else sys, 5)[:, 0, 0]
    np.testing.assert_allclose(h, [0, 1, 1e-50, 1e-100, 1e-150], rtol=1e-14)


def test_modal_truncation_where_scores_are_squared():
    """‖H − H_1‖_h∞ ≤ 2 · 0.3/(1 − 0.3) in units of 2^±900, whose squares over- and underflow."""
    for b, c in ((900, -900), (-900, 900), (-300, -300)):
        found = lti.modal_truncation(_two_modes(b, c), 1)
        np.testing.assert_allclose(found.error_bound, 2.0 ** (b + c) * 0.6 / 0.7, rtol=1e-14)
        assert lti.allocate_modal_orders([_two_modes(b, c)] * 2, budget=3) == [2, 1]
    with pytest.raises(lti.NonFiniteError, match="scores of the modes overflow"):
        lti.modal_truncation(_two_modes(900, 900), 1)


def test_refitted_outputs_of_states_whose_squares_overflow():
    rng = np.random.default_rng(0)
    u, sys = rng.standard_normal((20, 1)), _two_modes(700, -700)
    start = lti.LTI(sys.A, sys.B, 0.7 * sys.C)
    for size in (1.0, 2.0**300):
        y = size * lti.simulate(sys, u)
        found = lti.refit_outputs(start, [(u, y)])
        np.testing.assert_allclose(found.system.C, size * sys.C, rtol=1e-12)
        assert found.residual_after <= 1e-14


@pytest.mark.parametrize(("b", "c"), [(600, 600), (-600, -600), (0, 0)])
def test_real_systems_are_told_whatever_their_response(b, c):
    """Poles 0.5 e^{±i} with conjugate residues are real, with others not; H is 2^(b+c) or so."""
    poles = 0.5 * np.exp([1j, -1j])
    B, C = 2.0**b * np.array([[1 + 1j], [1 - 1j]]), 2.0**c * np.array([[1.0, 1.0]])
    real = lti.to_rotation(lti.LTI(lti.Diagonal(poles), B, C))
    np.testing.assert_allclose(real.A.radius, [0.5])
    # C B = 2 Re(1 + i), a product of powers of two and numbers of moderate size.
    product = (real.C / 2.0 ** ((b + c) / 2)) @ (real.B / 2.0 ** ((b + c) / 2))
    np.testing.assert_allclose(product, [[2.0]], rtol=1e-14)
    with pytest.raises(lti.NotRealError, match="not real"):
        lti.to_rotation(lti.LTI(lti.Diagonal(poles), B * np.array([[1], [1j]]), C))


def test_a_number_has_no_rounding_of_a_schur_form():
    """P = b²/(1 − a²) next to the circle, without a warning: A is not changed by its Schur form."""
    a = 1 - 2.0**-40
    sys = lti.LTI(np.array([[a]]), [[1.0]], [[1.0]])
    exact = 2.0**40 / (2 - 2.0**-40)
    np.testing.assert_allclose(lti.controllability_gramian(sys), [[exact]], rtol=1e-14)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), [exact], rtol=1e-14)
    np.testing.assert_allclose(lti.h2_norm(sys), exact**0.5, rtol=1e-14)


@pytest.mark.parametrize("angle", [np.pi, 1e-12, 3.0])
@pytest.mark.parametrize(
    ("b", "c"), [((1e27, 1e17), (1e-38, 1e-28)), ((1, 1e-10), (1e-10, 1)), ((1, 1e-7), (1e-3, 1))]
)
def test_blocks_whose_two_states_differ_in_size(angle, b, c):
    """Both states share their units, in which σ is as little as 1e-10 ‖R‖‖S‖: the modes of the
    block cancel. Values and norms are right to eps ‖R‖‖S‖; those of formed Gramians are not."""
    sys = lti.LTI(lti.Rotation([0.5], [angle]), np.array(b)[:, None], np.array(c)[None])
    A = sys.to_dense().A
    exact = hankel_values_by_mpmath(A, sys.B, sys.C)
    sizes = np.linalg.norm(sys.B) * np.linalg.norm(sys.C) / (1 - 0.5**2)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), exact, atol=4 * EPS * sizes)
    np.testing.assert_allclose(lti.hankel_norm(sys), exact[0], atol=4 * EPS * sizes)
    with mpmath.workdps(60):
        power, x, y = (mpmath.matrix(X.tolist()) for X in (A, sys.B, sys.C))
        square = mpmath.mpf(0)
        for _ in range(120):
            square += (y * x)[0] ** 2
            x = power * x
        norm = float(mpmath.sqrt(square))
    np.testing.assert_allclose(lti.h2_norm(sys), norm, atol=4 * EPS * sizes)


@pytest.mark.parametrize("states", [1, 1e-60, 1e60])
def test_impulse_response_of_faint_poles_in_units_of_their_own(states):
    """h_k = ρ^(k−1) cos((k−1)α) and (1e-60)^(k−1): A^k B underflows in the units given."""
    A = lti.Rotation([1e-50], [1.0], [1e-60])
    unit = np.array([1e140, 1e140, 1e-140]) * states
    sys = lti.LTI(A, np.array([1.0, 0, 1])[:, None] / unit[:, None], np.array([[1.0, 0, 1]]) * unit)
    k = np.arange(4)
    expected = 1e-50**k * np.cos(k) + 1e-60**k
    found = lti.impulse_response(sys, 5)[1:, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_impulse_response_of_dense_states_further_apart_than_numbers():
    """h_k = 2^900 ε^(k−5) from k = 5 on: a pole ε = 2^−300 behind four delays. The states are
    2^900 (ε^(k−1), …, ε^(k−5)), and the first of them comes out last."""
    A, B, C = np.eye(5, k=-1), np.zeros((5, 1)), np.zeros((1, 5))
    A[0, 0], B[0], C[0, 4] = 2.0**-300, 2.0**500, 2.0**400
    expected = [0.0] * 5 + [2.0 ** (900 - 300 * k) for k in range(7)]
    assert np.array_equal(lti.impulse_response(lti.LTI(A, B, C), 12)[:, 0, 0], expected)


def test_impulse_response_of_companion_forms_with_poles_near_zero():
    """Poles of about 2^−280: the products of A^(k−1) B underflow where h_k = 1e-285 does not."""
    A, n, steps = np.eye(4, k=-1), 4, 11
    A[0] = 5.7 * 2.0**-280, -1.3 * 2.0**-557, 3.9 * 2.0**-887, 0
    B = 2.0**850 * np.array([[2.5, -1], [-0.2, 0.03], [2.2, -1.1], [-0.1, -0.7]])
    C = 2.0**-125 * np.array([[2.6, -1.8, -0.7, 0.3]])
    found = lti.impulse_response(lti.LTI(A, B, C), steps)
    with mpmath.workdps(60):
        X, size = mpmath.matrix(B), mpmath.matrix(np.abs(B))
        for k in range(1, steps):
            exact, terms = mpmath.matrix(C) * X, mpmath.matrix(np.abs(C)) * size
            for j in range(2):
                assert abs(exact[j]) > 1e-290
                # k products with sums of n terms each.
                assert abs(found[k, 0, j] - exact[j]) <= k * n * EPS * terms[j]
            X, size = mpmath.matrix(A) * X, mpmath.matrix(np.abs(A)) * size


@pytest.mark.parametrize("structure", ["dense", "diagonal", "rotation"])
def test_impulse_response_of_powers_below_all_numbers(structure):
    """h_k = 2^(1600 − 100 (k − 1)) (1 + 2^(k − 10) sin 0.7k): A^(k−1) ~ 2^−1900 at the end, where
    the terms before 2^1000 are infinite."""
    k = np.arange(20)
    if structure == "rotation":
        angle, unit = 0.7, np.array([1.0, 2.0**-9])
        A = lti.Rotation([2.0**-99], [angle], [2.0**-100])
        # The second block entry of (x_1, x_2) = ρ^k (−sin kα, …) is fed and seen crosswise.
        B, C = np.array([[0.0], [1.0], [1.0]]), np.array([[unit[1], 0.0, 1.0]])
        expected = 1 + 2.0 ** (k - 9) * np.sin(angle * k)
    else:
        A = lti.Diagonal([2.0**-99, 2.0**-100])
        B, C = np.ones((2, 1)), np.array([[2.0**-9, 1.0]])
        expected = 1 + 2.0 ** (k - 9)
    sys = lti.LTI(A, 2.0**800 * B, 2.0**800 * C)
    with np.errstate(over="ignore"):
        found = lti.impulse_response(sys.to_dense() if structure == "dense" else sys, 21)[1:, 0, 0]
    exponents = 1600 - 100 * k
    assert np.all(np.isinf(found[exponents > 1030]))
    seen = exponents < 1000
    np.testing.assert_allclose(np.ldexp(found[seen], -exponents[seen]), expected[seen], rtol=1e-13)


def test_slopes_of_values_that_underflow():
    """Σ σ² of σ_1 = 2^−600 4/3 and zeros: too small for a number, and so is 2 σ_1 dσ_1; no slope of
    2 · 0 in units of 2^1400 is looked at."""
    sys = lti.LTI(lti.Diagonal([0.5, 0.5]), 2.0**-600 * np.ones((2, 1)), [[1.0, 0.0]])
    value, gradient = lti.hankel_sum_and_gradient(sys, lti.schatten(2))
    assert value == 0
    # σ_1² = (b_1 c_1/0.75)², d/dc_1 = 2 (b_1/0.75)² c_1.
    np.testing.assert_allclose(gradient.C, [[0.0, 0.0]], atol=5e-324)


def test_error_against_a_gain_beside_the_smallest_numbers():
    """‖Σ‖ = 2^−1050 2/√3: a system without states has no size that the other one could drown in."""
    sys = lti.LTI(lti.Diagonal([0.5]), [[2.0**-550]], [[2.0**-500]])
    gain = lti.LTI(lti.Diagonal([]), np.zeros((0, 1)), np.zeros((1, 0)))
    for one in (sys, sys.to_dense()):
        for pair in ((one, gain), (gain, one)):
            found = lti.h2_error(*pair)
            np.testing.assert_allclose(found, 2.0**-1050 * 2 / 3**0.5, atol=1e-323)


def test_hinf_norm_where_the_pencil_has_no_eigenvalues(monkeypatch):
    """QZ that does not converge leaves the largest gain seen, as a lower bound: 1/(1 − 0.5)."""

    def fails(*_):
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(hinf, "_level_crossings", fails)
    sys = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]])
    with pytest.warns(lti.PrecisionWarning, match="is a lower bound"):
        np.testing.assert_allclose(lti.hinf_norm(sys), 2.0, rtol=1e-14)


@pytest.mark.parametrize("structure", ["dense", "diagonal"])
@pytest.mark.parametrize("horizon", [None, 3])
def test_gradients_whose_square_underflows_stay_in_range(structure, horizon):
    """f = Σ σ² of two states that forget at once: σ_i = |b_i c_i|, df/dc_i = 2 σ_i |b_i| = 2 b² c,
    while σ², and 1/b in the units of the states, are beyond the range."""
    b, c = 2.0 ** np.array([86.0, 80.0]), 2.0 ** np.array([-660.0, -655.0])
    A = np.zeros((2, 2)) if structure == "dense" else lti.Diagonal(np.zeros(2))
    sys = lti.LTI(A, np.diag(b), np.diag(c))
    value, g = lti.hankel_sum_and_gradient(sys, lti.schatten(2), horizon=horizon)
    assert value == 0
    np.testing.assert_allclose(np.diag(g.C), 2 * b**2 * c, rtol=1e-12)
    assert np.all(np.isfinite(g.A[0]))


BEYOND = {
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_sum": lti.hankel_sum,
    "hankel_sum_and_gradient": lti.hankel_sum_and_gradient,
    "hankel_norm": lti.hankel_norm,
    "h2_norm": lti.h2_norm,
    "hinf_norm": lti.hinf_norm,
    "controllability_gramian": lti.controllability_gramian,
    "balanced_truncation": lambda sys: lti.balanced_truncation(sys, order=1),
    "impulse_response": lambda sys: lti.impulse_response(sys, 3),
    "frequency_response": lambda sys: lti.frequency_response(sys, [0.1]),
    "simulate": lambda sys: lti.simulate(sys, np.full((3, 1), 1e4, np.float32)),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_results_beyond_single_precision_are_refused(name, structure):
    poles = np.array([0.5, 0.2], np.float32)
    A = np.diag(poles) if structure == "dense" else lti.Diagonal(poles)
    B, C = np.full((2, 1), 1e22, np.float32), np.full((1, 2), 1e20, np.float32)
    with pytest.raises(lti.NonFiniteError, match="range of float32"):
        BEYOND[name](lti.LTI(A, B, C))
