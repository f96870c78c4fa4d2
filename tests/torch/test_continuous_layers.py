"""Layers as the systems in continuous time that they sample."""

import numpy as np
import pytest
import torch
from layer_kinds import TIME_INVARIANT, make

import lticore as lti
from lticore_torch import S4D, S5, Bidirectional

OMEGA = np.array([0.0, 0.01, 0.1, 1.0, 3.0])
#: Of poles, and of factors of inputs as quotients of numbers near 1.
RTOL = 1e-12


def positive_real_poles(layer):
    """Held inputs have no others."""
    with torch.no_grad():
        layer.real_atanh.copy_(torch.linspace(0.2, 2.0, len(layer.real_atanh)))
    return layer


def assert_same_system(found, expected):
    assert type(found.A) is type(expected.A)
    assert found.dt == expected.dt
    a, b = found.to_dense(), expected.to_dense()
    for name in "ABCD":
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(x, y, rtol=0, atol=RTOL * np.abs(y).max(initial=1e-300))


@pytest.mark.parametrize("kind", ["s5", "s5 blocks", "s4d", "s4d inv", "s4d legs"])
def test_held_inputs_sample_it_to_the_layer(kind):
    layer = positive_real_poles(make(kind))
    sys = layer.to_lti(continuous=True)
    assert isinstance(sys.A, lti.Oscillation)
    assert sys.dt == 0
    assert np.all(np.real(sys.poles) < 0)
    assert_same_system(lti.discretize(sys, step=1.0), _with_dt(layer.to_lti(), 1.0))


@pytest.mark.parametrize("kind", ["s5", "s5 blocks", "s4d", "s4d inv", "s4d legs"])
def test_it_is_what_the_samples_tell(kind):
    """Modes turn by less than π in a step, so that the logarithm is the right one."""
    layer = positive_real_poles(make(kind))
    with torch.no_grad():
        layer.frequency.clamp_(-3.0, 3.0)
        layer.step_log.clamp_(-5.0, -0.1)
    sys = layer.to_lti(continuous=True)
    found = lti.to_continuous(layer.to_lti(), step=1.0)
    expected = lti.frequency_response(sys, OMEGA)
    tolerance = 1e-11 * np.abs(expected).max()
    np.testing.assert_allclose(lti.frequency_response(found, OMEGA), expected, atol=tolerance)


@pytest.mark.parametrize("order", [4, 5])
def test_the_bilinear_rule_of_s5(order):
    """A and B are those of Tustin's rule, of negative real poles too. Its C and D take the mean of
    two inputs, z⁻¹ (z + 1)/2 times what the layer makes of one."""
    layer = make("s5 bilinear", order=order)
    sys, own = layer.to_lti(continuous=True), layer.to_lti()
    found = lti.discretize(sys, step=1.0, method="bilinear")
    a, b = found.to_dense(), own.to_dense()
    np.testing.assert_allclose(a.A, b.A, rtol=0, atol=RTOL)
    np.testing.assert_allclose(a.B, b.B, rtol=0, atol=RTOL * np.abs(b.B).max())
    np.testing.assert_array_equal(sys.C, own.C)
    np.testing.assert_array_equal(sys.D, own.D)
    mean = (np.exp(1j * OMEGA) + 1)[:, None, None] / 2
    # C (z − A)⁻¹ B (z + 1)/2 + D
    strictly = lti.LTI(own.A, own.B, own.C)
    expected = mean * lti.frequency_response(strictly, OMEGA) + own.D
    tolerance = 1e-11 * np.abs(expected).max()
    np.testing.assert_allclose(lti.frequency_response(found, OMEGA), expected, atol=tolerance)


@pytest.mark.parametrize("kind", ["s5", "s4d"])
def test_half_the_step_is_a_layer_with_half_the_step(kind):
    """Inputs that come twice as often, as the authors of S5 change Δ."""
    layer, finer = make(kind, order=4), make(kind, order=4)
    with torch.no_grad():
        finer.step_log.sub_(np.log(2.0))
    sys = layer.to_lti(continuous=True)
    assert_same_system(lti.discretize(sys, step=0.5), _with_dt(finer.to_lti(), 0.5))


@pytest.mark.parametrize("pairs", [0, 1])
@pytest.mark.parametrize("continuous", [False, True])
def test_channels_with_other_numbers_of_real_poles(continuous, pairs):
    """Dense where that takes fewer states; states that fill up do nothing and are stable."""
    layer = S4D(2, 4).double()
    first = lti.LTI(lti.Rotation([0.5], [0.3]), [[1.0], [0.0]], [[1.0, 2.0]], [[0.5]])
    real = lti.Rotation([0.9][:pairs], [1.0][:pairs], [0.7, 0.4])
    second = lti.LTI(real, np.ones((real.order, 1)), np.ones((1, real.order)), [[0.0]])
    layer.load_channels([first, second])
    sys = layer.to_lti(continuous=continuous)
    assert sys.order == real.order
    assert isinstance(sys.A, np.ndarray) == (pairs == 0)
    for index, expected in enumerate((first, second)):
        one = lti.discretize(sys[index], step=1.0) if continuous else sys[index]
        response = lti.impulse_response(expected, 12)
        np.testing.assert_allclose(lti.impulse_response(one, 12), response, atol=1e-12)
    assert np.all(np.real(sys.poles) < (0 if continuous else 1))


def test_reductions_in_continuous_time_are_samples_away_from_a_layer():
    """A layer, reduced in continuous time, sampled and loaded again."""
    layer = make("s5", features=2, order=8)
    reduced = lti.balanced_truncation(layer.to_lti(continuous=True), 6).system
    samples = lti.discretize(reduced, step=1.0)
    smaller = make("s5", features=2, order=8)
    smaller.load_lti(samples)
    assert smaller.order == 6
    expected = lti.frequency_response(reduced, OMEGA)
    found = lti.frequency_response(smaller.to_lti(continuous=True), OMEGA)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_both_directions():
    layer = Bidirectional(make("s5", order=4), make("s5", order=4, seed=1))
    for sys, own in zip(layer.to_lti(continuous=True), layer.to_lti(), strict=True):
        assert_same_system(lti.discretize(sys, step=1.0), _with_dt(own, 1.0))


def test_real_poles_without_a_logarithm_are_named():
    layer = make("s5", order=5)
    with torch.no_grad():
        layer.real_atanh.fill_(-0.5)
    with pytest.raises(lti.ArgumentError, match=r"real poles of zero or less, such as -0\.462"):
        layer.to_lti(continuous=True)


@pytest.mark.parametrize("kind", [x for x in TIME_INVARIANT if not x.startswith(("s4d", "s5"))])
def test_layers_in_discrete_time_are_named(kind):
    with pytest.raises(lti.ArgumentError, match="is a system in discrete time"):
        make(kind).to_lti(continuous=True)


def test_parameters_in_float32():
    layer = S5(2, 4)
    sys = layer.to_lti(continuous=True)
    assert sys.B.dtype == np.float64
    # B is rounded to float32 behind its factor in the discrete system.
    found, own = lti.discretize(sys, step=1.0), layer.to_lti()
    np.testing.assert_allclose(found.B, own.B, atol=1e-6 * np.abs(own.B).max())
    np.testing.assert_allclose(found.poles, own.poles, rtol=1e-12)


def _with_dt(sys, dt):
    return lti.LTI(sys.A, sys.B, sys.C, sys.D, dt=dt)
