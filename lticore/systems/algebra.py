"""Sums, products and parts of systems: the operators of :class:`lticore.LTI`.

A and what it means for states are joined in their structure wherever the result has one: sums of
diagonal systems are diagonal, those of blocks, and of them and real poles, are of blocks, and a
constant gain leaves the A of the other system as it is. Everything else is dense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any, Generic, Self, TypeAlias

import array_api_compat
import numpy as np

from ..arrays.checks import broadcast_batches, check_array
from ..arrays.namespaces import Array, namespace, zeros_like_shape
from ..errors import ArgumentError, BatchIndexError, ShapeError, counted
from .diagonal import Diagonal
from .foreign import matrices_of
from .modes import as_diagonal, is_real, signals_in_modes
from .oscillation import Oscillation
from .rotation import Rotation
from .structure import (
    Matrix,
    StateMatrix,
    Structure,
    axes_of,
    broadcast_state_matrix,
    is_structured,
    map_parameters,
    order_of,
    to_dense,
)

#: A, B, C and D of a system; D may be None.
Matrices: TypeAlias = tuple[StateMatrix[Array], Array, Array, Array | None]


class Operators(Generic[Array, Matrix]):
    """``first + second``, ``first - second``, ``-sys``, ``2 * sys``, ``second @ first``,
    ``sys[index]`` of a batch and the iteration over it, for a class with fields A, B, C, D and dt.

    Operands are systems, everything that functions take for one, and matrices (..., p, m): gains.
    """

    A: Matrix
    B: Array
    C: Array
    D: Array | None
    dt: bool | float
    batch_shape: tuple[int, ...]

    # NumPy's arrays and numbers leave operators to us.
    __array_ufunc__ = None

    def __add__(self, other: Any) -> Self:
        return self._joined(parallel, self, self.operand(other))

    def __radd__(self, other: Any) -> Self:
        return self._joined(parallel, self.operand(other), self)

    def __sub__(self, other: Any) -> Self:
        return self + -self.operand(other)

    def __rsub__(self, other: Any) -> Self:
        return self.operand(other) + -self

    def __neg__(self) -> Self:
        return self * -1

    def __mul__(self, factor: Any) -> Self:
        factor = _number(factor, self)
        D = None if self.D is None else self.D * factor
        return type(self)(self.A, self.B, self.C * factor, D, dt=self.dt)  # type: ignore[call-arg]

    __rmul__ = __mul__

    def __truediv__(self, factor: Any) -> Self:
        factor = _number(factor, self)
        if factor == 0:
            raise ArgumentError(f"{self!r} / 0 is not a system")
        return self * (1 / factor)

    def __matmul__(self, other: Any) -> Self:
        return self._joined(series, self.operand(other), self)

    def __rmatmul__(self, other: Any) -> Self:
        return self._joined(series, self, self.operand(other))

    def __getitem__(self, index: Any) -> Self:
        return type(self)(*part(self, index), dt=self.dt)  # type: ignore[call-arg]

    def __iter__(self) -> Iterator[Self]:
        if not self.batch_shape:
            raise BatchIndexError("one system is no batch of systems")
        return (self[i] for i in range(self.batch_shape[0]))

    def operand(self, other: Any) -> Self:
        """``other`` as a system like this one; a matrix is a gain at the same sampling time."""
        if isinstance(other, type(self)):
            return other
        if array_api_compat.is_array_api_obj(other):
            return type(self)(*gain(other), dt=self.dt)  # type: ignore[call-arg]
        A, B, C, D, dt = matrices_of(other, "the other operand")
        return type(self)(A, B, C, D, dt=dt)  # type: ignore[call-arg]

    def _joined(self, join: Any, first: Self, second: Self) -> Self:
        dt = common_dt(first.dt, second.dt)
        return type(self)(*join(first, second), dt=dt)  # type: ignore[call-arg]


def common_dt(first: bool | float, second: bool | float) -> bool | float:
    """The sampling time of systems that are joined: steps without a unit take that of the other.

    Raises
    ------
    ArgumentError
        For two sampling times, or discrete and continuous time.
    """
    discrete = first is True or first > 0, second is True or second > 0
    if all(discrete) and (first is True or second is True):
        return second if first is True else first
    if first == second:
        return first
    raise ArgumentError(
        f"systems with dt = {first} and dt = {second} do not go together: sample both in the same "
        "steps (lticore.discretize)"
    )


def gain(D: Any) -> Matrices:
    """y = D u, a system without states."""
    D = check_array("the gain", D, ndim=0)
    if D.ndim < 2:
        raise ShapeError(
            f"a gain has shape (..., p, m), one row for each output, but this one has "
            f"{tuple(D.shape)}: multiply by numbers with *"
        )
    p, m = D.shape[-2:]
    A, B, C = (zeros_like_shape(D, shape) for shape in ((0, 0), (0, m), (p, 0)))
    return A, B, C, D


def parallel(first: Any, second: Any) -> Matrices:
    """y = y_1 + y_2 for the same inputs: A = blkdiag(A_1, A_2), B = [B_1; B_2], C = [C_1, C_2],
    D = D_1 + D_2.

    Raises
    ------
    ShapeError
        When inputs or outputs differ in number.
    """
    if (first.inputs, first.outputs) != (second.inputs, second.outputs):
        raise ShapeError(
            f"systems of {counted(first.inputs, 'input')} and "
            f"{counted(first.outputs, 'output')}, and of {second.inputs} and "
            f"{second.outputs}, have no sum"
        )
    (*states_1, D_1), (*states_2, D_2) = same_batch(first, second)
    if order_of(states_1[0]) == 0:
        A, B, C = states_2
    elif order_of(states_2[0]) == 0:
        A, B, C = states_1
    else:
        A, B, C = _direct_sum(first.is_continuous, *states_1, *states_2)
    return A, B, C, _sum(D_1, D_2)


def series(first: Any, second: Any) -> Matrices:
    """Outputs of the first are inputs of the second:

        A = [[A_1, 0], [B_2 C_1, A_2]],  B = [B_1; B_2 D_1],  C = [D_2 C_1, C_2],  D = D_2 D_1.

    Raises
    ------
    ShapeError
        When the first has not as many outputs as the second inputs.
    """
    if first.outputs != second.inputs:
        raise ShapeError(
            f"the first system has {counted(first.outputs, 'output')}, but the second "
            f"{counted(second.inputs, 'input')}: in a product second @ first they are equal"
        )
    (A_1, B_1, C_1, D_1), (A_2, B_2, C_2, D_2) = same_batch(first, second)
    D = None if D_1 is None or D_2 is None else D_2 @ D_1
    through_1 = B_2 @ feedthrough(C_1, D_1, B_1)
    through_2 = feedthrough(C_2, D_2, B_2) @ C_1
    if order_of(A_1) == 0:
        return A_2, through_1, C_2, D
    if order_of(A_2) == 0:
        return A_1, B_1, through_2, D
    xp = namespace(B_1, B_2)
    A = block_matrix(((to_dense(A_1), None), (B_2 @ C_1, to_dense(A_2))))
    return A, xp.concat([B_1, through_1], axis=-2), xp.concat([through_2, C_2], axis=-1), D


def part(sys: Any, index: Any) -> Matrices:
    """Some systems of a batch, as an index takes entries of an array of the batch's shape.

    Raises
    ------
    BatchIndexError
    """
    index = index if isinstance(index, tuple) else (index,)
    try:
        # An array of the batch's shape tells whether the index is one.
        np.broadcast_to(np.float64(0), sys.batch_shape)[index]
    except (IndexError, TypeError, ValueError) as error:
        raise BatchIndexError(f"of a batch of shape {sys.batch_shape}: {error}") from None
    whole = any(x is Ellipsis for x in index)

    def taken(X: Array, axes: int) -> Array:
        return X[(*index, *(slice(None),) * axes)] if whole else X[(*index, Ellipsis)]

    axes = axes_of(sys.A)
    D = None if sys.D is None else taken(sys.D, 2)
    return map_parameters(lambda x: taken(x, axes), sys.A), taken(sys.B, 2), taken(sys.C, 2), D


def block_matrix(rows: Sequence[Sequence[Array | None]]) -> Array:
    """(..., n, m) of blocks; None is zero, of the size of its row and column."""
    heights = [next(X for X in row if X is not None).shape[-2] for row in rows]
    columns = zip(*rows, strict=True)
    widths = [next(X for X in column if X is not None).shape[-1] for column in columns]
    present = [X for row in rows for X in row if X is not None]
    xp, batch = namespace(*present), np.broadcast_shapes(*(X.shape[:-2] for X in present))

    def block(X: Array | None, height: int, width: int) -> Array:
        shape = (*batch, height, width)
        return zeros_like_shape(present[0], shape) if X is None else xp.broadcast_to(X, shape)

    return xp.concat(
        [
            xp.concat([block(X, h, w) for X, w in zip(row, widths, strict=True)], axis=-1)
            for row, h in zip(rows, heights, strict=True)
        ],
        axis=-2,
    )


def _direct_sum(
    continuous: bool,
    A_1: StateMatrix[Array],
    B_1: Array,
    C_1: Array,
    A_2: StateMatrix[Array],
    B_2: Array,
    C_2: Array,
) -> tuple[StateMatrix, Array, Array]:
    """(blkdiag(A_1, A_2), [B_1; B_2], [C_1, C_2]), in an order of states that keeps structure."""
    xp = namespace(B_1, B_2)
    A: StateMatrix
    if not (is_structured(A_1) and is_structured(A_2)):
        A = block_matrix(((to_dense(A_1), None), (None, to_dense(A_2))))
        return A, xp.concat([B_1, B_2], axis=-2), xp.concat([C_1, C_2], axis=-1)
    if isinstance(A_1, Diagonal) and isinstance(A_2, Diagonal):
        A = Diagonal(xp.concat([A_1.poles, A_2.poles], axis=-1))
        return A, xp.concat([B_1, B_2], axis=-2), xp.concat([C_1, C_2], axis=-1)
    if not (is_real(A_1) and is_real(A_2)):
        # Complex poles beside conjugate pairs: all of them on a diagonal.
        modes_1 = _diagonal(continuous, A_1, B_1, C_1)
        modes_2 = _diagonal(continuous, A_2, B_2, C_2)
        return _direct_sum(continuous, *modes_1, *modes_2)
    kind = Oscillation if Oscillation in (type(A_1), type(A_2)) else Rotation
    first, second = _as_blocks(A_1, kind), _as_blocks(A_2, kind)
    pairs_1, pairs_2 = 2 * first.blocks, 2 * second.blocks
    both = zip(first.parameters, second.parameters, strict=True)
    A = kind(*(xp.concat(x, axis=-1) for x in both))
    B = [B_1[..., :pairs_1, :], B_2[..., :pairs_2, :], B_1[..., pairs_1:, :], B_2[..., pairs_2:, :]]
    C = [C_1[..., :pairs_1], C_2[..., :pairs_2], C_1[..., pairs_1:], C_2[..., pairs_2:]]
    return A, xp.concat(B, axis=-2), xp.concat(C, axis=-1)


def _diagonal(
    continuous: bool, A: Structure[Array], B: Array, C: Array
) -> tuple[Diagonal[Array], Array, Array]:
    return as_diagonal(A, continuous), *signals_in_modes(A, B, C)


def _as_blocks(A: Structure[Array], kind: Any) -> Any:
    """A real structure as one of blocks."""
    if isinstance(A, kind):
        return A
    if isinstance(A, Diagonal):
        return kind(A.poles[..., :0], A.poles[..., :0], A.poles)
    c, s = A.entries
    return kind(-c, s, A.real_poles)


def same_batch(first: Any, second: Any) -> tuple[Matrices, Matrices]:
    """The matrices of both, over the batch that they have together."""
    namespace(first.B, second.B)  # refuses two libraries
    batch = broadcast_batches(first=first.batch_shape, second=second.batch_shape)
    return over_batch(first, batch), over_batch(second, batch)


def over_batch(sys: Any, batch: tuple[int, ...]) -> Matrices:
    """The matrices of a system, repeated over a batch."""
    broadcast_to = namespace(sys.B).broadcast_to
    B, C, D = (
        None if X is None else broadcast_to(X, (*batch, *X.shape[-2:]))
        for X in (sys.B, sys.C, sys.D)
    )
    return broadcast_state_matrix(sys.A, batch), B, C, D


def _sum(first: Array | None, second: Array | None) -> Array | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def feedthrough(C: Array, D: Array | None, B: Array) -> Array:
    """D of a system with these B and C, as an array."""
    return zeros_like_shape(C, (*C.shape[:-1], B.shape[-1])) if D is None else D


def _number(factor: Any, sys: Any) -> Any:
    """A factor as Python's own number, which leaves float32 as it is."""
    if isinstance(factor, Number) or (hasattr(factor, "ndim") and factor.ndim == 0):
        return check_array("the factor", factor, ndim=0)[()].item()
    raise ArgumentError(
        f"{sys!r} * {type(factor).__name__}: systems are multiplied by numbers with *, by systems "
        "and matrices with @ (second @ first)"
    )
