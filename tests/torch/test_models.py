"""Classifier, regulariser and the bridge."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

import lticore as lti
from lticore_torch import (
    HankelRegularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
    hankel_sum,
    ssm_layers,
)
from lticore_torch.bridge import to_array, to_tensor

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
    compiled(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"layer": "mamba"}, r"layer='mamba' is not one of \['rotation'\]"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(lti.ArgumentError, match=message):
        dataclasses.replace(CONFIG, **change)


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
    penalty = HankelRegularizer(0.5)(model)
    assert penalty.item() == 0
    assert not penalty.requires_grad


def test_resting_regularizer_computes_nothing(monkeypatch):
    def fail(*_):
        raise AssertionError("the Hankel sum was computed")

    monkeypatch.setattr("lticore_torch.regularize.hankel_sum", fail)
    model = make_model()
    HankelRegularizer(0.0)(model)
    model.eval()
    HankelRegularizer(1.0)(model)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_regularizer_refuses_weights(weight):
    with pytest.raises(lti.ArgumentError, match="weight"):
        HankelRegularizer(weight)


def test_model_without_state_space_layer_is_refused():
    with pytest.raises(lti.ArgumentError, match="Linear contains no state-space layer"):
        hankel_sum(torch.nn.Linear(2, 2))


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
