"""Sampling, and its inverse, of systems in modes: what becomes of poles, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic

from ..arrays.checks import is_complex, to_double
from ..arrays.linalg import as_complex, complex_of
from ..arrays.namespaces import Array, holds, namespace
from ..equations.short_times import TERMS
from ..errors import ArgumentError, SingularEquationError
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI
from ..systems.modes import as_diagonal, signals_in_modes
from ..systems.oscillation import Oscillation
from ..systems.pairs import complex_columns, complex_rows, real_columns, real_rows
from ..systems.polar import phase
from ..systems.rotation import Rotation
from ..systems.structure import Structure


@dataclass(frozen=True, eq=False)
class ModalMap(Generic[Array]):
    """What becomes of modes: of poles, of inputs b ← into · b, of outputs c ← c · out, and of the
    feedthrough D ← D + Σ c · through · b, with b and c as they were. All (..., n)."""

    poles: Array
    into: Array
    out: Array
    through: Array


def held(poles: Array, delta: Array) -> ModalMap[Array]:
    """Zero-order hold: e^x, Δ φ_1(x) with x = λΔ."""
    xp = namespace(poles)
    sampled, into = held_inputs(poles, delta)
    return ModalMap(sampled, into, xp.ones_like(into), xp.zeros_like(into))


def ramped(poles: Array, delta: Array) -> ModalMap[Array]:
    """First-order hold: e^x, Δ φ_1(x)², and Δ φ_2(x) at once."""
    xp = namespace(poles)
    x = poles * delta
    first = _phi_1(x)
    return ModalMap(xp.exp(x), delta * first * first, xp.ones_like(x), delta * _phi_2(x))


def half_ramped(poles: Array, delta: Array) -> ModalMap[Array]:
    """Inputs that rise from 0 to u within a step, from rest: Δ φ_2(x)."""
    xp = namespace(poles)
    x = poles * delta
    return ModalMap(xp.exp(x), delta * _phi_2(x), xp.ones_like(x), xp.zeros_like(x))


def struck(poles: Array, delta: Array) -> ModalMap[Array]:
    """Samples Δ h(kΔ) of the impulse response: e^x, Δ e^x, and Δ at once."""
    xp = namespace(poles)
    sampled = xp.exp(poles * delta)
    one = xp.ones_like(sampled)
    return ModalMap(sampled, delta * sampled, one, delta * one)


def bilinear(poles: Array, delta: Array) -> ModalMap[Array]:
    """(1 + x/2)/(1 − x/2), Δ/(1 − x/2), 1/(1 − x/2), and half of what enters at once."""
    half = poles * delta / 2
    gap = 1 - half
    if not holds(gap != 0):
        raise SingularEquationError(AT_POLE)
    into = delta / gap
    return ModalMap((1 + half) / gap, into, 1 / gap, into / 2)


def unheld(poles: Array, delta: Array) -> ModalMap[Array]:
    """The inverse of :func:`held`."""
    xp = namespace(poles)
    x = _logarithm(poles)
    return ModalMap(x / delta, 1 / (delta * _phi_1(x)), xp.ones_like(x), xp.zeros_like(x))


def unramped(poles: Array, delta: Array) -> ModalMap[Array]:
    """The inverse of :func:`ramped`."""
    xp = namespace(poles)
    x = _logarithm(poles)
    first = _phi_1(x)
    into = 1 / (delta * first * first)
    return ModalMap(x / delta, into, xp.ones_like(x), -delta * _phi_2(x) * into)


def unstruck(poles: Array, delta: Array) -> ModalMap[Array]:
    """The inverse of :func:`struck`; through is what is left where D was Δ C B."""
    xp = namespace(poles)
    logarithm = _logarithm(poles)  # refuses poles at 0
    into = 1 / (delta * poles)
    return ModalMap(logarithm / delta, into, xp.ones_like(into), -delta * into)


def unbilinear(poles: Array, delta: Array) -> ModalMap[Array]:
    """The inverse of :func:`bilinear`."""
    sum_ = poles + 1
    if not holds(sum_ != 0):
        raise SingularEquationError(AT_MINUS_ONE)
    out = 2 / sum_
    return ModalMap((poles - 1) * out / delta, out / delta, out, -out / 2)


AT_POLE = "a pole of A sits at 2/step, where the bilinear transform is not defined"
AT_MINUS_ONE = (
    "a pole of A sits at −1, which the bilinear transform takes to infinity: no continuous-time "
    "system has it"
)

#: By the method of `discretize` and `to_continuous`.
SAMPLE: dict[str, Callable[..., ModalMap]] = {
    "zoh": held,
    "foh": ramped,
    "bilinear": bilinear,
    "impulse": struck,
}
RESTORE: dict[str, Callable[..., ModalMap]] = {
    "zoh": unheld,
    "foh": unramped,
    "bilinear": unbilinear,
    "impulse": unstruck,
}


def mapped_diagonal(
    sys: LTI[Array], delta: Array, of_modes: Callable[..., ModalMap[Array]]
) -> LTI[Array]:
    """A diagonal system by a map of its modes; delta (...)."""
    new = of_modes(sys.A.poles, delta[..., None])
    return _with_signals(sys, Diagonal(new.poles), new)


def mapped_blocks(
    sys: LTI[Array],
    delta: Array,
    of_modes: Callable[..., ModalMap[Array]],
    structure: Callable[[Any, Array, ModalMap[Array]], PairBlocks[Array]],
) -> LTI[Array]:
    """A system of blocks, each as the complex number that it multiplies by; ``structure`` makes the
    new ones of (A, Δ, the map of its modes)."""
    A: Any = sys.A
    if is_complex(sys.B):
        B, C = signals_in_modes(A, sys.B, sys.C)
        modes = replace(sys, A=as_diagonal(A, sys.is_continuous), B=B, C=C)
        return mapped_diagonal(modes, delta, of_modes)
    (c, s), r, q = A.entries, A.real_poles, A.blocks
    xp, step = namespace(c), delta[..., None]
    pairs, reals = of_modes(complex_of(c, -s), step), of_modes(r, step)
    new = ModalMap(
        *(
            xp.concat([getattr(pairs, name), as_complex(getattr(reals, name))], axis=-1)
            for name in ("poles", "into", "out", "through")
        )
    )
    poles = xp.concat([complex_of(c, -s), as_complex(r)], axis=-1)
    in_modes = replace(
        sys, A=Diagonal(poles), B=complex_rows(sys.B, q), C=complex_columns(sys.C, q), D=None
    )
    mapped = _with_signals(in_modes, in_modes.A, new)
    b, c_modes = mapped.B, mapped.C
    B = xp.concat([real_rows(b[..., :q, :]), xp.real(b[..., q:, :])], axis=-2)
    C = xp.concat([real_columns(c_modes[..., :q]), xp.real(c_modes[..., q:])], axis=-1)
    D = sys.D
    if mapped.D is not None:
        D = xp.real(mapped.D) if D is None else D + xp.real(mapped.D)
    return replace(sys, A=structure(A, step, new), B=B, C=C, D=D)


def _with_signals(sys: LTI[Array], A: Diagonal[Array], new: ModalMap[Array]) -> LTI[Array]:
    D = sys.D
    if not holds(new.through == 0):
        through = (sys.C * new.through[..., None, :]) @ sys.B
        D = through if D is None else D + through
    B, C = sys.B * new.into[..., :, None], sys.C * new.out[..., None, :]
    return replace(sys, A=A, B=B, C=C, D=D)


def rotation_by_exponential(A: Any, step: Array, new: ModalMap) -> Rotation:
    """Blocks of e^x: radii that keep the digits of the damping."""
    (c, s), xp = A.entries, namespace(step)
    return Rotation(xp.exp(c * step), s * step, xp.exp(A.real_poles * step))


def rotation_by_bilinear(A: Any, step: Array, new: ModalMap) -> Rotation:
    """Blocks of (1 + h)/(1 − h) with h = x/2."""
    (c, s), q, xp = A.entries, A.blocks, namespace(step)
    half = complex_of(c, -s) * step / 2
    # |1 + h|² = |1 − h|² + 4 Re h: next to the circle no digit of the distance is lost.
    square = 1 + 4 * xp.real(half) / xp.abs(1 - half) ** 2
    radius = xp.sqrt(xp.where(square > 0, square, xp.zeros_like(square)))
    return Rotation(radius, -phase(new.poles[..., :q]), xp.real(new.poles[..., q:]))


def sampled_distances(A: Structure[Array], step: Array, method: str) -> Array:
    """(..., n) 1 − |z| in mode order of the samples z of the poles −δ + iω, by the exponential or
    Tustin's formula: from δ, not from z."""
    decay, rate = (to_double(x) * step[..., None] for x in A.decay_modes)
    xp = namespace(decay)
    if method != "bilinear":
        return -xp.expm1(-decay)
    # 1 − |1 + h|²/|1 − h|² with h = x/2
    gap = 8 * decay / ((2 + decay) ** 2 + rate**2)
    rest = xp.where(gap < 1, 1 - gap, xp.zeros_like(gap))
    return gap / (1 + xp.sqrt(rest))


