"""Fast implementations of single operations, one table (operation, backend) → function.

A kernel replaces a hot spot and never defines behaviour: each has a reference text with the same
signature, written for any array library, that it is tested against. Modules are imported when a
kernel is first asked for, so that ``import lticore`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

from .._arrays import Array, is_cupy, is_numpy
from . import processes as processes  # watches for forks from now on

#: (operation, backend) → "module:function"; the backend "any" is the reference text.
TABLE = {
    ("pivoted_cholesky", "numpy"): "lticore.kernels.lapack:pivoted_cholesky",
    ("pivoted_cholesky", "any"): "lticore._linalg:pivoted_cholesky_reference",
    ("leading_svd", "numpy"): "lticore.kernels.lapack:leading_svd",
    ("leading_svd", "any"): "lticore._linalg:leading_svd_reference",
    ("weighted_gram", "numpy"): "lticore.kernels.lapack:weighted_gram",
    ("weighted_gram", "any"): "lticore._linalg:weighted_gram_reference",
    ("balancing_directions", "numpy"): "lticore.kernels.lapack:balancing_directions",
    ("balancing_directions", "any"): "lticore._directions:balancing_directions_reference",
    ("leading_directions", "numpy"): "lticore.kernels.lapack:leading_directions",
    ("leading_directions", "any"): "lticore._directions:leading_directions_reference",
    ("linear_recurrence", "numpy"): "lticore.kernels.cpu_recurrence:linear_recurrence",
    ("linear_recurrence", "cupy"): "lticore.kernels.gpu:linear_recurrence",
    ("linear_recurrence", "any"): "lticore.recurrence:linear_recurrence_reference",
    ("time_varying_recurrence", "numpy"): "lticore.kernels.cpu_recurrence:time_varying_recurrence",
    ("time_varying_recurrence", "cupy"): "lticore.kernels.gpu:time_varying_recurrence",
    ("time_varying_recurrence", "any"): "lticore.recurrence:time_varying_recurrence_reference",
    ("recurrence_adjoint", "numpy"): "lticore.kernels.cpu_recurrence:recurrence_adjoint",
    ("recurrence_adjoint", "any"): "lticore.recurrence:recurrence_adjoint_reference",
    ("recur_in_place", "numpy"): "lticore.kernels.cpu_recurrence:recur_in_place",
    ("recur_in_place", "any"): "lticore.recurrence:recur_in_place_reference",
    ("adjoint_in_place", "numpy"): "lticore.kernels.cpu_recurrence:adjoint_in_place",
    ("adjoint_in_place", "any"): "lticore.recurrence:adjoint_in_place_reference",
    ("hermitian_part", "numpy"): "lticore.kernels.cpu_stein:hermitian_part",
    ("hermitian_part", "any"): "lticore._linalg:hermitian_part_reference",
    ("diagonal_stein", "numpy"): "lticore.kernels.cpu_stein:diagonal_stein",
    ("diagonal_stein", "cupy"): "lticore.kernels.gpu:diagonal_stein",
    ("diagonal_stein", "any"): "lticore._stein_modal:diagonal_stein_reference",
    ("rotation_stein", "numpy"): "lticore.kernels.cpu_stein:rotation_stein",
    ("rotation_stein", "cupy"): "lticore.kernels.gpu:rotation_stein",
    ("rotation_stein", "any"): "lticore._stein_modal:rotation_stein_reference",
    ("rotation_products", "numpy"): "lticore.kernels.cpu_stein:rotation_products",
    ("rotation_products", "any"): "lticore._pull_back:rotation_products_reference",
    ("cauchy_factor", "numpy"): "lticore.kernels.cpu_cauchy:cauchy_factor",
    ("cauchy_factor", "cupy"): "lticore.kernels.gpu:cauchy_factor",
    ("cauchy_factor", "any"): "lticore.cauchy:cauchy_factor_reference",
}


def find(operation: str, array: Array) -> Callable:
    """The fastest implementation of ``operation`` for the library of ``array``."""
    backend = "numpy" if is_numpy(array) else "cupy" if is_cupy(array) else "any"
    return _load(TABLE.get((operation, backend)) or TABLE[operation, "any"])


@cache
def _load(entry: str) -> Callable:
    module, function = entry.split(":")
    return getattr(import_module(module), function)
