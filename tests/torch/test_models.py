"""Classifier, regulariser and the bridge."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from gloo import join

import lticore as lti
from lticore_torch import (
    HankelRegularizer,
    Regularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
    hankel_mean,
    hankel_sum,
    magnitude_sum,
    modal_mean,
    spectral_sum,
    ssm_layers,
)
from lticore_torch.ops.bridge import to_array, to_tensor

CONFIG = SequenceClassifierConfig(inputs=2, classes=3, features=4, order=6, depth=2, dropout=0.1)


def make_model(**changes):
    torch.manual_seed(0)
    return SequenceClassifier(dataclasses.replace(CONFIG, **changes))


def test_shapes_and_gradients():
    model = make_model(order=5)
    logits = model(torch.randn(7, 11, 2))
    assert logits.shape == (7, 3)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("order", [5, 6])
def test_model_compiles_as_one_graph(order):
    model, x = make_model(order=order, dropout=0.0), torch.randn(7, 11, 2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
    compiled(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_models_of_several_widths_compile_in_one_process():
    """Sizes that have changed between calls of the same code are dynamic from then on."""
    torch._dynamo.reset()
    for inputs in (2, 3, 4):
        model, x = make_model(order=5, dropout=0.0, inputs=inputs), torch.randn(7, 11, inputs)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), model(x))


def test_first_hankel_sum_of_a_process_may_be_compiled():
    code = """