def oscillation_by_logarithm(A: Any, step: Array, new: ModalMap) -> Oscillation:
    """Blocks of log λ: a damping that keeps the digits of the radius."""
    q, xp = A.blocks, namespace(step)
    radius, angle = (x[..., :q] for x in A.polar_modes)
    return Oscillation(-xp.log(radius) / step, -angle / step, xp.real(new.poles[..., q:]))


def oscillation_by_bilinear(A: Any, step: Array, new: ModalMap) -> Oscillation:
    """Blocks of (2/Δ)(z − 1)/(z + 1), of real part −(2/Δ)(1 − |z|²)/|z + 1|²."""
    (c, s), q, xp = A.entries, A.blocks, namespace(step)
    radius, _ = (x[..., :q] for x in A.polar_modes)
    gap = (1 - radius) * (1 + radius)
    decay = 2 * gap / (step * xp.abs(complex_of(c, -s) + 1) ** 2)
    return Oscillation(decay, -xp.imag(new.poles[..., :q]), xp.real(new.poles[..., q:]))


def held_inputs(poles: Array, delta: Array) -> tuple[Array, Array]:
    """(e^{λΔ}, (e^{λΔ} − 1)/λ): poles, and factors of the inputs, under a zero-order hold."""
    x = poles * delta
    return namespace(x).exp(x), delta * _phi_1(x)


