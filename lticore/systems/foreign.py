"""Systems of other libraries and tuples, as matrices."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from ..arrays.checks import check_dt
from ..arrays.namespaces import as_array
from ..errors import ArgumentError
from .rational import of_poles_and_zeros, of_polynomials
from .structure import is_structured

_FORMS = (
    "pass an LTI, a tuple (A, B, C), (A, B, C, D) or (A, B, C, D, dt), or a system of "
    "python-control or scipy.signal"
)


def matrices_of(obj: Any, name: str) -> tuple[Any, Any, Any, Any, bool | float]:
    """(A, B, C, D, dt) of an object that has these, of one that python-control or scipy.signal
    bring to this form, and of a tuple or list (A, B, C), (A, B, C, D) or (A, B, C, D, dt).

    Raises
    ------
    ArgumentError
        For anything else, and time left open; says what to pass instead.
    """
    if isinstance(obj, tuple | list):
        *matrices, dt = _of_tuple(obj, name)
    else:
        *matrices, dt = _of_object(obj, name)
    A, B, C, D = matrices
    # python-control leaves the time of gains open, which are the same in both.
    if dt is None and 0 in as_array("C", C).shape:
        dt = True
    return A, B, C, D, check_dt(dt, f"{name} ({type(obj).__name__})")


def _of_tuple(obj: tuple[Any, ...] | list[Any], name: str) -> tuple[Any, ...]:
    if any(_is_ours(x) for x in obj):
        raise ArgumentError(
            f"{name} is a {type(obj).__name__} of systems: pass one, or a batch as one LTI whose "
            "leading axes are those of the batch"
        )
    if len(obj) not in (3, 4, 5):
        raise ArgumentError(
            f"{name} is a {type(obj).__name__} of {len(obj)}, which is not a system: {_FORMS}"
        )
    return tuple(obj) + (None, True)[len(obj) - 3 :]


def _of_object(obj: Any, name: str) -> tuple[Any, ...]:
    matrices = _matrices(obj, name)
    dt = getattr(obj, "dt", None)
    # SciPy marks continuous time by None, which in python-control leaves it open.
    return *matrices, 0 if dt is None and _comes_from(obj, "scipy") else dt


def _matrices(obj: Any, name: str) -> tuple[Any, ...]:
    """(A, B, C, D). Of transfer functions by poles and zeros, or coefficients, as they stand: their
    libraries go through polynomials, or take common roots out."""
    if all(hasattr(obj, field) for field in ("A", "B", "C", "D", "dt")):
        return obj.A, obj.B, obj.C, obj.D
    scipy, control = _comes_from(obj, "scipy"), _comes_from(obj, "control")
    try:
        if scipy and all(hasattr(obj, field) for field in ("zeros", "poles", "gain")):
            return of_poles_and_zeros(obj.zeros, obj.poles, obj.gain)
        if scipy and hasattr(obj, "num"):
            rows = np.atleast_2d(obj.num)
            return of_polynomials([[row] for row in rows], [[obj.den]] * len(rows))
        if control and hasattr(obj, "num"):
            return of_polynomials(obj.num, obj.den)
        if control:
            return _by_control(obj)
    except Exception as error:
        raise ArgumentError(f"{name} ({type(obj).__name__}) has no state space: {error}") from error
    raise ArgumentError(_refusal(obj, name))


def _by_control(obj: Any) -> tuple[Any, ...]:
    import control

    found = control.ss(obj)
    return found.A, found.B, found.C, found.D


def _comes_from(obj: Any, package: str) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(obj).__mro__)


def _refusal(obj: Any, name: str) -> str:
    """What ``obj`` is instead of a system, and what to pass."""
    kind = type(obj).__name__
    if hasattr(obj, "to_lti"):
        return f"{name} ({kind}) is a layer and not a system: pass layer.to_lti(), its system"
    if is_structured(obj):
        return f"{name} ({kind}) is a state matrix: wrap it with B and C, LTI(A, B, C)"
    if array_api_compat.is_array_api_obj(obj) or isinstance(obj, np.generic):
        return f"{name} ({kind}) is an array and not a system: wrap it in LTI(A, B, C)"
    if _is_ours(getattr(obj, "system", None)):
        return f"{name} ({kind}) holds a system: pass its .system"
    if _comes_from(obj, "torch"):
        return (
            f"{name} ({kind}) is a torch module and not a system: pass layer.to_lti() of each of "
            "its state-space layers"
        )
    if hasattr(obj, "linear") and _is_ours(obj):
        return (
            f"{name} ({kind}) is not a linear system: the linear part of one with quadratic "
            f"outputs is {name}.linear"
        )
    if all(hasattr(obj, field) for field in "ABCD"):
        return (
            f"{name} ({kind}) has no dt, which would tell discrete from continuous time: pass a "
            "tuple (A, B, C, D) of its matrices"
        )
    return f"{name} ({kind}) is not a system: {_FORMS}"


def _is_ours(obj: Any) -> bool:
    return hasattr(type(obj), "spectral_radius")
