"""The half-gated linear unit: its composition's numbers, and the gates of every operation."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from lticore_torch import half_glu


def composition(z, weight, bias):
    a = functional.gelu(z)
    return a * torch.sigmoid(functional.linear(a, weight, bias))


def arguments(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    h = shape[-1]
    tensors = torch.randn(*shape), torch.randn(h, h), torch.randn(h)
    return tuple(x.to(dtype).requires_grad_() for x in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4), (2, 3, 5, 4)])
def test_numbers_are_those_of_the_composition(shape, dtype):
    tensors = arguments(*shape, dtype=dtype)
    found, expected = half_glu(*tensors), composition(*tensors)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y.square().sum(), tensors) for y in (found, expected))
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y)


def test_masks_are_factors_of_the_activation():
    z, weight, bias = arguments(3, 5, 4)
    mask = 2.0 * torch.randint(2, (3, 1, 4)).double()
    a = functional.gelu(z) * mask
    expected = a * torch.sigmoid(functional.linear(a, weight, bias))
    found = half_glu(z, weight, bias, mask)
    torch.testing.assert_close(found, expected)
    gradients = (
        torch.autograd.grad(y.square().sum(), (z, weight, bias)) for y in (found, expected)
    )
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y)
    assert gradgradcheck(lambda *tensors: half_glu(*tensors, mask), arguments(3, 5, 4))


def test_gradients_of_both_orders():
    assert gradcheck(half_glu, arguments(2, 3, 2))
    assert gradgradcheck(half_glu, arguments(2, 3, 2))


def test_vmap_and_functional_gradient():
    z, weight, bias = (x.detach() for x in arguments(3, 5, 4))
    mapped = torch.func.vmap(half_glu, in_dims=(0, None, None))(z, weight, bias)
    torch.testing.assert_close(mapped, half_glu(z, weight, bias))
    gradient = torch.func.grad(lambda *x: half_glu(*x).square().sum(), argnums=1)
    per_sample = torch.func.vmap(gradient, in_dims=(0, None, None))(z, weight, bias)
    torch.testing.assert_close(per_sample.sum(0), gradient(z, weight, bias))


def test_compiles_as_one_graph():
    tensors = arguments(2, 5, 4)
    compiled = torch.compile(half_glu, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), half_glu(*tensors))
    found = torch.autograd.grad(compiled(*tensors).sum(), tensors)
    for x, y in zip(found, torch.autograd.grad(half_glu(*tensors).sum(), tensors), strict=True):
        torch.testing.assert_close(x, y)


def test_forward_mode_is_refused_not_silently_zero():
    tensors = tuple(x.detach() for x in arguments(2, 5, 4))
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(half_glu, tensors, tensors)


def test_two_arrays_are_kept():
    tensors, sizes = arguments(6, 50, 4), []

    def pack(x):
        sizes.append(x.nbytes)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        half_glu(*tensors)
    assert sum(size == tensors[0].nbytes for size in sizes) == 2


def test_autocast_is_that_of_the_composition():
    tensors = arguments(2, 5, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = half_glu(*tensors), composition(*tensors)
    assert torch.equal(found, expected)
    found.float().sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in tensors)
