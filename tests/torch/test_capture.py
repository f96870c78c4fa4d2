"""What goes into modules while a model runs, and that the model is afterwards as it was."""

import pytest
import torch
from torch import nn

from lticore.errors import ArgumentError
from lticore_torch.layers import capture
from lticore_torch.layers.batches import Batch


def mixed_model():
    """In training mode, but for one module."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3)))
    model.train()
    model[2].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_the_model_runs_in_evaluation_mode_and_keeps_its_own():
    model, x = mixed_model(), torch.randn(5, 2)
    before = modes(model)
    assert True in before
    assert False in before
    output, seen = capture.run(model, Batch((x,)), [model[1]])
    assert modes(model) == before
    expected = model[0](x)
    torch.testing.assert_close(seen[model[1]].inputs, [expected.detach()], rtol=0, atol=0)
    torch.testing.assert_close(seen[model[1]].outputs, [expected.detach()], rtol=0, atol=0)
    torch.testing.assert_close(output, model[2](expected).detach(), rtol=0, atol=0)


def test_a_model_that_fails_is_left_as_it_was():
    model = mixed_model()
    before = modes(model)
    with pytest.raises(RuntimeError):
        capture.run(model, Batch((torch.randn(5, 7),)), [model[0]])
    assert modes(model) == before
    assert not model[0]._forward_hooks


def test_modules_that_are_not_called_are_named():
    model = mixed_model()
    before = modes(model)
    with pytest.raises(ArgumentError, match="Linear was not called"):
        capture.run(model, Batch((torch.randn(5, 2),)), [nn.Linear(2, 2)])
    assert modes(model) == before
