"""Changes of coordinates keep the response."""

import re
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, EPS_SINGLE, adjoint, fine_grid
from strategies import MILD_SPECTRA, REAL_STRUCTURES, STRUCTURES, build_system, seeds, systems

import lticore as lti
from lticore.matrices.balance import state_units

STRUCTURED = ("real diagonal", "complex diagonal", "rotation", "rotation with real poles")
#: Repeated or clustered poles of dense draws have ill-conditioned eigenvectors.
SIMPLE = ("plain", "negative")


def response_change(sys, other, frequencies=None):
    """Largest change of H relative to the largest response that the modes could give."""
    if frequencies is None:
        frequencies = np.linspace(-3, 3, 23)
    H, changed = (lti.frequency_response(x, frequencies) for x in (sys, other))
    gap = 1 - sys.spectral_radius
    D = 0 if sys.D is None else np.abs(sys.D).max()
    size = np.linalg.norm(sys.B) * np.linalg.norm(sys.C) / gap + D
    return np.abs(H - changed).max() / (size + 1e-300)


def conjugate_closed(rng, q, k, m, p, shuffle=True):
    """A real transfer function as a complex diagonal system, modes in any order."""
    radius, phase = rng.uniform(0.2, 0.99, q), rng.uniform(0.1, 3, q)
    half = radius * np.exp(1j * phase)
    b, c = (
        rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for shape in ((q, m), (p, q))
    )
    r, r_b, r_c = (
        rng.uniform(-0.9, 0.9, k),
        rng.standard_normal((k, m)),
        rng.standard_normal((p, k)),
    )
    order = rng.permutation(2 * q + k) if shuffle else np.arange(2 * q + k)
    poles = np.concatenate([half, half.conj(), r])[order]
    B = np.concatenate([b, b.conj(), r_b])[order]
    C = np.concatenate([c, c.conj(), r_c], axis=1)[:, order]
    return lti.LTI(lti.Diagonal(poles), B, C)


# --- diagonal ---------------------------------------------------------------------------------


@given(sys=systems(structures=STRUCTURED[2:]))
def test_diagonalizing_a_rotation_keeps_the_response(sys):
    modal = lti.diagonalize(sys)
    assert isinstance(modal.A, lti.Diagonal)
    assert modal.order == sys.order
    # A complex pole holds its modulus to eps, a share eps/(1 − |λ|) of the distance to the circle.
    tolerance = 1e4 * EPS + 10 * EPS / (1 - sys.spectral_radius)
    assert response_change(sys, modal, fine_grid(sys.poles, points=20)) <= tolerance


@given(sys=systems(structures=("dense", "complex dense", "non-normal"), spectra=("plain",)))
def test_diagonalizing_a_dense_system_keeps_the_response(sys):
    # Close poles make ill-conditioned eigenvectors, which is then said in a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        modal = lti.diagonalize(sys)
    condition = np.linalg.cond(np.linalg.eig(sys.A)[1]).max()
    assert response_change(sys, modal) <= 1e3 * EPS * condition


@given(sys=systems(structures=STRUCTURED[2:]))
def test_modes_are_scaled_to_equal_norms(sys):
    modal = lti.diagonalize(sys)
    b = np.linalg.norm(modal.B, axis=-1)
    c = np.linalg.norm(modal.C, axis=-2)
    both = (b > 0) & (c > 0)
    assert np.allclose(b[both], c[both], rtol=1e-12, atol=0)


@pytest.mark.parametrize("structure", ["real diagonal", "complex diagonal"])
def test_a_diagonal_system_comes_back_as_it_is(structure):
    sys = build_system(np.random.default_rng(0), structure)
    assert lti.diagonalize(sys) is sys


def test_diagonalizing_a_symmetric_matrix_stays_real():
    A = np.array([[0.5, 0.2], [0.2, 0.1]])
    modal = lti.diagonalize(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2))))
    assert modal.dtype == modal.A.dtype == np.float64


def test_defective_matrices_are_refused():
    J = 0.9 * np.eye(4) + np.eye(4, k=1)
    with pytest.raises(lti.ArgumentError, match="A is defective to working precision"):
        lti.diagonalize(lti.LTI(J, np.ones((4, 1)), np.ones((1, 4))))


def test_nearly_defective_matrices_warn():
    J = 0.9 * np.eye(2) + np.diag([0.0, 1e-10]) + np.eye(2, k=1)
    sys = lti.LTI(J, np.ones((2, 1)), np.ones((1, 2)))
    with pytest.warns(lti.PrecisionWarning, match="eigenvectors of A have condition number"):
        lti.diagonalize(sys)


def _pairs_in_units(exponent):
    """A = T diag(R(0.9, 1), R(0.5, 2), 0.3) T⁻¹ with an orthogonal T, in units of the states up to
    2^±exponent, and the Rotation system that it is."""
    rng = np.random.default_rng(7)
    modes = lti.LTI(
        lti.Rotation([0.9, 0.5], [1.0, 2.0], [0.3]),
        rng.standard_normal((5, 2)),
        rng.standard_normal((1, 5)),
    )
    T = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    d = 2.0 ** (exponent * np.array([1, -1, 0.5, 0, -0.25]))
    A = T @ modes.to_dense().A @ T.T
    return lti.LTI(A * d / d[:, None], T @ modes.B / d[:, None], modes.C @ T.T * d), modes


