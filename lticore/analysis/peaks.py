"""The way to the highest gains of a batch of systems, of all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.linalg import adjoint
from ..systems.signals import scaled, size_exponent

#: Local maxima that are followed to their tops, for each system.
_PEAKS = 8
#: Shares of the way to the next sample on either side in the first step: peaks can be many decades
#: narrower than the distance of the samples.
_FIRST = np.geomspace(1e-14, 1, 15)[:-1]
#: Steps towards a top, half the width of what each looks at, as a share of the last one's, and the
#: share of a gain by which the last one raises the highest top at most.
_STEPS, _NARROWER, _TOP = 20, 1 / 64, 1e-12
#: Squares between this and its reciprocal are right as they are computed.
_PLAIN = 2.0**-800

#: Numbers at work at once of several systems, which the cache holds, and of one.
_CACHED, _MANY = 1 << 14, 1 << 18

#: (rows, ω) ↦ gains, (k, L), of the systems of a batch at the indices rows, (k,), at ω, (k, L).
Gain = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Peaks:
    """The highest gains known of each system of a batch, over the circle of phases."""

    def __init__(self, gain: Gain, even: bool, count: int) -> None:
        """``even`` gains are the same at θ and −θ."""
        self.gain, self.even = gain, even
        self.tops, self.levels = np.zeros(count), np.full(count, -1.0)

    def raise_near(self, rows: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Follow the local maxima of the gains at phases in [−π, π], (k, L), to their tops; the
        least of these gains, (k,)."""
        if self.even:
            ends = np.broadcast_to([0, np.pi], (len(rows), 2))
            phases = np.concatenate([np.abs(phases), ends], axis=1)
        phases = np.sort(phases, axis=1)
        gains = self.gain(rows, phases)
        tops, levels = highest_on_circle(self.gain, rows, phases, gains, self.even)
        higher = levels > self.levels[rows]
        self.tops[rows[higher]], self.levels[rows[higher]] = tops[higher], levels[higher]
        return gains.min(axis=1)

    def are_next_to(
        self, rows: np.ndarray, crossings: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """(k,) whether the gains at the crossings on both sides of each peak reach the levels."""
        if not len(rows):
            return np.zeros(0, dtype=bool)
        tops = self.tops[rows]
        ways = np.mod(crossings - tops[:, None], 2 * np.pi)
        nearest = np.stack([np.nanmin(ways, axis=1), np.nanmax(ways, axis=1)], axis=1)
        return np.all(self.gain(rows, tops[:, None] + nearest) >= levels[:, None], axis=1)

    def raise_between(
        self, rows: np.ndarray, crossings: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """(k,) of which systems gains exceed the levels, and those known, between the crossings of
        the levels, (k, L) and ascending, with NaN behind the last: these are raised then."""
        # Between two neighbouring crossings the gain stays above the level, or below it.
        following = np.roll(crossings, -1, axis=1)
        end = np.isnan(following) | (np.arange(crossings.shape[1]) == crossings.shape[1] - 1)
        middles = (crossings + np.where(end, crossings[:, :1] + 2 * np.pi, following)) / 2
        middles = np.where(middles > np.pi, middles - 2 * np.pi, middles)
        tops, some = self.tops[rows, None], ~np.isnan(crossings)
        crossings, middles = (np.where(some, X, tops) for X in (crossings, middles))
        enough = np.maximum(levels, self.levels[rows])[:, None]
        higher = np.any(some & (self.gain(rows, middles) > enough), axis=1)
        points = np.concatenate([crossings, middles, tops], axis=1)
        if higher.any():
            self.raise_near(rows[higher], points[higher])
        return higher


def gains_of(respond: Any, even: bool, width: int) -> Gain:
    """σ_max of responses, a few frequencies at a time: of each ``width`` numbers are at work."""

    def gain(rows: np.ndarray, omega: np.ndarray) -> np.ndarray:
        count, length = omega.shape
        omega = np.abs(omega) if even else omega
        columns = max(1, _MANY // max(width, 1))
        step = max(1, _CACHED // max(1, width * min(columns, length)))
        found = np.empty(omega.shape)
        for i in range(0, count, step):
            for j in range(0, length, columns):
                here = slice(i, i + step), slice(j, j + columns)
                found[here] = largest_singular_values(respond(rows[here[0]], omega[here]))
        return found

    return gain


def largest_singular_values(H: np.ndarray) -> np.ndarray:
    """(...) ‖H‖₂ by its square H Hᴴ, which keeps the digits of the largest value."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = _largest_squares(H)
        if np.all((squares > _PLAIN) & (squares < 1 / _PLAIN)):
            return np.sqrt(squares)
        # Squares of what is small beside ‖B‖‖C‖, as D may be, are no numbers.
        exponent = size_exponent(H)
        squares = _largest_squares(scaled(H, -exponent[..., None, None]))
        return scaled(np.sqrt(squares), exponent)


def _largest_squares(H: np.ndarray) -> np.ndarray:
    H = H if H.shape[-2] <= H.shape[-1] else np.swapaxes(H, -1, -2)
    if H.shape[-2] > 2:
        return np.maximum(np.linalg.eigvalsh(H @ adjoint(H))[..., -1], 0)
    squares = [_square_sums(H[..., i, :]) for i in range(H.shape[-2])]
    if len(squares) == 1:
        return squares[0]
    a, b = squares
    product = (H[..., 0, :] * H[..., 1, :].conj()).sum(axis=-1)
    return (a + b) / 2 + np.hypot((a - b) / 2, np.abs(product))


def _square_sums(x: np.ndarray) -> np.ndarray:
    return (np.square(x.real) + np.square(x.imag)).sum(axis=-1)


def highest_on_circle(
    gain: Gain, rows: np.ndarray, phases: np.ndarray, gains: np.ndarray, even: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(phase, gain), (k,), at the highest of the local maxima near ascending samples (k, L) over
    the whole circle; of ``even`` gains over the half of it that begins at 0 and ends at π."""
    new = np.diff(phases, axis=1, prepend=-np.inf) > 0
    last = np.diff(phases, axis=1, append=np.inf) > 0
    before, behind = np.roll(phases, 1, axis=1), np.roll(phases, -1, axis=1)
    before = np.maximum.accumulate(np.where(new & (before < phases), before, -np.inf), axis=1)
    behind = np.where(last & (behind > phases), behind, np.inf)
    behind = np.minimum.accumulate(behind[:, ::-1], axis=1)[:, ::-1]
    if even:
        first, end = -behind[:, :1], 2 * np.pi - before[:, -1:]
    else:
        first, end = phases[:, -1:] - 2 * np.pi, phases[:, :1] + 2 * np.pi
    below = phases - np.where(np.isfinite(before), before, first)
    above = np.where(np.isfinite(behind), behind, end) - phases
    left, right = np.roll(gains, 1, axis=1), np.roll(gains, -1, axis=1)
    if even:
        left[:, 0], right[:, -1] = gains[:, 1], gains[:, -2]
    peak = new & (gains >= left) & (gains >= right)
    tops, levels = _highest(gain, rows, peak, phases, gains, below, above)
    return np.pi - np.abs(np.pi - np.abs(tops)) if even else tops, levels


def highest_on_line(
    gain: Gain, rows: np.ndarray, omega: np.ndarray, gains: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(ω, gain), (k,), at the highest of the maxima near each of a few frequencies, (k, L), that
    are no further away than halfway to zero."""
    way = np.abs(omega) / 2
    return _highest(gain, rows, np.ones(omega.shape, dtype=bool), omega, gains, way, way)


def _highest(
    gain: Gain,
    rows: np.ndarray,
    peak: np.ndarray,
    points: np.ndarray,
    gains: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(ω, gain) at the highest top near the points that are a ``peak``, no further below and above
    them than given, all (k, L)."""
    order = np.argsort(np.where(peak, -gains, np.inf), axis=1, kind="stable")[:, :_PEAKS]
    best_top, best = (np.take_along_axis(X, order[:, :1], axis=1)[:, 0] for X in (points, gains))
    entry, place = np.nonzero(np.take_along_axis(peak, order, axis=1))
    column = order[entry, place]
    tops, highest, below, above = (X[entry, column] for X in (points, gains, below, above))
    gain_below = gain_above = np.zeros(len(tops))
    for step in range(_STEPS):
        known = best.copy()
        if step:
            offsets = _next_offsets(below, above, gain_below, gain_above, highest)
        else:
            offsets = np.concatenate([-below[:, None] * _FIRST, above[:, None] * _FIRST], axis=1)
        there = tops[:, None] + np.sort(offsets, axis=1)
        values = gain(rows[entry], there)
        # With the top itself and the ends of the way, as far as they are known.
        there = np.concatenate([np.stack([tops, tops - below, tops + above], 1), there], axis=1)
        values = np.concatenate([np.stack([highest, gain_below, gain_above], 1), values], axis=1)
        centre, pairs = np.argmax(values, axis=1), np.arange(len(tops))
        tops, highest = there[pairs, centre], values[pairs, centre]
        distance = there - tops[:, None]
        below, gain_below = _next_lower(-distance, values)
        above, gain_above = _next_lower(distance, values)
        np.maximum.at(best, entry, highest)
        new = (highest == best[entry]) & (highest > known[entry])
        best_top[entry[new]] = tops[new]
        going = (best > known * (1 + _TOP)) | (step == 0)
        left = going[entry] & (highest >= best[entry] / 2)
        if not left.any():
            break
        entry, tops, highest = entry[left], tops[left], highest[left]
        below, above, gain_below, gain_above = (
            x[left] for x in (below, above, gain_below, gain_above)
        )
    return best_top, best


def _next_lower(distance: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) the least positive distances, 0 where no number lies between, and the values there."""
    far = np.where(distance > 0, distance, np.inf)
    place = np.argmin(far, axis=1)
    pairs = np.arange(len(far))
    least = far[pairs, place]
    return np.where(np.isfinite(least), least, 0), values[pairs, place]


def _next_offsets(
    below: np.ndarray,
    above: np.ndarray,
    gain_below: np.ndarray,
    gain_above: np.ndarray,
    highest: np.ndarray,
) -> np.ndarray:
    """(k, 5) where to look next to tops between two lower points: halfway to both, and round the
    top of the peak 1/√(1 + x²) through the three, whose shape peaks have from one pole."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        down, up = (
            np.minimum((highest / g) ** 2 - 1, 1 / _TOP) / way
            for g, way in ((gain_below, below), (gain_above, above))
        )
        vertex = (down * above - up * below) / (2 * (down + up))
    vertex = np.where(np.isfinite(vertex), vertex, 0)
    width = _NARROWER * (below + above)
    offsets = [-below / 2, above / 2, vertex - width, vertex, vertex + width]
    return np.clip(np.stack(offsets, axis=1), -below[:, None] / 2, above[:, None] / 2)
