"""Parameters of other packages as those of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .registry import ConversionError

Module = TypeVar("Module", bound=nn.Module)


def with_parameters(layer: Module, values: Mapping[str, Tensor]) -> Module:
    """The layer with copies of these values as its parameters, on their device and in their
    precision; trained where what they were made of is trained."""
    like = next(iter(values.values()))
    layer.to(device=like.device, dtype=like.dtype)
    for name, value in values.items():
        # A new tensor even of a contiguous view: the foreign layer keeps its own.
        copied = value.detach().to(like.dtype).clone(memory_format=torch.contiguous_format)
        setattr(layer, name, nn.Parameter(copied, requires_grad=value.requires_grad))
    return layer


def needed(module: Any, names: tuple[str, ...]) -> list[Tensor]:
    """Tensors of a foreign layer by name.

    Raises
    ------
    ConversionError
        For a class of the right name with other parameters.
    """
    missing = [name for name in names if not isinstance(getattr(module, name, None), Tensor)]
    if missing:
        found = sorted(name for name, _ in module.named_parameters())
        raise ConversionError(
            f"it has no {', '.join(missing)}, only {', '.join(found) or 'no parameters'}: it is "
            "not the layer that its name says"
        )
    return [getattr(module, name) for name in names]


def complex_of(layer: Any, names: tuple[str, ...]) -> list[Tensor]:
    """:func:`needed`, of complex tensors.

    Raises
    ------
    ConversionError
        For those that a cast of the whole layer has made real.
    """
    found = needed(layer, names)
    for name, x in zip(names, found, strict=True):
        if not x.is_complex():
            raise ConversionError(
                f"its {name} is of {x.dtype}, and lost its imaginary part where the layer was cast "
                "to it: convert the layer as it was before, and cast the result"
            )
    return found


def from_parts(real: Tensor, imag: Tensor) -> Tensor:
    """The complex tensor, in float32 at least."""
    dtype = torch.promote_types(real.dtype, torch.float32)
    return torch.complex(real.to(dtype), imag.to(dtype))


def pair_rows(b: Tensor) -> Tensor:
    """Rows Re b_1, Im b_1, Re b_2, … of a complex (q, m) tensor."""
    return torch.stack([b.real, b.imag], dim=1).flatten(0, 1)


def pair_columns(c: Tensor) -> Tensor:
    """Columns Re c_1, −Im c_1, Re c_2, … of a complex (p, q) tensor: y = Re(c z)."""
    return torch.stack([c.real, -c.imag], dim=-1).flatten(-2)
