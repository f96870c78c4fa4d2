"""Seconds of inference and of training steps; what is compared takes turns, so that another load
on the machine meets all of it alike, and the fastest turn of each counts. On a CPU one thread does
all of it: waking others takes as long as the work of a small model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from lticore.internal import (
    one_thread,
)
from lticore_torch import Regularizer, analyze, hankel_sum

from .config import RunConfig
from .data import Batch
from .loading import describe, load_data
from .methods import after_of
from .naive import naive_bytes, naive_hankel_sum
from .runs import write_json
from .train import load_trained
from .training import build_model, on_device, parameter_groups, predict

#: The naive solver is left out where its matrices would need more memory than this.
_NAIVE_LIMIT = 16e9


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_thread():  # of Numba
            yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def time_inference(folder: Path, config: RunConfig, ratios: Sequence[float]) -> None:
    """Seconds of the trained (ratio 0) and of truncated models for the same test batch."""
    after = after_of(folder)
    done = after.setdefault("inference", {})
    if all(f"{ratio:g}" in done for ratio in (0, *ratios)):
        return
    device = _device()
    trained = load_trained(folder, config).to(device)
    plan = analyze(trained)
    models = {0.0: trained} | {ratio: plan.compress(ratio=ratio)[0] for ratio in ratios}
    test = load_data(config.data).test
    batch = on_device(test.batch(torch.arange(min(256, len(test)))), device)

    actions = {f"{ratio:g}": partial(predict, model, batch) for ratio, model in models.items()}
    with torch.no_grad():
        done |= _fastest(actions, dict.fromkeys(actions, 20), device)
    write_json(folder / "after.json", after)


@_one_thread()
def time_training(folder: Path, config: RunConfig) -> None:
    """Seconds of an optimizer step of a new model without penalty, with the Hankel one ("blocked")
    and, where memory allows, with the one that :mod:`experiments.naive` computes."""
    after = after_of(folder)
    if "training" in after:
        return
    device = _device()
    data = load_data(config.data)
    model = build_model(config.model, describe(data)).to(device)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.optimizer))
    size = min(config.budget.batch_size, len(data.train))
    batch = on_device(data.train.batch(torch.arange(size)), device)
    weight = config.regularizer.weight or 1e-6
    penalties = {
        "none": Regularizer(0.0, hankel_sum),
        "blocked": Regularizer(weight, hankel_sum),
    }
    if naive_bytes(model) < _NAIVE_LIMIT:
        penalties["naive"] = Regularizer(weight, naive_hankel_sum)

    actions = {
        name: partial(_step, model, optimizer, batch, penalty)
        for name, penalty in penalties.items()
    }
    # The naive one can take a minute, where the others take fractions of a second.
    turns = {name: 2 if name == "naive" else 12 for name in actions}
    after["training"] = _fastest(actions, turns, device)
    write_json(folder / "after.json", after)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, penalty: Regularizer
) -> None:
    loss = functional.cross_entropy(predict(model, batch), batch.labels) + penalty(model)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _fastest(
    actions: Mapping[str, Callable[[], object]], turns: Mapping[str, int], device: torch.device
) -> dict[str, float]:
    """Seconds of the fastest of so many turns of each action."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(max(turns.values())):
        for name, action in actions.items():
            if turn < turns[name]:
                times[name].append(_seconds(action, device))
    return {name: min(seconds) for name, seconds in times.items()}


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
