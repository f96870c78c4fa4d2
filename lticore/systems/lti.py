"""Linear time-invariant systems: a frozen dataclass that validates, and holds no algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_dt,
    dtype_name,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.namespaces import Array, holds, namespace
from ..errors import ShapeError, counted
from .algebra import Operators, over_batch
from .modes import poles_of, radii_of
from .structure import (
    Matrix,
    NumPyStructure,
    batch_shape_of,
    broadcast_state_matrix,
    check_state_matrix,
    is_sparse,
    is_structured,
    map_parameters,
    order_of,
    parameters,
    to_dense,
)


class StateSpace(Generic[Array, Matrix]):
    """What all systems x_{k+1} = A x_k + B u_k have in common, whatever their outputs."""

    A: Matrix
    B: Array
    C: Array
    dt: bool | float

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.B.shape[-2]

    @property
    def inputs(self) -> int:
        """Number of inputs m."""
        return self.B.shape[-1]

    @property
    def outputs(self) -> int:
        """Number of outputs p."""
        return self.C.shape[-2]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.B.shape[:-2])

    @property
    def is_continuous(self) -> bool:
        """Whether A, B, C and D are those of ẋ = A x + B u: dt is 0."""
        return self.dt is not True and self.dt == 0

    @property
    def dtype(self) -> Any:
        """Dtype of B and C; complex as soon as any part of an `LTI` is."""
        return self.B.dtype

    @property
    def poles(self) -> Array:
        """(..., n) eigenvalues of A; O(n) for structured A, O(n³) for dense A."""
        return poles_of(self.A)

    @property
    def spectral_radius(self) -> float:
        """Largest |pole| over the whole batch; the system is stable when it is below 1."""
        radii = radii_of(self.A)
        return float(namespace(radii).max(radii)) if 0 not in radii.shape else 0.0


@dataclass(frozen=True, eq=False)
class LTI(Operators[Array, Matrix], StateSpace[Array, Matrix]):
    """Linear time-invariant system

        x_{k+1} = A x_k + B u_k,      y_k = C x_k + D u_k,

    or, with dt = 0, ẋ = A x + B u, y = C x + D u.

    Systems are added, subtracted, multiplied by numbers and, ``second @ first``, put in series;
    ``sys[index]`` is a part of a batch.

    Batch axes lead and broadcast against each other; all arrays are promoted to their common
    precision, integers to float64. A complex `Diagonal` is that complex system, literally.

    Parameters
    ----------
    A : Diagonal, Rotation, Oscillation, Sparse or (..., n, n) array
    B : (..., n, m) array
    C : (..., p, n) array
    D : (..., p, m) array or a number, optional
        Feedthrough. None and 0 mean zero, another number is that of one input and one output.
    dt : True or a number
        True for steps without a unit, a number > 0 for the sampling time in seconds, 0 for
        continuous time.

    n = 0 is a pure gain y = D u. Lists of lists are arrays too.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError, ArgumentError


    >>> delay = lti.LTI([[0.0]], [[1.0]], [[1.0]])  # 1/z
    >>> lti.impulse_response(delay @ delay + 3 * delay, 4).ravel()
    array([0., 3., 1., 0.])

    """

    A: Matrix
    B: Array
    C: Array
    D: Array | None
    dt: bool | float = field(kw_only=True)

    @overload
    def __init__(
        self: LTI[np.ndarray, NumPyStructure],
        A: NumPyStructure,
        B: ArrayLike,
        C: ArrayLike,
        D: ArrayLike | None = None,
        *,
        dt: bool | float = True,
    ) -> None: ...
    @overload
    def __init__(
        self: LTI[np.ndarray, np.ndarray],
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike,
        D: ArrayLike | None = None,
        *,
        dt: bool | float = True,
    ) -> None: ...
    @overload
    def __init__(
        self,
        A: Matrix,
        B: Array,
        C: Array,
        D: Array | complex | None = None,
        *,
        dt: bool | float = True,
    ) -> None: ...
    def __init__(self, A: Any, B: Any, C: Any, D: Any = None, *, dt: bool | float = True) -> None:
        A = check_state_matrix("A", A)
        n = order_of(A)
        B, C = check_array("B", B, ndim=0), check_array("C", C, ndim=0)
        if B.ndim < 2 or B.shape[-2] != n or B.shape[-1] < 1:
            raise ShapeError(
                f"B has shape {tuple(B.shape)}, but A has {counted(n, 'state')}: B needs "
                f"(..., {n}, m) with m ≥ 1, one column for each input"
            )
        if C.ndim < 2 or C.shape[-1] != n or C.shape[-2] < 1:
            raise ShapeError(
                f"C has shape {tuple(C.shape)}, but A has {counted(n, 'state')}: C needs "
                f"(..., p, {n}) with p ≥ 1, one row for each output"
            )
        p, m = C.shape[-2], B.shape[-1]
        D = None if D is None else _check_feedthrough(D, B, p, m)
        arrays = [*parameters(A), B, C, *([] if D is None else [D])]
        xp = namespace(*arrays)
        batches = {"A": batch_shape_of(A), "B": tuple(B.shape[:-2]), "C": tuple(C.shape[:-2])}
        if D is not None:
            batches["D"] = tuple(D.shape[:-2])
        batch = broadcast_batches(**batches)

        single = all(is_single(x) for x in arrays)
        cast: Callable[[Any], Any] = (lambda x: x) if single else to_double
        dtype = cast(B).dtype
        if any(is_complex(x) for x in arrays):
            dtype = xp.complex64 if single else xp.complex128
        A = broadcast_state_matrix(map_parameters(cast, A), batch)
        B, C, D = (
            None
            if X is None
            else _broadcast(xp.astype(X, dtype, copy=False), (*batch, *X.shape[-2:]))
            for X in (B, C, D)
        )
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "B", B)
        object.__setattr__(self, "C", C)
        object.__setattr__(self, "D", D)
        object.__setattr__(self, "dt", check_dt(dt, "LTI"))

    def to_dense(self) -> LTI[Array, Array]:
        """The same system with A as an array."""
        return LTI(to_dense(self.A), self.B, self.C, self.D, dt=self.dt)

    def __repr__(self) -> str:
        kind = type(self.A).__name__ if is_structured(self.A) or is_sparse(self.A) else "dense"
        batch = f", batch {self.batch_shape}" if self.batch_shape else ""
        time = "" if self.dt is True else f", dt {self.dt:g}"
        return (
            f"LTI({kind}, order {self.order}, {self.inputs} inputs, {self.outputs} outputs"
            f"{batch}, {dtype_name(self.dtype)}{time})"
        )


def _check_feedthrough(D: Any, B: Array, p: int, m: int) -> Array | None:
    """D as a (..., p, m) array; None for the number 0."""
    if isinstance(D, int | float | complex):
        # As in NumPy, a number has no precision of its own.
        D = like_precision(check_array("D", namespace(B).asarray(D), ndim=0), is_single(B))
    else:
        D = check_array("D", D, ndim=0)
    if D.ndim == 0 and holds(D == 0):
        return None
    if D.ndim == 0 and p == m == 1:
        return namespace(D).reshape(D, (1, 1))
    if tuple(D.shape[-2:]) != (p, m):
        raise ShapeError(
            f"D has shape {tuple(D.shape)}, but C has {counted(p, 'output')} and B "
            f"{counted(m, 'input')}: D needs (..., {p}, {m}), or is the number 0"
        )
    return D


def _broadcast(X: Array, shape: tuple[int, ...]) -> Array:
    """X broadcast to the shape, itself where it has it already."""
    return X if X.shape == shape else namespace(X).broadcast_to(X, shape)


def replaced(sys: LTI[Array], **arrays: Any) -> LTI[Array]:
    """The system with some of B, C and D exchanged for arrays of the same shape and dtype, which
    are not looked at again."""
    new = object.__new__(LTI)
    for name in ("A", "B", "C", "D", "dt"):
        object.__setattr__(new, name, arrays.get(name, getattr(sys, name)))
    return new


def unchecked(A: Matrix, B: Array, C: Array) -> LTI[Array, Matrix]:
    """The discrete system (A, B, C) of arrays that are not looked at."""
    new = object.__new__(LTI)
    for name, value in {"A": A, "B": B, "C": C, "D": None, "dt": True}.items():
        object.__setattr__(new, name, value)
    return new


def spread(sys: LTI[Array], batch: tuple[int, ...]) -> LTI[Array]:
    """The system repeated over a batch, itself where it has its shape."""
    if sys.batch_shape == batch:
        return sys
    return LTI(*over_batch(sys, batch), dt=sys.dt)


def in_one_row(sys: LTI[Array]) -> LTI[Array]:
    """A batch with one axis."""
    batch = sys.batch_shape

    def flat(X: Any) -> Any:
        return namespace(X).reshape(X, (math.prod(batch), *X.shape[len(batch) :]))

    return _mapped(sys, flat)


def rows_of(sys: LTI[np.ndarray], rows: np.ndarray) -> LTI[np.ndarray]:
    """Those systems of a batch with one axis."""
    return _mapped(sys, lambda X: X[rows])


def _mapped(sys: LTI[Array], function: Callable[[Any], Any]) -> LTI[Array]:
    """With a function of every array, the results of which are not looked at."""
    D = None if sys.D is None else function(sys.D)
    A = map_parameters(function, sys.A)
    return replaced(sys, A=A, B=function(sys.B), C=function(sys.C), D=D)


def in_double(sys: LTI[Array, Matrix]) -> LTI[Array, Matrix]:
    """The system in float64 / complex128, itself where it is already."""
    return _converted(sys, to_double) if is_single(sys.B) else sys


def in_single(sys: LTI[Array, Matrix]) -> LTI[Array, Matrix]:
    """The system rounded to float32 / complex64."""
    return _converted(sys, lambda x: like_precision(x, single=True))


def _converted(sys: LTI[Array], cast: Callable[[Array], Array]) -> LTI[Array]:
    D = None if sys.D is None else cast(sys.D)
    return LTI(map_parameters(cast, sys.A), cast(sys.B), cast(sys.C), D, dt=sys.dt)
