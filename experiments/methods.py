"""What is compared: variants of a run, and what is done to its model after training.

Variants are configs, so each is a run of its own. What needs no training shares the run of the
trained model and is kept beside it, in after.json:

    truncations       method → ratio → accuracy on the test split and, where one was held out, the
                      validation split; orders, parameters, error bounds
    singular_values   of each layer
    inference         ratio → seconds for a test batch (timing.py)
    training          penalty → seconds of a step (timing.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lticore_torch import analyze

from .config import ReductionConfig, RegularizerConfig, RunConfig
from .data import Split
from .loading import load_data
from .runs import read_json, write_json
from .train import load_trained
from .training import evaluate, total_steps

#: Methods of :func:`lticore_torch.compress` that count steps; they take the data's length.
_TIMED = ("tlbt", "tlh2")
#: Options of method "data" by name. On validation data the rate 4e-3 did as well as 1e-3 or better
#: (digits, ListOps, sMNIST), and 4 096 sequences better than 1 024 with as many steps (sMNIST).
ON_DATA: dict[str, dict[str, Any]] = {
    "data": {},
    "data-refit": {"refit": True},
    "data-distilled": {"refit": True, "fine_tune_steps": 400, "learning_rate": 4e-3},
}
#: Unlabelled training sequences that these see, at most, and how many at once; and time steps of
#: these, for long sequences.
_CALIBRATION, _AT_ONCE = (4096, 2**19), (64, 2**15)


# ---- variants of a run -------------------------------------------------------------------------


def regularised(config: RunConfig, kind: str, weight: float) -> RunConfig:
    """With a penalty: "hankel" (HSVR), "hankel-mean", "modal" or "l1"."""
    return replace(config, regularizer=RegularizerConfig(kind, weight))  # type: ignore[arg-type]


def reduced_in_training(config: RunConfig, tolerance: float, steps: Sequence[int]) -> RunConfig:
    """CompreSSM: give up the share ``tolerance`` of Σσ at each of the steps."""
    return replace(config, reduction=ReductionConfig("tolerance", tolerance, tuple(steps)))


def from_scratch(config: RunConfig, order: int) -> RunConfig:
    """The same model, small from the start."""
    return replace(config, model=replace(config.model, order=order))


def seeds(config: RunConfig, count: int) -> tuple[RunConfig, ...]:
    """The same run with seeds 0, 1, …"""
    return tuple(replace(config, seed=seed) for seed in range(count))


# ---- after training ----------------------------------------------------------------------------


def after_of(folder: Path) -> dict[str, Any]:
    """What has been done to the trained model so far."""
    path = folder / "after.json"
    return read_json(path) if path.exists() else {}


def calibration(
    split: Split, length: int, count: int = _CALIBRATION[0]
) -> list[tuple[tuple[Any, ...], None]]:
    """Batches of unlabelled sequences, the same for every model: so many, or fewer long ones."""
    count, at_once = min(count, _CALIBRATION[1] // length), min(_AT_ONCE[0], _AT_ONCE[1] // length)
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    batches = [split.batch(indices) for indices in chosen.split(at_once)]
    return [(b[:1] if b.lengths is None else (b.inputs, b.lengths), None) for b in batches]


def truncate(folder: Path, config: RunConfig, method: str, ratios: Sequence[float]) -> None:
    """Compress the trained model at each ratio, nothing retrained but by the methods ``ON_DATA``
    that say so, and test it.

    What after.json holds already is not done again.
    """
    after = after_of(folder)
    done = after.setdefault("truncations", {}).setdefault(method, {})
    missing = [ratio for ratio in ratios if f"{ratio:g}" not in done]
    if not missing:
        return
    model, data = load_trained(folder, config), load_data(config.data)
    judge: dict[str, Any] = {"method": method}
    finish: dict[str, Any] = {}
    if method in _TIMED:
        judge["horizon"] = data.length
    if method in ON_DATA:
        judge = {"method": "data", "calibration": calibration(data.train, data.length)}
        finish = dict(ON_DATA[method])
        if "fine_tune_steps" in finish:  # never more than training had
            steps = total_steps(config.budget, len(data.train))
            finish["fine_tune_steps"] = min(finish["fine_tune_steps"], steps)
    plan = analyze(model, **judge)
    held_out = len(data.validation) > 0
    for ratio in missing:
        small, report = plan.compress(ratio=ratio, **finish)
        done[f"{ratio:g}"] = {
            "accuracy": evaluate(small, data.test)[1],
            "validation_accuracy": evaluate(small, data.validation)[1] if held_out else None,
            "orders": report.orders,
            "parameters": report.parameters_after,
            "error_bounds": report.error_bounds,
        }
        sigmas = [list(layer.singular_values) for layer in report.layers]
        if method == "balanced" and all(sigmas):
            after["singular_values"] = sigmas
        write_json(folder / "after.json", after)
