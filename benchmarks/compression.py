"""Compression of trained classifiers on real digits: maps, moments, and training small at once.

1. Post-training: test accuracy at equal state size of truncating the real map, the complex map, and
   modes, for LRU models trained as usual.
2. In training (CompreSSM): loss across reductions and final accuracy with the optimizer's averages
   carried over or reset, beside small models trained from scratch at the same orders.

Writes benchmarks/results/compression.json. Expected: about 15 minutes on one core.
Command: python benchmarks/compression.py
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from machine import describe, write
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from lticore_torch import (
    InTrainingCompressor,
    SequenceClassifier,
    SequenceClassifierConfig,
    analyze,
    ssm_layers,
)

RATIOS = (0.25, 0.5, 0.75)
METHODS = ("balanced", "balanced-complex", "h2", "last", "uniform")


@dataclass(frozen=True)
class Config:
    """Train, reduce and compare on the 1 797 digits of scikit-learn."""

    seeds: int = 3
    """Runs of each kind."""
    epochs: int = 40
    """Passes over the 1 347 training digits."""
    tolerance: float = 0.1
    """Share of the Hankel energy given up at each of four reductions."""
    order: int = 64
    """Real states of each of two layers."""


def main(config: Config) -> None:
    data = digits()
    trained = [train(config, data, seed) for seed in bar(config.seeds, "as usual")]
    plans = {
        method: [analyze(run["model"], method=method) for run in trained] for method in METHODS
    }
    after = {
        method: {
            str(ratio): [accuracy(plan.compress(ratio=ratio)[0], data) for plan in plans[method]]
            for ratio in RATIOS
        }
        for method in METHODS
    }
    runs = {
        moments: [train(config, data, seed, moments=moments) for seed in bar(config.seeds, moments)]
        for moments in ("transform", "reset")
    }
    runs["from scratch"] = [
        train(config, data, seed, orders=runs["transform"][seed]["orders"])
        for seed in bar(config.seeds, "from scratch")
    ]
    result = {
        "machine": describe("torch", "numpy", "scikit-learn"),
        "settings": {"epochs": config.epochs, "order": config.order, "tolerance": config.tolerance},
        "uncompressed": [accuracy(run["model"], data) for run in trained],
        "after_training": after,
        "in_training": {
            name: [{k: v for k, v in run.items() if k != "model"} for run in found]
            for name, found in runs.items()
        },
    }
    write("compression", result)
    show(result)


def digits() -> tuple[torch.Tensor, ...]:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=450, stratify=labels, random_state=0)
    x, x_test, y, y_test = (torch.as_tensor(p) for p in parts)
    return x.float()[..., None], y, x_test.float()[..., None], y_test


def train(
    config: Config,
    data: tuple[torch.Tensor, ...],
    seed: int,
    moments: str | None = None,
    orders: list[int] | None = None,
) -> dict:
    """Two LRU layers, AdamW, warm-up over a tenth of the steps with reductions in it, cosine."""
    torch.manual_seed(seed)
    x, y, *_ = data
    model = make_model(config, orders)
    steps = config.epochs * math.ceil(len(y) / 50)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    warm = steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: (
            (k + 1) / warm
            if k < warm
            else 0.5 * (1 + math.cos(math.pi * (k - warm) / (steps - warm)))
        ),
    )
    reductions = [(i + 1) * warm // 4 for i in range(4)]
    compressor = moments and InTrainingCompressor(
        model, optimizer, tolerance=config.tolerance, steps=reductions, moments=moments
    )
    losses, jumps = [], []
    for _ in range(config.epochs):
        for batch in torch.randperm(len(y)).split(50):
            loss = cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if compressor and compressor.count + 1 in compressor.steps:
                before = evaluation_loss(model, x, y)
                if compressor.step():
                    jumps.append(evaluation_loss(model, x, y) - before)
            elif compressor:
                compressor.step()
    at = [event.step for event in compressor.events] if compressor else reductions
    return {
        "model": model,
        "accuracy": accuracy(model, data),
        "orders": [layer.order for layer in ssm_layers(model).values()],
        "steps": at,
        "loss_jumps": jumps,
        "loss_after": [float(np.mean(losses[k : k + 10])) for k in at],
    }


def make_model(config: Config, orders: list[int] | None) -> SequenceClassifier:
    model = SequenceClassifier(
        SequenceClassifierConfig(
            1, 10, features=32, order=config.order, depth=2, layer="lru", dropout=0.1, gate="glu"
        )
    )
    for name, order in zip(ssm_layers(model), orders or (), strict=bool(orders)):
        layer = model.get_submodule(name)
        parent = model.get_submodule(name.rpartition(".")[0])
        parent.ssm = type(layer)(layer.features, order)
    return model


@torch.no_grad()
def evaluation_loss(model: SequenceClassifier, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    loss = cross_entropy(model(x[:400]), y[:400]).item()
    model.train()
    return loss


@torch.no_grad()
def accuracy(model: SequenceClassifier, data: tuple[torch.Tensor, ...]) -> float:
    *_, x, y = data
    model.eval()
    return (model(x).argmax(-1) == y).double().mean().item()


def bar(seeds: int, label: str) -> tqdm:
    return tqdm(range(seeds), desc=label, unit="run")


def show(result: dict) -> None:
    print(f"as trained: {100 * np.mean(result['uncompressed']):.1f} %")
    print(f"{'after training':<18}" + "".join(f"{100 * r:>7.0f}%" for r in RATIOS))
    for method, found in result["after_training"].items():
        print(f"{method:<18}" + "".join(f"{100 * np.mean(v):>8.1f}" for v in found.values()))
    for name, runs in result["in_training"].items():
        numbers = [100 * run["accuracy"] for run in runs]
        print(
            f"{name:<18}{np.mean(numbers):>8.1f} ± {np.std(numbers):.1f}  orders "
            f"{[run['orders'] for run in runs]}"
        )
        for key in ("loss_jumps", "loss_after"):
            rows = [run[key] for run in runs if run[key]]
            if rows and len({len(row) for row in rows}) == 1:
                print(f"    {key}: {np.round(np.mean(rows, axis=0), 4).tolist()}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(tyro.cli(Config))
