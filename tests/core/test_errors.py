"""Bad input: the type of each error, and the part of its message that teaches."""

import pickle

import numpy as np
import pytest

import lticore as lti

D2, B2, C2 = lti.Diagonal([0.5, 0.25]), np.ones((2, 1)), np.ones((1, 2))
NEEDS_STABILITY = {
    "controllability_gramian": lti.controllability_gramian,
    "observability_gramian": lti.observability_gramian,
    "gramian_factors": lti.gramian_factors,
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_sum": lti.hankel_sum,
    "hankel_sum_and_gradient": lti.hankel_sum_and_gradient,
    "hankel_norm": lti.hankel_norm,
    "h2_norm": lti.h2_norm,
    "h2_error": lambda sys: lti.h2_error(lti.LTI(D2, B2, C2), sys),
    "hinf_norm": lti.hinf_norm,
    "balanced_truncation": lambda sys: lti.balanced_truncation(sys, order=1),
}
WITH_HORIZON = {
    "controllability_gramian": lti.controllability_gramian,
    "observability_gramian": lti.observability_gramian,
    "gramian_factors": lti.gramian_factors,
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_sum": lti.hankel_sum,
    "h2_norm": lti.h2_norm,
    "h2_error": lambda sys, **options: lti.h2_error(sys, sys, **options),
    "solve_stein": lambda sys, **options: lti.solve_stein(sys.A, np.ones((2, 2)), **options),
}


@pytest.fixture
def sys():
    return lti.LTI(D2, B2, C2)


# --- the hierarchy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (lti.ShapeError, ValueError),
        (lti.DtypeError, TypeError),
        (lti.ArrayLibraryError, TypeError),
        (lti.NonFiniteError, ValueError),
        (lti.ArgumentError, ValueError),
        (lti.UnstableSystemError, ArithmeticError),
        (lti.SingularEquationError, ArithmeticError),
        (lti.NotRealError, ValueError),
        (lti.MemoryLimitError, MemoryError),
    ],
)
def test_errors_are_also_the_builtin_ones(error, builtin):
    assert issubclass(error, lti.LticoreError)
    assert issubclass(error, builtin)


def test_precision_warning_is_a_user_warning():
    assert issubclass(lti.PrecisionWarning, UserWarning)


# --- stability --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEEDS_STABILITY)
@pytest.mark.parametrize(
    "A",
    [
        lti.Diagonal([0.5, -1.25]),
        lti.Diagonal([0.5, 1.25j]),
        lti.Rotation([], [], [0.5, 1.25]),
        np.array([[0.5, 1.0], [0.0, 1.25]]),
    ],
    ids=["real", "complex", "rotation", "dense"],
)
def test_unstable_systems_are_refused_with_the_mode_and_its_modulus(name, A):
    with pytest.raises(
        lti.UnstableSystemError, match=r"inside the unit circle, but mode 1 has modulus 1\.25"
    ):
        NEEDS_STABILITY[name](lti.LTI(A, B2, C2))


@pytest.mark.parametrize("name", NEEDS_STABILITY)
@pytest.mark.parametrize("pole", [1.0, -1.0])
def test_poles_on_the_circle_are_refused(name, pole):
    with pytest.raises(lti.UnstableSystemError, match=r"modulus 1\. A pole on the circle"):
        NEEDS_STABILITY[name](lti.LTI(lti.Diagonal([0.5, pole]), B2, C2))


def test_the_unstable_entry_of_a_batch_is_named():
    poles = np.full((2, 3, 2), 0.5)
    poles[1, 0, 1] = 3
    with pytest.raises(lti.UnstableSystemError, match="mode 1 of batch entry 3 has modulus 3"):
        lti.h2_norm(lti.LTI(lti.Diagonal(poles), B2, C2))


def test_radii_that_rounded_to_one_are_explained():
    radius = np.array([1 - 1e-9], np.float32)
    sys = lti.LTI(lti.Rotation(radius, np.ones(1, np.float32)), B2.astype("f4"), C2.astype("f4"))
    with pytest.raises(lti.UnstableSystemError, match="rounded to 1, as all above 1 − 3e-8 do"):
        lti.hankel_singular_values(sys)


