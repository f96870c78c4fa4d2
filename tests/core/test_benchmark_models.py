"""Well-known benchmark models of model reduction, against SLICOT and against closed forms.

All models are continuous in time and sampled bilinearly where not said otherwise: that keeps
Hankel singular values and the h∞ norm for every step, so those of the given model must come out.
"""

import functools
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from models import (
    Model,
    butterworth_ladder,
    butterworth_sections,
    heat_rod,
    pade_delay,
    pade_modes,
    penzl,
    penzl_modes,
    slicot_data,
    slicot_file,
    slicot_model,
)
from oracles import EPS, difference, fine_grid, hankel_values_by_mpmath

import lticore as lti

#: Orders that cut between values clearly apart, where the reduced system is unique.
FILES = {
    "CDplayer": (2, 8, 14),
    "beam": (6, 12, 20),
    "build": (4, 18, 26),
    "heat-cont": (2, 4, 8),
    "iss": (4, 18, 26),
    "random": (2, 4, 9),
}
FORMULAS = {
    "heat rod": (2, 4, 6),
    "heat rod in its modes": (2, 4, 6),
    "Penzl, 1006 states": (6, 8, 10),
    "Penzl, 1106 states": (6, 8, 10),  # enough states for factors without Gramians
    "Butterworth": (4, 8),
}
ORDERS = FILES | FORMULAS


def where_present(name):
    """The model as a parameter; a file that is not there skips its tests and says so."""
    missing = name in FILES and not slicot_file(name).exists()
    reason = f"the model file {name}.mat is absent from shared/benchmarks/slicot"
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=reason))


files = pytest.mark.parametrize("name", [where_present(name) for name in FILES])
models = pytest.mark.parametrize("name", [where_present(name) for name in ORDERS])
# SLICOT takes real matrices.
real_models = pytest.mark.parametrize(
    "name", [where_present(name) for name in ORDERS if name != "Penzl, 1106 states"]
)
smaller_models = pytest.mark.parametrize(
    "name", [where_present(name) for name in ORDERS if not name.startswith("Penzl")]
)


# --- models -----------------------------------------------------------------------------------


@functools.cache
def continuous(name) -> Model:
    if name in FILES:
        return slicot_model(name)
    if name.startswith("Penzl"):
        return penzl(int(name.split()[1]) - 6)
    return butterworth_ladder(16) if name == "Butterworth" else heat_rod(200)[0]


@functools.cache
def sampled(name) -> lti.LTI:
    """The discrete-time system; structured where the modes are known."""
    model = continuous(name)
    if name.startswith("Penzl"):
        poles, b, c = penzl_modes(len(model.A) - 6)
        modal = lti.discretize(lti.Diagonal(poles), b, c, None, model.step, "bilinear")
        return lti.to_rotation(modal) if name == "Penzl, 1006 states" else modal
    if name == "heat rod in its modes":
        modes = heat_rod(200)[1]
        return lti.discretize(
            lti.Diagonal(modes.poles), modes.B, modes.C, None, modes.step, "bilinear"
        )
    return sample(model)


def sample(model, step=None):
    return lti.discretize(model.A, model.B, model.C, None, step or model.step, "bilinear")


# --- references -------------------------------------------------------------------------------


def ab09ad(time, A, B, C, order):
    """SLICOT's balanced truncation; (A_r, B_r, C_r) and the Hankel singular values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slycot has some of its own when it is imported
        slycot = pytest.importorskip("slycot")
    sizes = (len(A), B.shape[1], len(C))
    _, *reduced, sigma = slycot.ab09ad(time, "B", "N", *sizes, *map(np.array, (A, B, C)), nr=order)
    return reduced, sigma


@functools.cache
def slicot_values(name):
    """Hankel singular values of the continuous-time model: lticore has no part in them."""
    model = continuous(name)
    return ab09ad("C", model.A, model.B, model.C, 1)[1]


# --- tolerances -------------------------------------------------------------------------------


def rounding(name):
    """What rounding of A does to σ_1, and to any response: it moves the poles by eps max |λ|, a
    share eps · stiffness of their distance from the axis. The 100 is for the states this adds up
    over: SLICOT's own answers before and after sampling differ by up to 9 such shares."""
    return 100 * EPS * continuous(name).stiffness * values(name)[0]


