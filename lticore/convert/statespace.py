"""Systems of other libraries: python-control, scipy.signal, and plain tuples of arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..arrays.checks import check_dt, is_complex
from ..arrays.namespaces import Array
from ..errors import ArgumentError, DtypeError, ShapeError
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI


def from_statespace(obj: LinearLike[Array]) -> LTI[Array]:
    """An `LTI` from a system of another library.

    All functions that take a system do this themselves.

    Parameters
    ----------
    obj : control.StateSpace or control.TransferFunction, scipy.signal.lti or dlti (any
        representation), a tuple or list (A, B, C), (A, B, C, D) or (A, B, C, D, dt), or an `LTI`,
        returned as it is
        dt is kept. With None, "unspecified" in python-control, only gains are taken.

    CuPy: arrays of tuples are kept.

    Raises
    ------
    ArgumentError
        For time that is left open, what has no state space, and unknown types.


    >>> from scipy import signal
    >>> lti.from_statespace(signal.dlti([1.0], [1.0, -0.5], dt=0.1))
    LTI(dense, order 1, 1 inputs, 1 outputs, float64, dt 0.1)

    """
    return as_linear(obj, "obj", continuous=True, sparse=True)


def to_statespace(
    sys: LinearLike,
    library: Literal["scipy", "control", "tuple"] = "scipy",
    *,
    dt: bool | float | None = None,
) -> Any:
    """The system as an object of another library.

    Parameters
    ----------
    library : "scipy" (scipy.signal.dlti or lti), "control" (control.StateSpace) or "tuple"
        (A, B, C, D, dt). Dense arrays of the system's precision; D is zero where the system has
        none.
    dt : a sampling time, True (steps without a unit), or 0 (continuous time)
        In place of the system's own.

    CuPy: "tuple" keeps the arrays, the others copy them to the host.

    Raises
    ------
    ShapeError
        For a batch: convert its entries one by one.
    ArgumentError
        For an unknown library.
    DtypeError
        For a complex system and "control".


    >>> sys = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]])
    >>> lti.to_statespace(sys, "tuple", dt=0.1)
    (array([[0.5]]), array([[1.]]), array([[1.]]), array([[0.]]), 0.1)

    """
    sys = as_linear(sys, continuous=True)
    if sys.batch_shape:
        raise ShapeError(
            f"a batch of shape {sys.batch_shape} is not one system: convert its entries one by one"
        )
    dense = sys.to_dense()
    D = np.zeros((sys.outputs, sys.inputs), dtype=sys.dtype) if sys.D is None else sys.D
    arrays = (dense.A, dense.B, dense.C, D)
    dt = sys.dt if dt is None else check_dt(dt, "dt")
    if library == "tuple":
        return *arrays, dt
    if library == "scipy":
        import scipy.signal

        if dt is not True and dt == 0:
            return scipy.signal.lti(*arrays)
        return scipy.signal.dlti(*arrays, dt=dt)
    if library == "control":
        if any(map(is_complex, arrays)):
            raise DtypeError(
                "python-control holds real systems and would drop the imaginary parts of this one: "
                "convert it by to_rotation if its response is real, or use library='scipy'"
            )
        import control

        return control.StateSpace(*arrays, dt)
    raise ArgumentError(f"library={library!r} is not 'scipy', 'control' or 'tuple'")
