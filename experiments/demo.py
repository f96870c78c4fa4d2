"""The demonstration: the same classifier trained without and with Hankel regularisation, and the
first compressed in three ways.

Expected (2 cores, about 4 minutes): 99 % and 98 % before compression; with nine tenths of the
states removed standard truncation keeps about 30 %, by data 40 %, by data and distilled 94 %, and
the regularised model without any of it 89 %.
Command: python -m experiments demo
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lticore.errors import ArgumentError
from lticore_torch import analyze

from .compress import TruncationPoint, truncation_sweep
from .config import (
    BudgetConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RegularizerConfig,
    RunConfig,
    Runtime,
    ScheduleConfig,
)
from .demo_report import print_table, write_report
from .loading import load_data
from .methods import calibration
from .train import load_trained, train

#: The demo has no use for a validation split: its settings are fixed.
_DATA = DataConfig("digits", validation=False)


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    epochs: int = 40
    """Passes over the training data."""
    batch_size: int = 50
    """Sequences per step; the last, incomplete batch of an epoch is used too."""
    learning_rate: float = 4e-3
    """Peak, after a linear warm-up and before a cosine decay to zero."""
    warmup: float = 0.1
    """Share of the steps that warm up."""
    weight_decay: float = 0.05
    """Of all parameters but A, B and C of the state-space layers."""
    clip: float = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class DemoConfig:
    """Train a digit classifier without and with Hankel regularisation, compress both, compare."""

    output: Path = Path("runs/demo")
    """Folder for summary.json, report.html and the pictures."""
    seeds: tuple[int, ...] = (0, 1)
    """One training run per method and seed."""
    truncation_ratios: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
    """Shares of states to remove."""
    calibration: int = 1347
    """Training sequences without labels, at most, that compression by data sees: all of them."""
    fine_tune_steps: int = 200
    """Steps of distillation on these."""
    hankel_weight: float = 7e-3
    """Weight of the Hankel regulariser of the method "hsvr"."""
    features: int = 32
    """Width of the model."""
    order: int = 64
    """Real states of each layer."""
    depth: int = 2
    """Number of layers."""
    dropout: float = 0.0
    """Dropout probability."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings of every training run."""

    def __post_init__(self) -> None:
        if not self.hankel_weight > 0:
            raise ArgumentError(f"hankel_weight must be positive, but is {self.hankel_weight}")
        _run(self, self.hankel_weight, 0)  # refuses what runs refuse, now
        for name in ("calibration", "fine_tune_steps"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be positive, but is {getattr(self, name)}")
        if not self.seeds:
            raise ArgumentError("seeds is empty: there is nothing to train")
        if len(set(self.seeds)) < len(self.seeds):
            raise ArgumentError(f"a seed is given twice: {self.seeds}")
        for ratio in self.truncation_ratios:
            if not 0 < ratio < 1:
                raise ArgumentError(f"truncation ratios must lie in (0, 1), but one is {ratio}")
            if round((1 - ratio) * self.depth * self.order) < self.depth:
                raise ArgumentError(
                    f"a truncation ratio of {ratio} leaves fewer than one of {self.order} states "
                    f"to each of {self.depth} layers: lower it or raise the order"
                )


def demo(config: DemoConfig) -> dict[str, Any]:
    """Train, compress, and write table, pictures and report; returns the summary."""
    start = time.perf_counter()
    config.output.mkdir(parents=True, exist_ok=True)  # fails now rather than after training
    data = load_data(_DATA)
    batches = calibration(data.train, data.length, config.calibration)
    distilled = {
        "refit": True,
        "fine_tune_steps": config.fine_tune_steps,
        "learning_rate": config.train.learning_rate,
    }
    plain, regularised = (
        [_trained(config, weight, seed) for seed in config.seeds]
        for weight in (0.0, config.hankel_weight)
    )
    standard, on_data, hsvr = (
        [analyze(model) for model in plain],
        [analyze(model, calibration=batches) for model in plain],
        [analyze(model) for model in regularised],
    )
    ways: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "none": (standard, {}),
        "data": (on_data, {}),
        "distilled": (on_data, distilled),
        "hsvr": (hsvr, {}),
    }
    methods = {
        name: _summarise(
            [truncation_sweep(plan, data, config.truncation_ratios, **how) for plan in plans]
        )
        for name, (plans, how) in ways.items()
    }
    summary = {
        "truncation_ratios": list(config.truncation_ratios),
        "methods": methods,
        "seeds": list(config.seeds),
        "seconds": round(time.perf_counter() - start, 1),
        "data": {
            "name": data.name,
            "length": data.length,
            "train": len(data.train),
            "test": len(data.test),
        },
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    print_table(summary)
    write_report(summary, config.output)
    print(f"\nWritten to {config.output}: report.html, summary.json and the pictures")
    return summary


def _trained(config: DemoConfig, weight: float, seed: int) -> nn.Module:
    run = _run(config, weight, seed)
    folder = config.output / "runs" / run.slug
    train(run, Runtime(tensorboard=False), folder)
    return load_trained(folder, run)


def _run(config: DemoConfig, weight: float, seed: int) -> RunConfig:
    """One training run of the demo."""
    settings = config.train
    return RunConfig(
        data=_DATA,
        model=ModelConfig(
            features=config.features,
            order=config.order,
            depth=config.depth,
            dropout=config.dropout,
        ),
        optimizer=OptimizerConfig(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
        ),
        schedule=ScheduleConfig(warmup=settings.warmup),
        regularizer=RegularizerConfig("hankel", weight) if weight else RegularizerConfig(),
        budget=BudgetConfig(epochs=settings.epochs, batch_size=settings.batch_size),
        seed=seed,
    )


def _summarise(sweeps: list[list[TruncationPoint]]) -> dict[str, Any]:
    """Of one method over its seeds: means, and every seed's own numbers beside them."""
    by_ratio = {f"{points[0].ratio}": points for points in zip(*sweeps, strict=True)}
    singular_values = np.array(
        [[layer.singular_values for layer in sweep[0].report.layers] for sweep in sweeps]
    )
    return {
        "accuracy": {k: float(np.mean([p.accuracy for p in v])) for k, v in by_ratio.items()},
        "accuracy_by_seed": {k: [p.accuracy for p in v] for k, v in by_ratio.items()},
        "orders": {k: [p.report.orders for p in v] for k, v in by_ratio.items()},
        "error_bounds": {k: [p.report.error_bounds for p in v] for k, v in by_ratio.items()},
        "parameters": {
            k: float(np.mean([p.report.parameters_after for p in v])) for k, v in by_ratio.items()
        },
        "singular_values": singular_values.mean(axis=0).tolist(),
        "singular_values_by_seed": singular_values.tolist(),
    }