@pytest.mark.parametrize("exponent", [0, 40, 400])
@pytest.mark.parametrize("convert", [lti.diagonalize, lti.to_rotation])
def test_modes_do_not_depend_on_the_units_of_the_states(convert, exponent):
    """Well conditioned modes, which κ(V) of 2^(2 exponent) in the given units hides."""
    sys, modes = _pairs_in_units(exponent)
    assert lti.eigenvector_condition(sys) <= 2
    converted = convert(sys)
    poles = np.sort_complex(converted.poles)
    np.testing.assert_allclose(poles, np.sort_complex(modes.poles), atol=20 * EPS)
    response = lti.impulse_response(converted, 20)
    np.testing.assert_allclose(response, lti.impulse_response(modes, 20), atol=100 * EPS)


@pytest.mark.parametrize("exponent", [0, 40, 400])
def test_modal_truncation_does_not_depend_on_the_units_of_the_states(exponent):
    sys, modes = _pairs_in_units(exponent)
    found, expected = (lti.modal_truncation(x, 3) for x in (sys, modes))
    np.testing.assert_allclose(found.h2_error, expected.h2_error, rtol=1e-13)
    np.testing.assert_allclose(found.error_bound, expected.error_bound, rtol=1e-13)
    identity = adjoint(found.left) @ found.right
    np.testing.assert_allclose(identity, np.eye(3), atol=20 * EPS)


def test_modes_of_float32_systems_warn_in_its_precision():
    """κ(V) = 2e5 for the eigenvectors (1, 0) and (1, 1e-5): modes of size 1e5 at the pole 0.5 leave
    1/(z − 0.5) + 1/(z − 0.5)², 6 at z = 1, where their sum has the terms 2e5/0.5."""
    A = np.array([[0.5, 1.0], [0.0, 0.50001]], np.float32)
    sys = lti.LTI(A, np.ones((2, 1), np.float32), np.ones((1, 2), np.float32))
    with pytest.warns(lti.PrecisionWarning, match=r"condition number 2\.0e\+05: .* to ") as caught:
        lti.diagonalize(sys)
    (stated,) = re.findall(r"relative error of up to (\S+)\.", str(caught[0].message))
    rounding = EPS_SINGLE * 4e5 / 6
    assert rounding * 0.95 <= float(stated) <= 3 * rounding
    lti.diagonalize(sys, max_condition=1e6)


@pytest.mark.parametrize("convert", [lti.diagonalize, lti.to_rotation])
def test_modes_that_nearly_meet_count_only_where_they_are_reached_and_seen(convert):
    """κ(V) = 2e10, but one of both modes is not reached, or not seen: H = 1/(z − 0.5)."""
    A = np.array([[0.5, 1.0], [0.0, 0.5 + 1e-10]])
    for B, C in (([[1.0], [0.0]], [[1.0, 0.7]]), ([[0.7], [1e-10]], [[1.0, -1e10]])):
        sys = lti.LTI(A, B, C)
        converted = convert(sys)
        expected = C[0][0] * B[0][0] + C[0][1] * B[1][0]
        np.testing.assert_allclose(lti.impulse_response(converted, 3)[1, 0, 0], expected, rtol=1e-9)
    with pytest.warns(lti.PrecisionWarning, match=r"condition number 2\.0e\+10"):
        convert(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2))))
    for zero in (0, 1):
        convert(lti.LTI(A, np.full((2, 1), float(zero)), np.full((1, 2), 1.0 - zero)))


def test_a_nearby_system_in_units_of_its_own():
    """A delay of four steps in units 2^±200: the change is small beside each of its entries."""
    d = 2.0 ** np.array([200.0, -200.0, 100.0, 0.0])
    A, B, C = np.eye(4, k=1) * d / d[:, None], np.eye(4)[:, -1:], np.eye(4)[:1] * d
    nearby = lti.well_conditioned(lti.LTI(A, B, C), 1e4)
    moved = (nearby.system.A - A) * d[:, None] / d
    assert 0 < np.linalg.norm(moved, 2) <= 1e-4
    change = lti.impulse_response(nearby.system, 8) - lti.impulse_response(lti.LTI(A, B, C), 8)
    assert np.abs(change).max() <= 1e-3 * d[3]


def test_conditions_of_eigenvectors():
    rng = np.random.default_rng(0)
    for structure in STRUCTURES:
        sys = build_system(rng, structure, batch=(2, 3), dtype="float32")
        condition = lti.eigenvector_condition(sys)
        assert condition.shape == (2, 3)
        assert condition.dtype == np.float32
        if "dense" in structure or structure == "non-normal":
            A = sys.A.astype(np.complex128 if "complex" in structure else np.float64)
            d = state_units(A, sys.B, sys.C)
            balanced = A * d[..., None, :] / d[..., :, None]
            expected = np.linalg.cond(np.linalg.eig(balanced)[1])
            assert np.allclose(condition, expected, rtol=1e-6, atol=0)
        else:
            assert np.all(condition == 1)