#: ``solve_stein`` solves unstable equations too.
INFINITE = set(WITH_HORIZON) - {"solve_stein"}
WITHOUT_HORIZON = {
    "hankel_norm": lti.hankel_norm,
    "hinf_norm": lti.hinf_norm,
    "output_shift": lambda sys: lti.output_shift(sys, sys),
    "modal_truncation": lambda sys: lti.modal_truncation(sys, 1),
    "allocate_modal_orders": lambda sys: lti.allocate_modal_orders([sys], ratio=0.5),
    "relative": lambda sys: lti.hankel_singular_values(sys, accuracy="relative"),
}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", [*WITHOUT_HORIZON, *sorted(INFINITE), "balanced", "batch", "h2"])
def test_unstable_systems_are_offered_what_the_function_has(name, dense):
    functions = {
        **WITHOUT_HORIZON,
        **{key: WITH_HORIZON[key] for key in INFINITE},
        "balanced": lambda sys: lti.balanced_truncation(sys, order=1),
        "h2": lambda sys: lti.h2_reduction(sys, 1),
    }
    A = np.diag([0.5, 1.25]) if dense else lti.Diagonal([0.5, 1.25])
    sys = lti.LTI(A, B2, C2)
    if name == "batch":
        sys = lti.LTI(A, np.stack([B2, B2]), C2)
        name = "balanced"
        offered = (True, False)
    else:
        offered = (name not in WITHOUT_HORIZON, name in ("balanced", "modal_truncation"))
    with pytest.raises(lti.UnstableSystemError, match=r"modulus 1\.25") as caught:
        functions[name](sys)
    message = str(caught.value)
    assert ("`horizon`" in message, 'unstable="keep"' in message) == offered
    assert ("frequency_response" in message) == (name == "hinf_norm")
    assert ("hankel_singular_values(…, horizon=…)" in message) == (name == "hankel_norm")
    assert ("h2_error(…, horizon=…)" in message) == (name == "output_shift")


@pytest.mark.parametrize(
    "A",
    [
        np.array([[-2.0, 1.0], [0.0, -521.0]]),
        np.array([[0.0, 1.0], [-400.0, -0.1]]),
        lti.Diagonal([-0.5 + 3j, -0.5 - 3j]),
        lti.Rotation([20.0], [1.6]),
    ],
    ids=["dense", "oscillator", "diagonal", "rotation"],
)
def test_continuous_systems_are_sent_to_their_time_or_to_discretize(A):
    message = r"LTI\(A, B, C, D, dt=0\), or sample it: lticore\.discretize\(A, B, C, D, step\)"
    with pytest.raises(lti.UnstableSystemError, match=message):
        lti.h2_norm(lti.LTI(A, B2, C2))


def test_growing_discrete_systems_are_not():
    for pole in (1.0, 1.25, -1.1):
        with pytest.raises(lti.UnstableSystemError) as caught:
            lti.h2_norm(lti.LTI(lti.Diagonal([0.5, pole]), B2, C2))
        assert "discretize" not in str(caught.value)


def test_errors_survive_other_processes():
    with pytest.raises(lti.UnstableSystemError) as caught:
        lti.h2_norm(lti.LTI(lti.Diagonal([0.5, 2.0]), B2, C2))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.seen == caught.value.seen


def test_a_horizon_needs_no_stability():
    sys = lti.LTI(lti.Diagonal([2.0, 1.0]), B2, C2)
    for function in WITH_HORIZON.values():
        function(sys, horizon=3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(set(WITH_HORIZON) - {"solve_stein"}))
def test_powers_that_overflow_are_refused(name):
    sys = lti.LTI(lti.Diagonal([1.5, 0.5]), B2, C2)
    with pytest.raises(lti.NonFiniteError, match="overflows"):
        WITH_HORIZON[name](sys, horizon=2000)


