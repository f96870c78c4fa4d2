"""What the training loop is made of: model, parameter groups, learning rates, penalties."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError
from lticore_torch import (
    InTrainingCompressor,
    Regularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
    hankel_mean,
    hankel_sum,
    magnitude_sum,
    modal_mean,
    ssm_layers,
)

from .config import (
    BudgetConfig,
    ModelConfig,
    OptimizerConfig,
    ReductionConfig,
    RegularizerConfig,
    ScheduleConfig,
)
from .data import Batch, Split

_PENALTIES = {
    "none": hankel_sum,
    "hankel": hankel_sum,
    "hankel-mean": hankel_mean,
    "modal": modal_mean,
    "l1": magnitude_sum,
}


def build_model(config: ModelConfig, data: dict[str, Any]) -> SequenceClassifier:
    """The classifier for data as :func:`experiments.loading.describe` tells of them."""
    shape = dataclasses.asdict(config)
    linear_init = shape.pop("linear_init")
    model = SequenceClassifier(
        SequenceClassifierConfig(
            inputs=data["channels"] or 1,
            classes=data["classes"],
            vocabulary=data["vocabulary"],
            documents=data.get("documents", 1),  # older runs have no pairs and do not say so
            **shape,
        )
    )
    if linear_init == "lecun":
        for linear in (module for module in model.modules() if isinstance(module, nn.Linear)):
            _lecun_normal(linear)
    return model


#: Standard deviation of the standard normal distribution cut off at ±2.
_TRUNCATED_STD = 0.87962566103423978


def _lecun_normal(linear: nn.Linear) -> None:
    """Weights of variance 1/inputs, normal but for tails beyond two deviations; no bias."""
    std = 1 / math.sqrt(linear.in_features) / _TRUNCATED_STD
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def total_steps(budget: BudgetConfig, examples: int) -> int:
    """Optimizer steps of a run."""
    if budget.steps is not None:
        return budget.steps
    assert budget.epochs is not None
    return budget.epochs * steps_per_epoch(budget, examples)


def steps_per_epoch(budget: BudgetConfig, examples: int) -> int:
    """Batches of one pass; the last may be smaller."""
    return math.ceil(examples / budget.batch_size)


def epoch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """The examples in the order of an epoch: one generator, drawn from once per epoch."""
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epoch):
        torch.randperm(examples, generator=shuffle)
    return torch.randperm(examples, generator=shuffle)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Weight decay for everything but the linear systems, which have a learning rate of their own.

    Decaying A, B, C would pull the poles towards the middle of their range, and would be a second,
    coordinate-dependent regulariser beside the Hankel one. Where the poles have a rate of their
    own, they are a third group.

    Raises
    ------
    ArgumentError
        For a rate of the poles of layers that have none per pair.
    """
    system: set[int] = set()
    poles: set[int] = set()
    for layer in ssm_layers(model).values():
        of_pairs = getattr(layer, "PAIR_PARAMETERS", {})
        for name, p in layer.named_parameters():
            if name != "D" and not (config.system == "AB" and name.startswith("C")):
                is_pole = config.pole_rate != 1 and of_pairs.get(name) is not None
                (poles if is_pole else system).add(id(p))

    if config.pole_rate != 1 and not poles:
        raise ArgumentError(
            f"pole_rate={config.pole_rate:g} needs layers with a parameter for each pole pair: "
            "rotation, lru, s5 or quadratic"
        )

    def members(ids: set[int]) -> list[Tensor]:
        return [p for p in model.parameters() if id(p) in ids]

    decayed = {id(p) for p in model.parameters()} - system - poles
    rate, system_rate = config.learning_rate, config.learning_rate * config.system_rate
    groups = [
        {"params": members(decayed), "weight_decay": config.weight_decay, "lr": rate},
        {"params": members(system), "weight_decay": 0.0, "lr": system_rate},
    ]
    if poles:
        pole_rate = system_rate * config.pole_rate
        groups.append({"params": members(poles), "weight_decay": 0.0, "lr": pole_rate})
    return groups


def rate_factor(config: ScheduleConfig, step: int, total: int) -> float:
    """Learning rate as a multiple of the peak, after ``step`` of ``total`` steps."""
    share = step / total
    warmup = config.warmup
    if config.warmup_steps is not None:
        warmup = min(config.warmup_steps / total, 1.0)
    if share < warmup:
        return config.first + (1 - config.first) * share / warmup
    if config.shape == "constant" or warmup == 1:
        return 1.0
    falling = 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
    return config.last + (1 - config.last) * falling


def build_regularizer(config: RegularizerConfig, model: nn.Module) -> Regularizer:
    """The penalty, with its weight.

    Raises
    ------
    ArgumentError
        For a model that has no layer to penalise.
    """
    if config.weight and not ssm_layers(model):
        raise ArgumentError(
            f"the penalty {config.kind!r} acts on time-invariant layers, and the model has none: "
            "choose another layer, or no penalty"
        )
    return Regularizer(config.weight, _PENALTIES[config.kind], every=config.every)


def build_compressor(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: ReductionConfig,
    validate: Callable[[], float],
) -> InTrainingCompressor | None:
    """The in-training compressor of ``config``, or None."""
    if config.mode == "none":
        return None
    rollback = config.mode == "rollback"
    return InTrainingCompressor(
        model,
        optimizer,
        steps=config.steps,
        tolerance=config.amount if config.mode == "tolerance" else None,
        fraction=None if config.mode == "tolerance" else config.amount,
        selection=config.selection,
        criterion=config.criterion,
        moments=config.moments,
        validate=validate if rollback else None,
        max_drop=config.max_drop,
    )


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """Logits; lengths are given to the model where sequences are padded."""
    if batch.lengths is None:
        return model(batch.inputs)
    return model(batch.inputs, batch.lengths)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch, copied to ``device`` (from pinned memory where that is CUDA)."""
    if device.type == "cpu":
        return batch
    inputs, labels = (
        x.pin_memory().to(device, non_blocking=True) for x in (batch.inputs, batch.labels)
    )
    lengths = batch.lengths
    return Batch(inputs, labels, None if lengths is None else lengths.to(device))


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, batch_size: int = 256) -> tuple[float, float]:
    """(cross-entropy, accuracy in 0–1) in evaluation mode; the model's mode is restored.

    Sequences are taken in the order of their lengths, so that little is padded.

    Raises
    ------
    ArgumentError
        For an empty split.
    """
    if not len(split):
        raise ArgumentError("there is nothing to evaluate on: the split is empty")
    device = next(model.parameters()).device
    mode = model.training
    model.eval()
    loss, right = 0.0, 0
    lengths = split.lengths.reshape(len(split), -1).amax(1)
    for indices in lengths.argsort(stable=True).split(batch_size):
        batch = on_device(split.batch(indices), device)
        logits = predict(model, batch).float()
        loss += float(functional.cross_entropy(logits, batch.labels, reduction="sum"))
        right += int((logits.argmax(-1) == batch.labels).sum())
    model.train(mode)
    return loss / len(split), right / len(split)
