"""States in units further apart than numbers reach: x_i in 2^e_i for |e_i| up to 600, where entries
of B times others of B, or of C, are no numbers, and all that a system does is that of e = 0."""

import math

import numpy as np
import pytest

import lticore as lti

OMEGA = np.array([0.0, 0.5, 2.0])
LAGS, TIMES = 4, np.array([0.0, 0.5, 3.0])
U = np.random.default_rng(1).standard_normal((6, 2))
#: Each state beside its neighbour; both states of a block, and of what a matrix couples, together.
FAR = np.array([600, 600, -600, -600])
SINGLE = np.array([600, -600, -545, 590])
COUPLED = np.array([[0.9, 0.2, 0, 0], [-0.1, 0.8, 0, 0], [0, 0, 0.5, 0.1], [0, 0, 0.2, 0.3]])

STRUCTURES = {
    "diagonal": (lti.Diagonal([0.9, -0.5, 0.3, 0.6]), SINGLE, True),
    "complex diagonal": (lti.Diagonal([0.9j, 0.1 - 0.5j, 0.3, 0.6]), SINGLE, True),
    "rotation": (lti.Rotation([0.9, 0.5], [1.0, 2.0]), FAR, True),
    "rotation with real poles": (
        lti.Rotation([0.9], [1.0], [0.3, -0.2]),
        np.array([600, 600, -600, -530]),
        True,
    ),
    "dense": (COUPLED, FAR, True),
    "dense without couplings": (np.diag([0.9, -0.5, 0.3, 0.6]), SINGLE, True),
    "continuous diagonal": (lti.Diagonal([-0.9, -0.5, -0.3, -0.6]), SINGLE, 0),
    "oscillation": (lti.Oscillation([0.9, 0.5], [1.0, 2.0]), FAR, 0),
    "continuous dense": (COUPLED - 1.3 * np.eye(4), FAR, 0),
}
OTHER = {
    True: lti.LTI(lti.Diagonal([0.5, -0.25]), [[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.5], [0.0, 1.0]]),
    0: lti.LTI(
        lti.Diagonal([-0.5, -0.25]), [[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.5], [0.0, 1.0]], dt=0
    ),
}


def respond(sys):
    return lti.frequency_response(sys, OMEGA)


def horizon(sys):
    return 5.0 if sys.is_continuous else 5


def product_of_factors(sys):
    """Sᴴ R by states, each of whose rows may leave the range of numbers with others."""
    R, S = lti.gramian_factors(sys)
    e = np.round(np.log2(np.abs(R).max(axis=-1, keepdims=True)))
    R, S = np.ldexp(R.real, -e.astype(int)), np.ldexp(S.real, e.astype(int))
    return np.linalg.svd(np.swapaxes(S, -1, -2) @ R, compute_uv=False)[..., :4]


def gradient(sys):
    value, found = lti.hankel_sum_and_gradient(sys)
    # Euler's terms, state by state.
    return value, found.B * sys.B, found.C * sys.C


#: Of batches too.
FUNCTIONS = {
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_singular_values, relative": lambda s: lti.hankel_singular_values(
        s, accuracy="relative"
    ),
    "hankel_singular_values, horizon": lambda s: lti.hankel_singular_values(s, horizon=horizon(s)),
    "hankel_singular_values, max_rank": lambda s: lti.hankel_singular_values(s, max_rank=4),
    "hankel_sum": lambda s: lti.hankel_sum(s, "log"),
    "hankel_norm": lti.hankel_norm,
    "h2_norm": lti.h2_norm,
    "h2_norm, horizon": lambda s: lti.h2_norm(s, horizon=horizon(s)),
    "h2_error": lambda s: lti.h2_error(s, OTHER[s.dt]),
    "h2_error, reduced": lambda s: lti.h2_error(OTHER[s.dt], s),
    "h2_error, horizon": lambda s: lti.h2_error(s, OTHER[s.dt], horizon=horizon(s)),
    "hinf_norm": lti.hinf_norm,
    "hinf_error": lambda s: lti.hinf_error(s, OTHER[s.dt]),
    "hankel_error": lambda s: lti.hankel_error(s, OTHER[s.dt]),
    "h2_norm of a difference": lambda s: lti.h2_norm(s - OTHER[s.dt]),
    "frequency_response": respond,
    "impulse_response": lambda s: lti.impulse_response(s, TIMES if s.is_continuous else LAGS),
    "step_response": lambda s: lti.step_response(s, TIMES if s.is_continuous else LAGS),
    "simulate": lambda s: lti.simulate(s, U, step=0.25 if s.is_continuous else None),
    "balanced_truncation": lambda s: respond(lti.balanced_truncation(s, 2).system),
    "its errors": lambda s: (
        np.stack(
            [lti.balanced_truncation(s, 2).h2_error, lti.balanced_truncation(s, 2).error_bound]
        ).T
    ),
    "matched at rest": lambda s: respond(lti.balanced_truncation(s, 2, match_dc=True).system),
    "over a horizon": lambda s: respond(lti.balanced_truncation(s, 3, horizon=horizon(s)).system),
    "modal_truncation": lambda s: lti.modal_truncation(s, 2).h2_error,
    "minimal_realization": lambda s: respond(lti.minimal_realization(s).system),
    "diagonalize": lambda s: respond(lti.diagonalize(s)),
    "gramian_factors": product_of_factors,
}
SAMPLED = {
    method: lambda s, method=method: respond(lti.discretize(s, step=0.1, method=method))
    for method in ("zoh", "foh", "bilinear", "impulse")
}
RESTORED = {
    "to_continuous, bilinear": lambda s: respond(lti.to_continuous(s, "bilinear", step=0.1)),
}


