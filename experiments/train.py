"""Training of sequence classifiers: one loop, from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError
from lticore_torch import HankelRegularizer, ssm_layers

from .data import Split


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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ArgumentError(f"warmup must lie in [0, 1), but is {self.warmup}")


#: Called after every step with the numbers to show.
Progress = Callable[[dict[str, float]], None]


def train(
    model: nn.Module,
    data: Split,
    regularizer: HankelRegularizer,
    config: TrainConfig,
    seed: int,
    progress: Progress,
) -> None:
    """Train ``model`` in place; the same seed gives the same result on the same machine.

    Raises
    ------
    FloatingPointError
        When the loss is no longer finite.
    """
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.learning_rate
    )
    total = steps(data, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _warmup_cosine(step / total, config.warmup)
    )

    model.train()
    for epoch in range(config.epochs):
        order = torch.randperm(len(data), generator=shuffle)
        for batch in order.split(config.batch_size):
            inputs, labels, _ = data.batch(batch)
            logits = model(inputs)
            loss = functional.cross_entropy(logits, labels)
            penalty = regularizer(model)
            if not torch.isfinite(loss + penalty):
                raise FloatingPointError(
                    f"the loss became {loss.item()} + {penalty.item()} (Hankel penalty) in epoch "
                    f"{epoch + 1}: lower the learning rate or the weight"
                )
            optimizer.zero_grad()
            (loss + penalty).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            progress(
                {
                    "epoch": epoch + 1,
                    "loss": loss.item(),
                    "accuracy": (logits.argmax(-1) == labels).float().mean().item(),
                    "penalty": penalty.item(),
                }
            )
    model.eval()


def steps(data: Split, config: TrainConfig) -> int:
    """Number of optimizer steps of a run."""
    return config.epochs * math.ceil(len(data) / config.batch_size)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for everything but A, B, C of the state-space layers.

    Decaying them would pull the poles towards the middle of their range, and would be a second,
    coordinate-dependent regulariser beside the Hankel one.
    """
    system = {id(p) for layer in ssm_layers(model).values() for p in layer.system_parameters()}
    decayed: list[Tensor] = [p for p in model.parameters() if id(p) not in system]
    free: list[Tensor] = [p for p in model.parameters() if id(p) in system]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


@torch.no_grad()
def accuracy(model: nn.Module, data: Split, batch_size: int = 512) -> float:
    """Share of right answers in evaluation mode; the model's mode is restored."""
    mode = model.training
    model.eval()
    right = 0
    for indices in torch.arange(len(data)).split(batch_size):
        inputs, labels, _ = data.batch(indices)
        right += int((model(inputs).argmax(-1) == labels).sum())
    model.train(mode)
    return right / len(data)


def _warmup_cosine(share: float, warmup: float) -> float:
    if share < warmup:
        return (share + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