@pytest.mark.parametrize(
    "function",
    [
        lambda sys: lti.frequency_response(sys, [0.0]),
        lti.hinf_norm,
        lti.hankel_singular_values,
        lti.hankel_sum_and_gradient,
        lti.gramian_factors,
        lti.diagonalize,
        lti.to_rotation,
        lambda sys: lti.modal_truncation(sys, 1),
    ],
)
def test_quadratic_outputs_where_linear_ones_are_needed(function):
    sys = lti.QuadraticOutputLTI(D2, B2, C2, np.ones((1, 2, 2)))
    with pytest.raises(lti.ArgumentError, match="QuadraticOutputLTI is not a linear system"):
        function(sys)


# --- shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((D2, np.ones((3, 1)), C2), r"B has shape \(3, 1\), but A has 2 states"),
        ((D2, np.ones(2), C2), r"B has shape \(2,\), but A has 2 states: B needs \(..., 2, m\)"),
        ((D2, np.ones((2, 0)), C2), "m ≥ 1"),
        ((D2, B2, np.ones((1, 3))), r"C has shape \(1, 3\), but A has 2 states"),
        ((D2, B2, np.ones((0, 2))), "p ≥ 1"),
        ((D2, B2, C2, np.ones((2, 1))), r"D has shape \(2, 1\), but C has 1 output"),
        ((D2, np.ones((2, 2)), C2, 1.0), r"D has shape \(\), but C has 1 output and B 2 inputs"),
        ((D2, B2, [1, 1]), r"C has shape \(2,\), but A has 2 states: C needs \(..., p, 2\)"),
        ((np.ones((2, 3)), B2, C2), "a dense state matrix is square"),
        ((np.ones(2), B2, C2), r"A has shape \(2,\), but needs at least 2 dimensions"),
        ((np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((1, 0))), "m ≥ 1"),
        ((D2, np.ones((3, 2, 1)), np.ones((2, 1, 2))), r"do not broadcast: A \(\), B \(3,\)"),
    ],
)
def test_shapes_of_systems(arguments, message):
    with pytest.raises(lti.ShapeError, match=message):
        lti.LTI(*arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lti.Diagonal(0.5), r"poles has shape \(\), but needs at least 1 dimension "),
        (lambda: lti.Rotation([0.5], [0.1, 0.2]), "one value per block each"),
        (lambda: lti.Rotation([[0.5]] * 2, [[0.1]] * 3), r"radius \(2,\), angle \(3,\)"),
    ],
)
def test_shapes_of_structures(build, message):
    with pytest.raises(lti.ShapeError, match=message):
        build()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((D2, np.ones((2, 3))), r"Q has shape \(2, 3\), but A and B need \(..., 2, 2\)"),
        ((D2, np.ones(2)), r"Q has shape \(2,\)"),
        ((D2, np.ones((2, 2)), np.ones((2, 3))), "B has shape .* dense state matrix is square"),
        ((lti.Diagonal(np.full((2, 2), 0.5)), np.ones((3, 2, 2))), "do not broadcast"),
    ],
)
def test_shapes_of_equations(arguments, message):
    with pytest.raises(lti.ShapeError, match=message):
        lti.solve_stein(*arguments)


def test_frequencies_are_one_vector(sys):
    with pytest.raises(lti.ShapeError, match=r"frequencies has shape \(2, 2\): one axis of them"):
        lti.frequency_response(sys, np.ones((2, 2)))
    batch = lti.LTI(0.5 * np.ones((3, 1, 1)), np.ones((3, 1, 1)), np.ones((3, 1, 1)))
    with pytest.raises(lti.ShapeError, match=r"needed, or those of the batch, \(3, 'L'\)"):
        lti.frequency_response(batch, np.ones((2, 2)))
    with pytest.raises(lti.ShapeError, match="frequencies has shape"):
        lti.frequency_response(sys, 0.5)


def test_errors_between_systems_of_different_size(sys):
    other = lti.LTI(D2, np.ones((2, 2)), C2)
    with pytest.raises(lti.ArgumentError, match="map 1 input to 1 output and 2 to 1"):
        lti.h2_error(sys, other)
    with pytest.raises(lti.ArgumentError, match="map 1 input to 1 output and 2 to 1"):
        lti.output_shift(sys, other)


