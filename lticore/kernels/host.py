"""Decompositions of device arrays, by the CPU, on purpose.

Factors and singular vectors of one matrix keep a device waiting: a launch per column, or one that
is fast for large matrices only. LAPACK on the host, to which two n × n matrices travel in less time
than it takes, has decomposed them before; and it decides ranks as for NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import cupy as cp
import numpy as np

from ..arrays.namespaces import to_numpy
from . import lapack


def _on_the_host(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of NumPy arrays for those of a device; so are functions that it returns."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        given = (to_numpy(x) if isinstance(x, cp.ndarray) else x for x in arguments)
        return _on_the_device(function(*given))

    return run


def _on_the_device(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map(_on_the_device, result))
    if isinstance(result, np.ndarray):
        return cp.asarray(result)
    return _on_the_host(result)


pivoted_cholesky = _on_the_host(lapack.pivoted_cholesky)
leading_svd = _on_the_host(lapack.leading_svd)
balancing_directions = _on_the_host(lapack.balancing_directions)
leading_directions = _on_the_host(lapack.leading_directions)
