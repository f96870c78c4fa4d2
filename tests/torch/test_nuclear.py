"""Hankel sums on tensors by products of matrices, as on a CUDA device: beside the core's own, and
what is asked of a device for them. Without one, tensors of the CPU are taken for those of a device.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from device_systems import diagonal, rotation
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lticore as lti
from lticore.equations.modal import rotation_stein_reference
from lticore.matrices.geometric_mean import polar_steps_reference
from lticore_torch import LRU, RotationSSM, hankel_sum
from lticore_torch.ops import nuclear

KINDS = {"rotation": rotation, "diagonal": diagonal}


@pytest.fixture
def by_products(monkeypatch):
    monkeypatch.setattr(nuclear, "DEVICES", {"cpu"})


@pytest.fixture
def captured(monkeypatch):
    monkeypatch.setattr(nuclear, "is_capturing", lambda x: True)


def tensors(sys):
    """B, C and the parameters of A."""
    arrays = (np.array(x) for x in (sys.B, sys.C, *sys.A.parameters))
    B, C, *parameters = map(torch.from_numpy, arrays)
    return B, C, parameters


def random_rotation(batch, pairs, reals, inputs, outputs):
    rng = np.random.default_rng(0)
    n = 2 * pairs + reals
    A = lti.Rotation(
        rng.uniform(-0.99, 0.99, (*batch, pairs)),
        rng.uniform(0, np.pi, (*batch, pairs)),
        rng.uniform(-0.9, 0.9, (*batch, reals)),
    )
    return lti.LTI(A, rng.normal(size=(*batch, n, inputs)), rng.normal(size=(*batch, outputs, n)))


@pytest.mark.parametrize("batch", [(), (6,), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_gradients_are_those_of_the_core(kind, batch):
    sys = KINDS[kind](np, batch)
    found = nuclear.nuclear_sum(kind, *tensors(sys))
    value, g = lti.hankel_sum_and_gradient(sys)
    for x, y in zip(found, (value, g.B, g.C, *g.A), strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-9, atol=1e-9 * np.abs(y).max())


@pytest.mark.parametrize(("pairs", "reals"), [(4, 0), (4, 3), (0, 5), (1, 1)])
def test_sums_of_any_numbers_of_pairs_and_real_poles(pairs, reals):
    sys = random_rotation((3,), pairs, reals, 3, 2)
    found = nuclear.nuclear_sum("rotation", *tensors(sys))
    value, g = lti.hankel_sum_and_gradient(sys)
    for x, y in zip(found, (value, g.B, g.C, *g.A), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-6, atol=1e-6 * np.abs(y).max(initial=0))


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
@pytest.mark.parametrize(("a", "b"), [((3, 0), (2, 1)), ((0, 3), (2, 0)), ((2, 3), (4, 1))])
def test_stein_equations(a, b, batch):
    rng = np.random.default_rng(1)
    poles = []
    for pairs, reals in (a, b):
        phase = rng.uniform(-3, 3, (*batch, pairs + reals))
        phase[..., pairs:] = rng.choice([0, np.pi], (*batch, reals))
        poles += [rng.uniform(0, 0.999, (*batch, pairs + reals)), phase]
    Q = rng.normal(size=(*batch, 2 * a[0] + a[1], 2 * b[0] + b[1]))
    expected = rotation_stein_reference(*poles, Q)
    found = nuclear.rotation_stein(*map(torch.from_numpy, (*poles, Q)))
    size = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
def test_polar_steps(batch, dtype):
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(2, *batch, 7, 7)) + 1j * rng.normal(size=(2, *batch, 7, 7))
    roots = roots if dtype == np.complex128 else roots.real
    P, Q = (R @ R.conj().swapaxes(-1, -2) for R in roots)
    scale = np.asarray(rng.uniform(60, 80, batch))
    steps = ((-1.5, 0.5, 1.0), (-1.75, 0.2, 0.9))
    expected = polar_steps_reference(P, Q, P @ Q, scale, steps)
    found = nuclear.polar_steps(*map(torch.from_numpy, (P, Q, P @ Q, scale)), steps)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-12, atol=1e-12 * np.abs(y).max(initial=0))


class Calls(TorchDispatchMode):
    """What torch is asked for, views and memory aside."""

    ASIDE = (
        "view, slice, select, transpose, permute, expand, unsqueeze, squeeze, detach, alias, "
        "split, unbind, _unsafe_view, as_strided, real, imag, view_as_real, _conj, unfold, "
        "lift_fresh, empty, new_empty, empty_like, reshape, _reshape_alias"
    )

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).split(".")[1]
        if name not in self.ASIDE.split(", "):
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def calls(batch, pairs, reals=0):
    arguments = tensors(random_rotation(batch, pairs, reals, 4, 4))
    with Calls() as counted:
        assert nuclear.nuclear_sum("rotation", *arguments) is not None
    return counted.counts


def test_what_a_device_is_asked_for():
    """Nothing that depends on sizes; 4 calls a step; and the host waits once."""
    counts = calls((6,), 12)
    assert calls((2,), 5) == counts
    assert counts["_local_scalar_dense"] == 1
    # Gramians, P Q and its square, g_B and g_C; of 13 steps the first has its P Q already.
    assert counts["bmm"] == 6
    assert counts["baddbmm"] == 3 * 13 - 1
    assert counts.total() <= 500
    assert calls((6,), 12, reals=3).total() <= 580


def test_nothing_is_read_while_a_graph_is_captured(captured):
    """Tensors without numbers, of which nothing can be read, go through."""
    B, C, parameters = tensors(random_rotation((6,), 4, 1, 3, 2))
    results = nuclear.nuclear_sum(
        "rotation", B.to("meta"), C.to("meta"), [x.to("meta") for x in parameters]
    )
    assert [x.shape for x in results[1:]] == [x.shape for x in (B, C, *parameters)]
    with Calls() as counted:
        nuclear.nuclear_sum("rotation", B, C, parameters)
    assert not counted.counts["_local_scalar_dense"]


def test_what_cannot_be_taken_for_granted_is_told():
    A = np.array([0.9, 1.1]), np.array([0.3, 0.4]), np.zeros(0)
    unstable = tensors(lti.LTI(lti.Rotation(*A), np.ones((4, 1)), np.ones((1, 4))))
    assert nuclear.nuclear_sum("rotation", *unstable) is None
    # σ = (1, 1e-7), which products of matrices do not tell from nothing.
    A = lti.Rotation(np.zeros(0), np.zeros(0), np.array([0.5, -0.5]))
    weak = tensors(lti.LTI(A, np.diag([1, 1e-14]), np.diag([0.75, 0.75])))
    B, C, _ = weak
    found = nuclear.nuclear_sum("rotation", *weak)
    expected, _ = lti.hankel_sum_and_gradient(lti.LTI(A, B.numpy(), C.numpy()))
    assert found is None or found[0].item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("layer", [RotationSSM, LRU])
def test_penalties_of_layers(by_products, monkeypatch, layer):
    torch.manual_seed(0)
    module = layer(6, 10)
    found = []
    run = nuclear.nuclear_sum
    monkeypatch.setattr(nuclear, "nuclear_sum", lambda *x: found.append(run(*x)) or found[-1])
    value = hankel_sum(module)
    gradient = torch.autograd.grad(value, tuple(module.system_parameters()))
    assert found[0] is not None
    nuclear.DEVICES.clear()
    expected = hankel_sum(module)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    for g, h in zip(
        gradient, torch.autograd.grad(expected, tuple(module.system_parameters())), strict=True
    ):
        assert isinstance(g, Tensor)
        torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-6)


def test_errors_and_other_sums_are_those_of_the_host(by_products):
    torch.manual_seed(0)
    module = RotationSSM(6, 10)
    value = hankel_sum(module, "log")
    nuclear.DEVICES.clear()
    assert value == hankel_sum(module, "log")
    nuclear.DEVICES.add("cpu")
    from lticore_torch import spectral_sum

    radius, angle, none = torch.tensor([1.5]), torch.tensor([0.3]), torch.zeros(0)
    with pytest.raises(lti.UnstableSystemError, match=r"1\.5"):
        spectral_sum("rotation", (radius, angle, none), torch.ones(2, 1), torch.ones(1, 2))


def test_sums_on_the_host_say_so_while_a_graph_is_captured(captured):
    with pytest.raises(lti.ArrayLibraryError, match="computed on the host"):
        hankel_sum(RotationSSM(6, 10))


def test_compiled_whole(by_products):
    torch.manual_seed(0)
    module = RotationSSM(6, 10)
    expected = hankel_sum(module)
    compiled = torch.compile(lambda: hankel_sum(module), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(), expected)
