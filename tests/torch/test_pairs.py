"""The classifier of pairs of documents: its formula, shapes, and what is done to models."""

import numpy as np
import pytest
import torch

import lticore as lti
from lticore_torch import (
    HankelRegularizer,
    InTrainingCompressor,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
    export_arrays,
    load,
    output_error_bound,
    save,
    ssm_layers,
)

LENGTHS = torch.tensor([[9, 4], [1, 7], [5, 5]])


def make_model(**changes):
    torch.manual_seed(0)
    config = {"inputs": 2, "classes": 3, "features": 4, "order": 6, "depth": 2, "documents": 2}
    return SequenceClassifier(SequenceClassifierConfig(**{**config, **changes})).double().eval()


def make_pairs(model):
    vocabulary = model.config.vocabulary
    if vocabulary is not None:
        return torch.randint(vocabulary, (3, 2, 9))
    return torch.randn(3, 2, 9, 2, dtype=torch.float64)


def mean_of(model, document):
    v = model.encoder(document[None])
    for block in model.blocks:
        v = block(v)
    return v[0].sum(dim=0) / len(document)


def expected_logits(model, pairs, lengths):
    """Each document alone and without its padding, and the head written out."""
    maps = [(layer.weight, layer.bias) for layer in model.decoder if hasattr(layer, "weight")]
    (W1, b1), (W2, b2), (W3, b3) = maps
    rows = []
    for pair, valid in zip(pairs, lengths, strict=True):
        means = [mean_of(model, x[:k]) for x, k in zip(pair, valid.tolist(), strict=True)]
        z = torch.cat(means)
        z = (W1 @ z + b1).clamp(min=0)
        z = (W2 @ z + b2).clamp(min=0)
        rows.append(W3 @ z + b3)
    return torch.stack(rows)


@pytest.mark.parametrize("vocabulary", [None, 11])
def test_logits_are_their_formula(vocabulary):
    model = make_model(vocabulary=vocabulary)
    pairs = make_pairs(model)
    for given, lengths in ((None, torch.full((3, 2), 9)), (LENGTHS, LENGTHS)):
        expected = expected_logits(model, pairs, lengths)
        torch.testing.assert_close(model(pairs, given), expected, rtol=1e-10, atol=1e-11)


def test_the_head_narrows_from_two_means_to_the_classes():
    sizes = [tuple(x.weight.shape) for x in make_model(features=6).decoder[::2]]
    assert sizes == [(6, 12), (3, 6), (3, 3)]
    assert make_model(features=1).decoder[2].weight.shape == (1, 1)


def test_swapped_documents_swap_their_means():
    model = make_model()
    pairs = make_pairs(model)
    seen = []
    model.decoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    logits, swapped = model(pairs, LENGTHS), model(pairs.flip(1), LENGTHS.flip(1))
    torch.testing.assert_close(seen[1], seen[0].roll(4, dims=1))
    assert not torch.allclose(logits, swapped)


def test_gradients_reach_every_parameter():
    model = make_model(dropout=0.1, dropout_mask="step").train()
    model(make_pairs(model), LENGTHS).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.numel() == 0 or p.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("changes", "shape", "lengths", "message"),
    [
        ({}, (3, 9, 2), None, r"\(3, 9, 2\).*documents=2.*expects \(batch, 2, L, 2\)"),
        ({}, (3, 3, 9, 2), None, r"expects \(batch, 2, L, 2\)"),
        ({}, (3, 2, 9, 5), None, r"expects \(batch, 2, L, 2\)"),
        ({"vocabulary": 7}, (3, 9), None, r"\(3, 9\).*vocabulary=7 expects \(batch, 2, L\)"),
        ({"documents": 1}, (3, 2, 9, 2), None, r"documents=1.*expects \(batch, L, 2\)"),
        ({"documents": 1, "vocabulary": 7}, (3, 2, 9), None, r"expects \(batch, L\)"),
        ({}, (3, 2, 9, 2), (3,), r"lengths has shape \(3,\).*shape \(3, 2\)"),
        ({}, (3, 2, 9, 2), (6,), r"lengths has shape \(6,\).*shape \(3, 2\)"),
        ({"documents": 1}, (3, 9, 2), (3, 2), r"lengths has shape \(3, 2\).*shape \(3,\)"),
    ],
)
def test_other_shapes_are_refused(changes, shape, lengths, message):
    model = make_model(**changes)
    sequences = torch.ones(shape, dtype=torch.int64 if model.config.vocabulary else torch.float64)
    with pytest.raises(lti.ShapeError, match=message):
        model(sequences, None if lengths is None else torch.ones(lengths, dtype=torch.int64))


@pytest.mark.parametrize("layer", ["lru", "selective"])
def test_saved_and_compressed_models_give_the_same_logits(tmp_path, layer):
    model = make_model(layer=layer, vocabulary=11)
    pairs = make_pairs(model)
    small, report = compress(model, orders=[4, 2], calibration=(pairs, LENGTHS))
    assert report.orders == [4, 2]
    for number, one in enumerate((model, small)):
        save(one, tmp_path / f"{number}")
        again = load(tmp_path / f"{number}")
        assert again.config.documents == 2
        assert torch.equal(again(pairs, LENGTHS), one(pairs, LENGTHS))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_logits_change_less_than_certified(lengths):
    model = make_model(layer="lru", norm="layer", gate="glu")
    inputs = (make_pairs(model), lengths) if lengths is not None else (make_pairs(model),)
    small, report = compress(model, ratio=0.5, calibration=inputs)
    change = (small(*inputs) - model(*inputs)).norm(dim=1).detach().numpy()
    bound = output_error_bound(model, small, inputs)
    assert bound.shape == (3,)
    assert np.all((change > 0) & (change <= bound))
    assert report.largest_output_change <= report.output_bound == bound.max()


def test_refitting_and_fine_tuning_come_closer():
    model = make_model(layer="lru")
    inputs = make_pairs(model), LENGTHS
    changes = [
        compress(model, ratio=0.5, calibration=inputs, **options)[1].output_change
        for options in ({}, {"refit": True}, {"refit": True, "fine_tune_steps": 5})
    ]
    assert changes == sorted(changes, reverse=True)


def test_reduced_in_training_it_trains_on():
    model = make_model(layer="lru", order=12).train()
    pairs, labels = make_pairs(model), torch.tensor([0, 1, 2])
    optimizer, penalty = torch.optim.AdamW(model.parameters(), lr=1e-2), HankelRegularizer(1e-3)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.5, steps=[2])
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(pairs, LENGTHS), labels) + penalty(model)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        compressor.step()
    layers = ssm_layers(model).values()
    assert [layer.order for layer in layers] == [6, 6]
    assert [export_arrays(layer)["A"].shape for layer in layers] == [(6, 6), (6, 6)]
    assert losses[-1] < losses[2]
