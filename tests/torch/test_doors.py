"""Layers given where they do not fit: parametrised, pruned, without memory, or as systems."""

import numpy as np
import pytest
import torch
from layer_kinds import ALL, TIME_INVARIANT, make
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import lticore as lti
from lticore_torch import (
    Bidirectional,
    InTrainingCompressor,
    RotationSSM,
    SelectiveSSM,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
)

MADE = {
    "weight_norm": (
        lambda layer, name: parametrizations.weight_norm(layer, name),
        parametrize.remove_parametrizations,
        "remove_parametrizations",
    ),
    "pruning": (
        lambda layer, name: prune.l1_unstructured(layer, name, amount=0.3),
        prune.remove,
        "prune.remove",
    ),
}
PLACES = [
    (kind, name)
    for kind in ("rotation", "lru", "s5", "s4d", "quadratic", "selective")
    for name in ("B", "C")
    if (kind, name) != ("s4d", "B")
]


def calibrated(layer):
    """Arguments of compress() for a layer of this kind."""
    if isinstance(layer, SelectiveSSM):
        return {"ratio": 0.4, "calibration": torch.randn(4, 20, 3, dtype=torch.float64)}
    return {"ratio": 0.4}


# A channel that is reduced without loss leaves a difference of rounding alone.
@pytest.mark.filterwarnings("ignore:the h-infinity norm:lticore.PrecisionWarning")
@pytest.mark.parametrize("way", MADE)
@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_parameters_made_of_others(kind, name, way):
    """Refused with the call to make; after it, the effective values are compressed."""
    make_of_others, restore, call = MADE[way]
    layer = make(kind)
    make_of_others(layer, name)
    options, u = calibrated(layer), torch.randn(2, 9, 3, dtype=torch.float64)
    before = layer(u)
    message = rf"{name} of a \w+ is made of other tensors.*{call}\(layer, '{name}'\)"
    with pytest.raises(lti.ArgumentError, match=message):
        compress(layer, **options)
    if kind != "selective":
        with pytest.raises(lti.ArgumentError, match=message):
            layer.load_lti(make(kind).to_lti())
        optimizer = torch.optim.Adam(layer.parameters())
        with pytest.raises(lti.ArgumentError, match=message):
            InTrainingCompressor(layer, optimizer, fraction=0.5, steps=[1])
    restore(layer, name)
    torch.testing.assert_close(layer(u), before, rtol=0, atol=0)
    small, report = compress(layer, **options)
    assert small.order < layer.order
    if report.layers[0].error_bound is not None:
        error = lti.hinf_error(layer.to_lti(), small.to_lti())
        assert np.max(error) <= report.layers[0].error_bound * (1 + 1e-6)


def test_parametrising_during_training_is_seen_before_anything_changes():
    model = nn.Sequential(make("rotation"), make("lru"))
    compressor = InTrainingCompressor(
        model, torch.optim.Adam(model.parameters()), fraction=0.5, steps=[1]
    )
    parametrizations.weight_norm(model[1], "C")
    with pytest.raises(lti.ArgumentError, match="C of a ParametrizedLRU is made of other"):
        compressor.step()
    assert model[0].order == model[1].order == 5


@pytest.mark.parametrize("way", MADE)
def test_state_dicts_of_parameters_made_of_others_load(way):
    source, target = make("lru"), make("lru", seed=1)
    for layer in (source, target):
        MADE[way][0](layer, "nu_log")
    target.load_state_dict(source.state_dict())
    u = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(target(u), source(u), rtol=0, atol=0)


def test_models_with_pruned_gates():
    block = SequenceBlock(RotationSSM(4, 6)).eval()
    prune.l1_unstructured(block.gate, "weight", amount=0.5)
    small, _ = compress(block, ratio=0.5)
    assert small.ssm.order == 3
    with torch.no_grad():
        small.gate.weight_orig.zero_()
        small.gate.bias.zero_()
    v = torch.randn(2, 5, 4)
    a = torch.nn.functional.gelu(small.ssm(small.norm(v.flatten(0, 1)).reshape(v.shape)))
    torch.testing.assert_close(small(v), v + a / 2)  # half: the gate is computed anew
    assert block.gate.weight.any()


# --- layers without memory --------------------------------------------------------------------


def on_meta(make_model):
    with torch.device("meta"):
        return make_model()


@pytest.mark.parametrize("kind", ALL)
def test_layers_on_the_meta_device(kind):
    layer_type, options = ALL[kind]
    source, empty = make(kind), on_meta(lambda: layer_type(3, 5, **options).double())
    assert all(p.is_meta for p in empty.parameters())
    assert_loads(empty, source, torch.randn(2, 6, 3, dtype=torch.float64))


def assert_loads(empty, source, u):
    empty.to_empty(device="cpu").load_state_dict(source.state_dict())
    torch.testing.assert_close(empty(u), source(u), rtol=0, atol=0)


@pytest.mark.parametrize("layer", ["rotation", "lru", "s5", "s4d", "quadratic", "selective"])
def test_models_on_the_meta_device(layer):
    config = SequenceClassifierConfig(2, 3, 4, 6, 2, layer=layer, bidirectional=True)
    source = SequenceClassifier(config).eval()
    assert_loads(on_meta(lambda: SequenceClassifier(config)).eval(), source, torch.randn(2, 6, 2))


def test_blocks_and_bidirectional_layers_on_the_meta_device():
    def build():
        return SequenceBlock(Bidirectional(RotationSSM(3, 5), RotationSSM(3, 4))).eval()

    assert_loads(on_meta(build), build(), torch.randn(2, 6, 3))


# --- layers as systems ------------------------------------------------------------------------

CORE = [
    lti.hankel_singular_values,
    lti.hankel_sum,
    lti.hankel_sum_and_gradient,
    lti.hankel_norm,
    lti.h2_norm,
    lti.hinf_norm,
    lti.controllability_gramian,
    lti.observability_gramian,
    lti.gramian_factors,
    lti.diagonalize,
    lti.to_rotation,
    lti.to_statespace,
    lambda sys: lti.balanced_truncation(sys, order=2),
    lambda sys: lti.modal_truncation(sys, 2),
    lambda sys: lti.h2_reduction(sys, 2),
    lambda sys: lti.simulate(sys, np.zeros((5, 3))),
    lambda sys: lti.impulse_response(sys, 5),
    lambda sys: lti.frequency_response(sys, np.zeros(3)),
    lambda sys: lti.h2_error(sys, sys),
]


@pytest.mark.parametrize("function", CORE)
def test_the_core_points_from_a_layer_to_its_system(function):
    for kind in TIME_INVARIANT:
        with pytest.raises(lti.ArgumentError, match=r"is a layer .* layer\.to_lti\(\)"):
            function(make(kind))
