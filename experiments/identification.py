"""System identification: a layer of 64 states learns a system of 8.

Expected: without the regulariser all 64 Hankel singular values stay of one order of magnitude; with
it those beyond the eighth fall below a hundredth of the first, at the same fit.
Command: python -m experiments identify
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

import lticore
from lticore_torch import HankelRegularizer, RotationSSM
from lticore_torch.files import write_atomically

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class IdentificationConfig:
    """Fit input–output data of a known system with a layer that is too large."""

    output: Path = Path("runs/identification")
    """Folder for summary.json and hankel.png."""
    true_order: int = 8
    """Of the system that the data come from; even."""
    order: int = 64
    """Of the layer."""
    length: int = 200
    """Steps of each sequence."""
    batch_size: int = 16
    """Fresh sequences of white noise per step."""
    steps: int = 1000
    """Optimizer steps."""
    learning_rate: float = 1e-2
    """Peak of Adam; it falls like a cosine."""
    weight: float = 1e-2
    """Of the Hankel regulariser."""
    seed: int = 0


def true_system(order: int, seed: int) -> lticore.LTI:
    """Single input and output, well separated poles, Hankel singular values of one magnitude."""
    random = np.random.default_rng(seed)
    pairs = order // 2
    radius = random.uniform(0.75, 0.95, pairs)
    angle = np.pi * (np.arange(pairs) + 0.5) / pairs
    B, C = random.normal(size=(order, 1)), random.normal(size=(1, order))
    sys = lticore.LTI(lticore.Rotation(radius, angle), B, C)
    scale = lticore.h2_norm(sys)
    return lticore.LTI(sys.A, B / scale, C)


def identify(config: IdentificationConfig) -> dict[str, Any]:
    """Fit without and with the regulariser; write summary and picture; return the summary."""
    target = true_system(config.true_order, config.seed)
    true_values = np.asarray(lticore.hankel_singular_values(target))
    fits = {"none": _fit(target, 0.0, config), "hankel": _fit(target, config.weight, config)}
    summary = {
        "true": true_values.tolist(),
        "fits": fits,
        "true_order": config.true_order,
        "numerical_order": {
            name: int((np.array(fit["values"]) > 1e-2 * fit["values"][0]).sum())
            for name, fit in fits.items()
        },
    }
    config.output.mkdir(parents=True, exist_ok=True)
    write_atomically(config.output / "summary.json", json.dumps(summary, indent=1) + "\n")
    _plot(summary, config.output / "hankel.png")
    for name, fit in fits.items():
        print(
            f"{name:<7} relative error {fit['error']:.1e}, Hankel singular values above 1 % of the "
            f"first: {summary['numerical_order'][name]} of {config.order} "
            f"(true order {config.true_order})"
        )
    print(f"Written to {config.output}: summary.json and hankel.png")
    return summary


def _fit(target: lticore.LTI, weight: float, config: IdentificationConfig) -> dict[str, Any]:
    """Hankel singular values and relative h2 error of the fitted layer."""
    torch.manual_seed(config.seed)
    layer = RotationSSM(1, config.order)
    regularizer = HankelRegularizer(weight)
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    random = np.random.default_rng(config.seed)
    for _ in tqdm(range(config.steps), desc=f"weight {weight:g}", unit="step", mininterval=0.5):
        inputs = random.normal(size=(config.batch_size, config.length, 1))
        outputs = lticore.simulate(target, inputs, timing="current")
        u, y = (torch.tensor(x, dtype=torch.float32) for x in (inputs, outputs))
        loss = functional.mse_loss(layer(u), y) + regularizer(layer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    fitted = layer.to_lti()
    # D counts: the data have none.
    D = np.zeros((1, 1))
    known = lticore.LTI(target.A, target.B, target.C, D)
    error = float(lticore.h2_error(known, fitted) / lticore.h2_norm(known))
    return {
        "values": np.asarray(lticore.hankel_singular_values(fitted)).tolist(),
        "error": error,
        "weight": weight,
    }


def _plot(summary: dict[str, Any], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    labels = {"none": "no regularisation", "hankel": "Hankel regularisation"}
    for (name, fit), colour in zip(summary["fits"].items(), ("#D55E00", "#0072B2"), strict=True):
        values = np.maximum(np.array(fit["values"]), 1e-12)
        axis.semilogy(np.arange(1, len(values) + 1), values, color=colour, label=labels[name])
    true_values = np.array(summary["true"])
    axis.semilogy(np.arange(1, len(true_values) + 1), true_values, "k.", label="true system")
    axis.set(xlabel="state i", ylabel="Hankel singular value σᵢ")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
