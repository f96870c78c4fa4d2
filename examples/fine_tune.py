"""Fine-tune a trained checkpoint with a Hankel penalty, so that more of its states can go.

python examples/fine_tune.py rotation        # about a minute on one core
"""

from __future__ import annotations

import copy
import math
import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lticore_torch import (
    HankelRegularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
    analyze,
    hankel_sum,
    parameter_groups,
)

CLASSES = 10
RATIOS = (0.5, 0.75, 0.85, 0.9)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of 8 × 8 pixels as sequences of 64: (inputs, labels) to train on, and others."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    inputs = torch.tensor(data.data, dtype=torch.float32)[order, :, None] / 16
    labels = torch.tensor(data.target)[order]
    return inputs[:1400], labels[:1400], inputs[1400:], labels[1400:]


def train(model: nn.Module, inputs: Tensor, labels: Tensor, epochs: int, weight: float) -> None:
    """With weight · Σσ added to the loss."""
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=4e-3, weight_decay=0.01))
    penalty, batch = HankelRegularizer(weight), 50
    steps = epochs * (len(labels) // batch)
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=generator)
        loss = cross_entropy(model(inputs[chosen]), labels[chosen]) + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    return (model.eval()(inputs).argmax(-1) == labels).float().mean().item()


def accuracies(model: nn.Module, inputs: Tensor, labels: Tensor) -> list[float]:
    """Whole, and with more and more of the states removed."""
    plan = analyze(model.eval())
    models = [model, *(plan.compress(ratio=ratio)[0] for ratio in RATIOS)]
    return [accuracy(x, inputs, labels) for x in models]


def main(kind: str) -> None:
    inputs, labels, *others = digits()
    torch.manual_seed(0)
    config = SequenceClassifierConfig(1, CLASSES, 16, 32, 2, layer=kind, norm="layer")
    model = SequenceClassifier(config)
    train(model, inputs, labels, epochs=30, weight=0.0)

    # The penalty begins as large as the loss of guessing, times c.
    unit = math.log(CLASSES) / hankel_sum(model).item()
    print(f"{kind:<22}      Σσ   whole" + "".join(f"{ratio:>7.0%}" for ratio in RATIOS))
    for c in (None, 0.0, 1.0, 3.0):
        tuned = copy.deepcopy(model)
        if c is not None:
            train(tuned, inputs, labels, epochs=20, weight=c * unit)
        name = "as trained" if c is None else f"fine-tuned, c = {c:g}"
        row = "".join(f"{100 * x:7.1f}" for x in accuracies(tuned, *others))
        print(f"{name:<22}{hankel_sum(tuned).item():8.1f} {row}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rotation")
