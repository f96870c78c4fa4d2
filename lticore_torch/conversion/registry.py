"""Which classes of other packages can be converted, known by their qualified names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from lticore.errors import ArgumentError, LticoreError

from ..layers import StateSpaceLayer

#: What becomes of unstable poles.
Unstable: TypeAlias = Literal["refuse", "reflect"]
#: (foreign layer, what to do with unstable poles) → a module that takes its place.
Convert: TypeAlias = Callable[[Any, Unstable], nn.Module]
#: The module that takes the place → an input of both, or a tuple of inputs, to compare outputs on.
Example: TypeAlias = Callable[[Any], Tensor | tuple[Any, ...]]

#: Sequences and steps of the input that outputs are compared on.
SEQUENCES, STEPS = 2, 40


class ConversionError(LticoreError, ValueError):
    """A layer of another package that no layer of this one can stand for.

    The message says which, why, and which others could be converted: leave it as it is by
    ``exclude``, or say how it is converted by :func:`register_conversion`.
    """


@dataclass(frozen=True)
class Conversion:
    """How one class becomes a layer of lticore_torch."""

    convert: Convert
    example: Example


def register_conversion(
    kind: type[nn.Module] | str, convert: Convert, *, example: Example | None = None
) -> None:
    """Let :func:`convert` know one more class of layers.

    >>> class Smoother(torch.nn.Module):  # y_k = (y_{k−1} + u_k)/2
    ...     def forward(self, u):
    ...         return lt.linear_recurrence(torch.tensor([0.5]), u / 2)
    >>> def from_smoother(layer, unstable):
    ...     ours = lt.RotationSSM(1, 1)
    ...     ours.load_lti(lti.LTI([[0.5]], [[0.5]], [[1.0]]), unstable=unstable)
    ...     return ours
    >>> lt.register_conversion(Smoother, from_smoother)
    >>> converted, report = lt.convert(torch.nn.Sequential(Smoother()))
    >>> dict(report)
    {'0': 'RotationSSM'}

    examples/own_conversion.py has a whole one: the memory of a Legendre memory unit.

    A class that is registered again is converted as said last.

    Parameters
    ----------
    kind : a class, or its qualified name, of which the first parts may be left out: "s4d.S4D" means
        the class S4D of every module s4d, whose package need not be installed. Subclasses are not
        meant: they may compute something else.
    convert : (layer, unstable) → the module that takes its place. It copies what it keeps, leaves
        the layer alone, and raises :class:`ConversionError` for what it cannot convert;
        ``unstable`` is "refuse" or "reflect", as :meth:`SSMLayer.load_lti` takes it.
    example : (new module) → an input of both, or a tuple of inputs, on which their outputs are
        compared. Default: a random (2, 40, features) tensor.

    Raises
    ------
    ArgumentError
    """
    name: Any = qualified_name(kind) if isinstance(kind, type) else kind
    if not isinstance(name, str) or not all(x.isidentifier() for x in name.split(".")):
        raise ArgumentError(f"{kind!r} is neither a class nor the qualified name of one")
    _CONVERSIONS[name] = Conversion(convert, example or _features_last)


def conversion_of(module: nn.Module) -> Conversion | None:
    """Of the class of this module, before parametrisations; the longest name that fits counts.
    Layers of this library, some of which have the names of others, are what they are."""
    if isinstance(module, StateSpaceLayer):
        return None
    full = "." + qualified_name(type_before_parametrizations(module))
    fits = [name for name in _CONVERSIONS if full.endswith("." + name)]
    return _CONVERSIONS[max(fits, key=len)] if fits else None


def known_classes() -> str:
    return ", ".join(sorted(_CONVERSIONS))


def is_known_class(name: str) -> bool:
    """Whether a class of this name, in whatever module, can be converted."""
    return any(name == known.rpartition(".")[2] for known in _CONVERSIONS)


def qualified_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _features_last(converted: Any) -> Tensor:
    parameter = next(converted.parameters())
    shape = (SEQUENCES, STEPS, converted.features)
    return torch.randn(shape, dtype=parameter.dtype, device=parameter.device)


_CONVERSIONS: dict[str, Conversion] = {}
