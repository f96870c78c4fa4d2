"""The classifier's variants: padding, embedding, norms, gates, dropout, both directions."""

import dataclasses
from unittest import mock

import pytest
import torch

import lticore as lti
from lticore_torch import (
    Bidirectional,
    SequenceClassifier,
    SequenceClassifierConfig,
    ssm_layers,
)
from lticore_torch.layers import LAYERS

CONFIG = SequenceClassifierConfig(inputs=2, classes=3, features=4, order=5, depth=2)


def make_model(**changes):
    torch.manual_seed(0)
    return SequenceClassifier(dataclasses.replace(CONFIG, **changes))


def with_statistics(model):
    """Running statistics and norm parameters as after training."""
    generator = torch.Generator().manual_seed(1)
    for name, x in [*model.named_buffers(), *model.named_parameters()]:
        if "norm" in name and x.is_floating_point():
            with torch.no_grad():
                x.add_(torch.rand(x.shape, generator=generator, dtype=x.dtype))
    return model


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("norm", ["batch", "batch-plain", "layer"])
def test_padding_does_not_change_the_answer(layer, bidirectional, norm):
    model = make_model(layer=layer, bidirectional=bidirectional, norm=norm)
    model = with_statistics(model).double().eval()
    lengths = torch.tensor([9, 1, 6])
    sequences = [torch.randn(int(k), 2, dtype=torch.float64) for k in lengths]
    padded = torch.full((3, 9, 2), 7.0, dtype=torch.float64)
    for row, x in zip(padded, sequences, strict=True):
        row[: len(x)] = x
    alone = torch.cat([model(x[None]) for x in sequences])
    torch.testing.assert_close(model(padded, lengths), alone, rtol=1e-10, atol=1e-11)
    assert not torch.allclose(model(padded)[1], alone[1])


def test_full_lengths_are_no_lengths():
    model, x = make_model().eval(), torch.randn(4, 7, 2)
    torch.testing.assert_close(model(x, torch.full((4,), 7)), model(x))


def test_lengths_have_one_entry_per_sequence():
    with pytest.raises(lti.ShapeError, match=r"lengths of shape \(4,\)"):
        make_model()(torch.randn(4, 7, 2), torch.tensor([7, 7]))


def test_nothing_to_classify():
    model = make_model().eval()
    assert model(torch.randn(0, 7, 2)).shape == (0, 3)
    for lengths in (None, torch.tensor([0, 0])):
        with pytest.raises(lti.ShapeError, match=r"\(2, 0, 2\): sequences of no steps"):
            model(torch.randn(2, 0, 2), lengths)


def test_tokens_are_embedded():
    model = make_model(vocabulary=11).eval()
    tokens = torch.randint(11, (3, 8))
    logits = model(tokens)
    assert logits.shape == (3, 3)
    shorter = model(torch.nn.functional.pad(tokens, (0, 4)), torch.full((3,), 8))
    torch.testing.assert_close(shorter, logits)
    logits.sum().backward()
    assert (model.encoder.weight.grad.abs().sum(dim=1) > 0).sum() == len(tokens.unique())