def level(sys):
    """Σ_i √(P_ii Q_ii), the size of the Gramians in the best units of the states."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        R, S = lti.gramian_factors(sys)
    return np.sum(np.linalg.norm(R, axis=-1) * np.linalg.norm(S, axis=-1))


@functools.cache
def forming(name):
    """What formed Gramians lose: their rounding appears in σ², not in σ."""
    return 100 * EPS * level(sampled(name)) ** 2


def squares_agree(name, sigma, expected):
    tolerance = 2 * rounding(name) * sigma[0] + forming(name)
    return np.abs(sigma**2 - expected**2).max() <= tolerance


# --- Hankel singular values -------------------------------------------------------------------


@functools.cache
def values(name):
    return lti.hankel_singular_values(sampled(name))


@functools.cache
def small_values(name):
    return relative_values(sampled(name))


def relative_values(sys):
    """Values at the level of rounding are called uncertain by a warning, rightly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        return lti.hankel_singular_values(sys, accuracy="relative")


@models
def test_values_are_those_of_slicot(name):
    assert squares_agree(name, values(name), slicot_values(name))


@real_models
def test_values_are_those_of_slicot_for_the_sampled_matrices(name):
    sys = sampled(name)
    _, expected = ab09ad("D", sys.to_dense().A, sys.B, sys.C, 1)
    assert squares_agree(name, values(name), expected)


@models
def test_relative_accuracy_keeps_the_small_values(name):
    """No Gramian is formed, so σ itself, not σ², is right to the rounding of A."""
    error = np.abs(small_values(name) - slicot_values(name))
    assert error.max() <= rounding(name)


@files
def test_values_are_those_of_the_file(name):
    expected = slicot_data(name)["hsv"].ravel()
    assert squares_agree(name, values(name), expected)
    assert np.abs(small_values(name) - expected).max() <= rounding(name)


@pytest.mark.parametrize("share", [0.1, 10])
@files
def test_values_do_not_depend_on_the_step(name, share):
    model = continuous(name)
    sigma = relative_values(sample(model, share * model.step))
    # Another step brings the poles closer to the circle, by about the factor it changes by.
    assert np.abs(sigma - slicot_data(name)["hsv"].ravel()).max() <= 10 * rounding(name)


@pytest.mark.slow
def test_penzl_in_dense_form():
    name = "Penzl, 1006 states"
    sigma = lti.hankel_singular_values(sample(continuous(name)))
    assert squares_agree(name, sigma, slicot_values(name))
    assert squares_agree(name, sigma, values(name))


@smaller_models
def test_values_in_continuous_time(name):
    """Without sampling, dense, beside SLICOT's own answer in continuous time."""
    model = continuous(name)
    sigma = lti.hankel_singular_values(lti.LTI(model.A, model.B, model.C, dt=0))
    assert squares_agree(name, sigma, slicot_values(name))


@files
def test_response_in_continuous_time_is_that_of_the_file(name):
    data, model = slicot_data(name), continuous(name)
    H = lti.frequency_response(lti.LTI(model.A, model.B, model.C, dt=0), data["w"].ravel())
    gains = np.abs(H).swapaxes(1, 2).reshape(len(H), -1)
    expected = np.abs(data["mag"])
    assert np.abs(gains - expected).max() <= 100 * EPS * model.stiffness * expected.max()


@smaller_models
def test_truncation_in_continuous_time(name):
    """Between σ_{r+1} and the bound, and the response at rest where it is asked for."""
    model = continuous(name)
    sys = lti.LTI(model.A, model.B, model.C, dt=0)
    for match_dc in (False, True):
        reduction = lti.balanced_truncation(sys, order=10, match_dc=match_dc)
        error = lti.hinf_error(sys, reduction.system)
        assert error <= reduction.error_bound + rounding(name)
        assert error >= reduction.singular_values[10] - rounding(name)


def test_heat_rod_with_held_inputs():
    """Zero-order hold: in the modes by lticore, in space by SciPy's matrix exponential."""
    space, modes = heat_rod(100)
    sys = lti.discretize(lti.Diagonal(modes.poles), modes.B, modes.C, step=space.step)
    A, B, C, _, _ = scipy.signal.cont2discrete((space.A, space.B, space.C, 0), space.step)
    _, expected = ab09ad("D", A, B, C, 1)
    tolerance = 100 * EPS * (2 * space.stiffness * expected[0] ** 2 + level(sys) ** 2)
    assert np.abs(lti.hankel_singular_values(sys) ** 2 - expected**2).max() <= tolerance


