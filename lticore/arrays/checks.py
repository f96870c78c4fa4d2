"""Validation of arguments, and the one dtype policy of the library.

* Integers and booleans become float64; float32, float64, complex64 and complex128 are kept.
* float16, bfloat16, longdouble and object arrays are refused.
* Arguments of one system are promoted to their common precision.
* Spectral work runs in float64 / complex128 (:func:`to_double`), and results return in the
  precision of the input (:func:`like_precision`).
"""

from __future__ import annotations

import math
import operator
from functools import cache
from numbers import Real
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from .namespaces import Array, as_array, holds, is_finite, namespace

_SINGLE = ("float32", "complex64")
_DOUBLE = ("float64", "complex128")


def dtype_name(dtype: Any) -> str:
    """``'float64'`` for every library's spelling of it."""
    return _dtype_name(type(dtype).__qualname__, dtype)


@cache
def _dtype_name(kind: str, dtype: Any) -> str:
    # `kind` keeps the dtypes of two libraries apart where their hashes are the same.
    name = getattr(dtype, "name", None)
    return name if name is not None else str(dtype).rsplit(".", 1)[-1].strip("'>)")


def check_array(name: str, value: Any, *, ndim: int) -> Any:
    """A finite floating-point array with at least ``ndim`` dimensions, or an error naming it."""
    x = as_array(name, value)
    dtype = dtype_name(x.dtype)
    xp = namespace(x)
    if xp.isdtype(x.dtype, ("integral", "bool")):
        x = xp.astype(x, xp.float64)
    elif dtype not in _SINGLE + _DOUBLE:
        raise DtypeError(
            f"{name} has dtype {dtype}: lticore computes in float32, float64, complex64 and "
            "complex128 (integers become float64). Convert it, for example with "
            ".astype('float64'), so that the loss or gain of precision is visible in your code"
        )
    if x.ndim < ndim:
        raise ShapeError(
            f"{name} has shape {tuple(x.shape)}, but needs at least {ndim} "
            f"dimension{'s' if ndim > 1 else ''} (batch axes lead)"
        )
    if not is_finite(x):
        raise NonFiniteError(
            f"{name} contains NaN or infinity: a diverged training run or an overflow upstream "
            "is the usual cause"
        )
    return x


def check_real(name: str, x: Array) -> Array:
    """``x``, refused when complex."""
    if is_complex(x):
        raise DtypeError(f"{name} must be real, but has dtype {dtype_name(x.dtype)}")
    return x


def check_integer(name: str, value: Any, *, minimum: int) -> int:
    """``value`` as a Python int of at least ``minimum``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(
            f"{name} must be an integer, but is {value!r} of type {type(value).__name__}"
        ) from None
    if isinstance(value, bool) or number < minimum:
        raise ArgumentError(f"{name} must be an integer of at least {minimum}, but is {value!r}")
    return number


def check_horizon(horizon: Any, continuous: bool = False) -> Any:
    """A number of steps of at least one, in continuous time a duration > 0, or None: all."""
    if continuous:
        return check_duration(horizon)
    return None if horizon is None else check_integer("horizon", horizon, minimum=1)


def check_duration(horizon: Any) -> float | None:
    """A time > 0, or None: all."""
    if horizon is None:
        return None
    number = isinstance(horizon, Real) and not isinstance(horizon, bool | np.bool)
    if not number or not 0 < float(horizon) < math.inf:
        raise ArgumentError(f"horizon must be a time > 0 in continuous time, but is {horizon!r}")
    return float(horizon)


def check_dt(dt: Any, what: str) -> bool | float:
    """True (steps without a unit), a sampling time > 0, or 0.0: continuous time."""
    if dt is None:
        raise ArgumentError(
            f"{what} leaves open whether its time is discrete (dt = None): make it so with dt=True "
            "or a sampling time"
        )
    if isinstance(dt, bool | np.bool) and dt:
        return True
    number = isinstance(dt, Real) and not isinstance(dt, bool | np.bool)
    if not number or not 0 <= float(dt) < math.inf:
        raise ArgumentError(
            f"{what} has dt = {dt!r}, which is neither True, nor a sampling time, nor 0 for "
            "continuous time"
        )
    return float(dt)


def check_rtol(rtol: float) -> float:
    """``rtol``, refused outside [0, 1)."""
    if not 0 <= rtol < 1:
        raise ArgumentError(f"rtol must lie in [0, 1), but is {rtol!r}")
    return rtol


def check_one_given(**options: Any) -> None:
    """Refuse unless exactly one of the named options is not None."""
    if sum(value is not None for value in options.values()) != 1:
        *names, last = (f"{name}=" for name in options)
        raise ArgumentError(f"give exactly one of {', '.join(names)} and {last}")


def is_complex(x: Array) -> bool:
    return dtype_name(x.dtype).startswith("complex")


def is_single(x: Array) -> bool:
    return dtype_name(x.dtype) in _SINGLE


def to_double(x: Array) -> Array:
    """``x`` in float64 or complex128."""
    if dtype_name(x.dtype) in _DOUBLE:
        return x
    xp = namespace(x)
    return xp.astype(x, xp.complex128 if is_complex(x) else xp.float64, copy=False)


def like_precision(x: Array, single: bool) -> Array:
    """``x`` rounded to float32 / complex64 when ``single``, else as it is.

    Raises
    ------
    NonFiniteError
        Where numbers are beyond the range of float32.
    """
    if not single:
        return x
    xp = namespace(x)
    with np.errstate(over="ignore"):
        rounded = xp.astype(x, xp.complex64 if is_complex(x) else xp.float32, copy=False)
    if not (is_finite(rounded) or holds(xp.isfinite(rounded) == xp.isfinite(x))):
        raise NonFiniteError(
            f"the result is beyond the range of float32, up to {float(xp.max(xp.abs(x))):.1e}: "
            "give the arguments in float64"
        )
    return rounded


def common_precision(*arrays: Array) -> tuple[Array, ...]:
    """All arrays in the widest precision among them; real stays real, complex complex."""
    if all(is_single(x) for x in arrays):
        return arrays
    return tuple(to_double(x) for x in arrays)


def broadcast_batches(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common batch shape of named batch shapes, or an error that lists them."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        seen = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"the batch shapes do not broadcast: {seen}") from None
