"""Functions that compute on the host, on purpose, whatever device their arrays lie on."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from sys import modules
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..arrays.namespaces import device_memory, is_cupy, to_numpy
from .lti import LTI
from .structure import is_structured

P = ParamSpec("P")
Result = TypeVar("Result")


def computed_on_host(
    function: Callable[P, Result], unless: Callable[[Any], bool] | None = None
) -> Callable[P, Result]:
    """``function``, of arrays on a CUDA device by a copy on the host; results go back there.

    For functions that decompose matrices, one small one after another: a device waits for its host
    hundreds of times, where the arrays of a system go there and back in less than a millisecond.
    They stay where they are for systems, the first argument, of which ``unless`` holds.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        device = _device_of((args, kwargs))
        if device is None:
            return function(*args, **kwargs)
        if unless is not None and unless(args[0]):
            with device_memory():
                return function(*args, **kwargs)
        compute: Any = function
        given, options = over_arrays(to_numpy, (args, kwargs))
        with device, device_memory():
            return over_arrays(_to_cupy, compute(*given, **options))

    return run


def is_modal(sys: Any) -> bool:
    """Whether these are the decoupled modes of a structured A, which suit a device."""
    return isinstance(sys, LTI) and is_structured(sys.A)


def over_arrays(function: Callable[[Any], Any], x: Any) -> Any:
    """``x`` with ``function`` of each array in it: in tuples, lists, dictionaries and dataclasses,
    whose new values are not looked at again."""
    if isinstance(x, np.ndarray | np.inexact) or is_cupy(x):
        return function(x)
    if isinstance(x, tuple | list):
        parts = [over_arrays(function, part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {key: over_arrays(function, value) for key, value in x.items()}
    if is_dataclass(x) and not isinstance(x, type):
        new = copy(x)
        for field in fields(x):
            object.__setattr__(new, field.name, over_arrays(function, getattr(x, field.name)))
        return new
    return x


def _device_of(x: Any) -> Any:
    """The one CUDA device of all arrays in ``x``, or None."""
    if "cupy" not in modules:
        return None
    devices: set[Any] = set()
    over_arrays(lambda array: devices.add(array.device if is_cupy(array) else None), x)
    return devices.pop() if len(devices) == 1 else None


def _to_cupy(array: np.ndarray) -> Any:
    import cupy

    return cupy.asarray(array)