def test_the_condition_of_a_defective_matrix():
    assert lti.eigenvector_condition(chain_system(3, 0.5, turned=False)) > 1 / EPS
    # Exactly dependent eigenvectors.
    sys = lti.LTI(np.eye(4, k=1), np.ones((4, 1)), np.ones((1, 4)))
    assert lti.eigenvector_condition(sys) == np.inf


# --- chains of equal poles --------------------------------------------------------------------


def chain_system(length, pole, n=8, seed=0, turned=True, batch=()):
    """A Jordan chain of one pole next to distinct ones, in orthogonal coordinates that hide it.

    The coupling is of the size of the pole's distance to the circle: the chain's responses to
    all its states are of one size then.
    """
    rng = np.random.default_rng(seed)
    A = np.zeros((*batch, n, n))
    A[..., range(n), range(n)] = rng.uniform(-0.6, 0.6, n)
    A[..., :length, :length] = pole * np.eye(length) + (1 - abs(pole)) * np.eye(length, k=1)
    if turned:
        U = np.linalg.qr(rng.standard_normal((*batch, n, n)))[0]
        A = U @ A @ U.swapaxes(-1, -2)
    return lti.LTI(A, rng.standard_normal((*batch, n, 2)), rng.standard_normal((*batch, 2, n)))


def relative_change(sys, other):
    """Largest change of H over frequencies, relative to the largest H."""
    H, changed = (lti.frequency_response(x, np.linspace(0, np.pi, 200)) for x in (sys, other))
    return np.abs(H - changed).max() / np.abs(H).max()


CHAINS = [
    (2, 0.5),
    (2, 0.95),
    (2, -0.9),
    (3, 0.5),
    (3, 0.95),
    (4, 0.5),
    (4, 0.9),
    (6, 0.5),
    (8, 0.0),
]


@pytest.mark.parametrize(("length", "pole"), CHAINS)
@pytest.mark.parametrize("convert", [lti.diagonalize, lti.to_rotation])
def test_chains_of_equal_poles_are_not_converted_silently(convert, length, pole):
    """The warning states a condition, and the error stays within its multiple of rounding."""
    for seed in range(5):
        sys = chain_system(length, pole, seed=seed)
        condition = lti.eigenvector_condition(sys)
        with pytest.warns(
            lti.PrecisionWarning, match=re.escape(f"condition number {condition:.1e}")
        ):
            converted = convert(sys)
        assert relative_change(sys, converted) <= 100 * EPS * condition
        # Said to be acceptable.
        accepted = convert(sys, max_condition=1e16)
        assert np.array_equal(accepted.B, converted.B)


@pytest.mark.parametrize(("length", "pole"), [(3, 0.5), (4, 0.9), (6, 0.5)])
def test_real_coordinates_do_not_square_the_condition(length, pole):
    """One half of each complex pair, taken from V⁻¹B, carries an error of eps κ² instead."""
    sys = chain_system(length, pole)
    direct = relative_change(sys, lti.to_rotation(sys, max_condition=1e16))
    modal = lti.diagonalize(sys, max_condition=1e16)
    assert relative_change(sys, modal) <= 100 * EPS * lti.eigenvector_condition(sys)
    above = modal.A.poles.imag > 0
    real = modal.A.poles.imag == 0
    C = np.concatenate([modal.C[:, above], modal.C[:, above].conj(), modal.C[:, real]], axis=-1)
    B = np.concatenate([modal.B[above], modal.B[above].conj(), modal.B[real]])
    poles = modal.A.poles
    halves = np.concatenate([poles[above], poles[above].conj(), poles[real]])
    by_halves = relative_change(sys, lti.LTI(lti.Diagonal(halves), B, C))
    assert by_halves > 1e3 * direct
    # Where the complex form is all there is, the change is noticed.
    with pytest.raises(lti.NotRealError):
        lti.to_rotation(modal)


@pytest.mark.parametrize(("length", "pole"), CHAINS)
@pytest.mark.parametrize("max_condition", [1e4, 3e6, 1e8])
def test_nearby_systems_can_be_converted(length, pole, max_condition):
    sys = chain_system(length, pole)
    if lti.eigenvector_condition(sys) <= max_condition:
        assert lti.well_conditioned(sys, max_condition).system is sys
        return
    nearby = lti.well_conditioned(sys, max_condition)
    assert lti.eigenvector_condition(nearby.system) == nearby.condition <= max_condition
    assert nearby.system.spectral_radius < 1
    assert nearby.system.dtype == nearby.system.A.dtype == np.float64
    assert np.array_equal(nearby.system.B, sys.B)
    assert np.array_equal(nearby.system.C, sys.C)
    moved = np.linalg.norm(nearby.system.A - sys.A, 2) / np.linalg.norm(sys.A, 2)
    assert nearby.perturbation == pytest.approx(moved)
    # Within two decades of the best for a chain, a corner entry of κ^{−k/(k−1)}.
    assert moved <= 100 * max_condition ** (-length / (length - 1))
    change = relative_change(sys, nearby.system)
    assert change <= 2 * nearby.response_change
    rounding = 100 * EPS * max_condition
    for convert in (lti.diagonalize, lti.to_rotation):
        converted = convert(nearby.system, max_condition=max_condition)
        assert relative_change(nearby.system, converted) <= rounding
        assert relative_change(sys, converted) <= change + rounding


