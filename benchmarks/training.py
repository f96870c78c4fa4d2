"""A training step on the CPU, beside the same model in plain torch: ``make bench-training``.

The recurrence of plain torch is an FFT convolution or a log-step scan; all else is equal.
Contestants take turns in one process. Bars come from the peers' steps, measured on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from unittest import mock

import machine
import numba
import torch
import tyro
from recurrence import convolution, log_step_scan, odd_even_scan
from torch import Tensor
from torch.nn.functional import cross_entropy

from lticore_torch import (
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    half_glu,
    linear_recurrence,
    state_space_map,
)
from lticore_torch.layers.modal import ModalSSM

BATCH, LENGTH = 50, 784
#: The peers' models, 256 complex states being 512 real ones, and milliseconds of their steps
#: elsewhere.
MODELS = {
    "lru": SequenceClassifierConfig(1, 10, 8, 512, 1, "lru", norm="batch-plain", gate="glu"),
    "rotation": SequenceClassifierConfig(1, 10, 128, 128, 4, "rotation"),
}
PEERS = {"lru": [847], "rotation": [1964, 2111]}
#: Times faster than the peers.
BARS = {"lru": 5.0, "rotation": 3.0}


@dataclass(frozen=True)
class Options:
    rounds: int = 7
    """Steps of each contestant, in turn."""


def plain(recurrence: Callable[[Tensor, Tensor], Tensor]) -> AbstractContextManager:
    """Layers whose recurrence is one of plain torch, over numbers of the precision of the input."""

    def run(poles: Tensor, inputs: Tensor, **_: object) -> Tensor:
        if inputs.shape[-1] == 0:
            return inputs
        return recurrence(poles.to(inputs.dtype), inputs)

    def states(self: ModalSSM, u: Tensor) -> Tensor:
        x, B, C, D = self._at_work(u)
        poles, real = self._poles()
        drive, pairs = x @ B.mT, 2 * len(poles)
        blocks = drive[..., :pairs].unflatten(-1, (len(poles), 2)).contiguous()
        z = torch.view_as_real(run(poles, torch.view_as_complex(blocks))).flatten(-2)
        return torch.cat([z, run(real, drive[..., pairs:])], dim=-1) @ C.mT + x * D

    return mock.patch.object(ModalSSM, "forward", states)


CONTESTANTS: dict[str, Callable[[], AbstractContextManager]] = {
    "lticore": nullcontext,
    "log_step_scan": partial(plain, log_step_scan),
    "odd_even_scan": partial(plain, odd_even_scan),
    "fft_convolution": partial(plain, convolution),
}


def step_row(name: str, rounds: int) -> dict:
    config = MODELS[name]
    features, order, depth = config.features, config.order, config.depth
    torch.manual_seed(0)
    model = SequenceClassifier(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs, labels = torch.rand(BATCH, LENGTH, 1), torch.arange(BATCH) % 10

    def step(context: Callable[[], AbstractContextManager]) -> None:
        with context():
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    calls: dict[str, Callable[[], object]] = {k: partial(step, c) for k, c in CONTESTANTS.items()}
    calls["matmuls_alone"] = matmuls(features, order, depth)
    turns = machine.turns(calls, rounds)
    medians = {k: statistics.median(times) for k, times in turns.items()}
    peer = min(PEERS[name])
    return report(
        {
            "model": name,
            "features": features,
            "order": order,
            "depth": depth,
            **{f"{k}_milliseconds": round(1e3 * t, 1) for k, t in medians.items()},
            **{f"{k}_fastest_milliseconds": round(1e3 * min(t), 1) for k, t in turns.items()},
            **{
                f"times_faster_than_{k}": round(medians[k] / medians["lticore"], 2)
                for k in ("log_step_scan", "odd_even_scan", "fft_convolution")
            },
            "peer_milliseconds_elsewhere": PEERS[name],
            "times_faster_than_peer": round(peer / (1e3 * medians["lticore"]), 2),
            "bar": BARS[name],
        }
    )


def matmuls(features: int, order: int, depth: int) -> Callable[[], object]:
    """The products of one step: with B, C and the gate, each with two in the backward pass."""
    u = torch.rand(BATCH * LENGTH, features)
    x = torch.rand(BATCH * LENGTH, order)
    B, W = torch.rand(order, features), torch.rand(features, features)

    def run() -> None:
        for _ in range(depth):
            for _ in range(2):  # B and its like, C
                _ = u @ B.mT, x @ B, x.mT @ u
            _ = u @ W, u @ W.mT, u.mT @ u

    return run


def part_row(name: str, rounds: int) -> dict:
    """Parts of a block, forward and backward, as one operation and as several."""
    features, order = MODELS[name].features, MODELS[name].order
    torch.manual_seed(0)
    layer = RotationSSM(features, order)
    u = torch.rand(BATCH, LENGTH, features, requires_grad=True)
    gate = torch.nn.Linear(features, features)

    def fused_map() -> Tensor:
        return state_space_map(*layer._poles(), layer.B, layer.C, u)

    def map_in_parts() -> Tensor:
        poles, real = layer._poles()
        drive, pairs = u @ layer.B.mT, 2 * len(poles)
        z = torch.view_as_complex(drive[..., :pairs].unflatten(-1, (-1, 2)).contiguous())
        x = linear_recurrence(real, drive[..., pairs:])
        z = torch.view_as_real(linear_recurrence(poles, z)).flatten(-2)
        return torch.cat([z, x], dim=-1) @ layer.C.mT

    def gate_in_parts() -> Tensor:
        a = torch.nn.functional.gelu(u)
        return a * torch.sigmoid(gate(a))

    forms = {
        "fused_map": fused_map,
        "map_in_parts": map_in_parts,
        "half_glu": lambda: half_glu(u, gate.weight, gate.bias),
        "gate_in_parts": gate_in_parts,
    }
    g = torch.rand(BATCH, LENGTH, features)
    calls = {k: (lambda f=f: f().backward(g)) for k, f in forms.items()}
    times = machine.interleaved(calls, rounds)
    row = {f"{k}_milliseconds": round(1e3 * t, 2) for k, t in times.items()}
    return report({"parts_of": name, **row})


def report(row: dict) -> dict:
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def main(options: Options) -> None:
    result = {
        "machine": machine.describe("lticore", "numpy", "numba", "torch"),
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "steps": [step_row(name, options.rounds) for name in MODELS],
        "parts": [part_row(name, options.rounds) for name in MODELS],
    }
    print("written to", machine.write("training", result))


if __name__ == "__main__":
    main(tyro.cli(Options))
