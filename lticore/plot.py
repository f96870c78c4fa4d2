"""Pictures of systems and of what reduction does to them. Matplotlib is imported when called.

>>> A = lti.Rotation([0.9, 0.8], [0.3, 2.0])
>>> sys = lti.LTI(A, np.ones((4, 1)), np.ones((1, 4)))
>>> reduced = lti.balanced_truncation(sys, 2)
>>> ax = lti.plot.hankel_values(reduced)  # and the bounds over r
>>> ax = lti.plot.sigma(sys, reduced)  # both, error and bound
>>> ax = lti.plot.poles(sys, reduced)
>>> ax = lti.plot.step(sys, reduced)

Each function takes any number of single systems, or reductions, draws into the axes ``ax`` or into
new ones, and returns them. All systems of a picture have the same dt: it is in steps and rad/sample
for dt=True, in seconds and rad/s otherwise, which for dt=0 are in the unit of time of A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .analysis.impulse import impulse_response, step_response
from .analysis.response import frequency_response
from .arrays.namespaces import namespace, to_numpy
from .errors import ArgumentError, ShapeError
from .hankel.values import hankel_singular_values
from .reduction.result import Reduction
from .systems.doors import LinearLike, as_linear
from .systems.lti import LTI

#: What is drawn: a system, or a reduction.
Drawn: TypeAlias = LinearLike[Any] | Reduction[Any, Any]

#: Frequencies of a curve, evenly spaced in log ω …
_FREQUENCIES = 600
#: … and around the peak of each of the outermost poles, so many to each side.
_AROUND_PEAKS = 12
_PEAKS = 40
#: Points of a response in continuous time at least and at most, and in a turn of the fastest pole.
_POINTS = 600, 20_000
_IN_A_TURN = 16
#: Most steps of a response in discrete time, unless more are asked for.
_MOST_STEPS = 2000
#: Time constants of the slowest pole after which a response ends.
_TIME_CONSTANTS = 6.0
#: Poles that decay by less than this in a turn, or in a step, do not decide when …
_SLOWEST = 1e-4
#: … nor do those so much slower than the fastest, which may be 0 but for rounding.
_INTEGRATOR = 1e-13
#: Steps up to which each of them is marked.
_FEW = 60


@dataclass(frozen=True, eq=False)
class _Entry:
    """A system under its name, and the reduction that it came in."""

    sys: LTI
    label: str
    reduction: Reduction | None


# --- public -----------------------------------------------------------------------------------


def hankel_values(
    *systems: Drawn | list[Any], labels: Sequence[str] | None = None, ax: Any = None
) -> Any:
    """Hankel singular values σ_i over i, and on a second axis the bound 2 Σ_{i>r} σ_i of the h∞
    error over the order r.

    Parameters
    ----------
    systems : stable systems, or reductions, of which the values of the full system are drawn; or
        one list of them
    labels : one for each; default their orders
    ax : axes to draw into, optional

    Returns
    -------
    The axes of the values, logarithmic; those of the bound, in the same units and limits, are the
    last of ``ax.figure.axes``. Values that are 0 are not drawn.

    Raises
    ------
    UnstableSystemError
    ArgumentError
        For what is no system or a batch of them, labels that are too few, and without Matplotlib.
    """
    entries = _entries(systems, labels)
    values = [_values_of(entry) for entry in entries]
    ax = _axes(ax)
    bound_ax = ax.twinx()
    for index, (entry, sigma) in enumerate(zip(entries, values, strict=True)):
        color, n = f"C{index % 10}", len(sigma)
        tails = 2 * np.cumsum(sigma[::-1])[::-1]
        shown, bounded = sigma > 0, tails > 0
        ax.set_yscale("log")
        ax.plot(
            np.arange(1, n + 1)[shown],
            sigma[shown],
            "o",
            color=color,
            label=_with_full_order(entry, n) if labels is None else entry.label,
            **_markers(index, smallest=4),
        )
        style = "--" if index % 2 == 0 else ":"
        bound_ax.semilogy(
            np.arange(n)[bounded], tails[bounded], style, drawstyle="steps-post", color=color
        )
    low, high = zip(ax.get_ylim(), bound_ax.get_ylim(), strict=True)
    for one in (ax, bound_ax):
        one.set_ylim(min(low), max(high))
    ax.set_xlabel("index i of the value, order r of the bound")
    ax.set_ylabel("Hankel singular value σ$_i$ (dots)")
    bound_ax.set_ylabel("bound of the error, 2 Σ$_{i>r}$ σ$_i$ (dashed)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax


def sigma(
    *systems: Drawn | list[Any],
    frequencies: Any = None,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Singular values of the frequency response, both axes logarithmic.

    With a reduction after the system that was reduced its error is drawn as well, dashed, and the
    error bound, dotted; the error of other systems is one too, ``sys - small``.

    Parameters
    ----------
    systems : systems, or reductions; or one list of them. The first is the full one
    frequencies : (L,) ω > 0 in rad/s, or rad/sample for dt=True, optional; default a grid around
        the poles, up to π/dt
    labels : one for each; default their orders
    ax : axes to draw into, optional

    Returns
    -------
    The axes. Frequencies of poles on the boundary, where H is infinite, are left out.

    Raises
    ------
    ArgumentError
        As for :func:`hankel_values`, and for systems of different dt or signals.
    """
    entries = _entries(systems, labels)
    first = entries[0].sys
    _check_alike(entries, signals=any(entry.reduction is not None for entry in entries[1:]))
    omega = (
        _drawn_frequencies(entries) if frequencies is None else np.asarray(frequencies, dtype=float)
    )
    if omega.ndim != 1 or not np.all(omega > 0):
        raise ArgumentError("frequencies must be one-dimensional and positive: the axis is log ω")
    ax = _axes(ax)
    for index, entry in enumerate(entries):
        color = f"C{index % 10}"
        _draw_gains(ax, entry.sys, omega, entry.label, color, "-")
        if entry.reduction is None or index == 0:
            continue
        error = first - entry.sys
        _draw_gains(ax, error, omega, f"error, {entry.label}", color, "--")
        bound = entry.reduction.error_bound
        if bound is not None and 0 < float(bound) < np.inf:
            ax.axhline(float(bound), color=color, linestyle=":", label=f"bound, {entry.label}")
    if not first.is_continuous:
        ax.axvline(np.pi / _seconds_of_step(first), color="0.6", linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _widen(ax)
    ax.set_xlabel(f"ω in {_unit_of_frequency(first)}")
    ax.set_ylabel(f"singular values of H({_point(first)})")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax


def poles(*systems: Drawn | list[Any], labels: Sequence[str] | None = None, ax: Any = None) -> Any:
    """Poles in the complex plane, with the boundary of stability: the unit circle, or the imaginary
    axis for dt=0.

    Parameters and returns as for :func:`sigma`.
    """
    entries = _entries(systems, labels)
    _check_alike(entries)
    ax = _axes(ax)
    continuous = entries[0].sys.is_continuous
    if continuous:
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    else:
        turn = np.linspace(0, 2 * np.pi, 361)
        ax.plot(np.cos(turn), np.sin(turn), color="0.6", linewidth=0.8, zorder=0)
        ax.set_aspect("equal", adjustable="datalim")
    for index, entry in enumerate(entries):
        found = to_numpy(entry.sys.poles)
        marker = "x" if index % 2 == 0 else "o"
        ax.plot(
            found.real,
            found.imag,
            marker,
            color=f"C{index % 10}",
            label=entry.label,
            **_markers(index, smallest=6),
        )
    unit = " in 1/s" if continuous else ""
    ax.set_xlabel(f"Re λ{unit}")
    ax.set_ylabel(f"Im λ{unit}")
    ax.grid(True, alpha=0.3)
    ax.legend()
    return ax


def step(
    *systems: Drawn | list[Any],
    end: float | None = None,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Responses to unit steps, one picture for each output and input.

    Parameters
    ----------
    systems : systems, or reductions; or one list of them
    end : last time in seconds, or steps for dt=True, optional; default where the slowest poles have
        decayed to e⁻⁶
    labels : one for each; default their orders
    ax : axes to draw into, or a (p, m) array of axes, optional

    Returns
    -------
    The axes of systems of one input and output, else a (p, m) array of them. Real parts of complex
    responses are drawn in full, imaginary ones dotted.

    Raises
    ------
    ArgumentError
        As for :func:`sigma`.
    ShapeError
        For axes that are not one for each output and input.
    """
    return _draw_responses(systems, labels, ax, end, step_response, "step response")


def impulse(
    *systems: Drawn | list[Any],
    end: float | None = None,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Responses to unit impulses, as :func:`step`; without D δ(t) of continuous systems."""
    return _draw_responses(systems, labels, ax, end, impulse_response, "impulse response")


# --- curves -----------------------------------------------------------------------------------


def _markers(index: int, smallest: int) -> dict[str, Any]:
    """What reduced systems keep lies on or near what the full one has: marks in rings."""
    ring = index % 2 == 1
    return {"markersize": smallest + 3 * ring} | ({"markerfacecolor": "none"} if ring else {})


def _with_full_order(entry: _Entry, full: int) -> str:
    """A reduction shows the values of the system that it came from."""
    return entry.label if full == entry.sys.order else f"{entry.label} of {full}"


def _values_of(entry: _Entry) -> np.ndarray:
    known = None if entry.reduction is None else entry.reduction.singular_values
    return to_numpy(hankel_singular_values(entry.sys) if known is None else known)


def _draw_gains(ax: Any, sys: LTI, omega: np.ndarray, label: str, color: str, style: str) -> None:
    H = to_numpy(frequency_response(sys, _in_library(sys, omega * _seconds_of_step(sys))))
    there = np.all(np.isfinite(H), axis=(1, 2))
    gains = np.linalg.svd(H[there], compute_uv=False)
    for i, gain in enumerate(gains.T):
        drawn = gain > 0
        ax.plot(
            omega[there][drawn],
            gain[drawn],
            style,
            color=color,
            linewidth=1.5 if i == 0 else 0.8,
            label=label if i == 0 else None,
        )


def _widen(ax: Any) -> None:
    """At least a decade of gains: rounding is all that an allpass shows in less."""
    low, high = ax.get_ylim()
    if high < 10 * low:
        middle = float(np.sqrt(low * high))
        ax.set_ylim(middle / 10**0.5, middle * 10**0.5)


def _drawn_frequencies(entries: list[_Entry]) -> np.ndarray:
    """Even in log ω from a tenth of the slowest pole's to ten times the fastest's, or π/dt, and
    denser around the peaks of poles next to the boundary."""
    sys = entries[0].sys
    rates = _all_rates(entries)
    speed = np.abs(rates)
    fastest = float(speed.max(initial=0)) or 1.0
    top = 10 * fastest if sys.is_continuous else np.pi / _seconds_of_step(sys)
    slowest = float(speed[speed > _INTEGRATOR * fastest].min(initial=fastest))
    low = min(slowest / 10, top / 100)
    omega = [np.geomspace(low, top, _FREQUENCIES)]
    sharp = rates[np.argsort(np.abs(rates.real))[:_PEAKS]]
    spread = np.geomspace(1e-2, 1e2, _AROUND_PEAKS)
    for rate in sharp:
        width = max(abs(rate.real), 1e-12 * abs(rate))
        omega += [abs(rate.imag) + width * spread, abs(rate.imag) - width * spread]
        omega.append(np.array([abs(rate.imag)]))
    every = np.unique(np.concatenate(omega))
    return every[(every >= low) & (every <= top)]


def _all_rates(entries: list[_Entry]) -> np.ndarray:
    """The poles in 1/s, or per sample: log λ/dt in discrete time, without those at 0."""
    sys = entries[0].sys
    found = np.concatenate([to_numpy(entry.sys.poles) for entry in entries]).astype(complex)
    return found if sys.is_continuous else np.log(found[found != 0]) / _seconds_of_step(sys)


def _draw_responses(
    systems: Sequence[Any],
    labels: Sequence[str] | None,
    ax: Any,
    end: float | None,
    response: Callable[[LTI, Any], Any],
    name: str,
) -> Any:
    entries = _entries(systems, labels)
    _check_alike(entries, signals=True)
    first = entries[0].sys
    p, m = first.outputs, first.inputs
    axes = _grid(ax, p, m)
    times = _drawn_times(entries, end)
    for index, entry in enumerate(entries):
        given = _in_library(first, times) if first.is_continuous else len(times)
        y = to_numpy(response(entry.sys, given))
        style: dict[str, Any] = {"color": f"C{index % 10}", "linewidth": 1.2}
        if not first.is_continuous:
            style |= {"drawstyle": "steps-post"} if len(times) > _FEW else {"marker": "."}
        for i, j in np.ndindex(p, m):
            axes[i, j].plot(times, y[:, i, j].real, label=entry.label, **style)
            if np.iscomplexobj(y) and np.any(y[:, i, j].imag):
                axes[i, j].plot(times, y[:, i, j].imag, linestyle=":", **style)
    for i, j in np.ndindex(p, m):
        one = axes[i, j]
        one.grid(True, alpha=0.3)
        if p * m > 1:
            one.set_title(f"input {j + 1} → output {i + 1}", fontsize="small")
        if i == p - 1:
            one.set_xlabel(_time_label(first))
        if j == 0:
            one.set_ylabel(name)
    axes[0, 0].legend()
    return axes[0, 0] if p == m == 1 else axes


def _drawn_times(entries: list[_Entry], end: float | None) -> np.ndarray:
    sys = entries[0].sys
    if end is None:
        end = _end_of_response(_all_rates(entries), sys)
    elif not 0 < end < np.inf:
        raise ArgumentError(f"end must be a time > 0, but is {end!r}")
    if sys.is_continuous:
        turns = end * float(np.abs(_all_rates(entries).imag).max(initial=0)) / (2 * np.pi)
        count = int(np.clip(_IN_A_TURN * turns, *_POINTS))
        # Few digits make all distances exactly the same: one exponential serves them all.
        digits, exponent = np.frexp(end / count)
        return np.ldexp(np.ceil(digits * 1024) / 1024, exponent) * np.arange(count + 1)
    step = _seconds_of_step(sys)
    return step * np.arange(max(2, int(np.ceil(end / step)) + 1))


def _end_of_response(rates: np.ndarray, sys: LTI) -> float:
    """Some time constants of the slowest pole that decays, a few turns of those that do not."""
    step = _seconds_of_step(sys)
    if sys.is_continuous and not np.any(rates):
        return 10.0
    fastest = float(np.abs(rates).max(initial=0)) or 1 / step
    decay, speed = np.abs(rates.real), np.abs(rates)
    least = _SLOWEST * speed if sys.is_continuous else _SLOWEST / step
    slow = decay[(decay > least) & (speed > _INTEGRATOR * fastest)]
    end = _TIME_CONSTANTS / float(slow.min()) if len(slow) else 10 * _TIME_CONSTANTS / fastest
    return end if sys.is_continuous else min(max(end, 10 * step), _MOST_STEPS * step)


# --- systems ----------------------------------------------------------------------------------


def _entries(systems: Sequence[Any], labels: Sequence[str] | None) -> list[_Entry]:
    if len(systems) == 1 and isinstance(systems[0], list) and _are_systems(systems[0]):
        systems = systems[0]
    if not systems:
        raise ArgumentError("there is no system to draw")
    if labels is not None and len(labels) != len(systems):
        raise ArgumentError(f"{len(labels)} labels do not name {len(systems)} systems")
    entries = []
    for index, (name, given) in enumerate(zip(_names(len(systems)), systems, strict=True)):
        reduction = given if isinstance(given, Reduction) else None
        system: Any = given if reduction is None else reduction.system
        sys = as_linear(system, name, continuous=True)
        if sys.batch_shape:
            raise ArgumentError(
                f"{name} is a batch {sys.batch_shape}: draw its entries, {name}[index], one by one"
            )
        label = f"order {sys.order}" if labels is None else str(labels[index])
        entries.append(_Entry(sys, label, reduction))
    return entries


def _names(count: int) -> Iterator[str]:
    return iter(["sys"] if count == 1 else [f"systems[{i}]" for i in range(count)])


def _are_systems(given: list[Any]) -> bool:
    """Whether a list is one of systems, and not of the matrices of one."""
    return all(isinstance(x, Reduction) or hasattr(x, "dt") or isinstance(x, tuple) for x in given)


def _check_alike(entries: list[_Entry], signals: bool = False) -> None:
    first = entries[0].sys
    for entry in entries[1:]:
        sys = entry.sys
        if sys.dt != first.dt or (sys.dt is True) != (first.dt is True):
            raise ArgumentError(
                f"one picture has one time, but the systems have dt = {first.dt} and dt = {sys.dt}"
            )
        if signals and (sys.inputs, sys.outputs) != (first.inputs, first.outputs):
            raise ArgumentError(
                f"one picture has the same signals, but the systems have {first.inputs} inputs and "
                f"{first.outputs} outputs, and {sys.inputs} and {sys.outputs}"
            )


def _in_library(sys: LTI, x: np.ndarray) -> Any:
    """On the device of the system."""
    return namespace(sys.B).asarray(x)


def _seconds_of_step(sys: LTI) -> float:
    """Seconds of a step, 1 for those without a unit and in continuous time."""
    return 1.0 if sys.dt is True or sys.is_continuous else float(sys.dt)


def _unit_of_frequency(sys: LTI) -> str:
    return "rad/sample" if sys.dt is True else "rad/s"


def _point(sys: LTI) -> str:
    """Where the transfer function is taken."""
    if sys.is_continuous:
        return "iω"
    return "e$^{iω}$" if sys.dt is True else "e$^{iω dt}$"


def _time_label(sys: LTI) -> str:
    return "step k" if sys.dt is True else "t in s"


# --- axes -------------------------------------------------------------------------------------


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ArgumentError("pictures need Matplotlib: pip install 'lticore[plot]'") from error
    return pyplot


def _axes(ax: Any) -> Any:
    return _pyplot().subplots(layout="constrained")[1] if ax is None else ax


def _grid(ax: Any, p: int, m: int) -> Any:
    if ax is None:
        size = (1.6 + 4.2 * m, 1.2 + 2.6 * p)
        return _pyplot().subplots(
            p, m, sharex=True, squeeze=False, figsize=size, layout="constrained"
        )[1]
    axes = np.asarray(ax, dtype=object)
    if axes.size != p * m:
        raise ShapeError(f"ax holds {axes.size} axes, but {p} outputs and {m} inputs need {p * m}")
    return axes.reshape(p, m)
