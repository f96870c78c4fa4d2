"""Runs of the tests live in a folder of their own, and are quiet."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from experiments.config import BudgetConfig, DataConfig, ModelConfig, RunConfig, Runtime


@pytest.fixture(autouse=True)
def _runs_in_a_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LTICORE_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def quiet():
    return Runtime(device="cpu", progress=False, tensorboard=False, log_every=1)


@pytest.fixture
def tiny():
    """Two blocks of four states for six steps on some of the digits."""
    return RunConfig(
        data=DataConfig(train=60, test=40),
        model=ModelConfig(features=4, order=4, depth=2, dropout=0.1),
        budget=BudgetConfig(steps=6, batch_size=25),
    )


@pytest.fixture
def start_sweep():
    """Start the command, for two seeds of a tiny run unless told otherwise, two at the same time.

    It is the first of a session of its own, as in a terminal; what it leaves there ends here.
    """
    started = []

    def start(*arguments, **environment):
        command = [sys.executable, "-m", "experiments", "sweep", "--seeds", "0", "1"]
        command += ["--workers", "2", "--cpus", "1", "--run.data.train", "60"]
        command += ["--run.data.test", "40", "--run.model.features", "4", "--run.model.order", "8"]
        command += ["--run.budget.epochs", "None", "--run.budget.steps", "100"]
        command += ["--runtime.checkpoint-minutes", "0", "--runtime.log-every", "1"]
        command += ["--runtime.no-tensorboard", "--runtime.no-progress", *arguments]
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process, suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