# --- responses --------------------------------------------------------------------------------


@files
def test_response_is_that_of_the_file(name):
    """|H| at the frequencies w, which the bilinear transform takes to 2 arctan(w Δ/2)."""
    data, model = slicot_data(name), continuous(name)
    omega = 2 * np.arctan(data["w"].ravel() * model.step / 2)
    H = lti.frequency_response(sampled(name), omega)
    # One column for each entry of H, column by column.
    gains = np.abs(H).swapaxes(1, 2).reshape(len(omega), -1)
    expected = np.abs(data["mag"])
    # Near a pole a response errs as much as the pole's distance from the axis.
    assert np.abs(gains - expected).max() <= 100 * EPS * model.stiffness * expected.max()


# --- balanced truncation ----------------------------------------------------------------------


@functools.cache
def truncated(name, order):
    return lti.balanced_truncation(sampled(name), order=order)


@functools.cache
def response(name):
    """Frequencies ω ≥ 0 (real systems mirror them) at the phases of all poles, and denser towards
    those of the largest reduced system; and H there."""
    sys, reduced = sampled(name), truncated(name, ORDERS[name][-1]).system
    omega = np.concatenate([fine_grid(reduced.poles, points=10), np.angle(sys.poles)])
    omega = np.unique(np.abs(omega))
    return omega, lti.frequency_response(sys, omega)


def largest_error(name, reduced):
    omega, H = response(name)
    change = H - lti.frequency_response(reduced, omega)
    return np.linalg.norm(change, 2, axis=(-2, -1)).max()


@models
def test_error_is_within_the_bound(name):
    sigma = slicot_values(name)
    for order in ORDERS[name]:
        reduction = truncated(name, order)
        assert reduction.order == order
        assert reduction.system.spectral_radius < 1
        error = largest_error(name, reduction.system)
        assert error <= min(reduction.error_bound, 2 * sigma[order:].sum()) + rounding(name)
        # No system of that order comes closer than the first value cut, and the grid sees it.
        assert error >= sigma[order] - rounding(name)


@models
@pytest.mark.parametrize("share", [1e-1, 1e-3])
def test_error_criterion_takes_the_smallest_order(name, share):
    sigma = slicot_values(name)
    allowed = share * sigma[0]
    reduction = lti.balanced_truncation(sampled(name), error=allowed)
    tails = 2 * np.cumsum(sigma[::-1])[::-1]
    assert reduction.order == np.argmax(tails <= allowed)
    assert reduction.system.spectral_radius < 1
    assert largest_error(name, reduction.system) <= allowed


@real_models
def test_reduced_systems_are_those_of_slicot(name):
    """Where the value cut is apart from its neighbour, balanced truncation has one answer."""
    sys, order = sampled(name), ORDERS[name][1]
    (A, B, C), sigma = ab09ad("D", sys.to_dense().A, sys.B, sys.C, order)
    both = (lti.LTI(A, B, C, sys.D), truncated(name, order).system)
    omega, _ = response(name)
    H, H_lticore = (lti.frequency_response(reduced, omega) for reduced in both)
    error = np.linalg.norm(H - H_lticore, 2, axis=(-2, -1)).max()
    # The directions of σ_r are lost to formed Gramians as its square is.
    assert error <= rounding(name) + forming(name) / sigma[order - 1]


@pytest.mark.parametrize("name", [where_present("build"), "Butterworth"])
def test_h2_error_is_the_mean_square_of_the_response(name):
    """Parseval on N frequencies: exact but for ρ^N, below 1e-20 here, and no equation is solved."""
    sys = sampled(name)
    omega = np.arange(2048) * (2 * np.pi / 2048)
    assert sys.spectral_radius**2048 < 1e-20
    for order in ORDERS[name]:
        reduction = truncated(name, order)
        change = lti.frequency_response(difference(sys, reduction.system), omega)
        expected = np.mean(np.sum(np.abs(change) ** 2, axis=(-2, -1)))
        # Stated for the square: eps ‖Σ‖², here with the condition of the equation.
        tolerance = 100 * EPS * continuous(name).stiffness * lti.h2_norm(sys) ** 2
        assert abs(reduction.h2_error**2 - expected) <= tolerance


