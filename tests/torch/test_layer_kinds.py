"""Layers of every kind against their published formulas, and what all of them can do."""

import math

import numpy as np
import pytest
import torch
from layer_kinds import ALL, LINEAR, TIME_INVARIANT, make, published

import lticore as lti
from lticore_torch import (
    LRU,
    S4D,
    S5,
    Bidirectional,
    QuadraticSSM,
    RotationSSM,
    SelectiveSSM,
    hankel_sum,
)

FREQUENCIES = np.linspace(0, np.pi, 30)


def response(sys):
    return lti.frequency_response(sys, FREQUENCIES)


def channelwise(u):
    """Sequences (..., L, h) as those of h systems with one input, (..., h, L, 1)."""
    return np.swapaxes(u, -1, -2)[..., None]


def simulated(layer, u):
    sys = layer.to_lti()
    if isinstance(layer, S4D):
        y = lti.simulate(sys, channelwise(u), timing="current")[..., 0]
        return np.swapaxes(y, -1, -2)
    y = lti.simulate(sys, u, timing="current")
    if isinstance(layer, QuadraticSSM):
        y = y + u * layer.D.detach().numpy()
    return y


# --- what they compute ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_forward_is_the_published_recurrence(kind):
    layer, u = make(kind), torch.randn(2, 19, 3, dtype=torch.float64)
    expected = np.stack([published(layer, x) for x in u.numpy()])
    np.testing.assert_allclose(layer(u).detach(), expected, rtol=1e-11, atol=1e-12)
    reversed_ = layer(u.flip(-2), reverse=True).flip(-2)
    torch.testing.assert_close(reversed_, layer(u), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", [(7, 3), (2, 2, 7, 3), (2, 1, 3)])
def test_streaming_is_the_parallel_form(kind, shape):
    layer, u = make(kind), torch.randn(*shape, dtype=torch.float64)
    state, outputs = None, []
    for step in u.unbind(dim=-2):
        y, state = layer.step(step, state)
        outputs.append(y)
    together = layer(u)
    assert together.shape == shape
    torch.testing.assert_close(together, torch.stack(outputs, dim=-2), rtol=1e-11, atol=1e-12)
    assert state.shape[: len(shape) - 2] == shape[:-2]


@pytest.mark.parametrize("kind", TIME_INVARIANT)
def test_system_simulates_the_layer(kind):
    layer, u = make(kind), torch.randn(2, 23, 3, dtype=torch.float64)
    np.testing.assert_allclose(
        simulated(layer, u.numpy()), layer(u).detach(), rtol=1e-11, atol=1e-12
    )


def test_systems_do_not_change_with_the_parameters():
    for kind in TIME_INVARIANT:
        layer = make(kind)
        sys, before = layer.to_lti(), layer.to_lti()
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(0.1)
        np.testing.assert_array_equal(sys.B, before.B)
        np.testing.assert_array_equal(sys.C, before.C)
        np.testing.assert_array_equal(sys.A.real_poles, before.A.real_poles)


@pytest.mark.parametrize("kind", LINEAR)
def test_bidirectional_adds_the_reversed_system(kind):
    layer = Bidirectional(make(kind), make(kind, seed=1))
    u = torch.randn(2, 11, 3, dtype=torch.float64)
    ahead, back = (layer.ahead, layer.back)
    expected = simulated(ahead, u.numpy()) + simulated(back, u.numpy()[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(layer(u).detach(), expected, rtol=1e-11, atol=1e-12)
    first, second = layer.to_lti()
    assert first.order == second.order == 5
    assert not np.any(second.D)


def test_bidirectional_layers_refuse_what_they_cannot():
    layer = Bidirectional(make("lru"), make("rotation"))
    with pytest.raises(lti.ArgumentError, match="cannot stream"):
        layer.step(torch.randn(2, 3))
    with pytest.raises(lti.ArgumentError, match="3 and 4 features"):
        Bidirectional(make("lru"), make("lru", 4))
    with pytest.raises(lti.ArgumentError, match=r"SelectiveSSM .* no to_lti"):
        Bidirectional(make("selective"), make("lru")).to_lti()


# --- loading systems --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TIME_INVARIANT)
def test_load_inverts_to_lti(kind):
    source, target = make(kind), make(kind, order=9, seed=1)
    target.load_lti(source.to_lti())
    u = torch.randn(2, 15, 3, dtype=torch.float64)
    expected = source(u)
    if kind == "quadratic":  # D is no part of its systems
        expected = expected + (target.D - source.D) * u
    torch.testing.assert_close(target(u), expected, rtol=1e-9, atol=1e-10)
    assert target.order == source.order


def odd_system(m):
    """Two pairs, a positive and a negative real pole and one at 0."""
    rng = np.random.default_rng(0)
    A = lti.Rotation([0.95, 0.4], [0.3, 2.8], [0.7, -0.6, 0.0])
    return lti.LTI(A, rng.normal(size=(7, m)), rng.normal(size=(m, 7)))


def loaded(kind, sys, **options):
    """A float64 layer of one feature or more that holds the system, S4D in every channel."""
    layer = make(kind, sys.inputs, 4, **{"real_poles": 0, **options})
    if isinstance(layer, S4D):
        layer.load_channels([sys])
    else:
        layer.load_lti(sys)
    return layer


def held(layer):
    sys = layer.to_lti()
    if isinstance(layer, S4D):
        return lti.LTI(sys.to_dense().A[0], sys.B[0], sys.C[0])
    return lti.LTI(sys.A, sys.B, sys.C)


@pytest.mark.parametrize("kind", LINEAR)
def test_load_takes_negative_poles_and_odd_orders(kind):
    sys = odd_system(1 if kind.startswith("s4d") else 2)
    layer = loaded(kind, sys)
    assert layer.order == 7
    np.testing.assert_allclose(response(held(layer)), response(sys), rtol=1e-9, atol=1e-10)
    u = torch.randn(1, 9, sys.inputs, dtype=torch.float64)
    layer(u).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", LINEAR)
def test_load_keeps_gaps_that_single_precision_would_lose(kind):
    sys = lti.LTI(lti.Rotation([1 - 1e-9], [0.5]), np.ones((2, 1)), np.ones((1, 2)))
    layer = loaded(kind, sys, blocks=1) if kind == "s5 blocks" else loaded(kind, sys)
    layer = layer.float()
    layer.load_channels([sys])
    poles = np.ravel(lti.LTI(layer.to_lti().A, layer.to_lti().B, layer.to_lti().C).poles)
    np.testing.assert_allclose(1 - np.abs(poles), 1e-9, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.angle(poles)), 0.5, rtol=1e-6)
    y = layer(torch.ones(1, 500, 1))
    expected = lti.simulate(layer.to_lti(), np.ones((1, 500, 1)), timing="current")
    np.testing.assert_allclose(y.detach(), expected.reshape(y.shape), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", LINEAR)
def test_load_takes_repeated_poles(kind):
    """In rotation form they need no eigenvectors."""
    rng = np.random.default_rng(1)
    A = lti.Rotation([0.9, 0.9, 0.9], [0.4, 0.4, 0.4])
    m = 1 if kind.startswith("s4d") else 2
    sys = lti.LTI(A, rng.normal(size=(6, m)), rng.normal(size=(m, 6)))
    np.testing.assert_allclose(response(held(loaded(kind, sys))), response(sys), rtol=0, atol=1e-10)


def test_quadratic_layers_take_repeated_poles():
    rng = np.random.default_rng(1)
    A = lti.Rotation([0.9, 0.9], [0.4, 0.4])
    M = rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 2))
    sys = lti.QuadraticOutputLTI(A, rng.normal(size=(4, 2)), rng.normal(size=(2, 4)), M)
    layer = make("quadratic", 2)
    layer.load_lti(sys)
    u = rng.normal(size=(30, 2))
    expected = lti.simulate(sys, u, timing="current") + u * layer.D.detach().numpy()
    np.testing.assert_allclose(layer(torch.tensor(u)).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", LINEAR)
def test_silent_systems_load_and_train(kind):
    m = 1 if kind.startswith("s4d") else 2
    sys = lti.LTI(lti.Rotation([0.5], [1.0]), np.zeros((2, m)), np.ones((m, 2)))
    if kind == "canonical":
        with pytest.raises(lti.ArgumentError, match="not reached by the first input"):
            loaded(kind, sys)
        return
    layer = loaded(kind, sys)
    assert np.abs(response(held(layer))).max() == 0
    layer(torch.randn(2, 6, m, dtype=torch.float64)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_quadratic_layers_take_negative_forms_of_their_rank():
    random = np.random.default_rng(0)
    v, signs = random.normal(size=(3, 4)), np.array([-2.0, 1.0, -0.5])
    M = signs[:, None, None] * v[:, :, None] * v[:, None]
    A, B, C = np.diag([0.9, 0.6, -0.3, 0.2]), random.normal(size=(4, 3)), random.normal(size=(3, 4))
    layer = QuadraticSSM(3, 4, rank=1).double()
    sys = lti.QuadraticOutputLTI(A, B, C, M)
    layer.load_lti(sys)
    assert lti.h2_error(layer.to_lti(), sys) <= 1e-7 * lti.h2_norm(sys)  # √eps: errors are squared


def test_linear_layers_refuse_quadratic_outputs():
    with pytest.raises(lti.ArgumentError, match="RotationSSM cannot hold QuadraticOutputLTI"):
        make("rotation").load_lti(make("quadratic").to_lti())


@pytest.mark.parametrize("kind", ["s4d", "s4d legs"])
def test_s4d_channels_may_differ_in_their_real_poles(kind):
    rng = np.random.default_rng(2)
    systems = [
        lti.LTI(A, rng.normal(size=(A.order, 1)), rng.normal(size=(1, A.order)), np.ones((1, 1)))
        for A in (
            lti.Rotation([0.9], [0.3], [-0.5]),
            lti.Rotation([], [], [0.8, 0.3, -0.2]),
            lti.Rotation([0.7], [2.0]),
        )
    ]
    layer = make(kind)
    layer.load_channels(systems)
    assert layer.order == 3
    for channel, sys in enumerate(systems):
        whole = layer.to_lti()
        own = lti.LTI(whole.A[channel], whole.B[channel], whole.C[channel], whole.D[channel])
        np.testing.assert_allclose(response(own), response(sys), rtol=0, atol=1e-12)
    u = rng.normal(size=(2, 9, 3))
    np.testing.assert_allclose(
        layer(torch.tensor(u)).detach(), simulated(layer, u), rtol=0, atol=1e-12
    )
    expected = sum(float(lti.hankel_sum(sys)) for sys in systems)
    assert hankel_sum(layer).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", ["lru", "s5", "s5 bilinear", "s4d legs"])
def test_foreign_arrays_give_the_systems_of_the_layers(kind):
    """The same parameters as arrays in the papers' notation."""
    layer = make(kind, order=6)
    p = {name: x.detach().numpy() for name, x in layer.named_parameters()}
    if kind == "s4d legs":
        poles = (-np.exp(p["decay_log"]) - 1j * p["frequency"]).reshape(3, 3)
        c = (p["C"][:, 0] - 1j * p["C"][:, 1]).reshape(3, 3)
        sys = lti.from_s4d(poles, c, p["D"], step=np.exp(p["step_log"]))
    else:
        b, c = p["B"][0::2] + 1j * p["B"][1::2], p["C"][:, 0::2] - 1j * p["C"][:, 1::2]
        if kind == "lru":
            poles = np.exp(-np.exp(p["nu_log"]) - 1j * np.exp(p["theta_log"]))
            sys = lti.from_lru(poles, b, c, p["D"], gamma=np.exp(p["gamma_log"]))
        else:
            poles, step = -np.exp(p["decay_log"]) - 1j * p["frequency"], np.exp(p["step_log"])
            sys = lti.from_s5(poles, b, c, p["D"], step=step, sampling=layer.sampling)
    np.testing.assert_allclose(response(sys), response(layer.to_lti()), rtol=1e-10, atol=1e-10)
    layer.load_lti(sys)
    np.testing.assert_allclose(response(sys), response(layer.to_lti()), rtol=1e-10, atol=1e-10)


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_every_parameter_gets_a_finite_gradient(kind):
    layer = make(kind)
    layer(torch.randn(2, 6, 3, dtype=torch.float64)).square().sum().backward()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert p.numel() == 0 or (p.grad != 0).any(), name


# The starts of S4D differ in values only.
@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in ("s4d inv", "s4d legs")])
def test_gradients_of_input_and_parameters(kind):
    order = {"s5 blocks": 5, "rotation real": 5}.get(kind, 3)
    layer = make(kind, 2, order)
    names, values = zip(*layer.named_parameters(), strict=True)
    u = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)

    def run(u, *parameters):
        arguments = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, arguments, (u,))

    assert torch.autograd.gradcheck(run, (u, *values))


