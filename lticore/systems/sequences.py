"""Batches of signals for a system: sequences first, then the axes of the system's batch."""

from __future__ import annotations

import math
from typing import Any

from ..arrays.checks import broadcast_batches, check_array
from ..arrays.namespaces import Array, namespace
from ..errors import ArgumentError, ShapeError, counted
from .quadratic import System


def check_timing(timing: str) -> None:
    """Refuse what is neither "delayed" nor "current"."""
    if timing not in ("delayed", "current"):
        raise ArgumentError(f"timing={timing!r} is not 'delayed' or 'current'")


def check_pair(number: int, batch: Any, names: tuple[str, str]) -> tuple[Any, Any]:
    """Both parts of a batch.

    Raises
    ------
    ArgumentError
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ArgumentError(f"batch {number} is not a pair ({', '.join(names)})")
    return batch[0], batch[1]


def check_signals(sys: System, names: list[str], widths: list[int], values: list[Any]) -> list[Any]:
    """Signals (..., L, width) of one batch, broadcast to the common batch shape, which ends with
    the system's; None where there are none.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError
    """
    given = {}
    for name, width, value in zip(names, widths, values, strict=True):
        if value is None:
            continue
        x = check_array(name, value, ndim=2)
        if x.shape[-1] != width:
            raise ShapeError(
                f"{name} have shape {tuple(x.shape)}, but the system has "
                f"{counted(sys.inputs, 'input')} and {counted(sys.outputs, 'output')}: pass "
                f"(..., L, {width})"
            )
        given[name] = x
    first = next(iter(given))
    for name, x in given.items():
        if x.shape[-2] != given[first].shape[-2]:
            raise ShapeError(
                f"{first} have {given[first].shape[-2]} time steps, but {name} have {x.shape[-2]}"
            )
    own = sys.batch_shape
    batches = {name: tuple(x.shape[:-2]) for name, x in given.items()}
    full = broadcast_batches(system=own, **batches)
    if full[len(full) - len(own) :] != own:
        raise ShapeError(
            f"{' and '.join(given)} have batch shape {full}, which does not end with the system's, "
            f"{own}"
        )
    xp = namespace(sys.B, *given.values())
    wide = {name: xp.broadcast_to(x, (*full, *x.shape[-2:])) for name, x in given.items()}
    return [wide.get(name) for name in names]


def by_system(sys: System, x: Array) -> Array:
    """(..., *batch of the system, L, k) → (*batch of the system, samples, k)."""
    xp = namespace(x)
    own = sys.batch_shape
    *_, length, width = x.shape
    data = math.prod(x.shape[: x.ndim - 2 - len(own)])
    stacked = xp.reshape(x, (data, *own, length, width))
    order = (*range(1, len(own) + 1), 0, len(own) + 1, len(own) + 2)
    return xp.reshape(xp.permute_dims(stacked, order), (*own, data * length, width))
