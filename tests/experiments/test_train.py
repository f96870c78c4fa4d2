"""Training runs: the same numbers again, killed and resumed, and what goes wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import train as train_module
from experiments.config import (
    BudgetConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ReductionConfig,
    RegularizerConfig,
    Runtime,
    ScheduleConfig,
    to_json,
)
from experiments.data import DATASETS
from experiments.loading import describe, load_data
from experiments.runs import claimed, load_checkpoint, read_json, read_lines, run_folder, summary_of
from experiments.train import load_trained, train
from experiments.training import (
    build_model,
    epoch_order,
    evaluate,
    parameter_groups,
    rate_factor,
    steps_per_epoch,
    total_steps,
)
from lticore.errors import ArgumentError

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from experiments.config import RunConfig, Runtime, from_json
from experiments.train import train
train(from_json(RunConfig, json.loads(sys.argv[1])), Runtime(
    device="cpu", progress=False, tensorboard=False, log_every=1, threads=1, checkpoint_minutes=0))
"""


def test_a_run_is_a_folder_of_all_that_is_needed(tiny, quiet):
    summary = train(tiny, quiet)
    folder = run_folder(tiny)
    assert summary == summary_of(folder)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "provenance.json",
        "metrics.jsonl",
        "timing.jsonl",
        "checkpoint.pt",
        "model.pt",
        "summary.json",
        "log.txt",
    }
    assert read_json(folder / "config.json") == to_json(tiny)
    assert summary["versions"]["torch"] == torch.__version__
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert summary["orders"] == [4, 4]
    model, data = load_trained(folder, tiny), load_data(tiny.data)
    assert evaluate(model, data.test)[1] == summary["test_accuracy"]


def test_a_finished_run_is_not_run_again(tiny, quiet, monkeypatch):
    summary = train(tiny, quiet)
    monkeypatch.setattr(train_module, "load_data", lambda _: pytest.fail("ran again"))
    assert train(tiny, quiet) == summary


def test_a_folder_belongs_to_one_config(tiny, quiet, tmp_path):
    train(tiny, quiet, tmp_path)
    with pytest.raises(ArgumentError, match="seed is 0 there and 1 here"):
        train(replace(tiny, seed=1), quiet, tmp_path)