@pytest.mark.parametrize("kind", ALL)
def test_every_parameter_value_is_stable(kind):
    rates = ("log", "logit", "atanh", "frequency", "bias")
    for value in (1e6, -1e6):
        layer = make(kind)
        with torch.no_grad():
            for name, p in layer.named_parameters():
                if name.endswith(rates) and name != "gamma_log":
                    p.fill_(value)
        y = layer(torch.ones(1, 50, 3, dtype=torch.float64))
        assert torch.isfinite(y).all()
        y.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
        if kind in TIME_INVARIANT:
            assert np.all(layer.to_lti().spectral_radius < 1)


# --- precisions and compilation ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_single(kind, dtype):
    layer, u = make(kind).to(dtype), torch.randn(2, 6, 3).to(dtype)
    y, (streamed, _) = layer(u), layer.step(u[:, 0])
    assert y.dtype == streamed.dtype == dtype
    expected = layer.float()(u.float())
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(streamed.float(), expected[:, 0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", ALL)
def test_autocast_changes_nothing_inside(kind):
    layer, u = make(kind).float(), torch.randn(2, 30, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, (step, _) = layer(u), layer.step(u[:, 0])
    torch.testing.assert_close(inside, layer(u), rtol=0, atol=0)
    torch.testing.assert_close(step, layer.step(u[:, 0])[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ALL)
def test_autocast_changes_no_gradient(kind):
    """Also where the backward pass runs in it, as in compiled graphs."""
    layer, u = make(kind).float(), torch.randn(2, 30, 3)
    parameters = list(layer.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = torch.autograd.grad(layer(u).square().sum(), parameters)
    outside = torch.autograd.grad(layer(u).square().sum(), parameters)
    for x, y in zip(inside, outside, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


# Plain S5 is compiled with these: S4D holds inputs likewise, and the bilinear S5 is else the same.
@pytest.mark.parametrize("kind", ["lru", "s5 bilinear", "s4d", "quadratic", "selective"])
def test_compiles_as_one_graph(kind):
    layer, u = make(kind).float(), torch.randn(2, 9, 3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u), layer(u))
    compiled(u).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


# --- state dicts ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_state_dict_carries_the_order(kind):
    order, options = (13, {"blocks": 2}) if kind == "s5 blocks" else (9, {})
    source, target = make(kind, order=order, **options), make(kind, seed=1)
    target.B.requires_grad_(False) if kind not in ("s4d", "s4d inv", "s4d legs") else None
    target.load_state_dict(source.state_dict())
    u = torch.randn(2, 8, 3, dtype=torch.float64)
    torch.testing.assert_close(target(u), source(u), rtol=0, atol=0)
    assert target.order == order
    if hasattr(target, "B"):
        assert not target.B.requires_grad


@pytest.mark.parametrize("kind", ALL)
def test_state_dicts_that_do_not_fit_get_torchs_error(kind):
    layer = make(kind)
    kept = {name: p.clone() for name, p in layer.named_parameters()}
    other = make(kind, features=4).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for"):
        layer.load_state_dict(other)
    own = layer.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({name: x for name, x in own.items() if name != "D"})
    scalar = next(name for name in own if name not in ("D", "step_bias"))
    with pytest.raises(RuntimeError, match=f"size mismatch for {scalar}"):
        layer.load_state_dict({**own, scalar: torch.tensor(0.0)})
    assert [p.shape for p in layer.parameters()] == [p.shape for p in kept.values()]


# --- initialisations --------------------------------------------------------------------------


def test_lru_starts_uniformly_in_its_ring():
    torch.manual_seed(0)
    layer = LRU(4, 20_000, min_radius=0.6, max_radius=0.9, max_phase=1.5).double()
    poles = layer.to_lti().A
    squares = (poles.radius**2 - 0.36) / (0.81 - 0.36)
    for values in (squares, poles.angle / 1.5):
        assert values.min() >= 0
        assert values.max() <= 1
        # Of uniform numbers: mean ½ ± 4 √(1/12 N), mean square ⅓.
        assert abs(values.mean() - 0.5) < 4 / math.sqrt(12 * 10_000)
        assert abs((values**2).mean() - 1 / 3) < 0.015
    np.testing.assert_allclose(
        torch.exp(layer.gamma_log).detach(), np.sqrt(1 - poles.radius**2), rtol=1e-5
    )


def test_lru_answers_white_noise_with_unit_variance():
    """γ makes each state as large as what enters it: Σ_k |λ|^2k γ² = 1."""
    torch.manual_seed(0)
    layer = LRU(16, 512, min_radius=0.5, max_radius=0.9).double()
    with torch.no_grad():
        layer.D.zero_()
    size = lti.h2_norm(layer.to_lti()) ** 2 / 16
    assert 0.8 < size < 1.2


@pytest.mark.parametrize(
    ("layer_type", "variances"),
    # S5: b = V⁻¹ B and c = C V with orthonormal eigenvectors keep the variances of B and C.
    [(LRU, (1 / 16, 1 / 100)), (S5, (1 / 400, 1 / 200))],
)
def test_variances_of_complex_inputs_and_outputs(layer_type, variances):
    torch.manual_seed(0)
    layer = layer_type(16, 400)
    b, c = (x.detach().double().square() for x in (layer.B, layer.C))
    sizes = b.unflatten(0, (-1, 2)).sum(dim=1).mean(), c.unflatten(1, (-1, 2)).sum(dim=-1).mean()
    for measured, value in zip(sizes, variances, strict=True):
        assert float(measured) == pytest.approx(value, rel=0.1)


def hippo_n(order):
    """Eigenvalues of A + p pᵀ of HiPPO-LegS, in the upper half plane."""
    A = np.zeros((order, order))
    for i in range(order):
        for j in range(i):
            A[i, j] = -math.sqrt((2 * i + 1) * (2 * j + 1))
        A[i, i] = -(i + 1)
    p = np.sqrt(np.arange(order) + 0.5)
    values = np.linalg.eigvals(A + np.outer(p, p))
    np.testing.assert_allclose(values.real, -0.5, rtol=0, atol=1e-9)
    return np.sort(values.imag[values.imag > 0])


def test_s5_starts_from_hippo_blocks():
    torch.manual_seed(0)
    layer = S5(4, 16, blocks=2, min_step=0.01, max_step=0.02)
    frequencies = layer.frequency.detach().numpy()
    np.testing.assert_allclose(frequencies[:4], hippo_n(8), rtol=1e-5)
    np.testing.assert_array_equal(frequencies[4:], frequencies[:4])
    np.testing.assert_allclose(torch.exp(layer.decay_log).detach(), 0.5, rtol=1e-6)
    steps = np.exp(S5(1, 4000, blocks=500, min_step=0.01, max_step=0.02).step_log.detach().numpy())
    assert 0.01 * (1 - 1e-6) <= steps.min() < 0.0101
    assert 0.0199 < steps.max() <= 0.02 * (1 + 1e-6)
    assert np.log(steps).mean() == pytest.approx(np.log(0.01 * 0.02) / 2, abs=0.02)


def test_s4d_starts_as_published():
    lin, inv, legs = (S4D(2, 8, start=start) for start in ("lin", "inv", "legs"))
    np.testing.assert_allclose(lin.frequency[:4].detach(), np.pi * np.arange(4), rtol=1e-6)
    expected = 8 / np.pi * (8 / (2 * np.arange(4) + 1) - 1)
    np.testing.assert_allclose(inv.frequency[:4].detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(legs.frequency[:4].detach(), hippo_n(8), rtol=1e-5)
    for layer in (lin, inv, legs):
        np.testing.assert_allclose(torch.exp(layer.decay_log).detach(), 0.5, rtol=1e-6)
        np.testing.assert_array_equal(
            layer.frequency[4:].detach().numpy(), layer.frequency[:4].detach().numpy()
        )
    wide = S4D(300, 8, min_step=0.01, max_step=0.02)
    steps = np.exp(wide.step_log.detach().numpy())
    assert steps.min() >= 0.01 * (1 - 1e-6)
    assert steps.max() <= 0.02 * (1 + 1e-6)
    assert wide.C.square().sum(dim=1).mean().item() == pytest.approx(1, rel=0.15)


def test_selective_layers_start_with_the_given_steps():
    layer = SelectiveSSM(300, 4, min_step=0.01, max_step=0.02)
    steps = torch.nn.functional.softplus(layer.step_bias).detach().numpy()
    assert steps.min() >= 0.01 * (1 - 1e-4)
    assert steps.max() <= 0.02 * (1 + 1e-4)
    np.testing.assert_allclose(torch.exp(layer.real_log).detach(), [1, 2, 3, 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: LRU(2, 4, min_radius=0.9, max_radius=0.8), "min_radius"),
        (lambda: LRU(2, 4, max_radius=1.0), "max_radius"),
        (lambda: LRU(2, 4, max_phase=7.0), "max_phase"),
        (lambda: S5(2, 4, sampling="euler"), "sampling='euler'"),
        (lambda: S5(2, 6, blocks=2), "3 pairs of states do not fill 2"),
        (lambda: S5(2, 4, min_step=0.0), "min_step"),
        (lambda: S4D(2, 4, start="random"), "start='random'"),
        (lambda: S4D(2, 4, min_step=0.2, max_step=0.1), "min_step"),
        (lambda: S4D(0, 4), "at least 1"),
        (lambda: QuadraticSSM(2, 4, rank=0), "rank must be"),
        (lambda: SelectiveSSM(2, 4, rank=0), "rank must be"),
        (lambda: SelectiveSSM(2, 0), "at least 1"),
        (lambda: RotationSSM(2, 4, real_poles=5), "cannot hold 5 real poles"),
    ],
)
def test_bad_arguments(make_layer, message):
    with pytest.raises(lti.ArgumentError, match=message):
        make_layer()
