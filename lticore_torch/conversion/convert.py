"""Layers of other packages become those of this one, inside the user's own module tree."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from lticore.errors import ArgumentError, LticoreError, PrecisionWarning
from lticore.internal import warn_precision

# Each registers its classes.
from ..layers import capture, kinds_inside, state_space_layers
from ..layers.parameters import calls_to_plain
from ..layers.wrapped import copied
from . import lru, mamba, rg_lru, s4d, s5  # noqa: F401
from .comparison import TOLERATED, difference
from .registry import (
    Conversion,
    ConversionError,
    Unstable,
    conversion_of,
    is_known_class,
    known_classes,
    qualified_name,
)
from .report import ConversionReport, ConvertedLayer


def convert(
    model: nn.Module,
    *,
    exclude: Collection[str] = (),
    unstable: Unstable = "refuse",
    check: bool = True,
) -> tuple[Any, ConversionReport]:
    """A copy of the model whose layers of other packages are layers of this one.

    >>> from LRU_pytorch import LRU
    >>> model = torch.nn.Sequential(LRU(4, 4, 8), torch.nn.Linear(4, 2))
    >>> converted, report = lt.convert(model)
    >>> dict(report), converted[0].order  # 8 complex states are 16 real ones
    ({'0': 'LRU'}, 16)
    >>> small, _ = lt.compress(converted, ratio=0.75)
    >>> small[0].order
    4

    Classes are known by their qualified names, and their packages are not imported: S5 of
    s5-pytorch, LRU of LRU-pytorch and of minimal-LRU's form, S4D of state-spaces
    (models/s4/s4d.py), the blocks of Mamba of mambapy and of Hugging Face transformers, with their
    caches, the RG-LRU of its RecurrentGemma, and what :func:`register_conversion` adds. Parameters
    are copied into those of the layer that computes the same, with what is trained of them,
    precision and device; all else of the model is as it was. A layer that is at several places of
    the model is one layer at all of them afterwards. The argument is left alone; an optimizer must
    be given the new parameters.

    What calls the new layers calls ``layer(u)``, ``layer(u, state=state, return_state=True)`` or
    ``layer.step(u, state)``; arguments of their packages' own, such as the step_scale of S5, are
    gone. What was compressed loads into a freshly converted model by ``load_state_dict``.

    Parameters
    ----------
    model : nn.Module
        A model around such layers, or one of them.
    exclude : names of modules to leave as they are
    unstable : "refuse" or "reflect"
        What becomes of unstable poles, see :meth:`SSMLayer.load_lti`. Reflected ones change the
        outputs: by how much, the report says.
    check : bool
        Compare the outputs of each layer and of its successor on a random input, in evaluation
        mode and their own precision, of half precision in float32.

    Returns
    -------
    (model, report); the report is {name: kind} of the converted layers.

    Raises
    ------
    ConversionError
        Where some of the layers cannot be converted, or answer otherwise afterwards (by more than
        √ε of float32): which, why, and which others could be.
    ArgumentError
        For a model without such layers, and for compiled, scripted and data-parallel modules: only
        what they were made of can be converted.
    """
    if unstable not in ("refuse", "reflect"):
        raise ArgumentError(f"unstable={unstable!r} is not 'refuse' or 'reflect'")
    _check_open(model)
    found = _foreign_layers(model, exclude)
    places = {layer: names for layer, names in found.items() if not set(names) & set(exclude)}
    converted: dict[nn.Module, nn.Module] = {}
    reports, failures = [], {}
    # Neither new layers nor inputs to compare on use up the user's random numbers.
    with torch.random.fork_rng(devices=[]):
        for layer, names in places.items():
            try:
                new, notes = _successor(layer, unstable)
                _check_replaceable(layer, new, model)
                reflected = unstable == "reflect" and bool(notes)
                change = _compared(layer, new, accepted=reflected) if check else None
            except (LticoreError, AttributeError) as error:
                failures[names[0]] = f"{qualified_name(type(layer))}: {error}"
                continue
            converted[layer] = new
            was = qualified_name(type(layer))
            reports.append(ConvertedLayer(names[0], was, _kind_of(new), change, notes))
    if failures:
        raise ConversionError(_explained(failures, [names[0] for names in places.values()]))
    for report in reports:
        for note in report.notes:
            warn_precision(f"layer '{report.name}': {note}")
    kinds_of = {layer: report.kind for layer, report in zip(places, reports, strict=True)}
    return _copied_with(model, converted), ConversionReport(
        tuple(reports),
        {name: kinds_of[layer] for layer, names in places.items() for name in names},
        {names[0]: qualified_name(type(x)) for x, names in found.items() if x not in places},
    )


def _copied_with(model: nn.Module, converted: dict[nn.Module, nn.Module]) -> Any:
    """A copy of the model in which all that refers to a layer, in whatever way, refers to a copy of
    its successor; modules that successors have kept, those of the model until now, are copied with
    it once."""
    memo: dict[int, Any] = {}
    for layer, new in converted.items():
        memo[id(layer)] = copied(new, memo)
    return copied(model, memo)


def _foreign_layers(model: nn.Module, exclude: Collection[str]) -> dict[nn.Module, list[str]]:
    """The layers that can be converted, of nested ones the outer, and all their names."""
    found: dict[nn.Module, list[str]] = {}

    def visit(module: nn.Module, name: str) -> None:
        if conversion_of(module) is not None:
            found.setdefault(module, []).append(name)
            return
        for key, child in module._modules.items():
            if child is not None:
                visit(child, f"{name}.{key}" if name else key)

    visit(model, "")
    names = {name for places in found.values() for name in places}
    unknown = set(exclude) - names
    if unknown:
        raise ArgumentError(
            f"exclude names {sorted(unknown)}, but the layers to convert are {sorted(names)}"
        )
    if not names - set(exclude):
        raise ArgumentError(
            f"{type(model).__name__} contains no layer to convert, only {kinds_inside(model)}; "
            f"known classes are {known_classes()}, and register_conversion adds others"
        )
    return found


def _check_open(model: Any) -> None:
    """Refuse what hides the modules that it was made of, where it hides layers to convert."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"a model is an nn.Module, but this is a {type(model).__name__}")
    for name, module in model.named_modules():
        inside = capture.unwrapped(module)
        if inside is not module and any(conversion_of(x) for x in inside.modules()):
            raise ArgumentError(
                f"'{name or 'the model'}', a {type(module).__name__}, runs a compiled or "
                "data-parallel copy of layers to convert: convert the module that was wrapped, and "
                "wrap the result"
            )
        if isinstance(module, torch.jit.ScriptModule) and is_known_class(module.original_name):
            raise ArgumentError(
                f"'{name or 'the model'}' is a scripted or traced {module.original_name}, which "
                "runs without its Python class: convert the module that it was made of"
            )