@pytest.mark.parametrize("gate", ["half-glu", "glu", "gelu"])
@pytest.mark.parametrize("norm", ["batch", "batch-plain", "layer"])
def test_block_is_its_formula(gate, norm):
    block = with_statistics(make_model(gate=gate, norm=norm)).double().eval().blocks[0]
    v = torch.randn(2, 6, 4, dtype=torch.float64)
    if norm == "layer":
        mean, variance = v.mean(-1, keepdim=True), v.var(-1, keepdim=True, correction=0)
    else:
        mean, variance = block.norm.running_mean, block.norm.running_var
    z = (v - mean) / (variance + block.norm.eps).sqrt()
    if norm != "batch-plain":
        z = z * block.norm.weight + block.norm.bias
    z = block.ssm(z)
    a = z * (1 + torch.erf(z / 2**0.5)) / 2
    if gate == "half-glu":
        a = a * torch.sigmoid(a @ block.gate.weight.T + block.gate.bias)
    if gate == "glu":
        first, second = (
            a @ W.T + b
            for W, b in zip(block.gate.weight.chunk(2), block.gate.bias.chunk(2), strict=True)
        )
        a = first * torch.sigmoid(second)
    torch.testing.assert_close(block(v), v + a, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_training_changes_every_parameter(layer, bidirectional):
    model = make_model(layer=layer, bidirectional=bidirectional, dropout=0.1, gate="glu").train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 12, 2)).square().sum().backward()
        optimizer.step()
    for name, p in model.named_parameters():
        frozen = name.endswith("back.D")
        assert p.requires_grad != frozen
        assert p.numel() == 0 or torch.equal(p, before[name]) == frozen, name


def test_dropout_is_the_same_at_all_steps():
    block = make_model(dropout=0.5).train().blocks[0]
    mask = block._mask(torch.ones(6, 10, 4))
    assert mask.shape == (6, 1, 4)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert (mask != mask[:1]).any()
    assert block.eval()._mask(torch.ones(2, 3, 4)) is None


def test_dropout_may_be_drawn_at_every_step():
    block = make_model(dropout=0.5, dropout_mask="step").train().blocks[0]
    mask = block._mask(torch.ones(6, 10, 4))
    assert mask.shape == (6, 10, 4)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert (mask != mask[:, :1]).any()
    assert block.eval()._mask(torch.ones(2, 3, 4)) is None


@pytest.mark.parametrize("steps", [1, 8])
@pytest.mark.parametrize("gate", ["half-glu", "glu", "gelu"])
def test_dropout_acts_before_and_after_the_gate(gate, steps):
    block = make_model(dropout=0.5, gate=gate).train().blocks[0]
    v = torch.randn(3, 8, 4)
    masks = [2.0 * torch.randint(2, (3, steps, 4)) for _ in range(2)]
    with mock.patch.object(block, "_mask", side_effect=list(masks)):
        seen = block(v)
    normed = torch.nn.functional.batch_norm(
        v.flatten(0, 1), None, None, block.norm.weight, block.norm.bias, training=True
    )
    a = torch.nn.functional.gelu(block.ssm(normed.reshape(v.shape))) * masks[0]
    gated = {
        "half-glu": lambda: a * torch.sigmoid(block.gate(a)),
        "glu": lambda: torch.nn.functional.glu(block.gate(a)),
        "gelu": lambda: a,
    }[gate]()
    torch.testing.assert_close(seen, v + gated * masks[1])


def test_bidirectional_sees_the_end_at_the_start():
    x = torch.randn(1, 9, 2)
    changed = x.clone()
    changed[:, -1] += 1
    for bidirectional in (False, True):
        block = make_model(bidirectional=bidirectional).eval()
        first, second = (block.blocks[0](block.encoder(y))[:, 0] for y in (x, changed))
        assert torch.equal(first, second) != bidirectional
    assert isinstance(block.blocks[0].ssm, Bidirectional)
    assert len(ssm_layers(block)) == 4


def test_layer_options_reach_the_layers():
    model = make_model(layer="s5", order=8, layer_options={"sampling": "bilinear", "blocks": 2})
    assert {layer.sampling for layer in ssm_layers(model).values()} == {"bilinear"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 0}, "features must be at least 1"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"vocabulary": 0}, "vocabulary must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"layer": "mamba"}, "layer='mamba' is not one of"),
        ({"norm": "group"}, "norm='group' is not one of"),
        ({"gate": "relu"}, "gate='relu' is not one of"),
        ({"dropout_mask": "batch"}, "dropout_mask='batch' is not one of"),
        ({"documents": 3}, r"documents=3 is not one of \(1, 2\)"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(lti.ArgumentError, match=message):
        make_model(**changes)
