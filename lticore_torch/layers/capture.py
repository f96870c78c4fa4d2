"""What goes into the modules of a model while it runs on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError

from .batches import Batch


@dataclass
class Seen:
    """Inputs and outputs of one module, one entry per call; ``options`` are keyword arguments."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)


@torch.no_grad()
def run(
    model: nn.Module, batch: Batch, watched: Iterable[nn.Module] = ()
) -> tuple[Any, dict[nn.Module, Seen]]:
    """Output of the model in evaluation mode, and what the watched modules saw, in the order of
    their first calls.

    The model's mode is restored.

    Raises
    ------
    ArgumentError
        When a watched module was not called.
    """
    watched = list(watched)
    seen: dict[nn.Module, Seen] = {}

    def record(module: nn.Module, u: Tensor, y: Tensor, options: dict[str, Any]) -> None:
        one = seen.setdefault(module, Seen())
        one.inputs.append(u.detach())
        one.outputs.append(y.detach())
        one.options.append(options)

    with evaluating(model), watching(watched, record):
        output = model(*batch.inputs, **batch.keywords)
    check_called(watched, seen)
    return output, seen


def check_called(watched: Iterable[nn.Module], seen: Iterable[nn.Module]) -> None:
    """Refuse modules that a run did not reach."""
    found = set(seen)
    for module in watched:
        if module not in found:
            raise ArgumentError(
                f"{type(module).__name__} was not called when the model ran on the given data, or "
                "not as a module: an exported or traced model runs without its modules, so give "
                "the one it was made of"
            )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; the modes of all modules come back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient, which would be most of a backward pass."""
    wanting = [x for x in model.parameters() if x.requires_grad]
    for parameter in wanting:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad = True


@contextmanager
def watching(
    modules: Iterable[nn.Module],
    look: Callable[[nn.Module, Tensor, Tensor, dict[str, Any]], Tensor | None],
) -> Iterator[None]:
    """``look``\\ (module, input, output, keyword arguments) at every call of the modules; a tensor
    that it returns takes the place of the output, beside whatever state comes with it.

    What is compiled runs as written meanwhile: compiled code knows nothing of hooks.
    """

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        changed = look(module, args[0], without_state(output), kwargs)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()


def unwrapped(model: Any) -> Any:
    """The model inside what torch.compile and data-parallel training wrap around it."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inside := getattr(model, "_orig_mod", None), nn.Module):
            model = inside
        else:
            return model


def without_state(output: Any) -> Tensor:
    """What a layer answers, beside whatever state comes with it."""
    return output[0] if isinstance(output, tuple) else output


def tensor_of(output: Any) -> Tensor:
    """The tensor among what a model returns: itself, its ``logits``, or the first of several.

    Raises
    ------
    ArgumentError
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(found := getattr(output, "logits", None), Tensor):
        return found
    parts = output.values() if isinstance(output, dict) else output
    if isinstance(parts, Iterable):
        for part in parts:
            if isinstance(part, Tensor):
                return part
    raise ArgumentError(
        f"the model returns a {type(output).__name__} without a tensor: give it a forward whose "
        "output is a tensor, has logits, or holds one first"
    )
