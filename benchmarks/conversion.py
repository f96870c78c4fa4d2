"""Layers of other packages beside what `convert` makes of them, forward and backward, one thread.

make bench-conversion. Both are called in turns in one process, on inputs of the same shape; the
ratios of medians are what counts. S4D is no package: its formulas are those of tests/foreign.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import machine
import torch
import tyro
from torch import Tensor, nn

from lticore_torch import convert

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

#: Channels, states, and (sequences, steps) of the inputs.
WIDTH, STATES, FORM = 64, 64, (16, 1024)
#: Of packages that take one step after another in Python.
SHORT = (4, 256)


@dataclass(frozen=True)
class Options:
    rounds: int = 5
    """Turns of each contestant."""


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """name → (layer, shape of its input)"""
    from foreign.s4d import S4D
    from LRU_pytorch import LRU
    from mambapy.mamba import MambaBlock, MambaConfig
    from s5 import S5
    from transformers import MambaConfig as TransformersConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    wide, short = (*FORM, WIDTH), (*SHORT, WIDTH)
    mamba = TransformersConfig(hidden_size=WIDTH, state_size=16)
    return {
        "LRU-pytorch": (LRU(WIDTH, WIDTH, STATES // 2), short),
        "s5-pytorch": (S5(WIDTH, STATES // 2), wide),
        "s5-pytorch, both ways": (S5(WIDTH, STATES // 2, bidir=True), wide),
        "S4D of state-spaces": (S4D(WIDTH, STATES), (FORM[0], WIDTH, FORM[1])),
        "mambapy": (MambaBlock(MambaConfig(d_model=WIDTH, n_layers=1)), short),
        "transformers Mamba": (MambaMixer(mamba, layer_idx=0), short),
    }


def step_of(layer: nn.Module, u: Tensor) -> Callable[[], object]:
    """Forward and backward through outputs and parameters."""
    u = u.clone().requires_grad_()
    parameters = [p for p in layer.parameters() if p.requires_grad and p.numel()]

    def run() -> object:
        y = layer(u)
        y = y[0] if isinstance(y, tuple) else y
        return torch.autograd.grad(y.sum(), [u, *parameters])

    return run


def main(options: Options) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {}
    for name, (layer, shape) in layers().items():
        converted, report = convert(layer)
        u = torch.randn(shape)
        runs = {"original": step_of(layer, u), "converted": step_of(converted, u)}
        seconds = machine.interleaved(runs, options.rounds)
        ratio = seconds["original"] / seconds["converted"]
        difference = report.layers[0].difference
        result[name] = {"shape": shape, **seconds, "ratio": ratio, "difference": difference}
        print(
            f"{name:<24}{shape!s:<18}{1e3 * seconds['original']:9.1f} ms"
            f"{1e3 * seconds['converted']:9.1f} ms{ratio:8.1f} ×   differ by {difference:.0e}"
        )
    packages = ("torch", "LRU-pytorch", "s5-pytorch", "mambapy", "transformers")
    machine.write("conversion", {"machine": machine.describe(*packages), "layers": result})


if __name__ == "__main__":
    main(tyro.cli(Options))