def test_a_nearby_system_beats_the_chain_itself():
    """What the way out is for: long chains, whose own modal form keeps few digits."""
    for length, pole in ((4, 0.5), (6, 0.5), (8, 0.0)):
        sys = chain_system(length, pole)
        itself = relative_change(sys, lti.to_rotation(sys, max_condition=1e16))
        nearby = lti.to_rotation(lti.well_conditioned(sys).system)
        assert relative_change(sys, nearby) < itself / 10
        assert relative_change(sys, nearby) < 2e-6


def test_a_delay_line_has_a_nearby_diagonal_form():
    """All poles at 0 and exactly dependent eigenvectors: eight steps of delay."""
    sys = lti.LTI(np.eye(8, k=1), np.eye(8)[:, -1:], np.eye(8)[:1])
    with pytest.raises(lti.ArgumentError, match=r"well_conditioned\(sys\)"):
        lti.diagonalize(sys)
    nearby = lti.well_conditioned(sys)
    change = lti.impulse_response(lti.to_rotation(nearby.system), 30) - lti.impulse_response(
        sys, 30
    )
    assert np.abs(change).max() <= 1e-5
    assert nearby.response_change <= 1e-5


@given(sys=systems())
def test_well_conditioned_systems_come_back_as_they_are(sys):
    condition = lti.eigenvector_condition(sys)
    if np.all(condition <= 3e6):
        nearby = lti.well_conditioned(sys)
        assert nearby.system is sys
        assert np.array_equal(nearby.condition, condition)
        assert nearby.perturbation.shape == nearby.response_change.shape == sys.batch_shape
        assert not np.any(nearby.perturbation)
        assert not np.any(nearby.response_change)


def test_only_the_entries_of_a_batch_that_need_it_move():
    chain, plain = chain_system(3, 0.8, n=7), build_system(np.random.default_rng(0), "dense", n=7)
    sys = lti.LTI(*(np.stack([getattr(x, k) for x in (chain, plain)]) for k in "ABC"))
    nearby = lti.well_conditioned(sys)
    assert np.all(nearby.condition <= 3e6)
    assert nearby.perturbation[0] > 0
    assert nearby.perturbation[1] == nearby.response_change[1] == 0
    assert np.array_equal(nearby.system.A[1], plain.A)
    assert np.array_equal(nearby.system.A[0], lti.well_conditioned(chain).system.A)


def test_complex_chains():
    rng = np.random.default_rng(0)
    real = chain_system(3, 0.7)
    sys = lti.LTI(np.exp(0.5j) * real.A, real.B + 1j * rng.standard_normal(real.B.shape), real.C)
    nearby = lti.well_conditioned(sys)
    assert nearby.system.A.dtype == np.complex128
    assert 0 < nearby.perturbation < 1e-7
    assert relative_change(sys, lti.diagonalize(nearby.system)) <= 2 * nearby.response_change + 1e-8


def test_single_precision_chains():
    """float32 holds no smaller change than 6e-8, which has to do."""
    double = chain_system(3, 0.5)
    sys = lti.LTI(*(x.astype(np.float32) for x in (double.A, double.B, double.C)))
    nearby = lti.well_conditioned(sys, 300)
    assert nearby.system.A.dtype == nearby.system.dtype == np.float32
    assert nearby.condition.dtype == nearby.perturbation.dtype == np.float32
    assert lti.eigenvector_condition(nearby.system) <= 300
    assert relative_change(sys, nearby.system) <= 2 * nearby.response_change


