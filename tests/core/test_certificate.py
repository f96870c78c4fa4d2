"""The error bound of deep models: its constants, at their extremes too, and the whole."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from oracles import difference, fine_grid
from scipy.special import erf, expit
from strategies import seeds, systems

import lticore as lti
from lticore.analysis import certificate
from lticore.analysis.certificate import (
    GELU_LIPSCHITZ,
    SIGMOID_LIPSCHITZ,
    SILU_LIPSCHITZ,
    LayerConstants,
    batch_norm_lipschitz,
    deep_error_bound,
    gated_unit_lipschitz,
    layer_error,
    layer_norm_lipschitz,
    logit_error_bound,
    system_lipschitz,
)

#: Rounding of the signals themselves.
SLACK = 1 + 1e-12
#: Forms of the error of one layer.
KINDS = ("hinf", "discarded", "h2", "h2 of the horizon")


def gelu(z):
    return z * (1 + erf(z / math.sqrt(2))) / 2


def tanh_gelu(z):
    return z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2


def silu(z):
    return z * expit(z)


ACTIVATIONS = {
    "gelu": (gelu, GELU_LIPSCHITZ),
    "tanh gelu": (tanh_gelu, GELU_LIPSCHITZ),
    "silu": (silu, SILU_LIPSCHITZ),
    "sigmoid": (expit, SIGMOID_LIPSCHITZ),
}
#: Largest slopes, found by maximising the derivative.
SLOPES = {"gelu": 1.128904, "tanh gelu": 1.128993, "silu": 1.099839, "sigmoid": 0.25}


def layer_norm(v, gamma, beta, epsilon):
    deviation = np.sqrt(v.var(axis=-1, keepdims=True) + epsilon)
    return gamma * (v - v.mean(axis=-1, keepdims=True)) / deviation + beta


def gated(z, G, V=None, g=0.0):
    a = gelu(z)
    return (a if V is None else a @ V.T) * expit(a @ G.T + g)


def norms(x):
    return np.linalg.norm(x, axis=(-2, -1))


# --- scalar constants -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_constants_are_the_largest_slopes(name):
    function, constant = ACTIVATIONS[name]
    step = 1e-5

    def slope(z):
        return (function(z + step) - function(z - step)) / (2 * step)

    grid = np.linspace(-20, 20, 40_001)
    start = grid[np.argmax(np.abs(slope(grid)))]
    best = scipy.optimize.minimize_scalar(
        lambda z: -abs(slope(z)), bounds=(start - 0.01, start + 0.01), method="bounded"
    )
    assert -best.fun == pytest.approx(SLOPES[name], abs=2e-6)
    # Rounded up, in the fourth digit at most (the exact form of two variants shares one constant).
    assert -best.fun <= constant + 1e-10
    assert constant + best.fun < 1e-4


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("distance", [1e-3, 0.1, 1.0, 10.0])
def test_scalar_constants_hold_on_signals(name, distance):
    function, constant = ACTIVATIONS[name]
    rng = np.random.default_rng(1)
    z = 3 * rng.standard_normal((2000, 8))
    z[::2] = math.sqrt(2)  # next to the steepest point of GELU
    other = z + distance * rng.standard_normal(z.shape)
    change = np.linalg.norm(function(z) - function(other), axis=-1)
    assert np.all(change <= SLACK * constant * np.linalg.norm(z - other, axis=-1))


# --- normalisations ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("distance", [1e-8, 1e-3, 1.0, 3.0])
def test_layer_norm_constants_hold_on_signals(size, distance):
    rng = np.random.default_rng(2)
    h, epsilon = 6, 1e-5
    gamma, beta = rng.standard_normal(h), rng.standard_normal(h)
    v = size * rng.standard_normal((3000, h)) + rng.standard_normal((3000, 1))
    other = v + distance * size * rng.standard_normal(v.shape)
    # Through the origin and past it: the segment has smaller deviations than its ends.
    other[::3] = 2 * v[::3].mean(axis=-1, keepdims=True) - v[::3] * rng.uniform(0.1, 9, (1000, 1))
    change = layer_norm(v, gamma, beta, epsilon) - layer_norm(other, gamma, beta, epsilon)
    ratio = np.linalg.norm(change, axis=-1) / np.linalg.norm(v - other, axis=-1)
    # Rounding of v of size 1 shows next to differences of 1e-14.
    rounding = 1 + 1e-13 / (size * distance)
    assert ratio.max() <= rounding * layer_norm_lipschitz(gamma, epsilon)
    for k in range(0, 3000, 7):
        both = (v[k].var(), other[k].var())
        assert ratio[k] <= rounding * layer_norm_lipschitz(gamma, epsilon, variance=both)


def test_layer_norm_constants_are_reached():
    h, epsilon = 1000, 1e-3
    gamma = np.ones(h)
    # From the origin: what is lost is the mean of the step.
    v, step = np.zeros(h), 1e-6 * np.random.default_rng(0).standard_normal(h)
    change = layer_norm(v + step, gamma, 0, epsilon) - layer_norm(v, gamma, 0, epsilon)
    ratio = np.linalg.norm(change) / np.linalg.norm(step)
    bound = layer_norm_lipschitz(gamma, epsilon)
    assert 0.99 * bound <= ratio <= bound
    # Across the direction of given signals.
    v = np.concatenate([np.ones(h // 2), -np.ones(h // 2)])
    step -= v * (v @ step) / h + step.mean()
    change = layer_norm(v + step, gamma, 0, epsilon) - layer_norm(v, gamma, 0, epsilon)
    bound = layer_norm_lipschitz(gamma, epsilon, variance=(v.var(), (v + step).var()))
    assert np.linalg.norm(change) / np.linalg.norm(step) == pytest.approx(bound, rel=1e-6)


def test_batch_norm_constant_is_the_norm_of_the_map():
    rng = np.random.default_rng(3)
    gamma, nu, epsilon = rng.standard_normal(5), rng.uniform(0.1, 2, 5), 1e-5
    slopes = np.diag(gamma / np.sqrt(nu + epsilon))
    expected = np.linalg.norm(slopes, 2)
    assert batch_norm_lipschitz(gamma, nu, epsilon) == pytest.approx(expected, rel=1e-14)


# --- gated units ------------------------------------------------------------------------------


@given(seed=seeds(), full=st.booleans(), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_gated_unit_constants_hold_on_signals(seed, full, scale):
    rng = np.random.default_rng(seed)
    h = 4
    G = scale * rng.standard_normal((h, h))
    V = rng.standard_normal((h, h)) if full else None
    z = scale * rng.standard_normal((200, 10, h))
    other = z + 10.0 ** rng.uniform(-4, 1, (200, 1, 1)) * rng.standard_normal(z.shape)
    g = rng.standard_normal(h)
    change = norms(gated(z, G, V, g) - gated(other, G, V, g)) / norms(z - other)
    # The value of one of the two signals is enough.
    sizes = [np.abs(gelu(x) if V is None else gelu(x) @ V.T).max(axis=(-2, -1)) for x in (z, other)]
    bound = gated_unit_lipschitz(G, np.minimum(*sizes), value=V)
    assert bound.shape == (200,)
    assert np.all(change <= SLACK * bound)


def test_gated_unit_constant_is_nearly_reached_by_one_channel():
    """An open gate, σ = 1, shows the first term; a steep one at σ = ½ the second and half of the
    first: (½ + ¼ G a)/(1 + ¼ G a) = 0.996."""
    z, step = np.array([[math.sqrt(2)]]), 1e-7
    for G, g, share in ((1e-9, 30.0, 0.999), (400.0, -400 * gelu(math.sqrt(2)), 0.995)):
        G = np.array([[G]])
        change = np.abs(gated(z + step, G, g=g) - gated(z, G, g=g)).item() / step
        bound = gated_unit_lipschitz(G, gelu(z + step).item())
        assert share * bound <= change <= bound


# --- errors of one layer ----------------------------------------------------------------------


def rotation_system(rng, n, h):
    A = lti.Rotation(rng.uniform(0.5, 0.99, n // 2), rng.uniform(0.1, 3, n // 2))
    B, C = rng.standard_normal((n, h)) / n, rng.standard_normal((h, n))
    return lti.LTI(A, B, C, rng.standard_normal((h, h)) / h)


def hinf(sys):
    """An upper bound: the norm is computed from below, to 1e-8."""
    return float(lti.hinf_norm(sys)) * (1 + 2e-8)


@given(sys=systems(spectra=("plain", "negative")), timing=st.sampled_from(["delayed", "current"]))
def test_system_constants_are_the_peak_gains(sys, timing):
    bound = system_lipschitz(sys, timing=timing)
    assert bound.shape == sys.batch_shape
    D = 0 if sys.D is None else sys.D[..., None, :, :]
    omega = fine_grid(sys.poles, points=100)
    strict = lti.frequency_response(lti.LTI(sys.A, sys.B, sys.C), omega)
    lead = np.exp(1j * omega)[:, None, None] if timing == "current" else 1
    gains = np.linalg.norm(lead * strict + D, 2, axis=(-2, -1)).max(axis=-1)
    assert np.all(gains <= bound * (1 + 1e-10) + 1e-13)
    if sys.batch_shape == () and bound > 1e-3:
        assert gains >= 0.9 * bound


def test_system_constants_depend_on_the_timing():
    """At z = −1, z/(z + ½) + 1 = 3, while 1/(z + ½) + 1 has its peak 5/3 at z = 1."""
    sys = lti.LTI(lti.Diagonal([-0.5]), [[1.0]], [[1.0]], [[1.0]])
    assert system_lipschitz(sys, timing="delayed") == pytest.approx(5 / 3, rel=1e-7)
    assert system_lipschitz(sys, timing="current") == pytest.approx(3, rel=1e-7)
    # An alternating signal shows that the norm of (A, B, C, D) is no bound for a layer.
    u = (-1.0) ** np.arange(1000)[:, None]
    gain = norms(lti.simulate(sys, u, timing="current")) / norms(u)
    assert gain > 2.9 > lti.hinf_norm(sys)


def bound_of_layer(kind, sys, reduction, size, length):
    """ε in one of its forms; the h2 form also over the first L lags alone."""
    reduced = reduction.system
    if kind == "hinf":
        return layer_error(size, hinf_error=hinf(difference(sys, reduced)))
    if kind == "discarded":
        return layer_error(size, discarded_values=reduction.singular_values[reduction.order :])
    horizon = length if kind == "h2 of the horizon" else None
    h2_error = float(lti.h2_error(sys, reduced, horizon=horizon))
    return layer_error(size, h2_error=h2_error, length=length)


@given(seed=seeds(), timing=st.sampled_from(["delayed", "current"]))
def test_layer_errors_hold_on_signals(seed, timing):
    rng = np.random.default_rng(seed)
    h, length = 2, 60
    sys = rotation_system(rng, 8, h)
    reduction = lti.balanced_truncation(sys, order=int(rng.integers(1, 8)))
    inputs = rng.standard_normal((5, length, h))
    inputs[0] = 0
    inputs[0, 0, 0] = 1
    change = difference(sys, reduction.system)
    # A sinusoid where the error peaks.
    omega = np.linspace(0, np.pi, 200)
    gains = np.linalg.norm(lti.frequency_response(change, omega), 2, axis=(-2, -1))
    peak = omega[np.argmax(gains)]
    vector = np.linalg.svd(lti.frequency_response(change, np.array([peak]))[0])[2][0].conj()
    inputs[1] = np.real(np.exp(1j * peak * np.arange(length))[:, None] * vector)
    errors = norms(lti.simulate(change, inputs, timing=timing))
    for kind in KINDS:
        bound = bound_of_layer(kind, sys, reduction, norms(inputs), length)
        assert np.all(errors <= SLACK * bound)


def test_layer_error_of_quadratic_outputs():
    """y = (c x)²: the kernel is h h ᵀ, of norm ‖h‖² each."""
    rng = np.random.default_rng(0)
    length = 50
    sys = lti.LTI(lti.Diagonal([0.9, 0.3]), rng.standard_normal((2, 1)), np.ones((1, 2)))
    linear = lti.LTI(lti.Diagonal([0.5]), [[0.1]], [[1.0]])
    inputs = rng.standard_normal((100, length, 1))
    outputs = lti.simulate(linear, inputs) + lti.simulate(sys, inputs) ** 2
    bound = layer_error(
        norms(inputs),
        h2_error=float(lti.h2_norm(linear)),
        quadratic_h2_error=float(lti.h2_norm(sys)) ** 2,
        length=length,
    )
    assert np.all(norms(outputs) <= bound)
    assert bound[0] > layer_error(
        norms(inputs)[0], h2_error=float(lti.h2_norm(linear)), length=length
    )


# --- deep models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    system: lti.LTI
    gate: np.ndarray
    value: np.ndarray | None
    gamma: np.ndarray
    beta: np.ndarray
    batch: bool
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def normed(self, v):
        if self.batch:
            return self.gamma * (v - self.mean) / np.sqrt(self.variance + self.epsilon) + self.beta
        return layer_norm(v, self.gamma, self.beta, self.epsilon)

    def values(self, v, system):
        z = lti.simulate(system, self.normed(v), timing="current")
        return gelu(z) if self.value is None else gelu(z) @ self.value.T

    def __call__(self, v, system):
        z = lti.simulate(system, self.normed(v), timing="current")
        return v + gated(z, self.gate, self.value)


def random_layer(rng, h):
    return Layer(
        system=rotation_system(rng, int(rng.choice([6, 8, 12])), h),
        gate=rng.standard_normal((h, h)) / math.sqrt(h),
        value=rng.standard_normal((h, h)) / math.sqrt(h) if rng.random() < 0.3 else None,
        gamma=rng.uniform(0.3, 1.5, h),
        beta=0.3 * rng.standard_normal(h),
        batch=rng.random() < 0.3,
        mean=rng.standard_normal(h),
        variance=rng.uniform(0.3, 3, h),
        epsilon=1e-5,
    )


def layer_constants(layer, reduction, v, v_reduced, kind, length, use_signals=True):
    """Constants on the signals that enter the layer in the two models."""
    normed, normed_reduced = layer.normed(v), layer.normed(v_reduced)
    if layer.batch:
        normalization = batch_norm_lipschitz(layer.gamma, layer.variance, layer.epsilon)
    else:
        variances = np.stack([x.var(axis=-1) for x in (v, v_reduced)]) if use_signals else 0.0
        normalization = layer_norm_lipschitz(layer.gamma, layer.epsilon, variance=variances)
    sizes = [
        np.abs(layer.values(x, s)).max()
        for x, s in ((v, layer.system), (v_reduced, reduction.system))
    ]
    size = float(norms(normed))
    return LayerConstants(
        nonlinearity=gated_unit_lipschitz(layer.gate, min(sizes), value=layer.value),
        system=float(system_lipschitz(reduction.system, timing="current")),
        normalization=normalization,
        error=bound_of_layer(kind, layer.system, reduction, size, length),
        input_size=size if use_signals else None,
        reduced_input_size=float(norms(normed_reduced)) if use_signals else None,
    )


def measured_and_bounded(seed, depth, kind, use_signals=True):
    """(errors after each layer, their bounds, error of the logits, its bound)."""
    rng = np.random.default_rng(seed)
    h, length, classes = int(rng.choice([2, 4])), 64, 3
    v = v_reduced = rng.standard_normal((length, h)) @ rng.standard_normal((h, h))
    constants, errors = [], []
    for _ in range(depth):
        layer = random_layer(rng, h)
        order = int(rng.integers(2, layer.system.order))
        reduction = lti.balanced_truncation(layer.system, order=order)
        constants.append(layer_constants(layer, reduction, v, v_reduced, kind, length, use_signals))
        v, v_reduced = layer(v, layer.system), layer(v_reduced, reduction.system)
        errors.append(float(norms(v - v_reduced)))
    decoder = rng.standard_normal((classes, h))
    bounds = deep_error_bound(constants)
    change = np.linalg.norm(decoder @ (v - v_reduced).mean(axis=0))
    return np.array(errors), bounds, change, logit_error_bound(decoder, bounds[-1], length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_no_deep_model_exceeds_the_bound(depth, kind):
    for seed in range(5):
        errors, bounds, change, bound = measured_and_bounded([seed, depth], depth, kind)
        assert bounds.shape == (depth,)
        assert np.all(errors <= SLACK * bounds)
        assert change <= SLACK * bound


def test_the_bound_holds_without_knowledge_of_the_signals():
    for seed in range(5):
        errors, bounds, change, bound = measured_and_bounded([seed, 3], 3, "hinf", False)
        with_signals = measured_and_bounded([seed, 3], 3, "hinf")[1]
        assert np.all(errors <= SLACK * bounds)
        assert change <= SLACK * bound
        assert np.all(with_signals <= SLACK * bounds)


def test_the_bound_is_loose_by_the_stated_decades():
    """Decades between the bound and the error of the logits, as the docstring states them."""
    decades = {
        depth: np.median(
            [
                np.log10(bound / change)
                for *_, change, bound in (
                    measured_and_bounded([seed, depth], depth, "hinf") for seed in range(5)
                )
            ]
        )
        for depth in (1, 5)
    }
    assert 0 < decades[1] < 3
    assert decades[1] < decades[5] < 5


def test_an_unreduced_layer_carries_the_error_on():
    """One reduced layer below two exact ones: ε = 0 there, by hand."""
    first = LayerConstants(2.0, 0.5, 3.0, 0.25)
    exact = LayerConstants(1.5, 2.0, 1.0, 0.0)
    saturated = LayerConstants(1.5, 2.0, 1.0, 0.0, 0.3, 0.2)
    assert deep_error_bound([first, exact]) == pytest.approx([0.5, 0.5 + 1.5 * 2 * 0.5])
    assert deep_error_bound([first, saturated]) == pytest.approx([0.5, 0.5 + 1.5 * 2 * 0.5])
    small = LayerConstants(1.5, 2.0, 1.0, 0.0, 0.1, 0.2)
    assert deep_error_bound([first, small]) == pytest.approx([0.5, 0.5 + 1.5 * 2 * 0.3])
    assert np.array_equal(deep_error_bound([exact, exact]), [0.0, 0.0])


@pytest.mark.parametrize(
    "last", [LayerConstants(1, 1, 0, 0), LayerConstants(1, 0, 1, 0), LayerConstants(0, 1, 1, 0)]
)
@pytest.mark.parametrize("shape", [None, (), (2,)])
def test_bounds_that_overflow_are_infinite_and_never_nan(last, shape):
    huge = 1e200 if shape is None else np.full(shape, 1e200)
    with np.errstate(over="ignore"):
        bounds = deep_error_bound([LayerConstants(huge, huge, huge, 1)] * 3 + [last])
    assert bounds.shape == (4, *(shape or ()))
    assert np.all(bounds[0] == 1e200)
    assert np.all(bounds[1:] == np.inf)


def test_a_zero_constant_cuts_off_an_infinite_size():
    """‖z‖ + ‖ẑ‖ overflows, but the reduced system is zero: what is left is N ε on top of E."""
    large = np.full(2, 1e308)
    with np.errstate(over="ignore"):
        bounds = deep_error_bound(
            [LayerConstants(1, 1, 1, 1), LayerConstants(2, 0, large, 0.25, large, large)]
        )
    assert np.array_equal(bounds, [[1.0, 1.0], [1.5, 1.5]])


def test_zero_constants_keep_the_shape_of_the_others():
    layer = LayerConstants(0, 1, 1, np.ones(3), np.ones(3), np.ones(3))
    assert np.array_equal(deep_error_bound([layer]), np.zeros((1, 3)))


def test_one_call_bounds_many_sequences():
    rng = np.random.default_rng(0)
    sizes = rng.uniform(1, 5, (4, 3, 2))
    layers = [
        LayerConstants(1.2, 0.9, 2.0, layer_error(size, hinf_error=0.1), size, size)
        for size in sizes
    ]
    bounds = deep_error_bound(layers)
    assert bounds.shape == (4, 3, 2)
    assert bounds.dtype == np.float64
    for index in np.ndindex(3, 2):
        one = deep_error_bound(
            [
                LayerConstants(1.2, 0.9, 2.0, 0.1 * s[index], float(s[index]), float(s[index]))
                for s in sizes
            ]
        )
        assert np.array_equal(bounds[(slice(None), *index)], one)


def test_single_precision_constants_give_double_bounds():
    layer = LayerConstants(np.float32(1.5), np.float32(1), 1, np.array([0.5], dtype=np.float32))
    assert deep_error_bound([layer]).dtype == np.float64


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: deep_error_bound([]), lti.ArgumentError, "one or more LayerConstants"),
        (lambda: deep_error_bound([1.0]), lti.ArgumentError, "one or more LayerConstants"),
        (lambda: LayerConstants(-1, 1, 1, 1), lti.ArgumentError, "nonlinearity must be at least 0"),
        (lambda: LayerConstants(1, math.inf, 1, 1), lti.NonFiniteError, "system is inf"),
        (lambda: LayerConstants(1, 1, [math.nan], 1), lti.NonFiniteError, "normalization"),
        (lambda: LayerConstants(1, 1, 1, 1, 2.0), lti.ArgumentError, "reduced_input_size"),
        (lambda: LayerConstants(None, 1, 1, 1), lti.ArgumentError, "nonlinearity is None"),
        (lambda: LayerConstants(1, 1, 1, None), lti.ArgumentError, "error is None"),
        (lambda: layer_error(1.0), lti.ArgumentError, "exactly one"),
        (lambda: layer_error(1.0, hinf_error=1, h2_error=1), lti.ArgumentError, "exactly one"),
        (lambda: layer_error(1.0, h2_error=1), lti.ArgumentError, "length"),
        (lambda: layer_error(1.0, hinf_error=1, length=3), lti.ArgumentError, "length"),
        (
            lambda: layer_error(1.0, hinf_error=1, quadratic_h2_error=1),
            lti.ArgumentError,
            "quadratic_h2_error= goes with",
        ),
        (lambda: layer_error(1.0, discarded_values=[-1.0]), lti.ArgumentError, "discarded_values"),
        (lambda: layer_norm_lipschitz([1.0], 0.0), lti.ArgumentError, "epsilon"),
        (lambda: layer_norm_lipschitz([1.0], None), lti.ArgumentError, "epsilon must be .*None"),
        (lambda: batch_norm_lipschitz([1.0], [1.0], "1"), lti.ArgumentError, "epsilon must be"),
        (lambda: layer_norm_lipschitz(np.ones(0), 1e-5), lti.ShapeError, "scale .* no channel"),
        (
            lambda: batch_norm_lipschitz(np.ones(0), np.ones(0), 1e-5),
            lti.ShapeError,
            "scale .* no channel",
        ),
        (lambda: batch_norm_lipschitz([1.0], [1.0, 2.0], 1e-5), lti.ShapeError, "per channel"),
        (lambda: batch_norm_lipschitz([1.0], [-1.0], 1e-5), lti.ArgumentError, "variance"),
        (lambda: gated_unit_lipschitz(np.ones(3), 1.0), lti.ShapeError, "gate"),
        (lambda: logit_error_bound(np.ones((1, 2, 2)), 1.0, 5), lti.ShapeError, "one matrix"),
        (lambda: system_lipschitz(None, timing="late"), lti.ArgumentError, "timing"),
        (lambda: logit_error_bound(np.eye(2), 1.0, 0), lti.ArgumentError, "length"),
    ],
)
def test_arguments_are_checked(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_every_name_is_documented():
    for name in dir(certificate):
        value = getattr(certificate, name)
        if getattr(value, "__module__", "") == certificate.__name__ and not name.startswith("_"):
            assert value.__doc__, name
