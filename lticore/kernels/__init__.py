"""Fast implementations of single operations, one table (operation, backend) → function.

A kernel replaces a hot spot and never defines behaviour: each has a reference text with the same
signature, written for any array library, that it is tested against. Whoever owns an operation keeps
the reference text, ``operation_reference``, and asks for the kernel by it. Modules are imported
when a kernel is first asked for, so that ``import lticore`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, cast

from ..arrays.namespaces import Array, is_cupy, is_numpy, is_torch
from . import processes as processes  # watches for forks from now on

Operation = TypeVar("Operation", bound=Callable[..., Any])

#: (operation, backend) → "module:function", inside this folder.
TABLE = {
    ("pivoted_cholesky", "numpy"): "lapack:pivoted_cholesky",
    ("pivoted_cholesky", "cupy"): "host:pivoted_cholesky",
    ("leading_svd", "numpy"): "lapack:leading_svd",
    ("leading_svd", "cupy"): "host:leading_svd",
    ("weighted_gram", "numpy"): "lapack:weighted_gram",
    ("balancing_directions", "numpy"): "lapack:balancing_directions",
    ("balancing_directions", "cupy"): "host:balancing_directions",
    ("leading_directions", "numpy"): "lapack:leading_directions",
    ("leading_directions", "cupy"): "host:leading_directions",
    ("linear_recurrence", "numpy"): "cpu_recurrence:linear_recurrence",
    ("linear_recurrence", "cupy"): "gpu:linear_recurrence",
    ("time_varying_recurrence", "numpy"): "cpu_recurrence:time_varying_recurrence",
    ("time_varying_recurrence", "cupy"): "gpu:time_varying_recurrence",
    ("recurrence_adjoint", "numpy"): "cpu_recurrence:recurrence_adjoint",
    ("recurrence_adjoint", "cupy"): "gpu:recurrence_adjoint",
    ("recur_into", "numpy"): "cpu_recurrence:recur_into",
    ("recur_into", "cupy"): "gpu:recur_into",
    ("adjoint_into", "numpy"): "cpu_recurrence:adjoint_into",
    ("adjoint_into", "cupy"): "gpu:adjoint_into",
    ("hermitian_part", "numpy"): "cpu_stein:hermitian_part",
    ("hermitian_part", "cupy"): "gpu:hermitian_part",
    ("polar_steps", "cupy"): "gpu:polar_steps",
    ("diagonal_stein", "numpy"): "cpu_stein:diagonal_stein",
    ("diagonal_stein", "cupy"): "gpu:diagonal_stein",
    ("rotation_stein", "numpy"): "cpu_stein:rotation_stein",
    ("rotation_stein", "cupy"): "gpu:rotation_stein",
    ("block_poles", "cupy"): "gpu:block_poles",
    ("rotation_gradient", "numpy"): "cpu_stein:rotation_gradient",
    ("rotation_gradient", "cupy"): "gpu:rotation_gradient",
    ("sizes_of_states", "cupy"): "gpu:sizes_of_states",
    ("balancing_exponents", "cupy"): "gpu:balancing_exponents",
    ("inner_product", "cupy"): "gpu:inner_product",
    ("weighted_gram", "cupy"): "gpu:weighted_gram",
    ("scaled", "numpy"): "cpu_units:scaled",
    ("scaled", "cupy"): "gpu:scaled",
    ("cauchy_factor", "numpy"): "cpu_cauchy:cauchy_factor",
    ("cauchy_factor", "cupy"): "gpu:cauchy_factor",
    ("lyapunov_factor", "numpy"): "cpu_cauchy:lyapunov_factor",
    ("lyapunov_factor", "cupy"): "gpu:lyapunov_factor",
    ("triangular_factor", "numpy"): "cpu_schur:triangular_factor",
    ("held_poles", "numpy"): "cpu_schur:held_poles",
    ("triangular_equation", "numpy"): "cpu_schur:triangular_equation",
}


#: Operation → function of tensors, which lticore_torch brings.
OF_TENSORS: dict[str, Callable[..., Any]] = {}


def find(reference: Operation, array: Array) -> Operation:
    """The fastest implementation of an operation for the library of ``array``, or ``reference``."""
    name = reference.__name__.removesuffix("_reference")
    if is_torch(array):
        return cast(Operation, OF_TENSORS.get(name, reference))
    backend = "numpy" if is_numpy(array) else "cupy" if is_cupy(array) else "any"
    entry = TABLE.get((name, backend))
    return reference if entry is None else cast(Operation, _load(entry))


@cache
def _load(entry: str) -> Callable[..., Any]:
    module, function = entry.split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)


@contextmanager
def one_thread() -> Iterator[None]:
    """Kernels that the calling thread runs inside take no other."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
