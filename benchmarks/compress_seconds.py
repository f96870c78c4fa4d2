"""How long it takes to compress a model, and SLICOT for its layers alone: ``make bench-compress``.

Six rotation layers of 256 states and width 192, and four S4D layers of 128 channels with 64 states
each, as they are initialised, to half of their states. SLICOT's AB09AD is given the same layers one
by one, channel by channel, as dense matrices, and the orders that compress chose. Processor time of
one thread, of the fastest turn where there are turns.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import machine
import numpy as np
import slycot
import torch
import tyro
from torch import nn

import lticore_torch as lt

#: Longest that each method should take, in seconds.
BARS = {
    "rotation": {"balanced": 1.5, "data": 10.0, "h2": 20.0},
    "S4D": {"balanced": 3.0, "h2": 60.0},
}
#: Sequences and steps of the data.
SEQUENCES, STEPS, AT_ONCE = 256, 1024, 32


@dataclass(frozen=True)
class Options:
    """Time compress beside SLICOT."""

    rounds: int = 3
    """Turns of each contestant; of other methods than "balanced" the first call counts."""
    models: tuple[str, ...] = tuple(BARS)
    """Only these."""
    methods: tuple[str, ...] = ("balanced", "data", "h2")
    """Only these; "h2" takes minutes."""


def model(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    if name == "rotation":
        return nn.Sequential(*(lt.RotationSSM(192, 256) for _ in range(6)))
    return nn.Sequential(*(lt.S4D(128, 64) for _ in range(4)))


def batches(layers: nn.Sequential) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = AT_ONCE, STEPS, layers[0].features
    return [torch.randn(shape, generator=generator) for _ in range(SEQUENCES // AT_ONCE)]


def by_slicot(layers: nn.Sequential, orders: tuple[int, ...]) -> Callable[[], None]:
    calls = []
    for layer, order in zip(layers, orders, strict=True):
        sys = layer.to_lti().to_dense()
        for one in list(sys) if sys.batch_shape else [sys]:
            A, B, C = (np.asfortranarray(np.asarray(X, dtype=float)) for X in (one.A, one.B, one.C))
            calls.append(((one.order, one.inputs, one.outputs, A, B, C), order))

    def run() -> None:
        for arguments, order in calls:
            slycot.ab09ad("D", "B", "N", *arguments, nr=order)

    return run


def rows(name: str, options: Options) -> list[dict[str, Any]]:
    layers = model(name)
    found = []
    for method, bar in BARS[name].items():
        if method not in options.methods:
            continue
        compress = partial(lt.compress, layers, ratio=0.5, method=method)
        if method == "data":
            compress = partial(compress, calibration=batches(layers))
        start = time.process_time()
        orders = compress()[1].orders
        seconds = {"lticore": time.process_time() - start}
        if method == "balanced":
            calls = {"lticore": compress, "SLICOT": by_slicot(layers, orders)}
            turns = machine.turns(calls, options.rounds, time.process_time)
            seconds = {who: min(x) for who, x in turns.items()}
        row = {
            "model": name,
            "method": method,
            "orders": orders,
            "seconds": {who: round(x, 3) for who, x in seconds.items()},
            "bar": bar,
            "bar_met": seconds["lticore"] <= bar,
        }
        if "SLICOT" in seconds:
            row["times_lticore"] = round(seconds["SLICOT"] / seconds["lticore"], 2)
        found.append(row)
        print(row, flush=True)
    return found


def run(options: Options) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "machine": machine.describe("lticore", "torch", "numpy", "slycot"),
        "ratio": 0.5,
        "data": [SEQUENCES, STEPS],
        "rows": [row for name in options.models for row in rows(name, options)],
    }


if __name__ == "__main__":
    # Of initialised layers much can be said, which is not the point here.
    warnings.simplefilter("ignore")
    print("written to", machine.write("compress_seconds", run(tyro.cli(Options))))
