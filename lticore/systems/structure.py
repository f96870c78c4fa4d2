"""State matrices: `Diagonal`, `Rotation`, or an (..., n, n) array.

Frozen dataclasses that validate their arrays and know their shapes, and the questions every state
matrix answers whatever its structure, an array as the dense one: here and in
:mod:`lticore.systems.modes`. What kind of matrix A is, other modules ask only where they choose
between algorithms. Arrays are kept by reference, never modified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import TypeIs, TypeVar

from ..arrays.checks import broadcast_batches, check_array, check_real, common_precision
from ..arrays.linalg import adjoint, complex_of, conjugate, diagonal_matrix
from ..arrays.namespaces import Array, StandardArray, namespace
from ..errors import ShapeError
from .pairs import join_pairs, same_in_pairs, split_pairs


@dataclass(frozen=True, eq=False)
class Diagonal(Generic[Array]):
    """State matrix A = diag(poles).

    Parameters
    ----------
    poles : (..., n) real or complex array

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
    """

    poles: Array

    @overload
    def __init__(self: Diagonal[np.ndarray], poles: ArrayLike) -> None: ...
    @overload
    def __init__(self, poles: Array) -> None: ...
    def __init__(self, poles: Any) -> None:
        object.__setattr__(self, "poles", check_array("poles", poles, ndim=1))

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.poles.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.poles.shape[:-1])

    @property
    def dtype(self) -> Any:
        return self.poles.dtype

    @property
    def H(self) -> Diagonal[Array]:
        """The adjoint Aᴴ, again diagonal."""
        return Diagonal(conjugate(self.poles))

    def to_dense(self) -> Array:
        """A as an (..., n, n) array."""
        return diagonal_matrix(self.poles)


@dataclass(frozen=True, eq=False)
class Rotation(Generic[Array]):
    """Block-diagonal real state matrix of scaled rotations and real poles.

        A = blkdiag(ρ_1 R(α_1), …, ρ_q R(α_q), r_1, …, r_k)
        R(α) = [[cos α, sin α], [−sin α, cos α]]

    Each 2×2 block is multiplication of x_1 + i x_2 by λ = ρ e^{−iα}; the two states of a block are
    neighbours, real poles come last, and n = 2q + k.

    Parameters
    ----------
    radius, angle : (..., q) real arrays, angle in radians; q may be 0
    real_poles : (..., k) real array, optional

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError

    Source: Schwerdtner, Berman & Peherstorfer, Hankel singular value regularization, eq. (6)-(7).
    """

    radius: Array
    angle: Array
    real_poles: Array

    @overload
    def __init__(
        self: Rotation[np.ndarray],
        radius: ArrayLike,
        angle: ArrayLike,
        real_poles: ArrayLike | None = None,
    ) -> None: ...
    @overload
    def __init__(self, radius: Array, angle: Array, real_poles: Array | None = None) -> None: ...
    def __init__(self, radius: Any, angle: Any, real_poles: Any = None) -> None:
        radius = check_real("radius", check_array("radius", radius, ndim=1))
        angle = check_real("angle", check_array("angle", angle, ndim=1))
        if radius.shape[-1] != angle.shape[-1]:
            raise ShapeError(
                f"radius {tuple(radius.shape)} and angle {tuple(angle.shape)} must hold one value "
                "per rotation block each"
            )
        if real_poles is None:
            xp = namespace(radius, angle)
            real_poles = xp.zeros_like(radius[..., :0])
        else:
            real_poles = check_real("real_poles", check_array("real_poles", real_poles, ndim=1))
        xp = namespace(radius, angle, real_poles)
        batch = broadcast_batches(
            radius=tuple(radius.shape[:-1]),
            angle=tuple(angle.shape[:-1]),
            real_poles=tuple(real_poles.shape[:-1]),
        )
        for name, value in zip(
            ("radius", "angle", "real_poles"),
            common_precision(radius, angle, real_poles),
            strict=True,
        ):
            object.__setattr__(self, name, xp.broadcast_to(value, (*batch, value.shape[-1])))

    @property
    def blocks(self) -> int:
        """Number of rotation blocks q."""
        return self.radius.shape[-1]

    @property
    def order(self) -> int:
        """Number of real states n = 2q + k."""
        return 2 * self.radius.shape[-1] + self.real_poles.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.radius.shape[:-1])

    @property
    def dtype(self) -> Any:
        return self.radius.dtype

    @property
    def H(self) -> Rotation[Array]:
        """The adjoint Aᵀ: every block turns the other way."""
        return Rotation(self.radius, -self.angle, self.real_poles)

    @property
    def poles(self) -> Array:
        """(..., n) complex poles in state order: λ_1, conj λ_1, λ_2, …, then the real ones."""
        xp = namespace(self.radius)
        real, imaginary = self.radius * xp.cos(self.angle), -self.radius * xp.sin(self.angle)
        pole, other = complex_of(real, imaginary), complex_of(real, -imaginary)
        return join_pairs(pole, other, self.real_poles)

    def to_dense(self) -> Array:
        """A as an (..., n, n) real array."""
        xp = namespace(self.radius)
        real, imaginary = self.radius * xp.cos(self.angle), self.radius * xp.sin(self.angle)
        main = join_pairs(real, real, self.real_poles)
        above = join_pairs(imaginary, xp.zeros_like(imaginary), xp.zeros_like(self.real_poles))
        side = diagonal_matrix(above[..., : max(self.order - 1, 0)], offset=1)
        return diagonal_matrix(main) + side - xp.matrix_transpose(side)


#: A state matrix that is known by its poles.
Structure: TypeAlias = Diagonal[Array] | Rotation[Array]
#: A state matrix: `Diagonal`, `Rotation`, or an (..., n, n) array.
StateMatrix: TypeAlias = Structure[Array] | Array

#: The kind of state matrix that a system has.
Matrix = TypeVar("Matrix", bound=Diagonal[Any] | Rotation[Any] | StandardArray, default=Any)
#: The same, of those that are known by their poles, on NumPy.
NumPyStructure = TypeVar("NumPyStructure", Diagonal[np.ndarray], Rotation[np.ndarray])


def is_structured(A: Any) -> TypeIs[Structure]:
    """Whether A is a `Diagonal` or `Rotation` rather than an array."""
    return isinstance(A, Diagonal | Rotation)


def parameters(A: StateMatrix[Array]) -> tuple[Array, ...]:
    """The arrays that define A."""
    if isinstance(A, Diagonal):
        return (A.poles,)
    if isinstance(A, Rotation):
        return (A.radius, A.angle, A.real_poles)
    return (A,)


def map_parameters(function: Callable[[Array], Array], A: StateMatrix[Array]) -> StateMatrix[Array]:
    """The same structure with ``function`` applied to each of its arrays."""
    new = tuple(function(x) for x in parameters(A))
    return type(A)(*new) if is_structured(A) else new[0]


def check_state_matrix(name: str, A: Any) -> StateMatrix:
    """A `Diagonal`, a `Rotation` or a validated square array."""
    if is_structured(A):
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
    return A.order if is_structured(A) else A.shape[-1]


def to_dense(A: StateMatrix[Array]) -> Array:
    """A as an (..., n, n) array."""
    return A.to_dense() if is_structured(A) else A


def batch_shape_of(A: StateMatrix[Array]) -> tuple[int, ...]:
    """Batch shape of A."""
    return A.batch_shape if is_structured(A) else tuple(A.shape[:-2])


def broadcast_state_matrix(A: StateMatrix[Array], batch: tuple[int, ...]) -> StateMatrix[Array]:
    """A with its arrays broadcast to the batch shape, itself where it has it already."""
    if batch_shape_of(A) == batch:
        return A
    xp = namespace(*parameters(A))
    tail = axes_of(A)
    return map_parameters(lambda x: xp.broadcast_to(x, (*batch, *x.shape[-tail:])), A)


def adjoint_of(A: StateMatrix[Array]) -> StateMatrix[Array]:
    """Aᴴ, of the same structure."""
    return A.H if is_structured(A) else adjoint(A)


def axes_of(A: StateMatrix) -> int:
    """Number of axes, behind those of the batch, of each array that defines A."""
    return 1 if is_structured(A) else 2


def same_in_blocks(
    combine: Callable[[Array, Array], Array], A: StateMatrix[Array], x: Array
) -> Array:
    """x (..., n) with one number, ``combine(first, second)``, for both states of each block of A:
    A is the same in units of the states that are."""
    return same_in_pairs(combine, x, A.blocks) if isinstance(A, Rotation) else x


def states_of(A: Structure, chosen: Any) -> Structure:
    """The structure of the states ``chosen``, (n,) Booleans, both of a block or none; no batch."""
    if isinstance(A, Diagonal):
        return Diagonal(A.poles[chosen])
    first, _, rest = split_pairs(chosen, A.blocks)
    return Rotation(A.radius[first], A.angle[first], A.real_poles[rest])
