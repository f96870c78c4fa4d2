"""Microseconds of one time step, batch 1, in one thread: Stream beside layer.step.

Aims: 25 µs for one layer of 64 features and 64 states, 120 µs for the digits classifier of two
layers. Command: make bench-streaming
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from machine import describe, interleaved, write

from lticore_torch import (
    LRU,
    S4D,
    S5,
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    Stream,
    compress,
)

KINDS = {"rotation": RotationSSM, "lru": LRU, "s5": S5, "s4d": S4D}
ROUNDS = 9


def contestants() -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    runs: dict[str, Callable[[], object]] = {}
    u = torch.randn(1, 64)
    for name, make in KINDS.items():
        layer = make(64, 64)
        stream, state = Stream(layer), layer.step(u)[1]
        runs[f"{name}: Stream"] = lambda stream=stream: stream.step(u)
        runs[f"{name}: layer.step"] = lambda layer=layer, state=state: layer.step(u, state)
    small = Stream(compress(RotationSSM(64, 64), orders=[8])[0])
    runs["rotation of 8 states: Stream"] = lambda: small.step(u)
    wide, v = RotationSSM(256, 1024), torch.randn(1, 256)
    cut = Stream(compress(wide, orders=[128])[0])
    whole = Stream(wide)
    runs["256 features, 1024 states: Stream"] = lambda: whole.step(v)
    runs["of it 128 states: Stream"] = lambda: cut.step(v)
    config = SequenceClassifierConfig(inputs=1, classes=10, features=32, order=64, depth=2)
    classifier, pixel = Stream(SequenceClassifier(config)), torch.randn(1, 1)
    runs["digits classifier: Stream"] = lambda: classifier.step(pixel)
    return runs


def main() -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        found = interleaved(contestants(), ROUNDS)
    for name, seconds in found.items():
        print(f"{name:<34} {1e6 * seconds:8.1f} µs")
    write(
        "streaming",
        {
            "machine": describe("torch", "numpy", "numba"),
            "microseconds": {name: 1e6 * x for name, x in found.items()},
        },
    )


if __name__ == "__main__":
    main()
