"""Seconds of inference and of training steps; what is compared takes turns, so that another load
on the machine meets all of it alike, and the fastest turn of each counts. On a CPU one thread does
all of it: waking others takes as long as the work of a small model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numba
import torch
from torch import nn
from torch.nn import functional

from lticore_torch import Regularizer, compress, hankel_sum

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
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        numba.set_num_threads(threads[1])


@_one_thread()
def time_inference(folder: Path, config: RunConfig, ratios: Sequence[float]) -> None:
    """Seconds of the trained (ratio 0) and of truncated models for the same test batch."""
    after = after_of(folder)
    done = after.setdefault("inference", {})
    if all(f"{ratio:g}" in done for ratio in (0, *ratios)):
        return
    device = _device()
    trained = load_trained(folder, config).to(device)
    models = {0.0: trained} | {ratio: compress(trained, ratio=ratio)[0] for ratio in ratios}
    test = load_data(config.data).test
    batch = on_device(test.batch(torch.arange(min(256, len(test)))), device)

    times: dict[float, list[float]] = {ratio: [] for ratio in models}
    with torch.no_grad():
        for _ in range(20):
            for ratio, model in models.items():
                times[ratio].append(_seconds(partial(predict, model, batch), device))
    for ratio, seconds in times.items():
        done[f"{ratio:g}"] = min(seconds)
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

    times: dict[str, list[float]] = {name: [] for name in penalties}
    for turn in range(12):
        for name, penalty in penalties.items():
            if name == "naive" and turn >= 2:
                continue  # it can take a minute, where the others take fractions of a second
            step = partial(_step, model, optimizer, batch, penalty)
            times[name].append(_seconds(step, device))
    after["training"] = {name: min(seconds) for name, seconds in times.items()}
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


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
