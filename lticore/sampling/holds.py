"""Inputs between samples, for the states themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..arrays.checks import is_complex
from ..arrays.linalg import complex_of
from ..arrays.namespaces import Array, namespace
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI
from ..systems.structure import StateMatrix
from .dense import converted_dense, half_ramp, hold
from .modes import (
    ModalMap,
    half_ramped,
    held,
    mapped_blocks,
    mapped_diagonal,
    rotation_by_exponential,
)


def held_states(sys: LTI[Array], delta: Array) -> tuple[StateMatrix[Array], Array]:
    """(e^{AΔ}, Δ φ_1(AΔ) B): x_{k+1} for inputs that keep u_k over a step."""
    return _states_by(sys, delta, held, hold)


def rising_states(sys: LTI[Array], delta: Array) -> Array:
    """Δ φ_2(AΔ) B: what inputs that rise from 0 to u over a step bring to its end."""
    _, B = _states_by(sys, delta, half_ramped, half_ramp)
    return B


def _states_by(
    sys: LTI[Array],
    delta: Array,
    of_modes: Callable[..., ModalMap[Array]],
    of_dense: Callable[..., Any],
) -> tuple[StateMatrix[Array], Array]:
    """A and B in the states of the system, which complex inputs do not change here."""
    A: Any = sys.A
    if isinstance(A, PairBlocks):
        xp, m, B = namespace(sys.B), sys.inputs, sys.B
        if is_complex(B):
            B = xp.concat([xp.real(B), xp.imag(B)], axis=-1)
        parts = replace(sys, B=B, C=xp.real(sys.C), D=None)
        found = mapped_blocks(parts, delta, of_modes, rotation_by_exponential)
        B = found.B
        return found.A, complex_of(B[..., :m], B[..., m:]) if is_complex(sys.B) else B
    if isinstance(A, Diagonal):
        found = mapped_diagonal(sys, delta, of_modes)
    else:
        found = converted_dense(sys, delta, of_dense)
    return found.A, found.B
