"""The numbers that tables read of runs, and the statistics that they print."""

from types import SimpleNamespace

import pytest
import torch

from experiments import methods, sweep
from experiments.config import Runtime
from experiments.loading import load_data
from experiments.methods import after_of, truncate
from experiments.papers import tables
from experiments.results import Result
from experiments.runs import read_lines
from experiments.sweep import SweepConfig
from experiments.train import train
from lticore_torch import RotationSSM, analyze


@pytest.fixture
def result(tiny):
    after = {
        "truncations": {
            "balanced": {
                "0.5": {"accuracy": 0.75, "validation_accuracy": 0.5, "parameters": 150},
                "0.9": {"accuracy": 0.25, "validation_accuracy": None, "parameters": 20},
            }
        },
        "inference": {"0": 2.0, "0.5": 0.5},
        "training": {"none": 4.0, "blocked": 6.0},
    }
    summary = {"test_accuracy": 0.875, "parameters": 200, "orders": [8, 4]}
    return Result(tiny, summary, after, {}, [], "nowhere")


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (tables.TestAccuracy(), 87.5),
        (tables.Truncated("balanced", 0.5), 75),
        (tables.Truncated("balanced", 0.5, "validation"), 50),
        (tables.Truncated("balanced", 0.9, "validation"), None),
        (tables.Truncated("h2", 0.5), None),
        (tables.RemovedParameters("balanced", 0.5), 25),
        (tables.RemovedParameters("balanced", 0.9), 90),
        (tables.RemovedParameters("balanced", 0.7), None),
        (tables.FinalOrder(), 3),
        (tables.FinalOrder(real_states=1), 6),
        (tables.InferenceTime(0.5), 0.25),
        (tables.InferenceTime(0.9), None),
        (tables.StepTime("blocked"), 1.5),
        (tables.StepTime("naive"), None),
    ],
)
def test_quantities_of_a_run(result, quantity, expected):
    found = quantity.read(result)
    assert found is None if expected is None else found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        (tables.median, "3.00"),
        (tables.deviation, "2.93"),  # √(42.8/5), of the population
        (tables.mean_and_deviation, "4.2 ± 2.9"),
        (tables.top_three, "6.0 ± 2.4"),  # of 9, 6, 3: √(18/3)
        (tables.best, "9.0"),
    ],
)
def test_statistics_over_runs(statistic, expected):
    assert statistic([3.0, 9.0, 1.0, 6.0, 2.0]) == expected


def test_truncations_are_tested_on_both_splits(tiny, tmp_path, monkeypatch):
    """With splits that answer by their names."""
    torch.manual_seed(0)
    data = SimpleNamespace(length=9, test=["test"], validation=["validation"])
    scores = {"test": 0.25, "validation": 0.75}
    monkeypatch.setattr(methods, "load_trained", lambda *_: RotationSSM(2, 8))
    monkeypatch.setattr(methods, "load_data", lambda _: data)
    monkeypatch.setattr(methods, "evaluate", lambda _, split: (0.0, scores[split[0]]))
    truncate(tmp_path, tiny, "balanced", [0.5])
    truncate(tmp_path, tiny, "balanced", [0.25])
    done = after_of(tmp_path)["truncations"]["balanced"]
    assert [done[ratio]["orders"] for ratio in ("0.5", "0.25")] == [[4], [6]]
    assert done["0.5"]["accuracy"] == 0.25
    assert done["0.5"]["validation_accuracy"] == 0.75


def test_truncations_on_data_see_training_sequences_without_labels(tiny, tmp_path, monkeypatch):
    seen = []

    def analyzed(model, **judge):
        plan = analyze(model)

        def compress(*, ratio, **finish):
            seen.append(judge | finish)
            return plan.compress(ratio=ratio)

        return SimpleNamespace(compress=compress)

    train(tiny, Runtime(progress=False), tmp_path)
    monkeypatch.setattr(methods, "analyze", analyzed)
    for method in methods.ON_DATA:
        truncate(tmp_path, tiny, method, [0.5])
    assert set(after_of(tmp_path)["truncations"]) == set(methods.ON_DATA)
    assert [options["method"] for options in seen] == ["data"] * 3
    assert [options.get("refit", False) for options in seen] == [False, True, True]
    # As many steps as training had, at most.
    assert seen[2]["fine_tune_steps"] == tiny.budget.steps
    wanted = load_data(tiny.data).train
    (inputs,), labels = seen[0]["calibration"][0]
    assert labels is None
    assert len(inputs) == min(64, len(wanted))
    found = wanted.batch(torch.arange(len(wanted))).inputs
    assert all((found == x).flatten(1).all(dim=1).any() for x in inputs)


def test_lines_that_a_kill_cut_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(read_lines(path)) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("gpus", "nodes", "expected"), [(0, 1, 1), (0, 3, 3), (2, 1, 2), (2, 3, 6)]
)
def test_jobs_have_a_process_for_each_device(tiny, monkeypatch, gpus, nodes, expected):
    seen = []
    monkeypatch.setattr(sweep, "_carry_out", lambda jobs, _: seen.extend(jobs) or {})
    sweep.sweep(SweepConfig(tiny, seeds=(0,), cluster="slurm", gpus=gpus, nodes=nodes))
    assert [job.processes for job in seen] == [expected]
