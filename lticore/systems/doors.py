"""What functions take for a system: the one check at the door of each of them."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from .foreign import matrices_of
from .lti import LTI
from .quadratic import QuadraticOutputLTI, System


def as_system(obj: Any, name: str = "sys") -> System:
    """``obj`` as a discrete-time system of this library; itself where it is one.

    Else as :func:`lticore.systems.foreign.matrices_of`.

    Raises
    ------
    ArgumentError
        For what is no system, and continuous time; says what to pass instead.
    """
    sys = obj
    if not isinstance(obj, LTI | QuadraticOutputLTI):
        *matrices, dt = matrices_of(obj, name)
        sys = LTI(*matrices, dt=dt)
    if sys.is_continuous:
        raise ArgumentError(
            f"{name} ({type(obj).__name__}) is a continuous-time system: sample it first, for "
            "example lticore.discretize(A, B, C, D, step=0.01)"
        )
    return sys


def as_linear(obj: Any, name: str = "sys") -> LTI:
    """:func:`as_system`, refused when its outputs are not linear."""
    sys = as_system(obj, name)
    if isinstance(sys, QuadraticOutputLTI):
        raise ArgumentError(
            "QuadraticOutputLTI is not a linear system: this function is for LTI. The linear part "
            f"of one with quadratic outputs is {name}.linear"
        )
    return sys