def _check_replaceable(layer: nn.Module, new: nn.Module, model: nn.Module) -> None:
    """Refuse layers with whose modules something is lost that others have put there."""
    inside = set(layer.modules()) - set(new.modules())
    for part in inside:
        for name, call in calls_to_plain(part).items():
            raise ConversionError(
                f"its {name} is made of other tensors, by a parametrisation or by pruning: call "
                f"{call} first, which keeps the values"
            )
        if any(vars(part)[hooks] for hooks in _HOOKS):
            raise ConversionError("it has hooks, which its successor would not call: remove them")
        if "forward" in vars(part):
            raise ConversionError(
                "its forward was replaced by a function, which its successor would not call: undo "
                "that first (accelerate.hooks.remove_hook_from_module, where Accelerate did it)"
            )
    kept = {id(x) for x in new.parameters()}
    owned = {id(x): name for name, x in layer.named_parameters() if id(x) not in kept}
    for name, module in model.named_modules():
        if module in inside:
            continue
        for key, parameter in module._parameters.items():
            if id(parameter) in owned:
                raise ConversionError(
                    f"its {owned[id(parameter)]} is also the {key} of '{name}': the two would no "
                    "longer be one, so give each its own"
                )


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _successor(layer: nn.Module, unstable: Unstable) -> tuple[nn.Module, tuple[str, ...]]:
    """(what takes the layer's place, what changed by it)."""
    conversion: Conversion = conversion_of(layer)  # type: ignore[assignment]
    if any(x.is_meta for x in layer.parameters()):
        raise ConversionError(
            "its parameters are on the meta device and have no values: load them before"
        )
    with warnings.catch_warnings(record=True) as caught, torch.enable_grad():
        warnings.simplefilter("always", PrecisionWarning)
        new = conversion.convert(layer, unstable)
    new.train(layer.training)
    notes = (x.message for x in caught if issubclass(x.category, PrecisionWarning))
    return new, tuple(map(str, notes))


def _compared(layer: nn.Module, new: nn.Module, *, accepted: bool) -> float:
    """The difference of their outputs; what is not ``accepted`` is refused beyond rounding."""
    conversion: Conversion = conversion_of(layer)  # type: ignore[assignment]
    torch.manual_seed(0)
    example = conversion.example(new)
    inputs = example if isinstance(example, tuple) else (example,)
    change = difference(layer, new, inputs)
    if not accepted and not change <= TOLERATED:
        raise ConversionError(
            f"its outputs and those of its successor differ by {change:.1e} of the largest on a "
            "random input: it computes something else than the layer that its name says, or its "
            "modes need float64"
        )
    return change


def _kind_of(new: nn.Module) -> str:
    kinds = {type(x).__name__ for x in state_space_layers(new).values()}
    return ", ".join(sorted(kinds)) or type(new).__name__


def _explained(failures: dict[str, str], names: list[str]) -> str:
    lines = [f"'{name or 'the model'}', {why}" for name, why in failures.items()]
    others = [name for name in names if name not in failures]
    head = f"{len(failures)} of {len(names)} layers cannot be converted:"
    rest = f"exclude={list(failures)} leaves them as they are and converts {', '.join(others)}"
    return "\n  ".join([head, *lines]) + (f"\n{rest}" if others else "")
