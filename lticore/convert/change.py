"""How far a conversion changes the response of a system."""

from __future__ import annotations

import math

import numpy as np

from ..analysis.response import frequency_response
from ..arrays.linalg import EPSILON
from ..arrays.namespaces import Array, namespace
from ..errors import warn_precision
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI, in_double, in_single
from ..systems.modes import mode_poles, signals_in_modes
from ..systems.signals import scaled, unit_signals
from ..systems.structure import map_parameters


def warn_if_changed(sys: LTI, modal: LTI, condition: float, most: float, single: bool) -> None:
    """Warn where eigenvectors of a ``condition`` above ``most`` cost more than ``most`` allows.

    The error is the change of the response, of modes as they will be rounded, and what the rounding
    of each of them does to their sum,

        max |H − Ĥ| + eps max Σ_i ‖c_i‖‖b_i‖/|z − λ_i|      relative to max |H|,

    at generic points z and those next to the poles, on the unit circle if all poles are inside, and
    on one further out, where no sharp peak hides the rest. It is far smaller than eps ``condition``
    where modes that nearly meet are not reached, not seen, or of little weight.

    Cost: that of 3n values of the response; nothing up to ``most``.
    """
    if condition <= most:
        return
    eps = float(np.finfo(np.float32).eps) if single else EPSILON
    modes = _as_diagonal(modal)
    rounded = _as_diagonal(in_double(in_single(modal))) if single else modes
    radius = modes.spectral_radius
    omega = np.unique(np.concatenate([sample_frequencies(sys), np.angle(modes.poles).ravel()]))
    # Powers of two, which A can be divided by.
    outside = 2.0 ** (1 + math.ceil(math.log2(max(1.0, radius))))
    share = 0.0
    for circle in (1.0, outside) if radius < 1 else (outside,):
        given, found, parts = (_on_circle(x, circle) for x in (sys, rounded, modes))
        H = unit_response(given, omega)
        with np.errstate(invalid="ignore"):
            change = relative_difference(H, unit_response(found, omega, given))
            change += eps * _largest_sum(parts, omega, given) / (np.abs(H).max(initial=0) or np.inf)
        share = max(share, change)
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
    return LTI(Diagonal(mode_poles(modal.A)), *signals_in_modes(modal.A, modal.B, modal.C))


def _on_circle(sys: LTI, radius: float) -> LTI:
    """The system with the response H(radius · z) at z, without D."""
    return LTI(map_parameters(lambda x: x / radius, sys.A), sys.B / radius, sys.C)


def _largest_sum(modes: LTI, omega: np.ndarray, other: LTI) -> float:
    """max Σ_i ‖c_i‖‖b_i‖/|z − λ_i| in the worst batch entry, in units of :func:`unit_response`."""
    unit, b, c = unit_signals(modes)
    _, e, f = unit_signals(other)
    sizes = np.linalg.norm(unit.B, axis=-1) * np.linalg.norm(unit.C, axis=-2)
    distances = np.abs(np.exp(1j * omega)[:, None] - unit.A.poles[..., None, :])
    sums = np.sum(sizes[..., None, :] / np.maximum(distances, EPSILON), axis=-1)
    return float(np.max(scaled(sums, (b + c - e - f)[..., None]), initial=0))


def unit_response(sys: LTI[Array], omega: Array, other: LTI[Array] | None = None) -> Array:
    """The response without D in the units in which that of the system, or of another one, has
    about size one: itself it may over- or underflow."""
    unit, b, c = unit_signals(sys)
    H = frequency_response(unit, omega)
    if other is None:
        return H
    _, e, f = unit_signals(other)
    return scaled(H, (b + c - e - f)[..., None, None, None])


def sample_frequencies(sys: LTI[Array]) -> Array:
    """Generic frequencies, more than a rational function of order n can vanish at."""
    xp = namespace(sys.B)
    return (xp.arange(2 * sys.order + 1, dtype=xp.float64) + 0.382) * (
        math.pi / (2 * sys.order + 1)
    )


def relative_difference(first: Array, second: Array) -> float:
    """Largest |first − second| over frequencies, relative to |first|, in the worst batch entry."""
    xp = namespace(first, second)
    axes = (-3, -2, -1)
    size, change = xp.max(xp.abs(first), axis=axes), xp.max(xp.abs(first - second), axis=axes)
    ratio = change / xp.where(size > 0, size, xp.ones_like(size))
    return float(xp.max(ratio)) if 0 not in ratio.shape else 0.0
