"""Sweeps through the part of submitit that talks to SLURM; fake_slurm.py takes SLURM's place."""

import signal
import subprocess
import time

import pytest
import submitit

from experiments.results import find_result
from experiments.sweep import Job, SweepConfig, sweep
from lticore.errors import ArgumentError
from tests.experiments import fake_slurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder in which the fake keeps its books."""
    folder = tmp_path / "slurm"
    for name, value in fake_slurm.install(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def replace_sbatch(slurm, *lines):
    (slurm / "bin" / "sbatch").write_text("\n".join(["#!/bin/sh", *lines]))


def test_the_batch_file_asks_for_what_the_sweep_says(tiny, slurm, tmp_path):
    """Of an sbatch that keeps it and then says no."""
    replace_sbatch(slurm, f'cp "$1" {slurm}/batch', "exit 1")
    settings = {"workers": 2, "gpus": 2, "nodes": 3, "cpus": 4, "minutes": 90, "partition": "long"}
    with pytest.raises(ArgumentError, match="sbatch refused"):
        sweep(SweepConfig(tiny, cluster="slurm", seeds=(0, 1, 2), **settings))
    batch = (slurm / "batch").read_text()
    asked = fake_slurm.options(batch)
    assert asked["array"] == "0-2%2"
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("3", "2", "2")
    assert (asked["cpus-per-task"], asked["time"], asked["partition"]) == ("4", "90", "long")
    assert asked["signal"].startswith("USR2@")
    (command,) = [line for line in batch.splitlines() if line.startswith("srun")]
    assert " --cpus-per-task=4 " in command


def test_no_devices_are_asked_for_unless_wanted(tiny, slurm):
    replace_sbatch(slurm, f'cp "$1" {slurm}/batch', "exit 1")
    with pytest.raises(ArgumentError, match="sbatch refused"):
        sweep(SweepConfig(tiny, cluster="slurm", seeds=(0,)))
    asked = fake_slurm.options((slurm / "batch").read_text())
    assert not {"gpus-per-node", "partition", "array"} & asked.keys()


def test_what_sbatch_says_is_passed_on(tiny, slurm):
    replace_sbatch(slurm, "echo 'sbatch: error: invalid partition specified: lnog' >&2", "exit 1")
    with pytest.raises(ArgumentError, match="invalid partition specified: lnog"):
        sweep(SweepConfig(tiny, cluster="slurm", partition="lnog"))


def test_a_machine_without_slurm(tiny, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ArgumentError, match="there is no srun"):
        sweep(SweepConfig(tiny, cluster="slurm"))


def test_a_job_that_is_submitted_again_is_the_same(tiny, quiet, tmp_path, monkeypatch):
    job = Job(tiny, quiet, processes=1)
    job.checkpoint().dump(tmp_path / "again.pkl")
    again = submitit.helpers.DelayedSubmission.load(tmp_path / "again.pkl")
    assert again.function == job
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert again.result() == find_result(tiny).summary["test_accuracy"]


def states(slurm):
    return {path.stem: path.read_text() for path in slurm.glob("*.state")}


def wait_for(sweep, folder, pattern):
    while not [*folder.glob(pattern)]:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.01)


def preempt(slurm, index):
    """What SLURM does when it wants the node back; returns the name of the job."""
    (name,) = (name for name in states(slurm) if name.endswith(f"_{index}"))
    subprocess.run(["scancel", name, "--signal", "USR2"], check=True)
    return name


@pytest.mark.slow
def test_runs_finish_and_a_preempted_one_goes_on(start_sweep, slurm, tmp_path):
    runs = tmp_path / "runs" / "digits"
    running = start_sweep("--cluster", "slurm", "--run.budget.steps", "300")
    wait_for(running, runs, "*-seed1-*/checkpoint.pt")
    preempted = preempt(slurm, 1)
    output, errors = running.communicate()
    assert (running.returncode, errors) == (0, "")
    assert output.startswith("2 of 2 runs to do, on slurm\n")
    assert output.count("  finished: ") == 2
    assert set(states(slurm).values()) == {"COMPLETED"}
    resumed = {path.parent.name: "resumed" in path.read_text() for path in runs.glob("*/log.txt")}
    assert [resumed[name] for name in sorted(resumed)] == [False, True]
    (log,) = tmp_path.glob(f"runs/submitit/*/{preempted}_0_log.out")
    assert "Requeued job" in log.read_text()


@pytest.mark.slow
def test_two_processes_train_a_run_also_after_preemption_and_failures_are_listed(
    start_sweep, slurm, tmp_path
):
    runs = tmp_path / "runs" / "digits"
    arguments = ["--seeds", "0", "--weights", "0", "1e30", "--run.budget.steps", "300"]
    arguments += ["--gpus", "2", "--runtime.device", "cpu"]
    running = start_sweep("--cluster", "slurm", *arguments)
    wait_for(running, runs, "*/checkpoint.pt")  # of the first run: the other one fails before
    preempt(slurm, 0)
    output, errors = running.communicate()
    assert running.returncode == 1
    assert output.count("  finished: ") == 1
    assert "error: 1 runs failed:\n" in errors
    assert errors.count("failed: FloatingPointError: the ") == 1
    (summary,) = runs.glob("*/summary.json")
    assert '"processes": 2' in summary.read_text()
    assert "resumed at step" in (summary.parent / "log.txt").read_text()
    # The processes that the sweep does not wait for have ended too, with codes of their own.
    while "RUNNING" in states(slurm).values():
        time.sleep(0.01)
    assert sorted(states(slurm).values()) == ["COMPLETED", "FAILED"]


@pytest.mark.slow
def test_ctrl_c_cancels_the_jobs(start_sweep, slurm, tmp_path):
    runs = tmp_path / "runs" / "digits"
    running = start_sweep("--cluster", "slurm", "--workers", "1", "--run.budget.steps", "3000")
    wait_for(running, runs, "*/checkpoint.pt")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert running.returncode == 1
    assert errors == "interrupted: 0 of 2 runs were done, the same command goes on\n"
    while set(states(slurm).values()) != {"CANCELLED"}:
        time.sleep(0.01)
    assert len([*runs.iterdir()]) == 1
