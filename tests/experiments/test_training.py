"""The parts of the training loop by themselves, and the numbers that it writes."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from experiments import train as train_module
from experiments.config import OptimizerConfig, ReductionConfig
from experiments.loading import describe, load_data
from experiments.runs import read_lines, run_folder
from experiments.train import train
from experiments.training import build_model, evaluate, predict


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_the_mean_over_examples_and_keeps_the_mode(tiny, training):
    """In batches of which the last is smaller."""
    torch.manual_seed(0)
    data = load_data(tiny.data)
    model = build_model(tiny.model, describe(data)).train(training)
    loss, accuracy = evaluate(model, data.test, batch_size=16)
    assert model.training is training
    batch = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        logits = predict(model.eval(), batch)
    assert loss == pytest.approx(cross_entropy(logits, batch.labels).item(), rel=1e-5)
    assert accuracy == (logits.argmax(-1) == batch.labels).double().mean().item()


def test_a_line_counts_each_example_once(tiny, quiet):
    """An epoch of 60 examples in batches of 25, by a model that hardly changes."""
    config = replace(
        tiny,
        model=replace(tiny.model, dropout=0.0, norm="layer"),
        optimizer=OptimizerConfig(learning_rate=1e-12),
        budget=replace(tiny.budget, steps=3),
    )
    train(config, replace(quiet, log_every=3))
    (line,) = read_lines(run_folder(config) / "metrics.jsonl")
    torch.manual_seed(config.seed)
    data = load_data(config.data)
    model = build_model(config.model, describe(data))
    assert line["accuracy"] == pytest.approx(evaluate(model, data.train)[1], rel=1e-12)


def test_the_best_model_is_the_best_since_the_last_reduction(tiny, quiet, monkeypatch):
    scores = iter([0.9, 0.8, 0.5, 0.4, 0.6, 0.3, 0.25])
    monkeypatch.setattr(train_module, "evaluate", lambda *_: (1.0, next(scores)))
    config = replace(
        tiny,
        reduction=ReductionConfig("fraction", 0.5, (3,)),
        budget=replace(tiny.budget, evaluate_every=1, keep="best"),
    )
    summary = train(config, quiet)
    assert summary["tested_step"] == 5
    assert summary["orders"] == [2, 2]
