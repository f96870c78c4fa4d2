"""Sweeps: which runs they are, and real local jobs of submitit."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config import ReductionConfig
from experiments.sweep import SweepConfig, sweep, sweep_runs
from experiments.train import train
from lticore.errors import ArgumentError


def test_runs_are_all_combinations(tiny):
    base = replace(tiny, reduction=ReductionConfig("tolerance", 0.5, (2,)))
    runs = sweep_runs(SweepConfig(base, seeds=(0, 1), weights=(0.0, 1e-3), tolerances=(0.1, 0.2)))
    assert len(runs) == 8
    assert {run.reduction.amount for run in runs} == {0.1, 0.2}
    assert {run.regularizer.kind for run in runs} == {"none", "hankel"}


def test_runs_of_a_paper():
    assert len(sweep_runs(SweepConfig(paper="h2", preset="small", tasks=("imdb",)))) == 2
    with pytest.raises(ArgumentError, match="did you mean hsvr"):
        sweep_runs(SweepConfig(paper="hsrv"))


def test_finished_runs_are_not_submitted(tiny, quiet, capsys):
    train(tiny, quiet)
    outcomes = sweep(SweepConfig(tiny, seeds=(0,), runtime=quiet))
    assert outcomes[tiny.slug].startswith("had finished")
    assert "0 of 1 runs to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "workers must be"),
        ({"tolerances": (0.1,)}, "need --run.reduction.steps"),
        ({"nodes": 2}, "nodes=2 needs --cluster slurm"),
    ],
)
def test_bad_settings(tiny, change, message):
    with pytest.raises(ArgumentError, match=message):
        SweepConfig(tiny, **change)


def busy_run(sweep, folder, lines):
    """The folder of a run, once it has written so many lines."""
    while not (busy := [x for x in folder.glob("digits/*/metrics.jsonl") if count(x) >= lines]):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.01)
    return busy[0].parent


def kill_a_job(sweep, folder, lines):
    """kill -9 a job once its run has written so many lines; returns the folder of the run.

    The number of a local job is that of the process that looks after it.
    """
    busy = busy_run(sweep, folder, lines)
    parents = {path.name.split("_")[0] for path in folder.glob("submitit/*/*_submitted.pkl")}
    # Which of the jobs holds the log of this run open?
    jobs = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", ",".join(parents)], capture_output=True, text=True
    ).stdout.split()
    log = (busy / "log.txt").stat().st_ino
    (job,) = [j for j in jobs if log in {x.stat().st_ino for x in Path(f"/proc/{j}/fd").iterdir()}]
    os.kill(int(job), signal.SIGKILL)
    return busy


def count(path):
    return path.read_bytes().count(b"\n")


@pytest.mark.slow
def test_local_jobs_train_and_go_on_after_a_kill(start_sweep, tmp_path):
    runs = tmp_path / "runs"
    grid = ("--tolerances", "0.1", "0.3", "--run.reduction.steps", "2")
    first = start_sweep(*grid)
    killed = kill_a_job(first, runs, lines=10)
    output, errors = first.communicate()
    assert first.returncode == 1
    assert "4 of 4 runs to do" in output
    assert "1 runs failed" in errors
    assert f"digits/{killed.name}: failed: the job ended without a result" in errors
    assert len(list(runs.glob("digits/*/summary.json"))) == 3

    second = start_sweep(*grid)
    output, errors = second.communicate()
    assert second.returncode == 0, errors
    assert "1 of 4 runs to do" in output
    assert output.count("had finished") == 3
    assert "resumed at step" in (killed / "log.txt").read_text()
    summaries = [json.loads(p.read_text()) for p in runs.glob("digits/*/summary.json")]
    assert len(summaries) == 4
    assert all(summary["orders"] < [8, 8] for summary in summaries)

    third = start_sweep(*grid)
    assert "0 of 4 runs to do" in third.communicate()[0]
    assert third.returncode == 0


@pytest.mark.slow
def test_failures_are_listed_with_their_reasons(start_sweep, tmp_path):
    diverging = start_sweep("--run.optimizer.learning-rate", "1e30")
    output, errors = diverging.communicate()
    assert diverging.returncode == 1
    assert "2 of 2 runs to do" in output
    assert "2 runs failed" in errors
    assert errors.count("failed: FloatingPointError: the ") == 2
    assert all((p / "failed.json").exists() for p in tmp_path.glob("runs/digits/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "number"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGINT), (os.kill, signal.SIGTERM)],
    ids=["ctrl-c", "SIGINT", "SIGTERM"],
)
def test_an_interrupted_sweep_ends_its_jobs_and_goes_on(start_sweep, tmp_path, send, number):
    runs = tmp_path / "runs"
    settings = ("--seeds", "0", "1", "2", "--run.budget.steps", "300")
    first = start_sweep(*settings)
    busy = busy_run(first, runs, lines=10)
    send(first.pid, number)
    output, errors = first.communicate()
    assert first.returncode == 1
    assert output == "3 of 3 runs to do, on local\n"
    assert errors == "interrupted: 0 of 3 runs were done, the same command goes on\n"
    left = subprocess.run(["ps", "-o", "args=", "-s", str(first.pid)], capture_output=True)
    assert left.stdout == b""
    assert len(list(runs.glob("digits/*"))) <= 2  # the third has not been started
    assert not list(runs.glob("digits/*/summary.json"))

    second = start_sweep(*settings)
    output, errors = second.communicate()
    assert (second.returncode, errors) == (0, "")
    assert output.count("finished: ") == 3
    assert "resumed at step" in (busy / "log.txt").read_text()