def test_equal_seeds_give_equal_systems():
    sys = chain_system(4, 0.5)
    first, second, third = (lti.well_conditioned(sys, seed=k).system.A for k in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


@pytest.mark.parametrize("form", ["chain", "controllable", "observable", "units far apart"])
@pytest.mark.parametrize(("pole", "dt"), [(0.0, 0), (1.0, True), (1.0, 0.1), (-1.0, True)])
@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_integrators_have_nearby_systems(length, pole, dt, form):
    """Poles on the boundary, which rounding splits: one of them may have the phase of all, where
    the response is infinite, and none of them asks for a stable neighbour."""
    A, B, C = (
        pole * np.eye(length) + np.eye(length, k=1),
        np.eye(length)[:, -1:],
        np.ones((1, length)),
    )
    if form in ("controllable", "observable"):
        A = np.eye(length, k=1)
        A[-1] = -np.poly([pole] * length)[:0:-1]
    if form == "observable":
        A, B, C = A.T, C.T, B.T
    if form == "units far apart":
        d = 10.0 ** np.linspace(-8, 8, length)
        A, B, C = A * d / d[:, None], B / d[:, None], C * d
    sys = lti.LTI(A, B, C, dt=dt)
    nearby = lti.well_conditioned(sys)
    assert nearby.condition <= 3e6
    omega = np.array([0.4, 1.0, 2.0, 2.6])
    z = 1j * omega if dt == 0 else np.exp(1j * omega)
    before, after = (
        np.array([(x.C @ np.linalg.solve(s * np.eye(length) - x.A, x.B))[0, 0] for s in z])
        for x in (sys, nearby.system)
    )
    # In units that B and C ask for, 8e4 for five states; companion forms are the worst of these.
    assert np.abs(after - before).max() / np.abs(before).max() < 1e-4
    assert np.isfinite(nearby.response_change)
    assert nearby.response_change > 0


def test_what_cannot_be_helped_is_said():
    # A chain this close to the circle has no stable neighbour with good eigenvectors.
    J = 0.9999 * np.eye(6) + np.eye(6, k=1)
    with pytest.raises(lti.ArgumentError, match="no stable system within"):
        lti.well_conditioned(lti.LTI(J, np.ones((6, 1)), np.ones((1, 6))), 1e3)
    for call in (lti.well_conditioned, lambda s, k: lti.diagonalize(s, max_condition=k)):
        with pytest.raises(lti.ArgumentError, match="max_condition must be at least 1"):
            call(chain_system(2, 0.5), 0.5)
    with pytest.raises(lti.ArgumentError, match="max_condition must be at least 1"):
        lti.to_rotation(build_system(np.random.default_rng(0), "rotation"), max_condition=np.nan)
    with pytest.raises(lti.ArgumentError, match="seed"):
        lti.well_conditioned(chain_system(2, 0.5), seed=-1)


# --- rotation ---------------------------------------------------------------------------------


@given(sys=systems(structures=("dense", "non-normal"), spectra=("plain",), batches=((),)))
def test_rotation_form_of_dense_systems(sys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        rotation = lti.to_rotation(sys)
    assert isinstance(rotation.A, lti.Rotation)
    assert rotation.order == sys.order
    assert rotation.dtype == np.float64
    condition = np.linalg.cond(np.linalg.eig(sys.A)[1]).max()
    assert response_change(sys, rotation) <= 1e3 * EPS * condition


@given(sys=systems(structures=("real diagonal",)))
def test_rotation_form_of_real_poles(sys):
    rotation = lti.to_rotation(sys)
    assert rotation.A.blocks == 0
    assert response_change(sys, rotation, fine_grid(sys.poles, points=20)) <= 1e4 * EPS


@given(seed=seeds(), q=st.integers(0, 4), k=st.integers(0, 3), m=st.integers(1, 2))
def test_rotation_form_of_conjugate_pairs_in_any_order(seed, q, k, m):
    if q + k == 0:
        k = 1
    sys = conjugate_closed(np.random.default_rng(seed), q, k, m, 2)
    rotation = lti.to_rotation(sys)
    assert rotation.A.blocks == q
    assert rotation.order == sys.order
    assert rotation.dtype == np.float64
    assert response_change(sys, rotation) <= 1e3 * EPS


def test_rotation_form_of_repeated_pairs():
    sys = conjugate_closed(np.random.default_rng(1), 3, 0, 2, 2, shuffle=False)
    half = np.full(3, 0.7 * np.exp(0.5j))
    order = np.array([3, 0, 4, 1, 2, 5])
    repeated = lti.LTI(
        lti.Diagonal(np.concatenate([half, half.conj()])[order]), sys.B[order], sys.C[:, order]
    )
    assert response_change(repeated, lti.to_rotation(repeated)) <= 1e3 * EPS


@given(seed=seeds())
def test_complex_coordinates_of_a_real_system(seed):
    rng = np.random.default_rng(seed)
    real = build_system(rng, "dense", n=5)
    n = real.order
    T = np.eye(n) + 0.2 * (rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))
    sys = lti.LTI(np.linalg.solve(T, real.A @ T), np.linalg.solve(T, real.B), real.C @ T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        rotation = lti.to_rotation(sys)
    condition = np.linalg.cond(np.linalg.eig(sys.A)[1]) * np.linalg.cond(T) ** 2
    assert response_change(sys, rotation) <= 1e3 * EPS * condition


def test_a_rotation_system_comes_back_as_it_is():
    sys = build_system(np.random.default_rng(0), "rotation with real poles")
    assert lti.to_rotation(sys) is sys


@given(seed=seeds())
def test_blocks_are_scaled_to_equal_norms(seed):
    rotation = lti.to_rotation(conjugate_closed(np.random.default_rng(seed), 3, 1, 2, 3))
    b, c = np.sum(rotation.B**2, axis=-1), np.sum(rotation.C**2, axis=-2)
    b, c = (np.append(x[0:6:2] + x[1:6:2], x[6:]) for x in (b, c))
    assert np.allclose(b, c, rtol=1e-12, atol=0)


def test_to_rotation_of_a_batch():
    sys = build_system(np.random.default_rng(0), "rotation with real poles", batch=(2, 3), n=5)
    modal = lti.diagonalize(sys)
    rotation = lti.to_rotation(modal)
    assert rotation.batch_shape == (2, 3)
    assert response_change(sys, rotation) <= 1e3 * EPS


# --- canonical form ---------------------------------------------------------------------------


@given(seed=seeds(), q=st.integers(0, 3), k=st.integers(0, 3), m=st.integers(1, 3))
def test_canonical_form(seed, q, k, m):
    """Proposition 1: the first column of B repeats (1, 0); real poles become blocks."""
    if q + k == 0:
        q = 1
    sys = conjugate_closed(np.random.default_rng(seed), q, k, m, 2)
    canonical = lti.to_rotation(sys, canonical=True)
    assert canonical.A.blocks == q + k
    assert canonical.order == 2 * (q + k)
    assert np.array_equal(canonical.B[:, 0], np.tile([1.0, 0.0], q + k))
    # Division by the first column of B can be by a small number; compare on its own scale.
    change = response_change(sys, canonical) * np.linalg.norm(sys.B) * np.linalg.norm(sys.C)
    scale = np.linalg.norm(canonical.B) * np.linalg.norm(canonical.C)
    assert change <= 1e4 * EPS * (scale + np.linalg.norm(sys.B) * np.linalg.norm(sys.C))


@pytest.mark.parametrize(("pole", "angle"), [(0.5, 0.0), (-0.5, np.pi)])
def test_canonical_form_pads_real_poles(pole, angle):
    sys = lti.LTI(lti.Diagonal([pole]), [[2.0]], [[3.0]])
    canonical = lti.to_rotation(sys, canonical=True)
    assert canonical.A.radius == pytest.approx([0.5])
    assert canonical.A.angle == pytest.approx([angle])
    assert np.array_equal(canonical.B, [[1], [0]])
    assert pytest.approx(np.array([[6.0, 0.0]])) == canonical.C


def test_canonical_form_needs_the_first_input():
    sys = build_system(np.random.default_rng(0), "rotation", n=4)
    B = sys.B.copy()
    B[2:, 0] = 0
    with pytest.raises(lti.ArgumentError, match="block 1 is not reached by the first input"):
        lti.to_rotation(lti.LTI(sys.A, B, sys.C), canonical=True)
    # Any other coordinates exist.
    assert isinstance(lti.to_rotation(lti.LTI(sys.A, B, sys.C)).A, lti.Rotation)


# --- what is not real -------------------------------------------------------------------------


@given(sys=systems(structures=("complex diagonal", "complex dense"), spectra=("plain",)))
def test_complex_systems_are_refused(sys):
    if lti.hankel_norm(sys).max() < 1e-6 and sys.D is None:
        return  # nothing reached or observed: the response is zero, and real
    with pytest.raises(lti.NotRealError, match="the system is not real"):
        lti.to_rotation(sys)


def test_one_complex_system_in_a_batch_is_noticed_however_small():
    real = conjugate_closed(np.random.default_rng(0), 2, 0, 1, 1, shuffle=False)
    C = np.stack([real.C, real.C])
    C[1, 0, 0] += 1
    C[1] *= 1e-10
    with pytest.raises(lti.NotRealError, match="the system is not real"):
        lti.to_rotation(lti.LTI(real.A, real.B, C))


def test_unpaired_invisible_modes_are_named():
    sys = lti.LTI(lti.Diagonal([0.5 + 0.1j, 0.2]), [[0.0], [1.0]], [[1.0, 1.0]])
    with pytest.raises(lti.NotRealError, match="do not come in conjugate pairs"):
        lti.to_rotation(sys)


def test_different_numbers_of_real_poles_in_a_batch():
    A = np.array([[[0.5, 0.1], [-0.1, 0.5]], [[0.5, 0.0], [0.0, 0.2]]])
    with pytest.raises(lti.ShapeError, match="different numbers of real poles"):
        lti.to_rotation(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2))))


