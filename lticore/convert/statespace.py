"""Systems of other libraries: python-control, scipy.signal, and plain tuples of arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..systems import LTI, refuse_layer


def from_statespace(obj: Any) -> LTI:
    """An `LTI` from a discrete-time system of another library.

    Parameters
    ----------
    obj : control.StateSpace or control.TransferFunction, scipy.signal.dlti (any representation),
        or a tuple (A, B, C, D) or (A, B, C, D, dt)
        D may be None in a tuple. A sampling time is accepted and not kept: `LTI` counts samples.

    Raises
    ------
    ArgumentError
        For a continuous-time system (sample it with `discretize`), or an unknown type.
    """
    if isinstance(obj, tuple | list):
        if len(obj) not in (4, 5):
            raise ArgumentError(
                f"a tuple of {len(obj)} arrays is not a system: pass (A, B, C, D) or "
                "(A, B, C, D, dt)"
            )
        A, B, C, D = obj[:4]
        dt = obj[4] if len(obj) == 5 else True
    else:
        state_space = _as_state_space(obj)
        A, B, C, D = (getattr(state_space, name) for name in "ABCD")
        dt = getattr(obj, "dt", None)
    # Both libraries mark continuous time by None or 0 (python-control) and None (SciPy).
    if dt is None or (dt is not True and dt == 0):
        raise ArgumentError(
            f"{type(obj).__name__} is a continuous-time system (dt = {dt}): sample it first, for "
            "example lticore.discretize(A, B, C, D, step=0.01)"
        )
    return LTI(A, B, C, D)


def to_statespace(sys: LTI, library: Literal["scipy", "control", "tuple"] = "scipy") -> Any:
    """The system as an object of another library, with sampling time 1.

    Parameters
    ----------
    library : "scipy" (scipy.signal.dlti), "control" (control.StateSpace) or "tuple" (A, B, C, D)
        Dense arrays of the system's precision; D is zero where the system has none.

    Raises
    ------
    ShapeError
        For a batch: convert its entries one by one.
    ArgumentError
        For an unknown library.
    """
    refuse_layer(sys)
    if sys.batch_shape:
        raise ShapeError(
            f"a batch of shape {sys.batch_shape} is not one system: convert its entries one by one"
        )
    dense = sys.to_dense()
    D = np.zeros((sys.outputs, sys.inputs), dtype=sys.dtype) if sys.D is None else sys.D
    arrays = (dense.A, dense.B, dense.C, D)
    if library == "tuple":
        return arrays
    if library == "scipy":
        import scipy.signal

        return scipy.signal.dlti(*arrays, dt=1)
    if library == "control":
        import control

        return control.StateSpace(*arrays, 1)
    raise ArgumentError(f"library={library!r} is not 'scipy', 'control' or 'tuple'")


def _as_state_space(obj: Any) -> Any:
    if all(hasattr(obj, name) for name in "ABCD"):
        return obj
    if hasattr(obj, "to_ss"):
        return obj.to_ss()
    if type(obj).__module__.startswith("control"):
        import control

        return control.ss(obj)
    raise ArgumentError(
        f"{type(obj).__module__}.{type(obj).__qualname__} is not a state-space system: pass an "
        "object of python-control or scipy.signal, or a tuple (A, B, C, D)"
    )