# --- Butterworth ------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [0.02, 0.1, 0.5, 0.9])
def test_butterworth_filters_share_their_values(cutoff):
    """A cut-off is a unit of time, and a cascade of sections is the chain in other states."""
    chain = values("Butterworth")
    cascade = lti.LTI(*butterworth_sections(16, cutoff))
    sigma = lti.hankel_singular_values(cascade)
    assert np.abs(sigma**2 - chain**2).max() <= 100 * EPS * level(cascade) ** 2


def test_butterworth_filters_never_amplify():
    assert lti.hinf_norm(sampled("Butterworth")) == pytest.approx(1, rel=1e-8)
    assert lti.hinf_norm(lti.LTI(*butterworth_sections(16, 0.1))) == pytest.approx(1, rel=1e-8)


def test_butterworth_values_in_many_digits():
    sys = sample(butterworth_ladder(8))
    expected = hankel_values_by_mpmath(sys.A, sys.B, sys.C)
    assert np.abs(lti.hankel_singular_values(sys) - expected).max() <= 100 * EPS * level(sys)
    assert relative_values(sys) == pytest.approx(expected, rel=1e-10)


# --- Pade delay -------------------------------------------------------------------------------
# An all-pass system has P Q = I: every Hankel singular value is 1.


def delay(n, scaled):
    """Sampled; ``scaled`` brings the rows and columns of A to the same size by powers of two."""
    model, D = pade_delay(n)
    A, B, C = model.A, model.B, model.C
    if scaled:
        A, (t, _) = scipy.linalg.matrix_balance(A, permute=False, separate=True)
        B, C = B / t[:, None], C * t
    return lti.discretize(A, B, C, D, model.step, "bilinear")


@pytest.mark.parametrize("n", [4, 8, 10])
def test_delay_has_only_ones(n):
    sys = delay(n, scaled=True)
    assert np.abs(lti.hankel_singular_values(sys) ** 2 - 1).max() <= 10 * EPS * level(sys) ** 2
    assert lti.hinf_norm(sys) == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("accuracy", ["standard", "relative"])
@pytest.mark.parametrize("n", [8, 10])
def test_delay_in_a_badly_scaled_companion_form(n, accuracy):
    """Coefficients up to 7e11 and ‖A‖ = 2e8 after sampling (n = 10), where rounding is graded as A
    is. SLICOT keeps 5e-12; here the rows and columns are brought to one size first."""
    sys = delay(n, scaled=False)
    sigma = lti.hankel_singular_values(sys, accuracy=accuracy)
    # Eigenvectors of a condition up to 1e4 are used for values to relative accuracy, and cost it.
    modes = 1e4 * EPS if accuracy == "relative" else 0
    assert np.abs(sigma - 1).max() <= 10 * EPS * level(sys) + modes


@pytest.mark.parametrize("n", [4, 8, 10])
def test_delay_in_its_modes(n):
    """Modes that cancel: P and Q are of size ‖R‖‖S‖ = 7e4 (n = 10), and P Q = I."""
    poles, b, c = pade_modes(n)
    model, D = pade_delay(n)
    sys = lti.discretize(lti.Diagonal(poles), b, c, D, model.step, "bilinear")
    assert np.abs(lti.hankel_singular_values(sys) ** 2 - 1).max() <= 10 * EPS * level(sys) ** 2
    assert np.abs(relative_values(sys) - 1).max() <= 10 * EPS * level(sys)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("n", "order"), [(8, 4), (8, 7), (10, 5), (10, 9)])
def test_delay_truncated(n, order, scaled):
    """Equal values: no order is better than the next, yet the bound 2 (n − r) must hold."""
    sys = delay(n, scaled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        reduction = lti.balanced_truncation(sys, order=order)
    assert reduction.order == order
    assert reduction.error_bound == pytest.approx(2 * (n - order), rel=1e-9)
    assert reduction.system.spectral_radius < 1
    error = lti.hinf_norm(difference(sys, reduction.system))
    assert 1 - 1e-8 <= error <= reduction.error_bound