def test_empty_batches():
    """Quantities of no systems are no quantities; there is no order to choose."""
    for A in (lti.Diagonal(np.zeros((0, 2))), np.zeros((0, 2, 2))):
        empty = lti.LTI(A, B2, C2)
        assert empty.spectral_radius == 0
        assert lti.hankel_singular_values(empty).shape == (0, 2)
        assert lti.h2_norm(empty).shape == lti.hinf_norm(empty).shape == (0,)
        assert lti.hankel_sum_and_gradient(empty)[1].B.shape == (0, 2, 1)
        assert lti.diagonalize(empty).batch_shape == (0,)
        assert lti.to_rotation(empty).batch_shape == (0,)
        for criterion in ({"order": 1}, {"energy": 0.9}, {"error": 1.0}):
            with pytest.raises(lti.ShapeError, match=r"batch shape \(0,\) holds no system"):
                lti.balanced_truncation(empty, **criterion)


# --- dtypes and values ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, object, np.longdouble, "U4"])
def test_refused_dtypes_are_named(dtype):
    bad = np.full(2, 0.5).astype(dtype)
    named = {np.float16: "float16", object: "object"}.get(dtype, "")
    for build, name in (
        (lambda: lti.Diagonal(bad), "poles"),
        (lambda: lti.LTI(D2, bad[:, None], C2), "B"),
        (lambda: lti.LTI(D2, B2, bad[None]), "C"),
        (lambda: lti.Rotation(bad, [0.1, 0.2]), "radius"),
        (lambda: lti.solve_stein(D2, np.stack([bad, bad])), "Q"),
    ):
        with pytest.raises(lti.DtypeError, match=f"{name} has dtype {named}.*lticore computes in"):
            build()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_values_that_are_not_finite_are_named(value):
    two = np.array([0.5, value])
    for build, name in (
        (lambda: lti.Diagonal(two), "poles"),
        (lambda: lti.LTI(np.diag(two), B2, C2), "A"),
        (lambda: lti.LTI(D2, two[:, None], C2), "B"),
        (lambda: lti.LTI(D2, B2, two[None]), "C"),
        (lambda: lti.LTI(D2, B2, C2, [[value]]), "D"),
        (lambda: lti.solve_stein(D2, np.stack([two, two])), "Q"),
    ):
        with pytest.raises(lti.NonFiniteError, match=f"^{name} contains NaN or infinity"):
            build()


@pytest.mark.parametrize("position", ["radius", "angle", "real_poles"])
def test_rotations_are_real(position):
    arguments = {"radius": [0.5], "angle": [0.1], "real_poles": [0.5]} | {position: [0.5j]}
    with pytest.raises(lti.DtypeError, match=f"{position} must be real, but has dtype complex128"):
        lti.Rotation(**arguments)


def test_frequencies_are_real(sys):
    with pytest.raises(lti.DtypeError, match="frequencies must be real"):
        lti.frequency_response(sys, [1j])


# --- scalars ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_HORIZON)
@pytest.mark.parametrize("horizon", [0, -1, 1.0, 2.5, True, "3", np.ones(2)])
@pytest.mark.parametrize("dense", [False, True])
def test_horizons_are_positive_integers(name, horizon, sys, dense):
    sys = lti.LTI(sys.A.to_dense(), sys.B, sys.C) if dense else sys
    with pytest.raises(lti.ArgumentError, match="horizon must be an integer"):
        WITH_HORIZON[name](sys, horizon=horizon)


@pytest.mark.parametrize("steps", [0, -1, 1.0, True])
def test_steps_are_positive_integers(steps, sys):
    with pytest.raises(lti.ArgumentError, match="steps must be an integer"):
        lti.impulse_response(sys, steps)


@pytest.mark.parametrize("max_rank", [0, 1.5, True])
def test_ranks_are_positive_integers(max_rank, sys):
    for function in (lti.gramian_factors, lti.hankel_singular_values):
        with pytest.raises(lti.ArgumentError, match="max_rank must be an integer"):
            function(sys, max_rank=max_rank)