# --- values and precision ---------------------------------------------------------------------


@given(sys=systems(structures=REAL_STRUCTURES, spectra=SIMPLE, couplings=("full",), batches=((),)))
def test_hankel_values_survive_the_conversion(sys):
    if np.unique(np.round(sys.poles, 3)).size < sys.order:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        rotation = lti.to_rotation(sys)
    expected = lti.hankel_singular_values(sys)
    assert np.abs(lti.hankel_singular_values(rotation) - expected).max() <= 1e-7 * expected[0]


@pytest.mark.parametrize("structure", REAL_STRUCTURES)
def test_single_precision_stays(structure):
    sys = build_system(np.random.default_rng(0), structure, dtype="float32", n=4)
    rotation, modal = lti.to_rotation(sys), lti.diagonalize(sys)
    assert rotation.dtype == rotation.A.dtype == np.float32
    assert modal.dtype in (np.float32, np.complex64)
    assert response_change(sys, rotation) <= 100 * EPS_SINGLE
    assert response_change(sys, modal) <= 100 * EPS_SINGLE


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_units(scale):
    A, B, C = np.array([[0.5, 0.3], [-0.3, 0.5]]), np.array([[1.0], [2.0]]), np.ones((1, 2))
    plain, scaled = (
        lti.to_rotation(x) for x in (lti.LTI(A, B, C), lti.LTI(A, scale * B, C / scale))
    )
    assert pytest.approx(plain.B, rel=1e-12) == scaled.B
    assert pytest.approx(plain.C, rel=1e-12) == scaled.C


