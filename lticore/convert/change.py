"""How far a conversion changes the response of a system."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..analysis.response import frequency_response, points_of
from ..arrays.linalg import EPSILON
from ..arrays.namespaces import Array, namespace
from ..errors import warn_precision
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI, in_double, in_single, replaced
from ..systems.modes import mode_poles, signals_in_modes
from ..systems.signals import in_even_states, scaled, unit_signals
from ..systems.structure import structure_of, to_dense


def warn_if_changed(sys: LTI, modal: LTI, condition: float, most: float, single: bool) -> None:
    """Warn where eigenvectors of a ``condition`` above ``most`` cost more than ``most`` allows.

    The error is the change of the response, of modes as they will be rounded, and what the rounding
    of each of them does to their sum,

        max |H − Ĥ| + eps max Σ_i ‖c_i‖‖b_i‖/|z − λ_i|      relative to max |H|,

    at generic points z and those next to the poles, on the boundary of stability if all poles are
    inside, and further out, where no sharp peak hides the rest. It is far smaller than eps
    ``condition`` where modes that nearly meet are not reached, not seen, or of little weight.

    Cost: that of 3n values of the response; nothing up to ``most``.
    """
    if condition <= most:
        return
    eps = float(np.finfo(np.float32).eps) if single else EPSILON
    modes = _as_diagonal(modal)
    rounded = _as_diagonal(in_double(in_single(modal))) if single else modes
    phases = modes.poles.imag if sys.is_continuous else np.angle(modes.poles)
    omega = np.unique(np.concatenate([sample_frequencies(sys), phases.ravel()]))
    share = 0.0
    for moved in _lines(modes):
        given, found, parts = (moved(x) for x in (sys, rounded, modes))
        H = unit_response(given, omega)
        with np.errstate(invalid="ignore"):
            change = relative_difference(H, unit_response(found, omega, given))
            change += eps * _largest_sum(parts, omega, given) / (np.abs(H).max(initial=0) or np.inf)
        # No number is no small one.
        share = float(np.maximum(share, change))
    if not share <= most * eps:
        warn_of_modes(condition, share)


def warn_of_modes(condition: float, share: float) -> None:
    """Warn that eigenvectors of that condition cost a relative error of that share."""
    warn_precision(
        f"the eigenvectors of A have condition number {condition:.1e}: modal coordinates "
        f"carry a relative error of up to {share:.0e}. Keep the system dense, convert "
        "well_conditioned(sys).system, a nearby one, or accept it with a larger max_condition"
    )


def _as_diagonal(modal: LTI) -> LTI:
    """A structured system in its modes, without D."""
    B, C = signals_in_modes(modal.A, modal.B, modal.C)
    return LTI(Diagonal(mode_poles(modal.A)), B, C, dt=modal.dt)


def _lines(modes: LTI) -> list[Callable[[LTI], LTI]]:
    """Changes of systems that take lines in the plane to the circle or the axis: the boundary of
    stability, where all poles are inside, and one further out."""
    if modes.is_continuous:
        growth, size = float(np.max(modes.poles.real)), float(np.max(np.abs(modes.poles)))
        outside = partial(_on_axis, distance=max(growth, 0.0) + size)
        return [_strictly_proper, outside] if growth < 0 else [outside]
    radius = modes.spectral_radius
    # Powers of two, which A can be divided by.
    farther = partial(_on_circle, radius=2.0 ** (1 + math.ceil(math.log2(max(1.0, radius)))))
    return [_strictly_proper, farther] if radius < 1 else [farther]


def _strictly_proper(sys: LTI) -> LTI:
    return replaced(sys, D=None)


def _on_circle(sys: LTI, radius: float) -> LTI:
    """The system with the response H(radius · z) at z, without D."""
    A = structure_of(sys.A).times(np.asarray(1 / radius))
    return LTI(A, sys.B / radius, sys.C, dt=sys.dt)


def _on_axis(sys: LTI, distance: float) -> LTI:
    """The system with the response H(s + distance) at s, without D."""
    A: Any = sys.A
    if isinstance(A, Diagonal):
        A = Diagonal(A.poles - distance)
    else:
        A = to_dense(A) - distance * np.eye(sys.order)
    return LTI(A, sys.B, sys.C, dt=sys.dt)


def _largest_sum(modes: LTI, omega: np.ndarray, other: LTI) -> float:
    """max Σ_i ‖c_i‖‖b_i‖/|z − λ_i| in the worst batch entry, in units of :func:`unit_response`."""
    unit, b, c = unit_signals(in_even_states(modes)[0])
    _, e, f = unit_signals(in_even_states(other)[0])
    sizes = np.linalg.norm(unit.B, axis=-1) * np.linalg.norm(unit.C, axis=-2)
    distances = np.abs(points_of(omega, modes.is_continuous)[:, None] - unit.A.poles[..., None, :])
    least = EPSILON * max(1.0, float(np.abs(unit.A.poles).max(initial=0)))
    sums = np.sum(sizes[..., None, :] / np.maximum(distances, least), axis=-1)
    return float(np.max(scaled(sums, (b + c - e - f)[..., None]), initial=0))


def unit_response(sys: LTI[Array], omega: Array, other: LTI[Array] | None = None) -> Array:
    """The response without D in the units in which that of the system, or of another one, has
    about size one: itself it may over- or underflow."""
    unit, b, c = unit_signals(in_even_states(sys)[0])
    H = frequency_response(unit, omega)
    if other is None:
        return H
    _, e, f = unit_signals(in_even_states(other)[0])
    return scaled(H, (b + c - e - f)[..., None, None, None])


def sample_frequencies(sys: LTI[Array]) -> Array:
    """Generic frequencies, more than a rational function of order n can vanish at."""
    xp = namespace(sys.B)
    phases = (xp.arange(2 * sys.order + 1, dtype=xp.float64) + 0.382) * (
        math.pi / (2 * sys.order + 1)
    )
    if not sys.is_continuous:
        return phases
    sizes = xp.abs(in_double(sys).poles)
    sizes = sizes[sizes > 0]
    middle = xp.exp(xp.mean(xp.log(sizes))) if sizes.shape[0] else 1.0
    return middle * xp.tan(phases / 2)


def relative_difference(first: Array, second: Array) -> float:
    """Largest |first − second| over frequencies, relative to |first|, in the worst batch entry."""
    xp = namespace(first, second)
    axes = (-3, -2, -1)
    size, change = xp.max(xp.abs(first), axis=axes), xp.max(xp.abs(first - second), axis=axes)
    ratio = change / xp.where(size > 0, size, xp.ones_like(size))
    return float(xp.max(ratio)) if 0 not in ratio.shape else 0.0
