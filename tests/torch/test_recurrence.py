"""Recurrences: values, and the gates of every differentiable operation."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import lticore as lti
from lticore_torch import linear_recurrence, time_varying_recurrence

FUNCTIONS = {"constant": linear_recurrence, "varying": time_varying_recurrence}


def by_steps(poles, inputs, initial, reverse=False):
    """The definition; poles are those of every step."""
    length = inputs.shape[-2]
    state, states = initial, [None] * length
    for k in reversed(range(length)) if reverse else range(length):
        state = poles[..., k, :] * state + inputs[..., k, :]
        states[k] = state
    return torch.stack(states, dim=-2)


@pytest.fixture(params=[torch.float64, torch.complex128], ids=["real", "complex"])
def dtype(request):
    return request.param


@pytest.fixture(params=FUNCTIONS)
def kind(request):
    return request.param


def random_arguments(kind, dtype, *, batch=(2,), length=11, n=3):
    """(poles, inputs, initial), |λ| = 0.9."""
    torch.manual_seed(length)
    shape = (n,) if kind == "constant" else (length, n)
    poles = 0.9 * torch.randn(shape, dtype=dtype).sgn()
    inputs = torch.randn(*batch, length, n, dtype=dtype)
    initial = torch.randn(*batch, n, dtype=dtype)
    return [x.requires_grad_() for x in (poles, inputs, initial)]


def with_initial(kind, reverse=False):
    function = FUNCTIONS[kind]

    def run(poles, inputs, initial):
        return function(poles, inputs, initial=initial, reverse=reverse)

    return run


def of_every_step(kind, poles, inputs):
    return poles.expand(*inputs.shape[-2:]) if kind == "constant" else poles


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 37])
def test_equals_step_by_step(kind, dtype, length, reverse):
    poles, inputs, initial = random_arguments(kind, dtype, length=length, n=4)
    states = with_initial(kind, reverse)(poles, inputs, initial)
    every = of_every_step(kind, poles, inputs)
    torch.testing.assert_close(states, by_steps(every, inputs, initial, reverse))
    from_rest = FUNCTIONS[kind](poles, inputs, reverse=reverse)
    torch.testing.assert_close(from_rest, by_steps(every, inputs, 0 * initial, reverse))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 37])
def test_devices_without_kernels(monkeypatch, kind, dtype, length, reverse):
    arguments = random_arguments(kind, dtype, length=length)
    results = []
    for _ in range(2):
        states = with_initial(kind, reverse)(*arguments)
        gradients = torch.autograd.grad(states.abs().square().sum(), arguments)
        results.append((states, *gradients))
        monkeypatch.setattr("lticore_torch.ops.recurrence.has_arrays", lambda device: False)
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 6])
def test_gradients_of_both_orders(kind, dtype, length, reverse):
    arguments = random_arguments(kind, dtype, length=length, n=2)
    assert gradcheck(with_initial(kind, reverse), arguments)
    assert gradgradcheck(with_initial(kind, reverse), arguments)


def test_batch_axes_broadcast(kind, dtype):
    poles, inputs, initial = random_arguments(kind, dtype, batch=(), length=4, n=2)
    poles = torch.stack([poles, poles / 2]).unsqueeze(1).detach().requires_grad_()
    inputs = torch.stack([inputs, 2 * inputs, -inputs]).detach().requires_grad_()
    run = with_initial(kind)
    expected = torch.stack([torch.stack([run(p[0], u, initial) for u in inputs]) for p in poles])
    states = run(poles, inputs, initial)
    assert states.shape == (2, 3, 4, 2)
    torch.testing.assert_close(states, expected)
    assert gradcheck(run, (poles, inputs, initial))


def test_long_single_precision_sequences_keep_their_digits():
    torch.manual_seed(0)
    phase = torch.linspace(0.1, 3, 8, dtype=torch.float64)
    poles = torch.polar(torch.full_like(phase, 0.9999), phase)
    inputs = torch.randn(1, 16384, 8, dtype=torch.complex128)
    exact = linear_recurrence(poles, inputs)
    single = linear_recurrence(poles, inputs.to(torch.complex64))
    assert single.dtype == torch.complex64
    assert (single - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("single", [torch.float32, torch.complex64])
@pytest.mark.parametrize("n", [1, 127, 300])
def test_single_precision_gradients(kind, single, n, reverse):
    """Against double precision, over several blocks of states."""
    wide_dtype = torch.promote_types(single, torch.float64)
    wide = random_arguments(kind, wide_dtype, length=200, n=n)
    narrow = [x.detach().to(single).requires_grad_() for x in wide]
    results = []
    for arguments in (wide, narrow):
        states = with_initial(kind, reverse)(*arguments)
        results.append(torch.autograd.grad(states.abs().square().sum(), arguments))
    for exact, found in zip(*results, strict=True):
        assert found.dtype == single
        assert (found - exact).abs().max() <= 3e-5 * exact.abs().max()


def test_vmap_and_functional_gradient(kind, dtype):
    poles, inputs, initial = (x.detach() for x in random_arguments(kind, dtype))
    run = with_initial(kind)
    expected = run(poles, inputs, initial)
    mapped = torch.func.vmap(run, in_dims=(None, 0, 0))(poles, inputs, initial)
    torch.testing.assert_close(mapped, expected)
    each = torch.stack([poles, poles / 2], dim=1)
    mapped = torch.func.vmap(run, in_dims=(1, None, None), out_dims=1)(each, inputs, initial)
    torch.testing.assert_close(mapped[:, 1], run(poles / 2, inputs, initial))

    def energy(*arguments):
        return run(*arguments).abs().square().sum()

    gradient = torch.func.grad(energy, argnums=(0, 2))
    summed, starts = gradient(poles, inputs, initial)
    per_sample, each_start = torch.func.vmap(gradient, in_dims=(None, 0, 0))(poles, inputs, initial)
    torch.testing.assert_close(per_sample.sum(0), summed)
    torch.testing.assert_close(each_start, starts)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(kind, dtype, dynamic):
    arguments = random_arguments(kind, dtype)
    run = with_initial(kind)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    states = compiled(*arguments)
    torch.testing.assert_close(states, run(*arguments))
    found = torch.autograd.grad(states.abs().square().sum(), arguments)
    expected = torch.autograd.grad(run(*arguments).abs().square().sum(), arguments)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)


def test_forward_mode_is_refused_not_silently_zero(kind, dtype):
    arguments = tuple(x.detach() for x in random_arguments(kind, dtype))
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(with_initial(kind), arguments, arguments)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pole_dtype", [None, torch.float32, torch.float64])
def test_half_precision_is_computed_in_single(half, pole_dtype):
    torch.manual_seed(0)
    poles = torch.tensor([0.5, -0.75], dtype=pole_dtype or half, requires_grad=True)
    inputs = torch.randn(2, 9, 2).to(half).requires_grad_()
    states = linear_recurrence(poles, inputs)
    weights = torch.randn(states.shape).to(half)
    found = torch.autograd.grad((states * weights).sum(), (poles, inputs))
    wide = [x.detach().float().requires_grad_() for x in (poles, inputs)]
    exact = linear_recurrence(*wide)
    expected = torch.autograd.grad((exact * weights.float()).sum(), wide)
    assert (states.dtype, found[0].dtype, found[1].dtype) == (half, poles.dtype, half)
    assert torch.equal(states, exact.to(half))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y.to(x.dtype))


def test_half_precision_compiles_and_maps():
    poles, inputs = torch.tensor([0.5, -0.75]), torch.randn(3, 9, 2).bfloat16()
    expected = linear_recurrence(poles, inputs)
    compiled = torch.compile(linear_recurrence, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(poles, inputs), expected)
    assert torch.equal(
        torch.func.vmap(linear_recurrence, in_dims=(None, 0))(poles, inputs), expected
    )


def test_real_poles_and_starts_drive_complex_inputs(kind):
    poles, _, initial = random_arguments(kind, torch.float64, length=5, n=2)
    inputs = torch.randn(2, 5, 2, dtype=torch.complex128, requires_grad=True)
    run = with_initial(kind)
    every = of_every_step(kind, poles, inputs)
    torch.testing.assert_close(run(poles, inputs, initial), by_steps(every, inputs, initial))
    assert gradcheck(run, (poles, inputs, initial))
    assert gradgradcheck(run, (poles, inputs, initial))


@pytest.mark.parametrize(
    ("poles", "inputs", "message"),
    [
        (torch.float32, torch.int64, "inputs has dtype torch.int64"),
        (torch.float32, torch.bool, "inputs has dtype torch.bool"),
        (torch.int32, torch.float32, "poles has dtype torch.int32"),
        (torch.complex64, torch.float32, "torch.complex64.*torch.float32.*complex"),
        (torch.complex128, torch.bfloat16, "torch.complex128.*torch.bfloat16.*complex"),
    ],
)
def test_dtypes_without_a_meaning_are_refused(poles, inputs, message):
    with pytest.raises(lti.DtypeError, match=message):
        linear_recurrence(torch.ones(2).to(poles), torch.ones(1, 4, 2).to(inputs))


def test_shapes_that_do_not_fit_are_refused():
    inputs = torch.ones(3, 4, 2)
    with pytest.raises(lti.ShapeError, match="poles has 1 state, but inputs has 2"):
        linear_recurrence(torch.ones(1), inputs)
    with pytest.raises(lti.ShapeError, match="initial has 3 states, but inputs has 2"):
        linear_recurrence(torch.ones(2), inputs, initial=torch.ones(3))
    with pytest.raises(lti.ShapeError, match="poles has 1 time steps, but inputs has 4"):
        time_varying_recurrence(torch.ones(1, 2), inputs)
    with pytest.raises(lti.ShapeError, match=r"do not broadcast: poles \(2,\), inputs \(3,\)"):
        linear_recurrence(torch.ones(2, 2), inputs)
    with pytest.raises(lti.DtypeError, match=r"initial of dtype torch\.complex64"):
        linear_recurrence(torch.ones(2), inputs, initial=torch.ones(2, dtype=torch.complex64))


def test_inputs_are_not_modified_nor_aliased():
    inputs = torch.ones(1, 1, 2)
    states = linear_recurrence(torch.tensor([0.5, 0.5]), inputs)
    states.zero_()
    assert (inputs == 1).all()
