"""State matrices: `Diagonal`, `Rotation`, `Oscillation`, `Sparse`, or an (..., n, n) array.

All of them answer the same questions (:class:`lticore.systems.dense.Dense` those asked of an
array): here and in :mod:`lticore.systems.modes`. What kind of matrix A is, other modules ask only
where they choose between algorithms. Arrays are kept by reference, never modified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np
from typing_extensions import TypeIs, TypeVar

from ..arrays.checks import check_array
from ..arrays.namespaces import Array, StandardArray, namespace
from ..errors import ShapeError
from .dense import Dense
from .diagonal import Diagonal
from .oscillation import Oscillation
from .rotation import Rotation
from .sparse import Sparse

#: A state matrix that is known by its poles.
Structure: TypeAlias = Diagonal[Array] | Rotation[Array] | Oscillation[Array]
_STRUCTURES = (Diagonal, Rotation, Oscillation)
#: A state matrix: one of them, or an (..., n, n) array. Systems may hold a `Sparse` one too; the
#: few functions that take it say so at their door (:mod:`lticore.systems.doors`).
StateMatrix: TypeAlias = Structure[Array] | Array

#: The kind of state matrix that a system has.
Matrix = TypeVar("Matrix", bound=Structure[Any] | Sparse | StandardArray, default=Any)
#: The same, of those that are known by their poles, on NumPy.
NumPyStructure = TypeVar(
    "NumPyStructure", Diagonal[np.ndarray], Rotation[np.ndarray], Oscillation[np.ndarray], Sparse
)


def is_structured(A: Any) -> TypeIs[Structure]:
    """Whether A is known by its poles rather than an array."""
    return isinstance(A, _STRUCTURES)


def is_sparse(A: Any) -> TypeIs[Sparse]:
    """Whether A is a sparse matrix, known neither by its poles nor as an array."""
    return isinstance(A, Sparse)


def structure_of(A: StateMatrix[Array]) -> Structure[Array] | Dense[Array]:
    """A, an array as a `Dense` one."""
    kept: Any = A  # sparse ones are not among the types that most functions take
    return kept if is_structured(A) or is_sparse(A) else Dense(A)


def parameters(A: StateMatrix[Array]) -> tuple[Array, ...]:
    """The arrays that define A."""
    return structure_of(A).parameters


def map_parameters(function: Callable[[Array], Array], A: StateMatrix[Array]) -> StateMatrix[Array]:
    """The same structure with ``function`` applied to each of its arrays."""
    new: tuple[Any, ...] = tuple(function(x) for x in parameters(A))
    kept: Any = A
    if is_sparse(kept):
        return kept.of_parameters(*new)  # type: ignore[return-value]
    return type(A)(*new) if is_structured(A) else new[0]


def check_state_matrix(name: str, A: Any) -> StateMatrix:
    """A structure or a validated square array."""
    if is_structured(A) or is_sparse(A):
        return A
    A = check_array(name, A, ndim=2)
    if A.shape[-1] != A.shape[-2]:
        raise ShapeError(
            f"{name} has shape {tuple(A.shape)}: a dense state matrix is square. For a diagonal "
            "one pass Diagonal(poles)"
        )
    return A


def order_of(A: StateMatrix[Array]) -> int:
    """Number of states of A."""
    return structure_of(A).order


def to_dense(A: StateMatrix[Array]) -> Array:
    """A as an (..., n, n) array."""
    return structure_of(A).to_dense()


def batch_shape_of(A: StateMatrix[Array]) -> tuple[int, ...]:
    """Batch shape of A."""
    return structure_of(A).batch_shape


def broadcast_state_matrix(A: StateMatrix[Array], batch: tuple[int, ...]) -> StateMatrix[Array]:
    """A with its arrays broadcast to the batch shape, itself where it has it already."""
    if batch_shape_of(A) == batch:
        return A
    if is_sparse(A):
        raise ShapeError(f"A is sparse, which is one matrix, but the batch shape is {batch}")
    xp = namespace(*parameters(A))
    tail = axes_of(A)
    return map_parameters(lambda x: xp.broadcast_to(x, (*batch, *x.shape[-tail:])), A)


def adjoint_of(A: StateMatrix[Array]) -> StateMatrix[Array]:
    """Aᴴ, of the same structure."""
    return structure_of(A).H


def axes_of(A: StateMatrix) -> int:
    """Number of axes, behind those of the batch, of each array that defines A."""
    return 1 if is_structured(A) or is_sparse(A) else 2


def unchecked_structure(kind: type[Any], parameters: tuple[Any, ...]) -> Any:
    """A structure of arrays that are not looked at."""
    new = object.__new__(kind)
    for field, value in zip(fields(kind), parameters, strict=True):
        object.__setattr__(new, field.name, value)
    return new


def same_in_blocks(
    combine: Callable[[Array, Array], Array], A: StateMatrix[Array], x: Array
) -> Array:
    """x (..., n) with one number, ``combine(first, second)``, for both states of each block of A:
    A is the same in units of the states that are."""
    return structure_of(A).same_in_blocks(combine, x)
