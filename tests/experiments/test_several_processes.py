"""Training in two processes (gloo, on the CPU), as torchrun starts them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config import (
    BudgetConfig,
    ModelConfig,
    ReductionConfig,
    RegularizerConfig,
    to_json,
)
from experiments.runs import failure_of, read_lines, summary_of
from experiments.train import train

ROOT = Path(__file__).parents[2]


def in_two_processes(config, folder):
    """The finished process and the folder of the run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.experiments.one_run"]
    environment = os.environ | {"LTICORE_RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, json.dumps(to_json(config))],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return ended, folder / config.slug


def test_two_processes_train_as_one(tiny, quiet, tmp_path):
    """Without dropout and batch statistics the gradients of two halves are those of the whole.

    The last batch of an epoch holds a single example, so that one process has none; after the
    reduction the model is wrapped again.
    """
    config = replace(
        tiny,
        data=replace(tiny.data, train=51),
        model=ModelConfig(features=4, order=8, depth=2, norm="layer"),
        regularizer=RegularizerConfig("hankel", 1e-2),
        reduction=ReductionConfig("fraction", 0.5, (4,)),
        budget=BudgetConfig(steps=7, batch_size=25, track_every=3, evaluate_every=3),
    )
    ended, folder = in_two_processes(config, tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    two, one = summary_of(folder), train(config, quiet, tmp_path / "one")
    assert two["processes"] == 2
    assert two.keys() == one.keys()
    assert two["orders"] == one["orders"] == [4, 4]
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)
    numbers = list(read_lines(folder / "metrics.jsonl"))[-1]
    expected = list(read_lines(tmp_path / "one" / "metrics.jsonl"))
    means = sum(x["loss"] for x in expected if "loss" in x) / 7  # one_run logs the whole run once
    assert numbers["loss"] == pytest.approx(means, rel=1e-4)


def test_divergence_in_two_processes_is_written_down(tiny, tmp_path):
    config = replace(tiny, optimizer=replace(tiny.optimizer, learning_rate=1e30, clip=0))
    ended, folder = in_two_processes(config, tmp_path)
    assert ended.returncode != 0
    assert "in step" in failure_of(folder)["reason"]
    assert summary_of(folder) is None
