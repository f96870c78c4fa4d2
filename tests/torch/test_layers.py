"""RotationSSM: parametrisation, streaming, conversion to and from systems."""

import numpy as np
import pytest
import torch

import lticore as lti
from lticore_torch import RotationSSM, hankel_sum, ssm_layers

ORDERS = [(4, None), (5, None), (5, 3), (3, 3), (1, 1), (6, 2)]


def make_layer(features=3, order=6, **options):
    torch.manual_seed(0)
    return RotationSSM(features, order, **options)


@pytest.mark.parametrize(("order", "real_poles"), ORDERS)
def test_forward_is_the_step_recurrence(order, real_poles):
    layer = make_layer(3, order, real_poles=real_poles)
    u = torch.randn(2, 17, 3)
    state, outputs = None, []
    for k in range(17):
        y, state = layer.step(u[:, k], state)
        outputs.append(y)
    torch.testing.assert_close(layer(u), torch.stack(outputs, dim=1), rtol=1e-4, atol=1e-5)
    assert state.shape == (2, order)


@pytest.mark.parametrize(("order", "real_poles"), ORDERS)
def test_forward_is_the_system_one_step_early(order, real_poles):
    """z·C(zI − A)⁻¹B + D: the Markov parameters of (A, B, C) without the delay, plus D at once."""
    layer = make_layer(3, order, real_poles=real_poles).double()
    impulse = torch.zeros(3, 9, 3, dtype=torch.float64)
    impulse[torch.arange(3), 0, torch.arange(3)] = 1
    response = layer(impulse).detach().numpy().transpose(1, 2, 0)
    markov = lti.impulse_response(layer.to_lti(), 10)
    np.testing.assert_allclose(response[0], markov[1] + markov[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(response[1:], markov[2:], rtol=0, atol=1e-13)


def test_every_parameter_value_is_stable():
    layer = make_layer(2, 7)
    with torch.no_grad():
        for parameter in (layer.radius_logit, layer.angle_logit, layer.real_atanh):
            parameter.fill_(1e6)
    assert layer.to_lti().spectral_radius < 1
    with torch.no_grad():
        layer.real_atanh.fill_(-1e6)
    assert layer.to_lti().spectral_radius < 1
    assert torch.isfinite(layer(torch.ones(1, 50, 2))).all()


def test_real_poles_train_with_sign():
    layer = make_layer(2, 3, real_poles=3)
    layer(torch.randn(1, 8, 2)).square().sum().backward()
    assert (layer.real_atanh.grad != 0).all()


@pytest.mark.parametrize(("order", "real_poles"), ORDERS)
def test_load_inverts_to_lti(order, real_poles):
    source = make_layer(3, order, real_poles=real_poles)
    target = make_layer(3, 2)
    target.load_lti(source.to_lti())
    u = torch.randn(2, 12, 3)
    torch.testing.assert_close(target(u), source(u), rtol=1e-4, atol=1e-5)
    assert target.order == order


def test_load_converts_any_real_form():
    source = make_layer(3, 7, real_poles=3).double()
    frequencies = np.linspace(0, np.pi, 20)
    expected = lti.frequency_response(source.to_lti(), frequencies)
    for sys in (source.to_lti().to_dense(), lti.diagonalize(source.to_lti())):
        target = make_layer(3, 2).double()
        target.load_lti(sys)
        np.testing.assert_allclose(
            lti.frequency_response(target.to_lti(), frequencies), expected, rtol=0, atol=1e-11
        )


def test_load_takes_blocks_that_turn_the_other_way():
    """Angles outside (0, π) and negative radii describe the same kind of block."""
    rng = np.random.default_rng(0)
    A = lti.Rotation([0.9, -0.5, 0.7, 0.3], [-0.4, 1.2, 5.0, 0.0])
    sys = lti.LTI(A, rng.normal(size=(8, 2)), rng.normal(size=(2, 8)))
    layer = make_layer(2, 2).double()
    layer.load_lti(sys)
    frequencies = np.linspace(0, np.pi, 20)
    np.testing.assert_allclose(
        lti.frequency_response(layer.to_lti(), frequencies),
        lti.frequency_response(sys, frequencies),
        rtol=0,
        atol=1e-12,
    )


def test_load_keeps_radii_that_single_precision_would_round_to_one():
    sys = lti.LTI(lti.Rotation([1 - 1e-9], [0.5]), np.ones((2, 1)), np.ones((1, 2)))
    layer = make_layer(1, 2)
    with pytest.warns(lti.PrecisionWarning, match=r"differ from the system by 1e\+00"):
        layer.load_lti(sys)  # the angle, in single precision, moves by more than the gap
    gap = 1 - layer.to_lti().A.radius
    np.testing.assert_allclose(gap, 1e-9, rtol=1e-4)


def test_load_refuses_what_it_cannot_hold():
    layer = make_layer(2, 2)
    B, C = np.ones((2, 2)), np.ones((2, 2))
    stable = lti.Rotation([0.5], [1.0])
    with pytest.raises(lti.UnstableSystemError, match="spectral radius 1"):
        layer.load_lti(lti.LTI(lti.Rotation([1.0], [1.0]), B, C))
    with pytest.raises(lti.ShapeError, match="2 features"):
        layer.load_lti(lti.LTI(stable, np.ones((2, 3)), C))
    with pytest.raises(lti.ShapeError, match="batch"):
        layer.load_lti(lti.LTI(stable, np.ones((4, 2, 2)), C))
    with pytest.raises(lti.ArgumentError, match="feedthrough is diagonal"):
        layer.load_lti(lti.LTI(stable, B, C, np.ones((2, 2))))


def test_load_keeps_dtype_and_frozen_parameters():
    layer = make_layer(2, 4).double()
    layer.B.requires_grad_(False)
    layer.load_lti(make_layer(2, 6).to_lti())
    assert layer.B.dtype == torch.float64
    assert not layer.B.requires_grad
    assert layer.C.requires_grad


def test_constructor_refuses_orders_that_do_not_split():
    with pytest.raises(lti.ArgumentError, match="cannot hold 1 real poles"):
        RotationSSM(3, 4, real_poles=1)
    with pytest.raises(lti.ArgumentError, match="at least 1"):
        RotationSSM(3, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_output_has_the_dtype_of_the_input(dtype):
    assert make_layer(3, 5)(torch.randn(2, 6, 3).to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_input_that_the_output_could_not_hold_is_refused(dtype):
    layer, u = make_layer(3, 5), torch.ones(2, 6, 3).to(dtype)
    with pytest.raises(lti.DtypeError, match="floating-point"):
        layer(u)
    with pytest.raises(lti.DtypeError, match="floating-point"):
        layer.step(u[:, 0])


@pytest.mark.parametrize(("order", "real_poles"), ORDERS)
def test_every_parameter_gets_a_gradient(order, real_poles):
    """Empty ones too: data-parallel training stops at parameters without one."""
    layer = make_layer(3, order, real_poles=real_poles)
    layer(torch.randn(2, 6, 3)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_autocast_changes_nothing_inside_the_layer():
    layer, u = make_layer(3, 6), torch.randn(2, 30, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(u)
    torch.testing.assert_close(inside, layer(u))


def test_no_python_loop_over_time():
    """The number of autograd nodes grows with log L, not with L."""

    def nodes(length):
        seen, stack = set(), [make_layer(2, 4)(torch.randn(1, length, 2)).grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [parent for parent, _ in node.next_functions]
        return len(seen)

    assert nodes(1024) == nodes(16)


def test_state_dict_round_trip():
    source, target = make_layer(3, 6), make_layer(3, 6)
    with torch.no_grad():
        target.B.zero_()
    target.load_state_dict(source.state_dict())
    u = torch.randn(1, 5, 3)
    torch.testing.assert_close(source(u), target(u))


def test_ssm_layers_finds_them_by_name():
    layer = make_layer()
    assert ssm_layers(layer) == {"": layer}
    assert list(ssm_layers(torch.nn.Sequential(torch.nn.Linear(3, 3), layer))) == ["1"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_compute_in_single(dtype):
    layer, u = make_layer(3, 5).to(dtype), torch.randn(2, 6, 3, dtype=dtype)
    y = layer(u)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer.float()(u.float()), rtol=0.02, atol=0.02)
    y0, _ = make_layer(3, 5).to(dtype).step(u[:, 0])
    assert y0.dtype == dtype


def test_half_precision_layers_have_hankel_sums():
    layer = make_layer(3, 5).bfloat16()
    value = hankel_sum(layer)
    assert value.dtype == torch.bfloat16
    assert value.item() == pytest.approx(hankel_sum(layer.double()).item(), rel=0.01)


def test_operations_of_a_step_are_counted():
    """An m × n matrix times a vector is 2 m n, a complex product 6, a complex sum 2."""
    inputs, outputs, feedthrough = 2 * 8 * 3, 2 * 3 * 8, 2 * 3
    pairs, reals = 3 * (6 + 2), 2 * 2
    layer = make_layer(3, 8, real_poles=2)
    assert layer.flops_per_step() == inputs + outputs + feedthrough + pairs + reals