@pytest.mark.parametrize("structure", STRUCTURES)
def test_feedthrough_is_kept(structure):
    sys = build_system(np.random.default_rng(0), structure, feedthrough=True)
    assert np.array_equal(lti.diagonalize(sys).D, sys.D)
    assert np.array_equal(sys.to_dense().D, sys.D)
    if structure in REAL_STRUCTURES:
        assert np.array_equal(lti.to_rotation(sys).D, sys.D)
        assert lti.to_rotation(sys, canonical=True).D.dtype == np.float64


@given(sys=systems(structures=("rotation",), spectra=MILD_SPECTRA, batches=((), (3,))))
def test_round_trip_through_dense_and_diagonal(sys):
    modal = lti.diagonalize(sys)
    back = lti.LTI(modal.A.to_dense(), modal.B, modal.C, modal.D)
    assert response_change(sys, back) <= 1e4 * EPS


def test_blocks_with_real_poles_survive_the_way_through_modes():
    """α = 0 and π: two modes of one real pole with conjugate residues fold into one block."""
    rng = np.random.default_rng(0)
    A = lti.Rotation([0.9, 0.5, 0.4], [0.0, np.pi, 1.0], [0.3])
    sys = lti.LTI(A, rng.normal(size=(7, 2)), rng.normal(size=(3, 7)))
    back = lti.to_rotation(lti.diagonalize(sys))
    assert back.order == sys.order
    change = lti.impulse_response(sys, 20) - lti.impulse_response(back, 20)
    assert np.abs(change).max() <= 1e-13 * np.abs(lti.impulse_response(sys, 20)).max()


@pytest.mark.parametrize("exponents", [(700, -700), (-700, 700), (900, -300), (-600, 100)])
@pytest.mark.parametrize("convert", [lti.diagonalize, lti.to_rotation])
def test_inputs_and_outputs_whose_squares_do_not_exist(convert, exponents):
    """Powers of two in B and C come out of the response as they went in."""
    rng = np.random.default_rng(0)
    A, B, C = rng.standard_normal((4, 4)) / 4, rng.standard_normal((4, 2)), np.ones((1, 4))
    plain = convert(lti.LTI(A, B, C))
    big = convert(lti.LTI(A, np.ldexp(B, exponents[0]), np.ldexp(C, exponents[1])))
    response = lti.impulse_response(big, 5)
    expected = lti.impulse_response(plain, 5) * 2.0 ** sum(exponents)
    np.testing.assert_allclose(response, expected, rtol=1e-13)


def test_a_condition_that_single_precision_does_not_hold():
    A = (0.5 * np.eye(6) + np.eye(6, k=1)).astype(np.float32)
    sys = lti.LTI(A, np.ones((6, 1), np.float32), np.ones((1, 6), np.float32))
    assert lti.eigenvector_condition(sys) == np.inf


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_nearby_system_of_one_whose_response_overflows():
    A, B, C = np.eye(2, k=-1), np.full((2, 1), 1e200), np.full((1, 2), 1e200)
    with pytest.raises(lti.NonFiniteError, match="response overflows"):
        lti.well_conditioned(lti.LTI(A, B, C))


STATED = re.compile(r"by up to (\S+) of themselves")