def in_units(A, B, C, dt, e):
    if isinstance(A, np.ndarray):
        A = np.ldexp(A, e[:, None] - e)
    return lti.LTI(A, B * 2.0 ** e[:, None], C * 2.0**-e, dt=dt)


def of_one(structure, seed=3):
    A, e, dt = STRUCTURES[structure]
    rng = np.random.default_rng(seed)
    B, C = rng.standard_normal((4, 2)), rng.standard_normal((2, 4))
    return [in_units(A, B, C, dt, x) for x in (0 * e, e)]


def stacked(first, second):
    A: object = np.stack([first.A, second.A]) if isinstance(first.A, np.ndarray) else first.A
    B, C = (np.stack([getattr(x, name) for x in (first, second)]) for name in "BC")
    return lti.LTI(A, B, C, dt=first.dt)


def functions_for(structure):
    continuous = STRUCTURES[structure][2] == 0
    return {**FUNCTIONS, **(SAMPLED if continuous else RESTORED)}


CASES = [(structure, name) for structure in STRUCTURES for name in functions_for(structure)]


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize(("structure", "name"), CASES)
def test_nothing_depends_on_the_units_of_the_states(structure, name):
    function = functions_for(structure)[name]
    plain, far = of_one(structure)
    expected = function(plain)
    size = np.abs(expected).max()
    # The arithmetic is that of equal numbers, or of others in units that differ by moderate ones.
    np.testing.assert_allclose(function(far), expected, rtol=0, atol=1e-11 * size)
    if name == "modal_truncation" and not isinstance(plain.A, np.ndarray):
        return  # keeps states of a kind for each entry
    both = function(stacked(plain, far))
    np.testing.assert_allclose(both[0], expected, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(both[1], expected, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("structure", [x for x in STRUCTURES if "dense" not in x])
def test_gradients_state_by_state(structure):
    # A gradient of a dense A has entries that leave the range of numbers, and says so.
    plain, far = of_one(structure)
    for found, expected in zip(gradient(far), gradient(plain), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("structure", ["dense", "dense without couplings", "continuous dense"])
def test_gradients_that_are_no_numbers_say_so(structure):
    _, far = of_one(structure)
    with pytest.raises(lti.NonFiniteError, match="overflows"):
        lti.hankel_sum_and_gradient(far)


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize("name", ["zeros", "gain", "zeros of all", "h2_reduction", "order"])
def test_of_single_systems(structure, name):
    plain, far = of_one(structure)
    if name in ("zeros", "gain"):
        plain, far = (lti.LTI(x.A, x.B[:, :1], x.C[:1], dt=x.dt) for x in (plain, far))
    found, expected = (
        {
            "zeros": lambda s: np.sort_complex(lti.to_zpk(s)[0]),
            "gain": lambda s: lti.to_zpk(s)[2],
            "zeros of all": lambda s: np.sort_complex(lti.zeros(s)),
            "h2_reduction": lambda s: lti.h2_reduction(s, 2, starts=0).h2_error,
            "order": lambda s: lti.minimal_realization(s).order,
        }[name](x)
        for x in (far, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize(
    "gramians",
    [
        lambda s: (lti.controllability_gramian(s), lti.observability_gramian(s)),
        lti.weighted_gramians,
        lambda s: lti.band_gramians(s, [(0.5, 1.0)]),
        lambda s: lti.weighted_gramians(s, input_weight=OTHER[s.dt], output_weight=OTHER[s.dt]),
    ],
    ids=["all", "weighted", "bands", "weights"],
)
def test_gramians_keep_faint_states(structure, gramians):
    # As far as squares are numbers: 2^±800.
    A, e, dt = STRUCTURES[structure]
    rng = np.random.default_rng(3)
    B, C = rng.standard_normal((4, 2)), rng.standard_normal((2, 4))
    e = np.sign(e) * 400
    plain, far = (gramians(in_units(A, B, C, dt, x)) for x in (0 * e, e))
    for found, expected, sign in zip(far, plain, (-1, 1), strict=True):
        found = found * 2.0 ** (sign * e[:, None]) * 2.0 ** (sign * e)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [lti.Diagonal, np.diag])
def test_exact_values_of_two_states(kind):
    """H(z) = 1/(z − ½) + 1/(z − ¼): H(1) = 2 + 4/3, ‖H‖² = 4/3 + 2 · 8/7 + 16/15."""
    sys = lti.LTI(kind([0.5, 0.25]), [[2.0**600], [2.0**-600]], [[2.0**-600, 2.0**600]])
    # Gramians in even states: P = Q = [[4/3, 8/7], [8/7, 16/15]].
    P = np.array([[4 / 3, 8 / 7], [8 / 7, 16 / 15]])
    assert lti.hinf_norm(sys) == pytest.approx(10 / 3, rel=1e-12)
    assert lti.h2_norm(sys) == pytest.approx(math.sqrt(P.sum()), rel=1e-13)
    np.testing.assert_allclose(
        lti.hankel_singular_values(sys), np.linalg.eigvalsh(P)[::-1], rtol=1e-12
    )
    assert lti.hankel_norm(sys) == pytest.approx(np.linalg.eigvalsh(P)[-1], rel=1e-13)
    zeros, _, gain = lti.to_zpk(sys)
    np.testing.assert_allclose(zeros, [3 / 8], rtol=1e-13)
    assert gain == pytest.approx(2, rel=1e-13)


@pytest.mark.parametrize("kind", [lti.Diagonal, np.diag])
def test_states_that_only_inputs_or_only_outputs_see(kind):
    # The others count as if these were not there: H(z) = 1/(z − ½).
    sys = lti.LTI(
        kind([0.5, 0.25, 0.75]),
        [[2.0**-600], [2.0**600], [0.0]],
        [[2.0**600, 0.0, 2.0**600]],
    )
    assert lti.hinf_norm(sys) == pytest.approx(2, rel=1e-12)
    assert lti.h2_norm(sys) == pytest.approx(math.sqrt(4 / 3), rel=1e-13)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), [4 / 3, 0, 0], atol=1e-13)
    assert lti.minimal_realization(sys).order == 1


#: Frequency of a block whose two modes each bring 2^1040 to an output that sees their difference.
TINY = 2.0**-60


@pytest.mark.parametrize(
    ("name", "response", "exact"),
    [
        ("simulate", lambda s: lti.simulate(s, np.ones((3, 1)))[2, 0], 2.0**979),
        ("frequency_response", lambda s: lti.frequency_response(s, [0.0])[0, 0, 0], 2.0**981),
        ("impulse_response", lambda s: lti.impulse_response(s, 3)[2, 0, 0], 2.0**979),
    ],
)
def test_outputs_are_numbers_where_those_of_modes_are_not(name, response, exact):
    sys = lti.LTI(lti.Rotation([0.5], [TINY]), [[0.0], [2.0**940]], [[2.0**100, 0.0]])
    assert abs(response(sys) - exact) <= 8 * 2.0**988


@pytest.mark.parametrize(
    ("name", "response", "exact"),
    [
        ("frequency_response", lambda s: lti.frequency_response(s, [0.0])[0, 0, 0], 2.0**982),
        ("impulse_response", lambda s: lti.impulse_response(s, [1.0])[0, 0, 0], 2.0**980 / 1.65),
        ("step_response", lambda s: lti.step_response(s, [1.0])[0, 0, 0], 2.0**980 * 0.36),
        ("simulate", lambda s: lti.simulate(s, np.ones((2, 1)), step=1.0)[1, 0], 2.0**980 * 0.36),
    ],
)
def test_outputs_are_numbers_in_continuous_time_too(name, response, exact):
    sys = lti.LTI(lti.Oscillation([0.5], [TINY]), [[0.0], [2.0**940]], [[2.0**100, 0.0]], dt=0)
    assert abs(response(sys) - exact) <= 8 * 2.0**988


def test_gains_beyond_those_of_signals():
    # B C is no number, and the gain of a system of relative degree two is.
    sys = lti.LTI(lti.Rotation([0.5], [TINY]).to_dense(), [[0.0], [2.0**940]], [[2.0**100, 0.0]])
    assert lti.to_zpk(sys)[2] == pytest.approx(2.0**979, rel=1e-13)