@pytest.mark.parametrize("rtol", [-1e-3, 1.0, float("nan")])
def test_relative_tolerances(rtol, sys):
    for function in (lti.gramian_factors, lti.hankel_sum_and_gradient):
        with pytest.raises(lti.ArgumentError, match=r"rtol must lie in \[0, 1\)"):
            function(sys, rtol=rtol)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ({}, "exactly one of order=, energy= and error="),
        ({"order": 1, "energy": 0.9}, "exactly one of"),
        ({"order": 0}, "order must be an integer of at least 1"),
        ({"order": 1.0}, "order must be an integer, but is 1.0 of type float"),
        ({"order": True}, "order must be an integer"),
        ({"order": 3}, "order is 3, but the system has only 2 states"),
        ({"energy": 0}, r"energy must lie in \(0, 1\], but is 0"),
        ({"energy": 1.5}, "energy must lie in"),
        ({"energy": float("nan")}, "energy must lie in"),
        ({"error": -1e-9}, "error must be at least 0"),
        ({"error": float("nan")}, "error must be at least 0"),
    ],
)
def test_criteria_of_balanced_truncation(criterion, message, sys):
    with pytest.raises(lti.ArgumentError, match=message):
        lti.balanced_truncation(sys, **criterion)


@pytest.mark.parametrize("function", ["trace", None, 3, (np.sin,), [np.sin, np.cos], (1, 2)])
def test_unknown_functions_list_the_known_ones(function, sys):
    for call in (lti.hankel_sum, lti.hankel_sum_and_gradient):
        with pytest.raises(lti.ArgumentError, match=r"use 'nuclear', 'log', lticore\.schatten"):
            call(sys, function)


@pytest.mark.parametrize("p", [0, -1.0, float("nan")])
def test_schatten_powers_are_positive(p):
    with pytest.raises(lti.ArgumentError, match="p > 0"):
        lti.schatten(p)


@pytest.mark.parametrize("r", [-1, 1.0, True])
def test_tails_start_at_an_order(r):
    with pytest.raises(lti.ArgumentError, match="r must be an integer"):
        lti.tail(r)


def test_ragged_lists_are_refused_by_name():
    with pytest.raises(lti.ShapeError, match="B is not a rectangular array"):
        lti.LTI(lti.Diagonal([0.5, 0.2]), [[1.0], [1.0, 2.0]], [[1.0, 1.0]])


def test_what_there_is_one_of_is_singular():
    """One of two modes is reached: one value, one state."""
    one = lti.LTI(lti.Diagonal([0.5, 0.25]), [[1.0], [0.0]], [[1.0, 1.0]])
    with pytest.warns(lti.PrecisionWarning) as caught:
        lti.balanced_truncation(one, order=2)
    assert str(caught[0].message) == (
        "order 2 was asked for, but only 1 Hankel singular value stood clear of rounding: the "
        "reduced system has 1 state"
    )
    with pytest.warns(lti.PrecisionWarning) as caught:
        lti.from_impulse_response(0.5 ** np.arange(40.0)[:, None, None], order=3)
    assert str(caught[0].message) == (
        "order 3 was asked for, but only 1 Hankel singular value of the response stood clear of "
        "rounding: the system has 1 state"
    )
    alone = lti.LTI([[0.5]], [[1.0]], [[1.0]])
    with pytest.raises(lti.ArgumentError, match=r"but the system has only 1 state$"):
        lti.balanced_truncation(alone, order=2)
    with pytest.raises(lti.ShapeError, match=r"but A has 1 state: B needs \(\.\.\., 1, m\) with"):
        lti.LTI([[0.5]], np.ones((2, 1)), [[1.0]])
    with pytest.raises(lti.ShapeError, match="but the system has 1 input: pass"):
        lti.simulate(alone, np.ones((5, 2)))
    with pytest.raises(lti.ShapeError, match=r"^initial has 2 states, but the system has 1$"):
        lti.simulate(alone, np.ones((5, 1)), initial=np.ones(2))