import torch, lticore, lticore_torch
layer = torch.nn.Sequential(lticore_torch.RotationSSM(2, 3))
for function in ("nuclear", lticore.schatten(0.7), (lambda s: s**2, lambda s: 2 * s)):
    penalty = lticore_torch.HankelRegularizer(0.1, function)
    compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(layer), penalty(layer))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_model_overfits_a_small_problem():
    """Two classes that differ in one early step only: the state has to carry it to the end."""
    torch.manual_seed(0)
    x = torch.randn(16, 20, 1) * 0.1
    y = torch.arange(16) % 2
    x[:, 0, 0] = y.float()
    model = make_model(inputs=1, classes=2, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    assert (model(x).argmax(-1) == y).all()


def test_hankel_sum_adds_the_layers():
    model = make_model(depth=3)
    with torch.no_grad():
        model.blocks[1].ssm.load_lti(make_model(order=3).blocks[0].ssm.to_lti())
    expected = sum(float(lti.hankel_sum(layer.to_lti())) for layer in ssm_layers(model).values())
    value = hankel_sum(model)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert value.dtype == torch.float32


def test_hankel_sum_reaches_all_system_parameters_but_not_D():
    model = make_model(order=5)
    hankel_sum(model).backward()
    for layer in ssm_layers(model).values():
        for name in ("radius_logit", "angle_logit", "real_atanh", "B", "C"):
            assert getattr(layer, name).grad.abs().min() > 0, name
        assert layer.D.grad is None


def test_gradient_descent_on_the_sum_lowers_it():
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = hankel_sum(model).item()
    for _ in range(20):
        optimizer.zero_grad()
        hankel_sum(model).backward()
        optimizer.step()
    assert hankel_sum(model).item() < 0.7 * before


def test_regularizer_weighs_and_rests():
    model = make_model()
    torch.testing.assert_close(HankelRegularizer(0.5)(model), 0.5 * hankel_sum(model))
    assert HankelRegularizer(0.5, "log")(model) < HankelRegularizer(0.5)(model)
    assert not HankelRegularizer(0.0)(model).requires_grad
    model.eval()
    torch.testing.assert_close(HankelRegularizer(0.5)(model), 0.5 * hankel_sum(model))


def test_resting_regularizer_computes_nothing(monkeypatch):
    def fail(*_):
        raise AssertionError("the Hankel sum was computed")

    monkeypatch.setattr("lticore_torch.penalties.regularize.spectral_sum", fail)
    model, resting = make_model(), HankelRegularizer(1.0, every=2)
    resting.calls = 1
    HankelRegularizer(0.0)(model)
    resting(model)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_regularizer_refuses_weights(weight):
    with pytest.raises(lti.ArgumentError, match="weight"):
        HankelRegularizer(weight)


def test_every_kth_call_counts_k_times():
    model = make_model()
    regularizer = HankelRegularizer(0.5, every=3)
    values = [regularizer(model).item() for _ in range(7)]
    full = HankelRegularizer(1.5)(model).item()
    assert values == pytest.approx([full, 0, 0, full, 0, 0, full])
    resumed = HankelRegularizer(0.5, every=3)
    resumed.calls = regularizer.calls
    assert resumed(model).item() == 0
    model.eval()
    for _ in range(2):  # neither counted nor left out nor made larger
        assert regularizer(model).item() == pytest.approx(full / 3)
    assert regularizer.calls == 7


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_regularizer_refuses_periods(every):
    with pytest.raises(lti.ArgumentError, match="every"):
        HankelRegularizer(0.1, every=every)


def test_other_penalties():
    """Σ|λ|/n, Σσ/n, and the sum over blocks, from the systems of the layers."""
    model = make_model(order=5)
    systems = [layer.to_lti() for layer in ssm_layers(model).values()]
    expected = {
        modal_mean: sum(np.abs(sys.poles).mean() for sys in systems),
        hankel_mean: sum(lti.hankel_singular_values(sys).mean() for sys in systems),
        magnitude_sum: sum(
            np.abs(sys.A.radius).sum() + np.abs(sys.A.real_poles).sum() for sys in systems
        ),
    }
    for penalty, value in expected.items():
        assert penalty(model).item() == pytest.approx(value, rel=1e-6)
        assert Regularizer(0.5, penalty)(model).item() == pytest.approx(value / 2, rel=1e-6)


@pytest.mark.parametrize("penalty", [hankel_mean, modal_mean, magnitude_sum])
def test_other_penalties_have_gradients(penalty):
    model = make_model(order=5).double()
    layer = model.blocks[0].ssm

    def value(radius_logit, real_atanh, B):
        changed = {"radius_logit": radius_logit, "real_atanh": real_atanh, "B": B}
        return torch.func.functional_call(
            _Penalised(layer, penalty), {f"layer.{k}": v for k, v in changed.items()}
        )

    assert torch.autograd.gradcheck(value, (layer.radius_logit, layer.real_atanh, layer.B))


class _Penalised(torch.nn.Module):
    def __init__(self, layer, penalty):
        super().__init__()
        self.layer, self.penalty = layer, penalty

    def forward(self):
        return self.penalty(self)


def test_layers_that_are_the_same_are_computed_in_one_call(monkeypatch):
    calls = []

    def count(structure, parameters, B, *rest):
        calls.append(B.shape[0])
        return spectral_sum(structure, parameters, B, *rest)

    monkeypatch.setattr("lticore_torch.penalties.regularize.spectral_sum", count)
    hankel_sum(make_model(depth=4))
    assert calls == [4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_touch_the_sum(dtype):
    model = make_model()
    expected = hankel_sum(model)
    with torch.autocast("cpu", dtype=dtype):
        value = hankel_sum(model)
        (value + model(torch.randn(2, 5, 2)).float().sum()).backward()
    assert value.dtype == torch.float32
    assert value.item() == expected.item()


def _train_one_step(rank, world, folder, depth):
    join(rank, folder, world)
    model = torch.nn.parallel.DistributedDataParallel(make_model(depth=depth, dropout=0.0))
    computed = []
    penalty = HankelRegularizer(0.5)
    inner = penalty.penalty
    penalty.penalty = lambda module: computed.append(len(module)) or inner(module)
    # Both shards are the same, so that batch statistics are too.
    value = penalty(model)
    (model(torch.linspace(-1, 1, 60).reshape(3, 10, 2)).square().mean() + value).backward()
    gradients = {name: p.grad for name, p in model.module.named_parameters()}
    torch.save((value.detach(), sum(computed), gradients), f"{folder}/{rank}.pt")
    # Taking a group down can wait for Gloo's threads while these wait for the interpreter.
    os._exit(0)


@pytest.mark.parametrize("depth", [1, 3])
def test_distributed_training(tmp_path, depth):
    """Two processes: every layer is computed once, and the gradient is that of one process."""
    torch.multiprocessing.spawn(_train_one_step, (2, str(tmp_path), depth), nprocs=2)
    (first, count, gradients), (second, count_2, _) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    assert count + count_2 == depth
    model, penalty = make_model(depth=depth, dropout=0.0), HankelRegularizer(0.5)
    value = penalty(model)
    (model(torch.linspace(-1, 1, 60).reshape(3, 10, 2)).square().mean() + value).backward()
    assert (first + second).item() / 2 == pytest.approx(value.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-7)


def test_model_without_state_space_layer_is_refused():
    for model, found in (
        (torch.nn.Linear(2, 2), "Linear contains no time-invariant .* only Linear;"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), "only Linear, ReLU;"),
        (make_model(layer="selective"), "only .*, SelectiveSSM;"),
    ):
        for mode in (True, False):
            model.train(mode)
            with pytest.raises(lti.ArgumentError, match=found):
                hankel_sum(model)
            with pytest.raises(lti.ArgumentError, match=found):
                HankelRegularizer(0.1)(model)
            with pytest.raises(lti.ArgumentError, match=found):
                Regularizer(0.1, modal_mean, every=5)(model)


def test_diverged_parameters_are_named():
    model = make_model()
    with torch.no_grad():
        model.blocks[0].ssm.C.fill_(torch.nan)
    with pytest.raises(lti.NonFiniteError, match="C contains NaN"):
        hankel_sum(model)


def test_bridge_shares_memory():
    tensor = torch.arange(3.0)
    array = to_array(tensor)
    array[0] = 7
    assert tensor[0] == 7
    assert to_tensor(array).data_ptr() == tensor.data_ptr()


def test_bridge_copies_what_torch_could_overwrite():
    array = np.ones(3)
    array.flags.writeable = False
    to_tensor(array).zero_()
    assert (array == 1).all()


def test_bridge_resolves_lazy_conjugates_and_refuses_other_devices():
    tensor = torch.tensor([1 + 2j])
    np.testing.assert_array_equal(to_array(tensor.conj()), [1 - 2j])
    with pytest.raises(lti.ArrayLibraryError, match="device 'meta'"):
        to_array(torch.empty(2, device="meta"))