def killed_and_resumed(config, folder_of_kill, kills):
    """Start the run, kill -9 it after each of the given numbers of lines, then let it finish."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(to_json(config))]
    environment = os.environ | {"LTICORE_RUNS": str(folder_of_kill), "OPENBLAS_NUM_THREADS": "1"}
    metrics = folder_of_kill / config.slug / "metrics.jsonl"
    for lines in kills:
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        while process.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder_of_kill / config.slug


def test_killed_and_resumed_run_writes_the_same_bytes(tiny, tmp_path):
    config = replace(
        tiny,
        regularizer=RegularizerConfig("hankel", 1e-2, every=2),
        budget=BudgetConfig(steps=60, batch_size=25, evaluate_every=7, keep="best"),
    )
    broken = killed_and_resumed(config, tmp_path / "broken", kills=(20,))
    whole = killed_and_resumed(config, tmp_path / "whole", kills=())
    metrics = (whole / "metrics.jsonl").read_bytes()
    assert (broken / "metrics.jsonl").read_bytes() == metrics
    assert metrics.count(b"\n") == 60 + 9
    assert "resumed at step" in (broken / "log.txt").read_text()
    first, second = summary_of(broken), summary_of(whole)
    for summary in (first, second):
        del summary["training_seconds"]
    assert first == second


def stop_after(checkpoints, monkeypatch):
    """Stop the run, as Ctrl-C does, once it has written so many checkpoints."""
    save, saved = train_module.save_checkpoint, []

    def save_and_stop(*arguments):
        save(*arguments)
        saved.append(None)
        if len(saved) == checkpoints:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "save_checkpoint", save_and_stop)


# The reduction comes after step 4: checkpoints just before it, just after it, and later.
@pytest.mark.parametrize("stop", [3, 4, 7])
@pytest.mark.parametrize("mode", ["tolerance", "rollback"])
def test_resumed_across_a_reduction_with_tracking(tiny, quiet, monkeypatch, tmp_path, mode, stop):
    config = replace(
        tiny,
        model=replace(tiny.model, order=8),
        regularizer=RegularizerConfig("hankel", 1e-2, every=2),
        reduction=ReductionConfig(mode, 0.3, (4, 8)),
        budget=replace(tiny.budget, steps=10, track_every=2, evaluate_every=3, keep="best"),
    )
    runtime = replace(quiet, checkpoint_minutes=0)
    whole = train(config, runtime, tmp_path / "whole")
    assert whole["orders"] != [8, 8] or whole["reductions"][-1]["rolled_back"]
    with monkeypatch.context() as patch:
        stop_after(stop, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, runtime, tmp_path / "broken")
    again = train(config, runtime, tmp_path / "broken")
    names = ("broken", "whole")
    broken_metrics, metrics = ((tmp_path / x / "metrics.jsonl").read_bytes() for x in names)
    assert broken_metrics == metrics
    assert b'"weyl_bound"' in metrics
    assert again["test_loss"] == whole["test_loss"]


def test_rollback_takes_a_harmful_reduction_back(tiny, quiet, monkeypatch):
    """The first look is before any reduction, the second sees it fail."""
    scores = iter([0.9, 0.1])
    evaluate_split = train_module.evaluate

    def evaluated(model, split):
        loss, accuracy = evaluate_split(model, split)
        return loss, next(scores, accuracy)

    monkeypatch.setattr(train_module, "evaluate", evaluated)
    config = replace(tiny, reduction=ReductionConfig("rollback", 0.5, (2, 4, 5), max_drop=0.01))
    summary = train(config, quiet)
    events = summary["reductions"]
    assert [event["rolled_back"] for event in events] == [False, True]
    assert list(events[0]["orders"].values()) == [2, 2]
    assert summary["orders"] == [4, 4]
    assert "step 4: rolled back" in (run_folder(config) / "log.txt").read_text()


def test_fraction_halves_the_states_at_each_step(tiny, quiet):
    config = replace(tiny, reduction=ReductionConfig("fraction", 0.5, (2, 4)))
    summary = train(config, quiet)
    assert [list(x["orders"].values()) for x in summary["reductions"]] == [[2, 2], [1, 1]]
    model = load_trained(run_folder(config), config)
    assert evaluate(model, load_data(config.data).test)[0] == summary["test_loss"]


def test_a_folder_is_claimed_by_one_process(tiny, quiet):
    with claimed(run_folder(tiny)), pytest.raises(ArgumentError, match="another process trains in"):
        train(tiny, quiet)
    train(tiny, quiet)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(tiny, quiet, precision):
    config = replace(tiny, optimizer=OptimizerConfig(precision=precision))
    summary = train(replace(config, reduction=ReductionConfig("fraction", 0.5, (3,))), quiet)
    plain = train(tiny, quiet, run_folder(tiny).parent / "plain")
    assert summary["orders"] == [2, 2]
    assert summary["test_loss"] == pytest.approx(plain["test_loss"], rel=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_compiled_training(tiny, quiet):
    """Through a reduction: the model is compiled again for its new shapes."""
    config = replace(
        tiny,
        model=replace(tiny.model, dropout=0.0),
        reduction=ReductionConfig("fraction", 0.5, (3,)),
    )
    plain = train(config, quiet, run_folder(tiny).parent / "plain")
    compiled = train(config, replace(quiet, compile=True))
    assert compiled["orders"] == plain["orders"] == [2, 2]
    assert compiled["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-3)


def test_interrupted_and_resumed_in_one_process(tiny, quiet, monkeypatch):
    """Also with checkpoints between the lines of the log."""
    runtime = replace(quiet, log_every=4, checkpoint_minutes=0)
    whole = train(replace(tiny, seed=3), runtime)
    whole_metrics = (run_folder(replace(tiny, seed=3)) / "metrics.jsonl").read_text()
    config, folder = replace(tiny, seed=3), run_folder(tiny).parent / "other"
    stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(config, runtime, folder)
    assert load_checkpoint(folder)["step"] == 2
    again = train(config, runtime, folder)
    assert (folder / "metrics.jsonl").read_text() == whole_metrics
    assert again["test_loss"] == whole["test_loss"]


def test_loss_that_is_not_finite_stops_the_run_for_good(tiny, quiet, monkeypatch):
    runtime = replace(quiet, checkpoint_minutes=0)
    predict, calls = train_module.predict, []

    def poisoned(model, batch):
        calls.append(None)
        return predict(model, batch) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(train_module, "predict", poisoned)
    with pytest.raises(FloatingPointError, match=r"nan .* in step 4, epoch 2"):
        train(tiny, runtime)
    folder = run_folder(tiny)
    state = load_checkpoint(folder)
    assert state["step"] == 3
    assert all(torch.isfinite(x).all() for x in state["model"].values())
    assert "stopped: the loss became nan" in (folder / "log.txt").read_text()
    assert summary_of(folder) is None
    with pytest.raises(FloatingPointError, match="to try again"):
        train(tiny, runtime)


def test_full_disk_keeps_the_checkpoint_before(tiny, quiet, monkeypatch):
    runtime = replace(quiet, checkpoint_minutes=0)
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(None)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr("lticore_torch.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: checkpoint\.pt of step"):
        train(tiny, runtime)
    folder = run_folder(tiny)
    before = load_checkpoint(folder)["step"]
    assert 0 < before < 6
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    train(tiny, runtime, folder)
    assert len(list(read_lines(folder / "metrics.jsonl"))) == 6


def test_full_disk_at_the_rename_keeps_the_checkpoint_before(tiny, quiet, monkeypatch):
    runtime = replace(quiet, checkpoint_minutes=0)
    rename = os.replace

    def full(source, target):
        if Path(target).name == "checkpoint.pt" and Path(target).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    folder = run_folder(tiny)
    with monkeypatch.context() as patch:
        patch.setattr("lticore_torch.files.os.replace", full)
        with pytest.raises(OSError, match="step 2 was not written; the one before it is kept"):
            train(tiny, runtime)
    assert load_checkpoint(folder)["step"] == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    train(tiny, runtime)
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_unknown_device_is_said(tiny, quiet, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ArgumentError, match=f'device="{device}"'):
        train(tiny, replace(quiet, device=device))


def test_missing_cuda_is_said(tiny, quiet, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match="torch sees no CUDA device"):
        train(tiny, replace(quiet, device="cuda"))


def test_best_model_on_the_validation_split_is_tested(tiny, quiet):
    config = replace(tiny, budget=replace(tiny.budget, steps=20, evaluate_every=1, keep="best"))
    summary = train(config, quiet)
    lines = list(read_lines(run_folder(config) / "metrics.jsonl"))
    scores = [x["validation_accuracy"] for x in lines if "validation_accuracy" in x]
    assert summary["tested_step"] == 1 + scores.index(max(scores))
    model, data = load_trained(run_folder(config), config), load_data(config.data)
    assert evaluate(model, data.validation)[1] == max(scores)


def test_training_learns_and_tensorboard_follows(tiny, quiet):
    config = replace(tiny, data=DataConfig(), budget=BudgetConfig(steps=100, batch_size=50))
    config = replace(config, model=ModelConfig(features=16, order=16, depth=1))
    config = replace(config, optimizer=OptimizerConfig(learning_rate=2e-2))
    summary = train(config, replace(quiet, tensorboard=True))
    lines = list(read_lines(run_folder(config) / "metrics.jsonl"))
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert summary["test_accuracy"] > 0.3
    assert list((run_folder(config) / "tensorboard").iterdir())


def test_weight_decay_spares_the_system(tiny):
    model = build_model(tiny.model, describe(load_data(tiny.data)))
    decayed, free = parameter_groups(model, OptimizerConfig(weight_decay=0.1, system_rate=0.5))
    system = {id(p) for block in model.blocks for p in block.ssm.system_parameters()}
    assert {id(p) for p in free["params"]} == system
    assert free["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.1
    assert free["lr"] == 0.5 * decayed["lr"]
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    _, free = parameter_groups(model, OptimizerConfig(system="AB"))
    assert {id(p) for p in free["params"]} == system - {id(b.ssm.C) for b in model.blocks}


def test_poles_may_have_a_rate_of_their_own(tiny):
    model = build_model(tiny.model, describe(load_data(tiny.data)))
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.1, system_rate=0.5, pole_rate=2.0)
    decayed, free, poles = parameter_groups(model, config)
    layers = [block.ssm for block in model.blocks]
    expected = {id(p) for layer in layers for p in (layer.radius_logit, layer.angle_logit)}
    assert {id(p) for p in poles["params"]} == expected
    assert (decayed["lr"], free["lr"], poles["lr"]) == (0.1, 0.05, 0.1)
    assert (free["weight_decay"], poles["weight_decay"]) == (0, 0)
    everything = [p for group in (decayed, free, poles) for p in group["params"]]
    assert sorted(map(id, everything)) == sorted(map(id, model.parameters()))


def test_no_folder_is_made_for_unknown_data(tiny, quiet):
    config = replace(tiny, data=replace(tiny.data, name="../../outside"))
    with pytest.raises(ArgumentError, match="unknown data set"):
        train(config, quiet)
    assert not run_folder(config).parent.exists()


def test_a_rate_of_poles_needs_poles_in_pairs(tiny):
    model = build_model(replace(tiny.model, layer="s4d"), describe(load_data(tiny.data)))
    with pytest.raises(ArgumentError, match="pole_rate=2 needs"):
        parameter_groups(model, OptimizerConfig(pole_rate=2.0))


def test_linear_maps_may_start_as_in_flax(tiny):
    config = replace(tiny.model, features=64, linear_init="lecun")
    model = build_model(config, describe(load_data(tiny.data)))
    gate = model.blocks[0].gate
    std = 1 / 8 / 0.8796256610342398  # of the normal distribution that is cut off at ±2
    assert float(gate.weight.detach().abs().max()) <= 2 * std
    # 4 096 numbers: the sample deviation is within 5 % (4.5 of its own deviations)
    assert float(gate.weight.detach().std()) == pytest.approx(1 / 8, rel=0.05)
    assert not gate.bias.detach().any()
    assert not model.encoder.bias.detach().any()


def test_schedule():
    config = ScheduleConfig("cosine", warmup=0.2, first=0.1, last=0.01)
    assert rate_factor(config, 0, 10) == pytest.approx(0.1)
    assert rate_factor(config, 1, 10) == pytest.approx(0.55)
    assert rate_factor(config, 2, 10) == pytest.approx(1.0)
    assert rate_factor(config, 6, 10) == pytest.approx(0.505)
    assert rate_factor(config, 10, 10) == pytest.approx(0.01)
    assert rate_factor(ScheduleConfig("constant", warmup=0.0), 9, 10) == 1.0


def test_a_warmup_may_be_a_number_of_steps():
    config = ScheduleConfig("cosine", warmup=0.9, warmup_steps=50, first=0.0, last=0.2)
    assert [rate_factor(config, step, 250) for step in (0, 25, 50)] == [0.0, 0.5, 1.0]
    assert rate_factor(config, 150, 250) == pytest.approx(0.6)
    assert rate_factor(config, 20, 40) == pytest.approx(0.5)  # a run that ends in its warm-up
    assert rate_factor(replace(config, warmup_steps=0), 0, 250) == 1.0


def test_epochs_are_counted_and_shuffled():
    budget = BudgetConfig(epochs=3, batch_size=4)
    assert steps_per_epoch(budget, 10) == 3
    assert total_steps(budget, 10) == 9
    orders = [epoch_order(0, epoch, 10).tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(10))


def test_data_are_made_smaller_as_asked():
    full = load_data(DataConfig())
    data = load_data(DataConfig(pool=2, train=50, test=30))
    assert (data.length, len(data.train), len(data.validation), len(data.test)) == (16, 50, 30, 30)
    whole = load_data(DataConfig(pool=2)).test.batch(torch.arange(3)).inputs
    pixels = full.test.batch(torch.arange(3)).inputs.reshape(3, 4, 2, 4, 2)
    torch.testing.assert_close(whole, pixels.mean((2, 4)).reshape(3, 16, 1))
    assert load_data(DataConfig(length=10)).test.batch(torch.arange(2)).inputs.shape == (2, 10, 1)
    joined = load_data(DataConfig(validation=False))
    assert len(joined.train) == len(full.train) + len(full.validation) == 1347
    with pytest.raises(ArgumentError, match="square images"):
        load_data(DataConfig(pool=3))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig("digts"), "did you mean digits"),
        (DataConfig("digits", options={"sed": 1}), "no option 'sed'"),
    ],
)
def test_unknown_data(config, message):
    assert "digits" in DATASETS
    with pytest.raises(ArgumentError, match=message):
        load_data(config)


def test_selective_layers_train_and_know_no_penalty(tiny, quiet):
    selective = replace(tiny, model=replace(tiny.model, layer="selective"))
    assert train(selective, quiet)["orders"] == [4, 4]
    penalised = replace(selective, regularizer=RegularizerConfig("hankel", 1e-3))
    with pytest.raises(ArgumentError, match="the model has none"):
        train(penalised, quiet)
    assert not (run_folder(penalised) / "metrics.jsonl").exists()


def test_runtime_is_checked():
    with pytest.raises(ArgumentError, match="log_every"):
        Runtime(log_every=0)
