"""The fused layer map: against recurrence and products, gradients, memory."""

import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import lticore as lti
from lticore_torch import linear_recurrence, state_space_map

SIZES = {"pairs": (3, 0), "reals": (0, 3), "both": (2, 1)}
MODES = [(reverse, keep) for reverse in (False, True) for keep in (False, True)]


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Several of them in few steps, the last one shorter."""
    monkeypatch.setattr(sys.modules["lticore_torch.ops.system_map"], "_STEPS", 4)


def arguments(q, k, *, batch=(2,), length=10, h=2, p=3, dtype=torch.float64):
    torch.manual_seed(q)
    poles = 0.9 * torch.randn(q, dtype=torch.complex128).sgn()
    tensors = (
        poles,
        1.6 * torch.rand(k, dtype=torch.float64) - 0.8,
        torch.randn(2 * q + k, h, dtype=dtype),
        torch.randn(p, 2 * q + k, dtype=dtype),
        torch.randn(*batch, length, h, dtype=dtype),
    )
    return tuple(x.requires_grad_() for x in tensors)


def start(q, k, batch=(2,), dtype=torch.float64):
    return torch.randn(*batch, 2 * q + k, dtype=dtype, requires_grad=True)


def by_parts(poles, real_poles, B, C, u, reverse=False):
    drive, pairs = u @ B.mT, 2 * len(poles)
    blocks = drive[..., :pairs].unflatten(-1, (len(poles), 2)).contiguous()
    z = linear_recurrence(poles, torch.view_as_complex(blocks), reverse=reverse)
    x = linear_recurrence(real_poles, drive[..., pairs:], reverse=reverse)
    return torch.cat([torch.view_as_real(z).flatten(-2), x], dim=-1) @ C.mT


def by_steps(poles, real_poles, B, C, u, initial, reverse=False):
    """(y, last state) with A a dense matrix, one step after the other."""
    blocks = [torch.stack([z.real, -z.imag, z.imag, z.real]).reshape(2, 2) for z in poles]
    A = torch.block_diag(*blocks, *real_poles.reshape(-1, 1, 1))
    x, outputs = initial, []
    for u_k in reversed(u.unbind(dim=-2)) if reverse else u.unbind(dim=-2):
        x = x @ A.mT + u_k @ B.mT
        outputs.append(x @ C.mT)
    return torch.stack(outputs[::-1] if reverse else outputs, dim=-2), x


def gradients(y, tensors):
    return torch.autograd.grad(y.square().sum(), tensors)


@pytest.mark.parametrize(("reverse", "keep"), MODES)
@pytest.mark.parametrize("length", [1, 4, 10])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_values_and_gradients_are_those_of_its_parts(batch, size, length, reverse, keep):
    tensors = arguments(*size, batch=batch, length=length)
    found = state_space_map(*tensors, reverse=reverse, keep_states=keep)
    expected = by_parts(*tensors, reverse=reverse)
    torch.testing.assert_close(found, expected)
    for x, y in zip(gradients(found, tensors), gradients(expected, tensors), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("reverse", "keep"), MODES)
@pytest.mark.parametrize("length", [1, 4, 10])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_states_enter_and_leave(batch, size, length, reverse, keep):
    """Against dense steps: values, and gradients through both outputs."""
    tensors = (*arguments(*size, batch=batch, length=length), start(*size, batch))
    *given, initial = tensors
    options = {"reverse": reverse, "keep_states": keep}
    found = state_space_map(*given, initial=initial, return_state=True, **options)
    expected = by_steps(*tensors, reverse=reverse)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)
    weights = [torch.randn_like(y) for y in expected]
    for x, y in zip(
        torch.autograd.grad(found, tensors, weights),
        torch.autograd.grad(expected, tensors, weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("reverse", "keep"), MODES)
def test_no_steps_leave_the_state(reverse, keep):
    tensors, initial = arguments(2, 1, length=0), start(2, 1)
    y, last = state_space_map(
        *tensors, initial=initial, return_state=True, reverse=reverse, keep_states=keep
    )
    assert y.shape == (2, 0, 3)
    assert torch.equal(last, initial)
    *gradients, passed = torch.autograd.grad(
        y.sum() + last.square().sum(), (*tensors, initial), create_graph=True
    )
    assert not any(x.any() for x in gradients)
    assert torch.equal(passed, 2 * initial)
    (twice,) = torch.autograd.grad(passed.sum(), initial)
    assert torch.equal(twice, torch.full_like(initial, 2))


@pytest.mark.parametrize("keep", [False, True])
def test_devices_without_kernels(monkeypatch, keep):
    tensors = arguments(2, 1)
    expected = gradients(state_space_map(*tensors, keep_states=keep), tensors)
    monkeypatch.setattr("lticore_torch.ops.recurrence.has_arrays", lambda device: False)
    found = gradients(state_space_map(*tensors, keep_states=keep), tensors)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("keep", [False, True])
def test_single_precision(keep):
    wide = arguments(20, 3, length=50, h=4)
    narrow = tuple(x.detach().float() if x.ndim > 1 else x.detach() for x in wide)
    narrow = tuple(x.requires_grad_() for x in narrow)
    found = state_space_map(*narrow, keep_states=keep)
    assert found.dtype == torch.float32
    exact = gradients(state_space_map(*wide), wide)
    for x, y in zip(gradients(found, narrow), exact, strict=True):
        assert (x - y).abs().max() <= 3e-5 * y.abs().max()


@pytest.mark.parametrize(("reverse", "keep"), MODES)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_gradients_in_the_inputs_alone(size, reverse, keep):
    """Of frozen systems, which another computation serves: to both orders, and beside a last
    state that counts."""
    *system, u = arguments(*size)
    frozen = [x.detach() for x in system]
    options = {"reverse": reverse, "keep_states": keep}
    y = state_space_map(*system, u, **options)
    expected = gradients(y, (*system, u))[-1]
    again = state_space_map(*frozen, u, **options)
    torch.testing.assert_close(gradients(again, u)[0], expected)
    assert gradgradcheck(lambda u: state_space_map(*frozen, u, **options), u)
    for counts in ([0, 1], [1]):
        found, wanted = (
            torch.autograd.grad(
                sum(
                    state_space_map(*x, u, **options, return_state=True)[i].square().sum()
                    for i in counts
                ),
                u,
            )[0]
            for x in (frozen, system)
        )
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("reverse", "keep"), MODES)
def test_gradients_of_both_orders(reverse, keep):
    def run(*tensors):
        *given, initial = tensors
        options = {"reverse": reverse, "keep_states": keep}
        return state_space_map(*given, initial=initial, return_state=True, **options)

    tensors = (*arguments(1, 1, batch=(2,), length=6, h=1, p=2), start(1, 1))
    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors)


@pytest.mark.parametrize("keep", [False, True])
def test_vmap_and_functional_gradient(keep):
    *parameters, u = (x.detach() for x in arguments(2, 1, batch=(3,)))

    def run(u, B):
        poles, real_poles, _, C = parameters
        return state_space_map(poles, real_poles, B, C, u, keep_states=keep)

    def energy(u, B):
        return run(u, B).square().sum()

    B = parameters[2]
    torch.testing.assert_close(torch.func.vmap(run, in_dims=(0, None))(u, B), run(u, B))
    both = torch.func.vmap(run, in_dims=(None, 0))(u, torch.stack([B, 2 * B]))
    torch.testing.assert_close(both[1], 2 * run(u, B))
    gradient = torch.func.grad(energy, argnums=1)
    per_sample = torch.func.vmap(gradient, in_dims=(0, None))(u, B)
    torch.testing.assert_close(per_sample.sum(0), gradient(u, B))


def test_vmap_over_initial_states():
    *parameters, u = (x.detach() for x in arguments(2, 1, batch=(3,)))
    initial = start(2, 1, (3,)).detach()

    def run(u, initial):
        return state_space_map(*parameters, u, initial=initial, return_state=True)

    for x, y in zip(torch.func.vmap(run)(u, initial), run(u, initial), strict=True):
        torch.testing.assert_close(x, y)
    for x, y in zip(
        torch.func.vmap(run, in_dims=(None, 0))(u[0], initial),
        run(u[:1].expand(3, -1, -1), initial),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_compiles_as_one_graph(keep, dynamic):
    def run(*tensors):
        *given, initial = tensors
        y, last = state_space_map(*given, initial=initial, return_state=True, keep_states=keep)
        return y.sum(dim=-2) + last[..., :3], state_space_map(*given, keep_states=keep)

    tensors = (*arguments(2, 1), start(2, 1))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    found, expected = compiled(*tensors), run(*tensors)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)
    totals = (sum(x.square().sum() for x in results) for results in (found, expected))
    for x, y in zip(*(torch.autograd.grad(x, tensors) for x in totals), strict=True):
        torch.testing.assert_close(x, y)


def test_forward_mode_is_refused_not_silently_zero():
    tensors = tuple(x.detach() for x in arguments(2, 1))
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(state_space_map, tensors, tensors)


@pytest.mark.parametrize("name", ["state_space_map", "state_space_map_adjoint"])
@pytest.mark.parametrize("keep", [False, True])
def test_operators_pass_the_library_check(name, keep):
    tensors = tuple(x.detach() for x in arguments(2, 1))
    given = (*tensors, start(2, 1).detach(), False, keep)
    if name.endswith("adjoint"):
        y, last, *kept = torch.ops.lticore.state_space_map(*given)
        given = (*given[:-2], *kept, y, last, False, keep)
    torch.library.opcheck(getattr(torch.ops.lticore, name), given)


def test_memory_that_is_kept():
    """Beside the arguments: all states, or one of _STEPS, and the initial one."""
    tensors = arguments(20, 4, length=400, h=1)
    given = {x.data_ptr() for x in tensors}
    kept = {}
    for keep in (True, False):
        sizes = []

        def pack(x, sizes=sizes):
            if x.data_ptr() not in given:
                sizes.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            state_space_map(*tensors, keep_states=keep)
        kept[keep] = sum(sizes)
    assert kept[True] == 2 * (400 + 1) * 44 * 8
    assert kept[False] == 2 * (100 + 1) * 44 * 8


def test_bad_arguments():
    poles, real_poles, B, C, u = arguments(2, 1)
    with pytest.raises(lti.ShapeError, match=r"2 blocks and 1 real poles are 5 states.*\(4, 2\)"):
        state_space_map(poles, real_poles, B[1:], C, u)
    with pytest.raises(lti.ShapeError, match=r"B takes \(..., L, 2\)"):
        state_space_map(poles, real_poles, B, C, u[..., :1])
    with pytest.raises(lti.DtypeError, match="u must be float32 or float64"):
        state_space_map(poles, real_poles, B, C, u.half())
    with pytest.raises(lti.ShapeError, match=r"initial has shape \(5,\).*need \(2, 5\)"):
        state_space_map(poles, real_poles, B, C, u, initial=torch.zeros(5))
    with pytest.raises(lti.DtypeError, match="initial must be real"):
        state_space_map(poles, real_poles, B, C, u, initial=torch.zeros(2, 5, dtype=torch.int64))
