"""Fast implementations of single operations, one table (operation, backend) → function.

A kernel replaces a hot spot and never defines behaviour: each has a reference text with the same
signature, written for any array library, that it is tested against. Modules are imported when a
kernel is first asked for, so that ``import lticore`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from .._arrays import Array, is_numpy

#: (operation, backend) → "module:function"; the backend "any" is the reference text.
TABLE = {
    ("pivoted_cholesky", "numpy"): "lticore.kernels.lapack:pivoted_cholesky",
    ("pivoted_cholesky", "any"): "lticore._linalg:pivoted_cholesky_reference",
    ("linear_recurrence", "numpy"): "lticore.kernels.cpu:linear_recurrence",
    ("linear_recurrence", "any"): "lticore.recurrence:linear_recurrence_reference",
    ("time_varying_recurrence", "numpy"): "lticore.kernels.cpu:time_varying_recurrence",
    ("time_varying_recurrence", "any"): "lticore.recurrence:time_varying_recurrence_reference",
    ("cauchy_factor", "numpy"): "lticore.kernels.cpu:cauchy_factor",
    ("cauchy_factor", "any"): "lticore.cauchy:cauchy_factor_reference",
}


def find(operation: str, array: Array) -> Callable:
    """The fastest implementation of ``operation`` for the library of ``array``."""
    backend = "numpy" if is_numpy(array) else "any"
    entry = TABLE.get((operation, backend)) or TABLE[operation, "any"]
    module, function = entry.split(":")
    return getattr(import_module(module), function)
