"""Runs of the tests live in a folder of their own, and are quiet."""

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
