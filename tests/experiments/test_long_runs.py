"""Long runs: a queue that is taken up where it was left, whatever ended it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config import BudgetConfig, Runtime
from experiments.long_runs import QUEUE, LongRunsConfig, long_runs, progress
from experiments.papers import compressm, hsvr
from experiments.runs import load_checkpoint, read_lines, summary_of
from experiments.train import train
from lticore.errors import ArgumentError

ROOT = Path(__file__).parents[2]
#: Ends by SIGTERM to itself in the middle of the second run.
SCRIPT = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from experiments.config import BudgetConfig, DataConfig, ModelConfig, RunConfig
from experiments.long_runs import LongRunsConfig, long_runs

run = RunConfig(
    data=DataConfig(train=60, test=40),
    model=ModelConfig(features=4, order=4, depth=2, dropout=0.1),
    budget=BudgetConfig(steps=300, batch_size=25),
)
first = replace(run, model=ModelConfig(features=4, order=2), budget=BudgetConfig(steps=2))
queue = {"first": lambda: [first], "second": lambda: [run]}
long_runs(LongRunsConfig(checkpoint_minutes=0.01), queue, Path(sys.argv[1]))
"""


@pytest.fixture
def queue(tiny):
    longer = replace(tiny, budget=BudgetConfig(steps=12, batch_size=25))
    return {"a": lambda: [tiny], "b": list, "c": lambda: [longer]}


def states(queue, root):
    return {entry.name: entry.state for entry in progress(queue, root)}


def test_the_queue_is_worked_off_in_its_order(queue, tmp_path, capsys):
    assert states(queue, tmp_path) == {"a": "waiting", "b": "depends", "c": "waiting"}
    long_runs(LongRunsConfig(status=True), queue, tmp_path)
    assert not list(tmp_path.iterdir())
    long_runs(LongRunsConfig(), queue, tmp_path)
    assert states(queue, tmp_path) == {"a": "finished", "b": "depends", "c": "finished"}
    for name in "ac":
        folder = tmp_path / queue[name]()[0].slug
        assert summary_of(folder)["threads"] == 1
        assert (folder / "model.pt").exists()
        assert not (folder / "checkpoint.pt").exists()
    printed = capsys.readouterr().out
    assert printed.index("a: from step 0") < printed.index("c: from step 0")
    assert str(progress(queue, tmp_path)[2]).endswith("12 of 12 steps")


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def start(root):
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(root)], cwd=ROOT, env=environment
        )

    process = start(stopped)
    checkpoint = "digits/rotation-2x4-*/checkpoint.pt"
    while process.poll() is None and not list(stopped.glob(checkpoint)):
        time.sleep(0.01)
    folder = next(stopped.glob(checkpoint)).parent
    process.send_signal(signal.SIGTERM)
    assert process.wait() != 0, "the queue ended before it was stopped"
    step = load_checkpoint(folder)["step"]
    assert f"stopped at step {step} of 300, as asked" in (folder / "log.txt").read_text()
    assert start(stopped).wait() == 0
    assert f"resumed at step {step}" in (folder / "log.txt").read_text()
    assert start(whole).wait() == 0
    metrics = (whole / folder.relative_to(stopped) / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == metrics


def test_two_processes_never_work_on_one_queue(queue, tmp_path):
    def intrude():
        with pytest.raises(ArgumentError, match="another process"):
            long_runs(LongRunsConfig(), queue, tmp_path)
        seen.append(states(queue, tmp_path)["c"])
        return []

    seen = []
    # Whoever looks for the next run while the queue is worked on is refused.
    calls = iter([list, intrude])
    queue["d"] = lambda: next(calls, list)()
    long_runs(LongRunsConfig(), queue, tmp_path)
    assert seen == ["waiting"]


@pytest.fixture
def interrupted(tiny, tmp_path):
    """A run of 12 steps with a checkpoint after each, stopped after the fifth."""
    config = replace(tiny, budget=BudgetConfig(steps=12, batch_size=25))
    runtime = Runtime("cpu", progress=False, tensorboard=False, log_every=1, checkpoint_minutes=0)
    answers = iter([False] * 4 + [True])
    with pytest.raises(KeyboardInterrupt, match="step 5 of 12"):
        train(config, runtime, tmp_path / "run", lambda: next(answers))
    return config, runtime, tmp_path / "run"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(interrupted, tmp_path):
    config, runtime, folder = interrupted
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-300])
    assert load_checkpoint(folder)["step"] == 4
    train(config, runtime, folder)
    assert "damaged" in (folder / "log.txt").read_text()
    train(config, runtime, tmp_path / "whole")
    lines = [list(read_lines(tmp_path / run / "metrics.jsonl")) for run in ("run", "whole")]
    assert lines[0] == lines[1]
    assert not (folder / "previous.pt").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", "foreign"])
def test_without_any_good_checkpoint_the_file_to_remove_is_named(interrupted, content):
    config, runtime, folder = interrupted
    for name in ("checkpoint.pt", "previous.pt"):
        if content == "foreign":
            import torch

            torch.save({"weights": torch.zeros(3)}, folder / name)
        else:
            (folder / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=r"previous\.pt is .*remove it"):
        train(config, runtime, folder)


def test_metrics_cut_short_are_noticed(interrupted):
    config, runtime, folder = interrupted
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(ArgumentError, match=r"metrics\.jsonl is shorter.*remove"):
        train(config, runtime, folder)


def test_the_queue_holds_the_papers_sizes():
    runs = {name: make() for name, make in QUEUE.items()}
    first = runs["HSVR smnist, no penalty"][0]
    assert (first.model.depth, first.model.order, first.model.features) == (4, 128, 128)
    assert first.budget.batch_size == 50
    assert first.data.pool == 1
    penalised = runs["HSVR smnist, Hankel penalty"][0]
    # The paper's product of magnitude and epochs.
    product = penalised.regularizer.weight * penalised.budget.epochs
    assert product == pytest.approx(1e-5 * 250)
    for tau in (0.04, 0.01):
        (run,) = runs[f"CompreSSM mnist, τ = {tau:g}"]
        assert (run.model.depth, run.model.order, run.model.features) == (1, 512, 8)
        assert run.reduction.amount == tau
        assert len(run.reduction.steps) == 10
        assert run.reduction.steps[-1] < run.budget.steps == 60_000
    (imdb,) = runs["HSVR imdb, no penalty"]
    assert (imdb.model.depth, imdb.model.order, imdb.model.features) == (6, 192, 256)
    # What is carried is what the presets would train.
    assert first == hsvr.plain_run("smnist", "paper-short")
    assert runs["CompreSSM mnist, τ = 0"] == [compressm.plain_run("mnist", "paper-short")]
