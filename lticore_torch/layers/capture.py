"""What goes into the modules of a model while it runs on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError


@dataclass
class Seen:
    """Inputs and outputs of one module, one entry per call; ``options`` are keyword arguments."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)


@torch.no_grad()
def run(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], watched: Iterable[nn.Module] = ()
) -> tuple[Tensor, dict[nn.Module, Seen]]:
    """Output of the model in evaluation mode, and what the watched modules saw.

    The model's mode is restored. ``inputs`` are its positional arguments.

    Raises
    ------
    ArgumentError
        When a watched module was not called, or ``inputs`` is neither tensor nor tuple.
    """
    if not isinstance(inputs, Tensor | tuple):
        raise ArgumentError(
            f"the data to run the model on is a {type(inputs).__name__}: give one batch, a tensor "
            "or the tuple of the model's positional arguments; torch.cat makes one of several"
        )
    seen = {module: Seen() for module in watched}
    modes = {module: module.training for module in model.modules()}
    handles = [m.register_forward_hook(_recorder(seen[m]), with_kwargs=True) for m in seen]
    model.eval()
    try:
        output = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    for module, record in seen.items():
        if not record.inputs:
            raise ArgumentError(
                f"{type(module).__name__} was not called when the model ran on the given data"
            )
    return output, seen


def _recorder(record: Seen) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        record.inputs.append(args[0].detach())
        y = output[0] if isinstance(output, tuple) else output  # beside the state
        record.outputs.append(y.detach())
        record.options.append(kwargs)

    return hook
