"""Balanced truncation of given Gramians, beside projections on eigenvectors."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import adjoint, dense
from strategies import systems

import lticore as lti
from lticore.errors import (
    ArgumentError,
    NonFiniteError,
    PrecisionWarning,
    ShapeError,
    UnstableSystemError,
)

POINTS = np.linspace(0, np.pi, 7)


def rotation(rng, inputs=2, outputs=3):
    A = lti.Rotation(rng.uniform(0.3, 0.9, 3), rng.uniform(0, 3, 3), rng.uniform(-0.8, 0.8, 2))
    B, C = rng.standard_normal((8, inputs)), rng.standard_normal((outputs, 8))
    return lti.LTI(A, B, C, rng.standard_normal((outputs, inputs)))


def pair_of(rng, n, is_complex=False):
    """Two positive definite matrices with condition numbers of some thousand."""
    found = []
    for _ in range(2):
        X = rng.standard_normal((n, n))
        X = X + 1j * rng.standard_normal((n, n)) if is_complex else X
        found.append(X @ np.diag(0.5 ** np.arange(n)) @ adjoint(X))
    return tuple(found)


def response(sys):
    return lti.frequency_response(sys, POINTS)


def by_eigenvectors(sys, P, Q, r):
    """(σ, response) of the oblique projection on the leading eigenvectors of P Q and of Q P."""
    squares, V = np.linalg.eig(P @ Q)
    order = np.argsort(-squares.real)
    V = V[:, order[:r]]
    others, W = np.linalg.eig(Q @ P)
    W = W[:, np.argsort(-others.real)[:r]]
    inner = np.linalg.inv(adjoint(W) @ V)
    A = inner @ adjoint(W) @ dense(sys.A) @ V
    B, C = inner @ adjoint(W) @ sys.B, sys.C @ V
    D = 0 if sys.D is None else sys.D
    z = np.exp(1j * POINTS)[:, None, None]
    return np.sqrt(squares.real[order]), C @ np.linalg.solve(z * np.eye(r) - A, B + 0 * z) + D


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("structure", ["rotation", "dense"])
def test_projection_on_leading_eigenvectors(structure, is_complex):
    rng = np.random.default_rng(5)
    sys = rotation(rng)
    sys = sys if structure == "rotation" else sys.to_dense()
    P, Q = pair_of(rng, 8, is_complex)
    for order in (2, 4):
        found = lti.balanced_truncation(sys, gramians=(P, Q), order=order)
        sigma, expected = by_eigenvectors(sys, P, Q, order)
        # Eigenvalues of P Q move by eps ‖P‖‖Q‖, values by that over σ; here σ_1/σ_5 < 1e3.
        np.testing.assert_allclose(found.singular_values, sigma, rtol=0, atol=1e-11 * sigma[0])
        np.testing.assert_allclose(response(found.system), expected, rtol=0, atol=1e-9)
        assert np.iscomplexobj(found.system.B) == is_complex
        assert found.error_bound is None
        assert found.h2_error == lti.h2_error(sys, found.system)
        left, right = found.left, found.right
        np.testing.assert_allclose(adjoint(left) @ right, np.eye(order), atol=1e-10)


@given(
    sys=systems(batches=((), (2,))),
    options=st.sampled_from(
        ({"order": 2}, {"energy": 0.9}, {"error": 0.5}, {"order": 1, "match_dc": True})
    ),
)
def test_those_of_the_system_give_the_ordinary_reduction(sys, options):
    """The same factors, so the same numbers but for the units they are computed in."""
    pair = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    options = {k: min(v, sys.order) if k == "order" else v for k, v in options.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # of orders that are lowered
        ordinary = lti.balanced_truncation(sys, **options)
        found = lti.balanced_truncation(sys, gramians=pair, **options)
    sigma = ordinary.singular_values
    top = sigma.max() if sigma.size else 0.0
    norms = np.sqrt(
        np.linalg.norm(pair[0], 2, axis=(-2, -1)) * np.linalg.norm(pair[1], 2, axis=(-2, -1))
    )
    # 1e-15 ‖R‖‖S‖ in σ of what P and Q hold, each of n terms; the Gramians themselves round alike.
    level = 100 * sys.order * np.finfo(float).eps * norms.max()
    assert np.abs(found.singular_values - sigma).max() <= np.sqrt(level * max(top, level)) + level
    if found.order == ordinary.order:
        assert found.h2_error == pytest.approx(
            ordinary.h2_error, rel=1e-5, abs=1e-5 * (1e-300 + top)
        )


def test_units_of_states_do_not_matter():
    """Powers of two change no digit, so that all numbers are the same but for the units."""
    rng = np.random.default_rng(6)
    sys = rotation(rng).to_dense()
    P, Q = pair_of(rng, 8)
    d = 2.0 ** np.array([200, -180, 3, 0, 90, -250, 11, -7])
    other = lti.LTI(sys.A * d[:, None] / d, sys.B * d[:, None], sys.C / d, sys.D)
    found = lti.balanced_truncation(sys, gramians=(P, Q), order=3)
    again = lti.balanced_truncation(
        other, gramians=(P * d[:, None] * d, Q / d[:, None] / d), order=3
    )
    np.testing.assert_allclose(again.singular_values, found.singular_values, rtol=1e-13)
    np.testing.assert_allclose(response(again.system), response(found.system), rtol=1e-11)
    far = lti.balanced_truncation(sys, gramians=(P * 2.0**900, Q * 2.0**-940), order=3)
    np.testing.assert_allclose(far.singular_values, found.singular_values * 2.0**-20, rtol=1e-13)
    np.testing.assert_allclose(response(far.system), response(found.system), rtol=1e-11)


def test_unstable_poles_are_reflected_and_outputs_fitted():
    """P = v vᵀ, Q = w wᵀ: one state with λ = wᵀ A v/wᵀ v = 2.5, reflected to 2/5. For white inputs
    the best output is C X/P̂ with X = (I − λ̂ A)⁻¹ B b̂ and P̂ = b̂²/(1 − λ̂²)."""
    A, B, C = np.array([[0.5, 4.0], [0.0, 0.5]]), np.array([[1.0], [2.0]]), np.array([[1.0, -1.0]])
    sys, ones = lti.LTI(A, B, C, [[3.0]]), np.ones((2, 2))
    with pytest.warns(PrecisionWarning, match="Gramians gave 1 unstable pole"):
        found = lti.balanced_truncation(sys, gramians=(ones, ones), order=1)
    np.testing.assert_allclose(found.system.A, [[0.4]], rtol=1e-14)
    X = np.linalg.solve(np.eye(2) - 0.4 * A, B)
    np.testing.assert_allclose(found.system.C @ found.system.B, C @ X * (1 - 0.4**2), rtol=1e-13)
    assert found.left is None
    assert found.system.D == 3.0
    with pytest.warns(PrecisionWarning, match="reflected"):
        matched = lti.balanced_truncation(sys, gramians=(ones, ones), order=1, match_dc=True)
    assert matched.system.spectral_radius < 1
    assert dc(matched.system) == pytest.approx(dc(sys), rel=1e-14)


def dc(sys):
    return lti.frequency_response(sys, [0.0])[0].real.item()


def test_dc_gain_of_directions_without_a_value():
    """P of rank 2 says nothing of six directions: what they add to H(1) is in D."""
    rng = np.random.default_rng(7)
    sys = rotation(rng)
    X, (_, Q) = rng.standard_normal((8, 2)), pair_of(rng, 8)
    found = lti.balanced_truncation(sys, gramians=(X @ X.T, Q), order=1, match_dc=True)
    gains = [lti.frequency_response(x, [0.0])[0] for x in (sys, found.system)]
    np.testing.assert_allclose(*gains, rtol=0, atol=1e-13 * np.abs(gains[0]).max())
    assert np.isrealobj(found.system.D)


def test_dc_gain_by_complex_gramians():
    """The reduction of a real system by complex Gramians is complex, but for its gain at z = 1."""
    rng = np.random.default_rng(17)
    sys, (_, Q) = rotation(rng), pair_of(rng, 8, True)
    X = rng.standard_normal((8, 2)) + 1j * rng.standard_normal((8, 2))
    found = lti.balanced_truncation(sys, gramians=(X @ adjoint(X), Q), order=1, match_dc=True)
    assert np.iscomplexobj(found.system.B)
    gains = [lti.frequency_response(x, [0.0])[0] for x in (found.system, sys)]
    np.testing.assert_allclose(*gains, rtol=0, atol=1e-11 * np.abs(gains[1]).max())


def test_never_unstable():
    rng = np.random.default_rng(8)
    reflected = 0
    for seed in range(30):
        A = rng.standard_normal((6, 6))
        A *= 0.98 / np.abs(np.linalg.eigvals(A)).max()
        sys = lti.LTI(A, rng.standard_normal((6, 1)), rng.standard_normal((1, 6)))
        P, Q = pair_of(np.random.default_rng(seed), 6)
        W, V = by_eigenvectors_of(P, Q, 3)
        poles = np.linalg.eigvals(np.linalg.solve(W.T @ V, W.T @ A @ V))
        outside = int(np.sum(np.abs(poles) > 1))
        if outside:
            with pytest.warns(PrecisionWarning, match=f"gave {outside} unstable"):
                found = lti.balanced_truncation(sys, gramians=(P, Q), order=3)
            reflected += 1
        else:
            found = lti.balanced_truncation(sys, gramians=(P, Q), order=3)
        assert np.abs(np.linalg.eigvals(found.system.A)).max() < 1
        expected = np.sort(np.where(np.abs(poles) > 1, 1 / np.abs(poles), np.abs(poles)))
        np.testing.assert_allclose(
            np.sort(np.abs(np.linalg.eigvals(found.system.A))), expected, rtol=1e-6
        )
    assert reflected > 3


def by_eigenvectors_of(P, Q, r):
    """Real bases of the leading eigenspaces of Q P and of P Q, whose eigenvalues are real."""
    bases = []
    for X in (Q @ P, P @ Q):
        values, vectors = np.linalg.eig(X)
        bases.append(vectors[:, np.argsort(-values.real)[:r]].real)
    return bases


def test_quadratic_outputs():
    """M_i becomes Vᵀ M_i V in the projection of the linear part."""
    rng = np.random.default_rng(9)
    linear = rotation(rng)
    V, s = rng.standard_normal((3, 8, 2)), rng.standard_normal((3, 2))
    sys = lti.QuadraticOutputLTI(linear.A, linear.B, linear.C, (V, s))
    pair = pair_of(rng, 8)
    found = lti.balanced_truncation(sys, gramians=pair, order=3)
    plain = lti.balanced_truncation(linear, gramians=pair, order=3)
    np.testing.assert_array_equal(found.system.A, plain.system.A)
    np.testing.assert_allclose(
        found.system.M[0], np.swapaxes(plain.right.T @ V, 0, 0), rtol=1e-13, atol=1e-13
    )
    assert found.error_bound is None


def test_batches_and_one_pair_for_all():
    rng = np.random.default_rng(10)
    one = [rotation(rng) for _ in range(2)]
    A = lti.Rotation(*(np.stack(x) for x in zip(*(_arrays(sys.A) for sys in one), strict=True)))
    batch = lti.LTI(A, *(np.stack([getattr(sys, k) for sys in one]) for k in "BCD"))
    P, Q = pair_of(rng, 8)
    found = lti.balanced_truncation(batch, gramians=(P, np.stack([Q, Q])), order=3)
    for i in range(2):
        alone = lti.balanced_truncation(one[i], gramians=(P, Q), order=3)
        np.testing.assert_allclose(
            response(found.system[i]), response(alone.system), rtol=1e-9, atol=1e-11
        )


def _arrays(A):
    return A.radius, A.angle, A.real_poles


def test_pairs_in_float32_tell_values_down_to_their_rounding():
    """σ_i² = 10^−2i, of which those below eps = 1.2e-7 Σ √(P_ii Q_ii) are noise."""
    n = 12
    scale = 10.0 ** -np.arange(n)
    sys = lti.LTI(np.diag(np.linspace(-0.5, 0.5, n)), np.ones((n, 1)), np.ones((1, n)))
    pair = tuple(np.diag(scale).astype(np.float32) for _ in range(2))
    with pytest.warns(PrecisionWarning, match="only 7 directions"):
        found = lti.balanced_truncation(sys, gramians=pair, order=9)
    assert found.order == 7
    in_double = tuple(X.astype(float) for X in pair)
    assert lti.balanced_truncation(sys, gramians=in_double, order=9).order == 9


def test_order_beyond_the_rank_of_the_data():
    rng = np.random.default_rng(11)
    sys, X = rotation(rng), rng.standard_normal((8, 3))
    with pytest.warns(PrecisionWarning, match="order 5 was asked for, but only 3"):
        found = lti.balanced_truncation(sys, gramians=(X @ X.T, np.eye(8)), order=5)
    assert found.order == 3


def test_white_data_give_the_ordinary_reduction():
    """Both Gramians are L times those of the system but for shares of d (see test_data_gramians),
    σ is then off by at most d Σ σ/σ_i σ_i; the response of the reduction by a like share."""
    rng = np.random.default_rng(12)
    A = lti.Rotation(np.array([0.8, 0.5]), np.array([0.4, 1.0]))
    sys = lti.LTI(A, rng.standard_normal((4, 2)), rng.standard_normal((2, 4)))
    N, L = 64, 4000
    batches = [
        (rng.standard_normal((16, L, 2)), rng.standard_normal((16, L, 2))) for _ in range(N // 16)
    ]
    found = lti.balanced_truncation(sys, gramians=lti.data_gramians(sys, batches), order=2)
    ordinary = lti.balanced_truncation(sys, order=2)
    memory = (1 + 0.8**2) / (1 - 0.8**2)
    deviation = 4 * (np.sqrt(2 * memory / (N * L)) + memory / L)
    sigma = ordinary.singular_values
    assert np.abs(found.singular_values / L - sigma).max() < deviation * sigma.sum()
    share = deviation * sigma.sum() / (sigma[1] - sigma[2])
    change = lti.hinf_norm(found.system - ordinary.system)
    assert change < 2 * share * lti.hinf_norm(sys)


def test_bad_input():
    rng = np.random.default_rng(13)
    sys = rotation(rng)
    P, Q = pair_of(rng, 8)
    reduce = lti.balanced_truncation
    with pytest.raises(ArgumentError, match="pair"):
        reduce(sys, gramians=P, order=2)
    with pytest.raises(ShapeError, match="P has shape"):
        reduce(sys, gramians=(P[:3, :3], Q), order=2)
    with pytest.raises(NonFiniteError, match="Q contains NaN"):
        reduce(sys, gramians=(P, Q * np.nan), order=2)
    with pytest.raises(ArgumentError, match="P is not Hermitian"):
        reduce(sys, gramians=(np.triu(P), Q), order=2)
    with pytest.raises(ArgumentError, match="Q is not positive semidefinite"):
        reduce(sys, gramians=(P, Q - np.eye(8)), order=2)
    skew = np.triu(np.full((8, 8), 1e-15), 1)  # of rounding
    with pytest.raises(ArgumentError, match="P is not positive semidefinite"):
        reduce(sys, gramians=(skew - P, Q), order=2)
    with pytest.raises(ArgumentError, match="leave out horizon="):
        reduce(sys, gramians=(P, Q), order=2, horizon=5)
    with pytest.raises(ArgumentError, match="leave out"):
        reduce(sys, gramians=(P, Q), order=2, unstable="keep")
    with pytest.raises(UnstableSystemError, match="balanced truncation of given Gramians"):
        reduce(lti.LTI(1.5 * np.eye(8), sys.B, sys.C), gramians=(P, Q), order=2)


def test_nothing_to_reduce():
    empty = lti.LTI(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[2.0]])
    none = np.zeros((0, 0))
    assert lti.balanced_truncation(empty, gramians=(none, none), energy=0.9).order == 0
    sys = lti.LTI(np.diag([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.warns(PrecisionWarning, match="only 0"):
        found = lti.balanced_truncation(sys, gramians=(np.zeros((2, 2)), np.eye(2)), order=1)
    assert lti.h2_norm(found.system) == 0