def stated_by(function, *args, **options):
    """(result, the relative error that it says of distances from the circle, 0 where silent)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args, **options)
    return result, max((float(STATED.search(str(x.message))[1]) for x in caught), default=0.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("units", [1, 5, 2000, 300_000])
def test_radii_next_to_the_circle_that_complex_numbers_lose_are_named(units, dtype):
    """‖h‖₂² of a mode is ‖c‖²‖b‖²/(1 − ρ²), and radii below 1 are multiples of 2^−53."""
    ulp = float(np.finfo(dtype).epsneg)
    gap, accepted = units * ulp, 1e-6 if dtype is np.float64 else 1e4 * EPS_SINGLE
    lost = 0
    for angle in np.linspace(0.1, 3.0, 30):
        A = lti.Rotation(np.array([0.5, 1 - gap], dtype), np.array([1.0, angle], dtype))
        sys = lti.LTI(A, np.ones((4, 1), dtype), np.ones((1, 4), dtype))
        modal, stated = stated_by(lti.diagonalize, sys)
        # 1 − |λ| of the numbers themselves, by exact squares, and with the radius rounded.
        pole = modal.A.poles[1]
        x, y = Fraction(float(pole.real)), Fraction(float(pole.imag))
        with mpmath.workdps(40):
            radius = mpmath.sqrt(
                mpmath.mpf((x * x + y * y).numerator) / (x * x + y * y).denominator
            )
            exact = float(abs((1 - radius) / gap - 1))
        change = max(exact, float(abs((1 - modal.A.radii[1]) / gap - 1)))
        assert stated == (float(f"{change:.0e}") if change > accepted else 0)
        lost += stated > 0
        # Whoever accepts it says so.
        lti.diagonalize(sys, max_condition=max(1.0, 1.6 * stated / np.finfo(dtype).eps))
    assert (lost > 0) == (ulp / 2 / gap > accepted)


def test_the_h2_norm_changes_as_stated():
    sys = lti.LTI(lti.Rotation([1 - 1e-15], [0.3]), [[1.0], [0.5]], [[1.0, 2.0]])
    modal, stated = stated_by(lti.diagonalize, sys)
    # 1 − 1e-15 is nine units below 1, and about one of them is lost.
    assert 0.05 <= stated <= 0.2
    ratio = lti.h2_norm(sys) / lti.h2_norm(modal)
    assert abs(ratio**2 - 10 / 9) <= 1e-6


def test_radii_that_complex_numbers_hold_are_not_spoken_of():
    """1.1e-16 is no error above 1e-6 of 1e-9."""
    poles = lti.Rotation([1 - 1e-9, 0.3, 0.0], [0.3, 2.0, 1.0], [1 - 1e-15, -1.0, 1.0])
    sys = lti.LTI(poles, np.ones((9, 1)), np.ones((1, 9)))
    lti.diagonalize(sys)
    single = lti.Rotation(np.float32([0.999]), np.float32([0.3]))
    lti.diagonalize(lti.LTI(single, np.float32([[1], [1]]), np.float32([[1, 1]])))
    # In continuous time the distance is the real part.
    weak = lti.LTI(lti.Oscillation([1e-15], [0.3]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    np.testing.assert_array_equal(lti.diagonalize(weak).A.decays, [1e-15, 1e-15])


def test_undamped_poles_that_leave_the_circle_are_named():
    """1² is x² + y² of no complex number but of those of Pythagoras."""
    sys = lti.LTI(lti.Rotation([1.0], [0.3]), np.ones((2, 1)), np.ones((1, 2)))
    x, y = (Fraction(float(f(0.3))) for f in (np.cos, np.sin))
    assert x * x + y * y < 1
    with pytest.warns(lti.PrecisionWarning, match="by up to inf of themselves"):
        lti.diagonalize(sys)
    quarter = lti.LTI(lti.Diagonal([1j, -1j]), np.ones((2, 1)), np.ones((1, 2)))
    lti.diagonalize(lti.to_rotation(quarter), max_condition=3e6)


def test_radii_that_sums_and_minimal_systems_lose_are_named():
    """Complex poles beside pairs, and the one mode of a pair that complex inputs reach."""
    pair = lti.Rotation([1 - 1e-14], [0.3])
    sys = lti.LTI(pair, np.ones((2, 1)), np.ones((1, 2)))
    other = lti.LTI(lti.Diagonal([0.5j]), [[1.0]], [[1.0]])
    with pytest.warns(lti.PrecisionWarning, match="as complex numbers"):
        assert isinstance((sys + other).A, lti.Diagonal)
    # x_1 + i x_2 alone.
    one = lti.LTI(pair, np.array([[1.0], [-1.0j]]), np.array([[1.0, 1.0j]]))
    with pytest.warns(lti.PrecisionWarning, match="as complex numbers"):
        assert lti.minimal_realization(one).system.order == 1
    both = lti.LTI(pair, np.array([[1.0], [0.5j]]), np.array([[1.0, 1.0]]))
    assert lti.minimal_realization(both).system is both or lti.minimal_realization(both).order == 2
    with pytest.warns(lti.PrecisionWarning, match="as complex numbers"):
        lti.to_continuous(both, step=1.0)


@pytest.mark.parametrize("method", ["zoh", "foh", "impulse", "bilinear"])
@pytest.mark.parametrize("decay", [1e-15, 1e-12])
def test_decays_that_samples_as_complex_numbers_lose_are_named(method, decay):
    """1 − |e^{λΔ}| = 1 − e^{−δΔ}, and by Tustin's formula 2 δΔ/|1 − λΔ/2|² to first order."""
    sys = lti.LTI(lti.Diagonal([-decay + 3.0j, -0.5]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    with pytest.warns(lti.PrecisionWarning, match="as complex numbers") as caught:
        sampled = lti.discretize(sys, step=0.25, method=method)
    stated = float(STATED.search(str(caught[0].message))[1])
    gap = decay * 0.25 if method != "bilinear" else decay * 0.25 / (1 + 0.375**2)
    z = sampled.A.poles[0]
    x, y = Fraction(z.real), Fraction(z.imag)
    exact = float(abs((1 - x * x - y * y) / 2 / Fraction(gap) - 1))
    # As it is, or with a radius that is rounded; stated with one digit.
    assert exact / 1.6 <= stated <= 1.6 * exact + EPS / gap
    # By blocks nothing is lost but the last digit of the radius, and decays of this size are held.
    lti.discretize(lti.LTI(lti.Diagonal([-1e-8 + 3.0j]), [[1.0]], [[1.0]], dt=0), method=method)
