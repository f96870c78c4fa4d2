"""Sweeps: which runs they are, and real local jobs of submitit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config import ReductionConfig
from experiments.sweep import SweepConfig, sweep, sweep_runs
from experiments.train import train
from lticore.errors import ArgumentError

ROOT = Path(__file__).parents[2]


def test_runs_are_all_combinations(tiny):
    base = replace(tiny, reduction=ReductionConfig("tolerance", 0.5, (2,)))
    runs = sweep_runs(SweepConfig(base, seeds=(0, 1), weights=(0.0, 1e-3), tolerances=(0.1, 0.2)))
    assert len(runs) == 8
    assert {run.reduction.amount for run in runs} == {0.1, 0.2}
    assert {run.regularizer.kind for run in runs} == {"none", "hankel"}


def test_runs_of_a_paper():
    assert len(sweep_runs(SweepConfig(paper="h2", preset="small"))) == 2
    with pytest.raises(ArgumentError, match="did you mean hsvr"):
        sweep_runs(SweepConfig(paper="hsrv"))


def test_finished_runs_are_not_submitted(tiny, quiet, capsys):
    train(tiny, quiet)
    outcomes = sweep(SweepConfig(tiny, seeds=(0,), runtime=quiet))
    assert outcomes[tiny.slug].startswith("had finished")
    assert "0 of 1 runs to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [({"workers": 0}, "workers must be"), ({"tolerances": (0.1,)}, "need --run.reduction.steps")],
)
def test_bad_settings(tiny, change, message):
    with pytest.raises(ArgumentError, match=message):
        SweepConfig(tiny, **change)


@pytest.mark.slow
def test_local_jobs_train_and_failures_are_listed(tmp_path):
    """In a process of its own: submitit's threads and files outlive a test."""
    command = [sys.executable, "-m", "experiments", "sweep", "--seeds", "0", "1"]
    command += ["--run.data.train", "60", "--run.data.test", "40"]
    command += ["--run.budget.steps", "3", "--run.budget.epochs", "None"]
    command += ["--runtime.no-tensorboard", "--runtime.no-progress", "--workers", "2"]
    environment = os.environ | {"LTICORE_RUNS": str(tmp_path)}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "2 of 2 runs to do" in first.stdout
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("digits/*/summary.json")]
    assert len(summaries) == 2
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "0 of 2 runs to do" in again.stdout
    bad = [*command, "--run.data.name", "digts"]
    failed = subprocess.run(bad, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "2 runs failed" in failed.stderr
    assert "did you mean digits" in failed.stderr
