"""Pairs of documents from the official files to a reduced, tested and truncated model."""

import random
from dataclasses import replace

import pytest

from experiments.config import DataConfig
from experiments.loading import describe, load_data
from experiments.methods import after_of, truncate
from experiments.papers.compressm import reduced_run
from experiments.runs import run_folder
from experiments.timing import time_inference, time_training
from experiments.train import load_trained, train
from experiments.training import build_model, evaluate

ALPHABETS = "abcd", "wxyz"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Official files of made-up texts; papers cite each other when they share their alphabet."""
    chance = random.Random(0)
    for part, count in (("train", 200), ("eval", 40), ("test", 40)):
        lines = []
        for number in range(count):
            first, label = chance.randrange(2), number % 2
            sides = first, first if label else 1 - first
            texts = ["".join(chance.choices(ALPHABETS[x], k=chance.randint(8, 24))) for x in sides]
            lines.append("\t".join([f"{label:.1f}", "id1", "id2", *texts]) + "\n")
        (tmp_path / f"new_aan_pairs.{part}.tsv").write_text("".join(lines))
    monkeypatch.setenv("LTICORE_DATA", str(tmp_path))


@pytest.fixture
def shortened():
    """CompreSSM's small AAN run with a reduction in training, in seconds."""
    run = reduced_run("aan", "small", 0.15)
    return replace(
        run,
        data=replace(run.data, options={"length": 20}, train=160, test=30),
        reduction=replace(run.reduction, steps=(8, 16)),
        budget=replace(run.budget, steps=80, batch_size=16, evaluate_every=20),
    )


@pytest.mark.usefixtures("archive")
@pytest.mark.slow
def test_pairs_are_learned_reduced_and_truncated(shortened, quiet):
    summary = train(shortened, quiet)
    assert summary["data"]["documents"] == 2
    assert len(summary["reductions"]) == 2
    assert max(summary["orders"]) < 100
    assert summary["test_accuracy"] > 0.9

    folder = run_folder(shortened)
    test = load_data(shortened.data).test
    assert evaluate(load_trained(folder, shortened), test)[1] == summary["test_accuracy"]
    # Padding, which depends on the batch, changes nothing.
    assert (
        evaluate(load_trained(folder, shortened), test, batch_size=7)[1]
        == (summary["test_accuracy"])
    )
    truncate(folder, shortened, "balanced", (0.1, 0.9))
    truncations = after_of(folder)["truncations"]["balanced"]
    assert truncations["0.1"]["accuracy"] > 0.9
    assert sum(truncations["0.9"]["orders"]) <= 0.1 * sum(summary["orders"]) + 1


@pytest.mark.usefixtures("archive")
def test_pairs_are_timed(shortened, quiet):
    run = replace(
        shortened,
        model=replace(shortened.model, order=8),
        budget=replace(shortened.budget, steps=1, evaluate_every=1),
    )
    train(run, quiet)
    folder = run_folder(run)
    time_inference(folder, run, (0.5,))
    time_training(folder, run)
    after = after_of(folder)
    assert set(after["inference"]) == {"0", "0.5"}
    assert {"none", "blocked"} <= set(after["training"])


def test_facts_of_older_runs_tell_of_no_pairs(tiny):
    facts = describe(load_data(DataConfig()))
    assert facts.pop("documents") == 1
    assert build_model(tiny.model, facts).config.documents == 1
