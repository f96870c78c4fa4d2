"""What every reduction returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

from ..arrays.linalg import real_part
from ..arrays.namespaces import Array, zeros_like_shape
from ..systems.quadratic import System

#: LTI or QuadraticOutputLTI, whichever was reduced.
Kind = TypeVar("Kind", default=Any)


@dataclass(frozen=True)
class Convergence:
    """How an iteration ended.

    steps, evaluations : of the best run: accepted iterates after the start, and errors computed
    residual : norm of the gradient of log J at the result, poles in the hyperbolic metric and rows
        of B̂ relatively: 0 at a stationary point, the same in all units
    converged : whether the iteration stopped by itself
    starts : relative squared errors that the runs from all starts reached, before
        the lowest went on


    >>> sys = lti.LTI(lti.Diagonal([0.8, 0.5]), np.ones((2, 1)), [[1.0, -2.0]])
    >>> convergence = lti.h2_reduction(sys, 1, starts=3).convergence
    >>> convergence.converged, len(convergence.starts)  # 3 and the balanced
    (True, 4)

    """

    steps: int
    evaluations: int
    residual: float
    converged: bool
    starts: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Reduction(Generic[Kind, Array]):
    """A reduced system and what is known of it.

    system : the reduced LTI, or QuadraticOutputLTI when one was given; dense from projections,
        Diagonal or Rotation from methods that work in modes
    order : its number of states r
    singular_values : (..., n) Hankel singular values of the full system, descending; None where the
        method does not compute them
    error_bound : (...) bound on the h∞ norm of the error; None where none exists
    h2_error : (...) h2 norm of the error, computed as by :func:`lticore.h2_error`; over the horizon
        where one was given, None for unstable systems without one
    left, right : (..., n, r) projections W, V with Wᴴ V = I, A_r = Wᴴ A V; None where the method is
        not a projection
    history : relative squared h2 error of each accepted iterate, the start first
    convergence : of iterative methods


    >>> A, B = np.diag([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> reduced = lti.balanced_truncation(lti.LTI(A, B, np.diag([3, 1]) @ B), 1)
    >>> reduced.order, reduced.singular_values.round(4)
    (1, array([3., 1.]))
    >>> (reduced.left.T @ A @ reduced.right).round(4), reduced.system.A.round(4)
    (array([[0.8]]), array([[0.8]]))

    """

    system: Kind
    order: int
    # Which of these are None depends on the method: `Any` lets users of one go without asking.
    singular_values: Array | Any
    error_bound: Array | Any
    h2_error: Array | Any
    left: Array | Any = None
    right: Array | Any = None
    history: tuple[float, ...] = ()
    convergence: Convergence | None = None


def nothing_to_reduce(sys: System) -> Reduction:
    """A system without states is its own reduction."""
    B = real_part(sys.B)
    none, zero = (zeros_like_shape(B, (*sys.batch_shape, *tail)) for tail in ((0,), ()))
    empty = zeros_like_shape(sys.B, (*sys.batch_shape, 0, 0))
    return Reduction(sys, 0, none, zero, zero, left=empty, right=empty)
