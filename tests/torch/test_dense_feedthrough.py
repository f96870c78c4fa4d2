"""Layers with a dense D and as many outputs as one likes."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.linalg import expm

import lticore as lti
from lticore_torch import (
    LRU,
    S5,
    Bidirectional,
    HankelRegularizer,
    RotationSSM,
    SequenceBlock,
    Stream,
    compress,
    export_arrays,
    load,
    save,
)

KINDS = {
    "rotation": lambda m, p, n=6: RotationSSM(m, n, outputs=p),
    "rotation real": lambda m, p, n=6: RotationSSM(m, n, outputs=p, real_poles=n),
    "canonical": lambda m, p, n=6: RotationSSM(m, n, outputs=p, canonical=True),
    "lru": lambda m, p, n=6: LRU(m, n, outputs=p),
    "s5": lambda m, p, n=6: S5(m, n, outputs=p),
}
WIDTHS = [(3, 3), (2, 5), (4, 1), (1, 7)]
CASES = [(kind, m, p) for kind in KINDS for m, p in WIDTHS]


def made(kind, m, p, **options):
    torch.manual_seed(0)
    return KINDS[kind](m, p, **options).double()


def inputs(m, *, length=13):
    torch.manual_seed(1)
    return torch.randn(2, length, m, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "m", "p"), CASES)
def test_the_layer_is_its_system(kind, m, p):
    layer, u = made(kind, m, p), inputs(m)
    sys = layer.to_lti()
    assert (layer.features, layer.outputs, sys.inputs, sys.outputs) == (m, p, m, p)
    np.testing.assert_array_equal(sys.D, layer.D.detach())
    expected = lti.simulate(sys, u.numpy(), timing="current")
    np.testing.assert_allclose(layer(u).detach(), expected, rtol=1e-11, atol=1e-12)
    x, outputs = np.zeros((2, sys.order)), []
    A = sys.A.to_dense()
    for step in u.numpy().swapaxes(0, 1):
        x = x @ A.T + step @ sys.B.T
        outputs.append(x @ sys.C.T + step @ sys.D.T)
    np.testing.assert_allclose(expected, np.stack(outputs, axis=1), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("kind", "m", "p"), CASES)
def test_steps_and_streams_are_the_parallel_form(kind, m, p):
    layer, u = made(kind, m, p), inputs(m)
    expected, state = layer(u), None
    stream, wide = Stream(layer), Stream(layer)
    for k, step in enumerate(u.unbind(dim=1)):
        y, state = layer.step(step, state)
        torch.testing.assert_close(y, expected[:, k], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(stream.step(step), expected[:, k], rtol=1e-11, atol=1e-12)
        y = wide.step(step.repeat(3, 1))
        torch.testing.assert_close(y, expected[:, k].repeat(3, 1), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("kind", "m", "p"), CASES)
def test_gradients_are_those_of_the_recurrence(kind, m, p):
    layer, u = made(kind, m, p), inputs(m, length=5)

    def by_steps():
        state, outputs = None, []
        for step in u.unbind(dim=1):
            y, state = layer.step(step, state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    weights = torch.randn(2, 5, p, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((run() * weights).sum(), list(layer.parameters()), allow_unused=True)
        for run in (lambda: layer(u), by_steps)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("kind", "m", "p"), CASES)
def test_loaded_stored_and_compressed(kind, m, p, tmp_path):
    layer, u = made(kind, m, p), inputs(m)
    target = made(kind, m, p, n=4)
    target.load_lti(layer.to_lti())
    torch.testing.assert_close(target(u), layer(u), rtol=1e-9, atol=1e-10)
    small, report = compress(layer, orders=[4])
    assert (small.outputs, small.D.shape) == (p, (p, m))
    error = lti.hinf_error(layer.to_lti(), small.to_lti())
    assert error <= report.layers[0].error_bound * (1 + 1e-6)
    save(small, tmp_path / "small")
    torch.testing.assert_close(load(tmp_path / "small")(u), small(u), rtol=0, atol=0)
    assert export_arrays(small)["D"].shape == (p, m)
    fresh = made(kind, m, p)
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh(u), small(u), rtol=0, atol=0)
    HankelRegularizer(1.0)(small).backward()
    assert small.C.grad.shape == (p, 4)


def test_operations_of_a_step_are_counted():
    inputs_, outputs, feedthrough = 2 * 6 * 2, 2 * 5 * 6, 2 * 5 * 2
    assert LRU(2, 6, outputs=5).flops_per_step() == inputs_ + outputs + feedthrough + 3 * (6 + 2)


def test_a_dense_feedthrough_takes_what_a_diagonal_one_refuses():
    rng = np.random.default_rng(0)
    sys = lti.LTI(lti.Rotation([0.5], [1.0]), *(rng.normal(size=(2, 2)) for _ in range(3)))
    with pytest.raises(lti.ArgumentError, match=r"D has other entries: .* outputs="):
        LRU(2, 2).load_lti(sys)
    layer = LRU(2, 2, outputs=2)
    layer.load_lti(sys)
    np.testing.assert_allclose(layer.to_lti().D, sys.D, rtol=1e-6)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(lti.ShapeError, match="2 inputs and 3 outputs"):
        LRU(2, 4, outputs=3).load_lti(LRU(2, 4).to_lti())
    with pytest.raises(lti.ArgumentError, match="outputs must be at least 1, but is 0"):
        S5(2, 4, outputs=0)
    with pytest.raises(lti.ArgumentError, match="2 features and 3 outputs"):
        SequenceBlock(LRU(2, 4, outputs=3))
    with pytest.raises(lti.ArgumentError, match="3 and 2 outputs"):
        Bidirectional(LRU(2, 4, outputs=3), LRU(2, 4, outputs=2))


def legendre_memory(q, window=40.0):
    """A = (2i + 1)·(−1 where i < j, (−1)^(i−j+1) elsewhere)/θ, B = (2i + 1)(−1)^i/θ, held over each
    step: from the last θ steps of u the coefficients of shifted Legendre polynomials.
    Source: Voelker, Kajić & Eliasmith, LMU (2019), eq. (1)."""
    i = np.arange(q)
    A = np.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1)) * (2 * i[:, None] + 1)
    B = ((2 * i + 1) * (-1.0) ** i)[:, None]
    held = expm(np.block([[A, B], [np.zeros((1, q + 1))]]) / window)
    return held[:q, :q], held[:q, q:]


@pytest.mark.parametrize("q", [1, 6, 9])
def test_one_input_drives_a_legendre_memory(q):
    """It sees a constant as (1, 0, 0, …)."""
    A, B = legendre_memory(q)
    layer = RotationSSM(1, q, outputs=q).double()
    layer.load_lti(lti.LTI(A, B, np.eye(q)))
    u = torch.randn(1, 30, 1, dtype=torch.float64)
    x, expected = np.zeros(q), []
    for step in u[0].numpy():
        x = A @ x + B @ step
        expected.append(x)
    np.testing.assert_allclose(layer(u)[0].detach(), expected, rtol=0, atol=1e-9)
    constant = layer(torch.ones(1, 4000, 1, dtype=torch.float64))[0, -1]
    np.testing.assert_allclose(constant.detach(), [1.0] + [0.0] * (q - 1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("q", [12, 13])
def test_single_precision_says_what_it_lost_of_a_legendre_memory(q):
    """The change named is that of the states which the layer holds, found here over frequencies of
    their own; float64 says nothing of its 1e-10."""
    A, B = legendre_memory(q)
    sys = lti.LTI(A, B, np.eye(q))
    layer = RotationSSM(1, q, outputs=q)
    with pytest.warns(lti.PrecisionWarning, match="RotationSSM in torch.float32 differ") as caught:
        layer.load_lti(sys)
    named = float(re.search("by ([^ ]*) of", str(caught[0].message))[1])
    held = layer.to_lti()
    H, change = [], []
    for z in np.exp(1j * np.linspace(0, np.pi, 2000)):
        H.append(np.linalg.solve(np.eye(q) - A / z, B))  # y_k sees u_k: z⁻¹ is the layer's step
        change.append(H[-1] - held.C @ np.linalg.solve(np.eye(q) - held.A.to_dense() / z, held.B))
    expected = np.linalg.norm(change, axis=(1, 2)).max() / np.linalg.norm(H, axis=(1, 2)).max()
    assert named == pytest.approx(expected, rel=0.5)
    RotationSSM(1, q, outputs=q).double().load_lti(sys)


def test_initial_feedthrough_answers_white_noise_with_unit_variance():
    torch.manual_seed(0)
    D = LRU(400, 2, outputs=50).D.detach()
    rows = D.square().sum(dim=1)
    assert abs(float(rows.mean()) - 1) < 5 * math.sqrt(2 / (400 * 50))
