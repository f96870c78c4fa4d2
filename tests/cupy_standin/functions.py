"""CuPy's functions over NumPy's, under the names and signatures of the real package."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np

from .arrays import SIGNATURES, VIEWS, ndarray, refuse_numpy, unwrapped, wrapped
from .counts import DEVICE

#: Launches of functions that take several.
TIMES = {"norm": 3, "matrix_norm": 3, "vector_norm": 3, "repeat": 1, "linspace": 2, "cov": 6}
#: One copy for each array, or one launch for more than eight.
JOINING = {"concatenate", "concat", "stack"}
#: What may stand in a fused function beside ufuncs.
ELEMENTWISE = {"where", "round", "clip"}
#: Memory that is taken and filled without a kernel, or not at all.
WITHOUT_LAUNCH = {"empty", "empty_like", "zeros", "zeros_like"}


def module(name):
    """A module with the names that the real one has and NumPy can stand for."""
    result, source = ModuleType(name), np
    for part in name.split(".")[1:]:
        source = getattr(source, part)
    for key, what in SIGNATURES[name].items():
        value = getattr(source, key, None)
        if value is None or what == "value":
            if value is not None:
                setattr(result, key, value)
        else:
            setattr(result, key, _function(key, value, what))
    result.__all__ = [x for x in vars(result) if not x.startswith("_")]
    return result


def _function(name, function, what):
    signature = None
    if isinstance(what, list):
        parameters = [
            inspect.Parameter(
                key,
                inspect._ParameterKind(kind),
                default=None if has_default else inspect.Parameter.empty,
            )
            for key, kind, has_default in what
        ]
        signature = inspect.Signature(parameters)

    def run(*args, **options):
        if signature is not None:
            signature.bind(*args, **options)
        elif what == "ufunc" and not set(options) <= {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {options}")
        if DEVICE.fusing and what != "ufunc" and name not in ELEMENTWISE:
            raise NotImplementedError(f"{name} in a fused function")
        refuse_numpy([*args, *options.values()])
        given, keywords = unwrapped(args), unwrapped(options)
        for key in ("stream", "blocking", "device"):
            keywords.pop(key, None)
        with np.errstate(all="ignore"):  # a device warns of nothing
            result = function(*given, **keywords)
        if options.get("out") is not None:
            DEVICE.launch(name)
            return options["out"]
        if not _is_view(name, result, given):
            if name == "matmul":
                _copy_operands(given)
            DEVICE.launch(name, _times(name, result, args))
        return wrapped(result)

    run.__name__ = name
    return run


def _times(name, result, args):
    if isinstance(result, np.ndarray) and not result.size:
        return 0
    if name in JOINING:
        copied = sum(x.size > 0 for x in args[0])
        return copied if len(args[0]) <= 8 else 1
    return TIMES.get(name, 1)


def fuse(*, kernel_name):
    """Elementwise functions of arrays in one launch."""

    def decorator(function):
        def run(*args):
            assert all(isinstance(x, ndarray | int | float | complex) for x in args)
            with DEVICE.fused():
                result = function(*args)
            first = result[0] if isinstance(result, tuple) else result
            DEVICE.launch(f"fused {kernel_name}", int(first.size > 0))
            return result

        return run

    return decorator


def _is_view(name, result, given):
    if name in WITHOUT_LAUNCH or not isinstance(result, np.ndarray | np.generic | tuple | list):
        return True
    shares = isinstance(result, np.ndarray) and any(
        isinstance(x, np.ndarray) and np.shares_memory(result, x) for x in given
    )
    return (name in VIEWS and (shares or name not in {"reshape", "ravel"})) or (
        shares and name.startswith("as")
    )


def _copy_operands(operands):
    """Batches of matrices are copied where they do not lie one after the other."""
    for x in operands[:2]:
        if x.ndim > 2 and x.size and not x.flags.c_contiguous:
            DEVICE.launch("copy of an operand")


def asarray(a, dtype=None, order=None, *, blocking=False, copy=None, device=None):
    if isinstance(a, ndarray):
        b = np.asarray(a._a, dtype, order)
        if b is a._a and not copy:
            return a
        DEVICE.launch("asarray")
        return ndarray(np.array(b, order=order or "K"))
    array = np.array(unwrapped(a), dtype, order=order)
    DEVICE.bytes_to_device += array.nbytes
    return ndarray(array)


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray) and copy:
        DEVICE.launch("array")
        return ndarray(np.array(obj._a, dtype, order=order, ndmin=ndmin))
    return asarray(obj, dtype, None if order == "K" else order)


def ascontiguousarray(a, dtype=None):
    return asarray(a, dtype, "C")


def from_dlpack(array, **_):
    if isinstance(array, ndarray):
        return array
    # What NumPy before 2.1 makes of DLPack is read-only.
    return ndarray(array.numpy() if hasattr(array, "numpy") else np.from_dlpack(array))
