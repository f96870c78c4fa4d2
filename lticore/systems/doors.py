"""What functions take for a system: the one check at the door of each of them."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar, cast

from ..arrays.namespaces import Array
from ..errors import ArgumentError
from .foreign import matrices_of
from .lti import LTI
from .quadratic import QuadraticOutputLTI, System
from .structure import is_sparse

#: The array of a system, which comes out of it only.
Part = TypeVar("Part", covariant=True)


class StateSpace(Protocol[Part]):
    """A state-space system, `LTI` or of another library."""

    @property
    def A(self) -> Any: ...
    @property
    def B(self) -> Part: ...
    @property
    def C(self) -> Any: ...
    @property
    def D(self) -> Any: ...
    @property
    def dt(self) -> Any: ...


class TransferFunction(Protocol):
    """A system of another library that has a state space."""

    def to_ss(self) -> Any: ...


#: What is taken for a linear system: one of ours, another library's, a tuple (A, B, C[, D[, dt]]).
LinearLike: TypeAlias = StateSpace[Array] | TransferFunction | tuple[Any, ...] | list[Any]
#: The same, or one with quadratic outputs.
SystemLike: TypeAlias = LinearLike[Array] | QuadraticOutputLTI[Array]


def as_system(
    obj: SystemLike[Array], name: str = "sys", continuous: bool = False, sparse: bool = False
) -> System[Array]:
    """``obj`` as a system of this library; itself where it is one.

    Else as :func:`lticore.systems.foreign.matrices_of`.

    Raises
    ------
    ArgumentError
        For what is no system, and for continuous time and a sparse A unless these are welcome;
        says what to pass instead.
    """
    sys: System[Array]
    if isinstance(obj, LTI | QuadraticOutputLTI):
        sys = obj
    else:
        *matrices, dt = matrices_of(obj, name)
        sys = cast("LTI[Array]", LTI(*matrices, dt=dt))
    if sys.is_continuous and not continuous:
        raise ArgumentError(
            f"{name} ({type(obj).__name__}) is a continuous-time system: sample it first, for "
            f"example lticore.discretize({name}, step=0.01)"
        )
    if is_sparse(sys.A) and not (sparse and isinstance(sys, LTI)):
        raise ArgumentError(
            f"{name} has a sparse A of {sys.order} states, of which this function would need all "
            "poles or n × n numbers: reduce it first, balanced_truncation(…).system, or fill it "
            "in, LTI(A.matrix.toarray(), …)"
        )
    return sys


def as_linear(
    obj: LinearLike[Array], name: str = "sys", continuous: bool = False, sparse: bool = False
) -> LTI[Array]:
    """:func:`as_system`, refused when its outputs are not linear."""
    sys = as_system(obj, name, continuous, sparse)
    if isinstance(sys, QuadraticOutputLTI):
        raise ArgumentError(
            "QuadraticOutputLTI is not a linear system: this function is for LTI. The linear part "
            f"of one with quadratic outputs is {name}.linear"
        )
    return sys