def _phi_1(x: Array) -> Array:
    """(e^x − 1)/x = Σ x^k/(k + 1)!"""
    xp = namespace(x)
    zero = x == 0
    one = xp.ones_like(x)
    return xp.where(zero, one, xp.expm1(x) / xp.where(zero, one, x))


def _phi_2(x: Array) -> Array:
    """(e^x − 1 − x)/x² = Σ x^k/(k + 2)!"""
    xp = namespace(x)
    near = xp.abs(x) < 1
    small, large = xp.where(near, x, 0 * x), xp.where(near, 0 * x + 1, x)
    series = 0 * x
    for k in range(TERMS, -1, -1):
        series = (1 + small * series) / (k + 2)
    return xp.where(near, series, (_phi_1(large) - 1) / large)


def _logarithm(poles: Array) -> Array:
    """log λ, principal; of real poles real."""
    xp = namespace(poles)
    real = not is_complex(poles)
    if not holds(poles > 0 if real else poles != 0):
        raise_no_logarithm(poles)
    return xp.log(poles)


def raise_no_logarithm(poles: Array) -> None:
    """Say which pole has no real logarithm, or none at all."""
    xp = namespace(poles)
    worst = xp.min(xp.real(as_complex(poles)))
    seen = 0.0 if is_complex(poles) else float(worst)
    raise ArgumentError(
        f"a pole of A sits at {seen:.6g}, and no real system in continuous time is sampled to it: "
        "e^{λΔ} is never 0, and negative only of complex λ. method='bilinear' takes it where it is "
        "not −1"
    )
