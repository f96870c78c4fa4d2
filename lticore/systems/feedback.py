"""Systems in a loop."""

from __future__ import annotations

from typing import cast

import array_api_compat

from ..arrays.checks import is_single, like_precision
from ..arrays.linalg import EPSILON
from ..arrays.namespaces import Array, holds, namespace
from ..errors import ArgumentError, ShapeError, SingularEquationError
from .algebra import Matrices, block_matrix, common_dt, feedthrough, same_batch
from .doors import LinearLike, as_linear
from .lti import LTI, in_double
from .structure import to_dense


def feedback(
    sys: LinearLike[Array], controller: LinearLike[Array] | None = None, sign: int = -1
) -> LTI[Array]:
    """The closed loop from r to y of u = r + sign · w, where w is what the controller makes of y.

        y = H u,  u = r + sign · K y    ⇒    y = (I − sign · H K)⁻¹ H r

    With E = (I − sign · D_K D)⁻¹ and states (x, x_K), where all D are those of H and K:

        A = [[A + sign B E D_K C, sign B E C_K], [B_K (C + sign D E D_K C), A_K + sign B_K D E C_K]]
        B = [B E; B_K D E],   C = [C + sign D E D_K C, sign D E C_K],   D = D E

    Parameters
    ----------
    sys : LTI (..., p outputs, m inputs)
    controller : system with p inputs and m outputs, or a matrix (..., m, p): a gain
        None is the identity, for p = m.
    sign : −1 (negative feedback) or 1

    Returns
    -------
    LTI with dense A; the batch of both and their sampling time.

    Cost: O((n + n_K)²(m + p)) for each entry of a batch.

    CuPy: on the device; the host waits for each check.

    Raises
    ------
    ShapeError, ArgumentError
    SingularEquationError
        When I − sign · D_K D is singular: the loop has no solution.


    >>> integrator = lti.LTI([[1.0]], [[0.5]], [[1.0]])
    >>> lti.feedback(integrator).A
    array([[0.5]])

    """
    sys = as_linear(sys, continuous=True)
    if sign not in (-1, 1):
        raise ArgumentError(f"sign={sign!r} is neither -1 nor 1")
    if controller is None:
        if sys.inputs != sys.outputs:
            raise ShapeError(
                f"outputs go back to inputs as they are only if there are as many, but there are "
                f"{sys.outputs} and {sys.inputs}: give a controller"
            )
        controller = namespace(sys.B).eye(sys.outputs, dtype=sys.B.dtype)
    if array_api_compat.is_array_api_obj(controller):
        controller = sys.operand(controller)
    controller = as_linear(controller, "controller", True)  # pyright: ignore[reportArgumentType]
    if (controller.inputs, controller.outputs) != (sys.outputs, sys.inputs):
        raise ShapeError(
            f"the controller of {sys.outputs} outputs and {sys.inputs} inputs has as many inputs "
            f"and outputs, but this one has {controller.inputs} and {controller.outputs}"
        )
    single = is_single(sys.B) and is_single(controller.B)
    dt = common_dt(sys.dt, controller.dt)
    matrices = _closed(*same_batch(in_double(sys), in_double(controller)), sign)
    A, B, C, D = (like_precision(X, single) for X in matrices)
    return cast("LTI[Array]", LTI(A, B, C, D, dt=dt))


def _closed(
    plant: Matrices[Array], controller: Matrices[Array], sign: int
) -> tuple[Array, Array, Array, Array]:
    (A, B, C, D), (A_K, B_K, C_K, D_K) = plant, controller
    D, D_K = feedthrough(C, D, B), sign * feedthrough(C_K, D_K, B_K)
    C_K = sign * C_K
    # u = E (r + D_K C x + C_K x_K), and of these y = C x + D u.
    E = _inverse_of_loop(D_K @ D)
    of_state, of_controller = E @ D_K @ C, E @ C_K
    y_of_state, y_of_controller = C + D @ of_state, D @ of_controller
    xp = namespace(B, B_K)
    closed_A = block_matrix(
        (
            (to_dense(A) + B @ of_state, B @ of_controller),
            (B_K @ y_of_state, to_dense(A_K) + B_K @ y_of_controller),
        )
    )
    closed_B = xp.concat([B @ E, B_K @ D @ E], axis=-2)
    return closed_A, closed_B, xp.concat([y_of_state, y_of_controller], axis=-1), D @ E


def _inverse_of_loop(loop: Array) -> Array:
    """(I − X)⁻¹."""
    xp = namespace(loop)
    matrix = xp.eye(loop.shape[-1], dtype=loop.dtype) - loop
    sizes = 1 + xp.linalg.matrix_norm(loop, ord=2)
    if not holds(xp.min(xp.linalg.svdvals(matrix), axis=-1) > EPSILON * sizes):
        raise SingularEquationError(
            "I − sign · D_K D is singular to working precision: this algebraic loop has no "
            "solution. Let the system or the controller have no feedthrough"
        )
    return xp.linalg.inv(matrix)
