"""Snakes of dashes that keep clear of each other: the drawing of a Pathfinder picture.

Positions are (y, x); a step of length d in the direction t leads to (y + d sin t, x + d cos t),
both rounded up. The mask says how much of each pixel is occupied, in [0, 1]. A snake is grown dash
by dash; its newest dash enters the mask one step later, so that it does not stand in its own way.

Source: the published generator of D. Linsley et al., 2018, in the version of 2019.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from .dashes import DashTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TRIES = 3  # of a dash
_FREE = 0.3  # a pixel occupied no more than this is free
_OVERLAP = 1.8  # from here on mask and dash are said to overlap
_LEAST_WEIGHT = 1e-4
_LEAST_FREE_SHARE = 0.01  # below this no distractor is begun


@numba.njit(nogil=True, cache=True)
def grow_targets(
    mask: Floats,
    dashes: Ints,
    distance: int,
    padding: int,
    continuity: float,
    table: DashTable,
    random: np.random.Generator,
) -> None:
    """Two snakes begun ``distance`` apart, from scratch until neither gets stuck.

    mask : (H, H), overwritten
    dashes : (2, count, 3), overwritten by the position (y, x) and number of each dash
    """
    while True:
        mask[:] = 0
        _fill_border(mask, padding)
        if _try_targets(mask, dashes, distance, continuity, table, random):
            return


@numba.njit(nogil=True, cache=True)
def grow_distractor(
    mask: Floats, dashes: Ints, continuity: float, table: DashTable, random: np.random.Generator
) -> bool:
    """One more snake clear of all others; False, with the mask unchanged, when it gets stuck."""
    if (mask <= _FREE).sum() < _LEAST_FREE_SHARE * mask.size:
        return False
    found, y, x, number = _first_dash(mask, 1, table, random)
    if not found:
        return False
    before = mask.copy()
    pivot = np.empty(2, np.int64)
    angle = _begin(dashes, pivot, y, x, number, table)
    for step in range(1, len(dashes)):
        grown, angle = _extend(mask, dashes, step, pivot, angle, continuity, table, random)
        if not grown:
            mask[:] = before
            return False
    _occupy(mask, dashes[-1], table)
    return True


@numba.njit(nogil=True, cache=True)
def paint_snake(image: Floats, dashes: Ints, contrast: float, table: DashTable) -> None:
    """image = max(image, contrast · dash) for every dash."""
    for dash in dashes:
        _paint(image, dash[0], dash[1], table.images[dash[2]], contrast)


@numba.njit(nogil=True, cache=True)
def _try_targets(
    mask: Floats,
    dashes: Ints,
    distance: int,
    continuity: float,
    table: DashTable,
    random: np.random.Generator,
) -> bool:
    pivots = np.empty((2, 2), np.int64)
    angles = np.empty(2)

    found, y, x, number = _first_dash(mask, 2 * distance, table, random)
    if not found:
        return False
    angles[0] = _begin(dashes[0], pivots[0], y, x, number, table)

    found, second_y, second_x = False, 0, 0
    for _ in range(_TRIES):
        number = int(random.random() * 360)
        around = int(random.random() * 360) * np.pi / 180
        second_y = int(np.rint(y + distance * math.sin(around)))
        second_x = int(np.rint(x + distance * math.cos(around)))
        if _fits(second_y, second_x, table.degrees[number], table, len(mask)):
            found = True
            break
    if not found:
        return False
    angles[1] = _begin(dashes[1], pivots[1], second_y, second_x, number, table)

    for step in range(1, dashes.shape[1]):
        for snake in range(2):
            grown, angles[snake] = _extend(
                mask, dashes[snake], step, pivots[snake], angles[snake], continuity, table, random
            )
            if not grown:
                return False
    # Of the first snake the newest dash stays outside the mask: so does the original.
    _occupy(mask, dashes[1, -1], table)
    return True


@numba.njit(nogil=True, cache=True)
def _first_dash(
    mask: Floats, band: int, table: DashTable, random: np.random.Generator
) -> tuple[bool, int, int, int]:
    """A direction and a tail from which the dash is free: (found, y, x, number of the dash)."""
    for _ in range(_TRIES):
        number = int(random.random() * 360)
        if not table.usable[number]:
            return False, 0, 0, 0
        found, y, x = _free_tail(mask, band, table.kernels[number], random)
        if not found:
            return False, 0, 0, 0
        if _fits(y, x, table.degrees[number], table, len(mask)):
            return True, y, x, number
    return False, 0, 0, 0


@numba.njit(nogil=True, cache=True)
def _free_tail(
    mask: Floats, band: int, kernel: Ints, random: np.random.Generator
) -> tuple[bool, int, int]:
    """A uniform pixel from which the kernel meets neither the mask nor the ``band`` at the border.

    By trial, which is uniform over the free pixels, and by a list of them when that takes long.
    """
    window = len(mask)
    for _ in range(4 * window):
        y, x = int(random.random() * window), int(random.random() * window)
        if _is_free(mask, band, kernel, y, x):
            return True, y, x
    free = np.empty((window * window, 2), np.int64)
    count = 0
    for y in range(window):
        for x in range(window):
            if _is_free(mask, band, kernel, y, x):
                free[count] = y, x
                count += 1
    if count == 0:
        return False, 0, 0
    y, x = free[int(random.random() * count)]
    return True, y, x


@numba.njit(nogil=True, cache=True)
def _is_free(mask: Floats, band: int, kernel: Ints, y: int, x: int) -> bool:
    window = len(mask)
    for k in range(len(kernel)):
        row, column = y + kernel[k, 0], x + kernel[k, 1]
        if 0 <= row < window and 0 <= column < window:
            in_band = min(row, column) < band or max(row, column) >= window - band
            if in_band or mask[row, column] > _FREE:
                return False
    return True


@numba.njit(nogil=True, cache=True)
def _fits(y: int, x: int, angle: float, table: DashTable, window: int) -> bool:
    """Whether the head of a first dash and the pivot behind its tail lie in the picture."""
    head_y, head_x = _move(y, x, angle, table.length)
    pivot_y, pivot_x = _move(head_y, head_x, _opposite(angle), table.length + table.margin)
    return min(head_y, head_x, pivot_y, pivot_x) >= 0 and (
        max(head_y, head_x, pivot_y, pivot_x) < window
    )


@numba.njit(nogil=True, cache=True)
def _begin(dashes: Ints, pivot: Ints, y: int, x: int, number: int, table: DashTable) -> float:
    """Note the first dash; its direction."""
    angle = table.degrees[number]
    dashes[0] = y, x, number
    head_y, head_x = _move(y, x, angle, table.length)
    pivot[0], pivot[1] = _move(head_y, head_x, _opposite(angle), table.length + table.margin)
    return angle


@numba.njit(nogil=True, cache=True)
def _extend(
    mask: Floats,
    dashes: Ints,
    step: int,
    pivot: Ints,
    angle: float,
    continuity: float,
    table: DashTable,
    random: np.random.Generator,
) -> tuple[bool, float]:
    """Append a dash: (whether it could be, its direction).

    It starts at the new pivot, one margin behind the end of the last dash. Its end e is drawn with
    weight cos²(min(c·δ, π/2))·(1 − M(e)), δ being the turn and M the mask made one margin wider.
    """
    ends, directions = table.ends, table.directions
    window = len(mask)
    pivot[0], pivot[1] = _move(pivot[0], pivot[1], angle, table.length + 2 * table.margin)
    sums = np.empty(len(ends))
    total = 0.0
    for k in range(len(ends)):
        y, x = pivot[0] + ends[k, 0], pivot[1] + ends[k, 1]
        turn = abs(directions[k] - angle)
        turn = min(turn, 2 * np.pi - turn) * continuity
        if turn < np.pi / 2 and 0 <= y < window and 0 <= x < window:
            total += math.cos(turn) ** 2 * (1 - _largest_near(mask, y, x, table.disc))
        sums[k] = total
    if total < _LEAST_WEIGHT:
        return False, angle
    for _ in range(_TRIES):
        end = int(np.searchsorted(sums, random.random() * total, side="right"))
        y, x = pivot[0] + ends[end, 0], pivot[1] + ends[end, 1]
        if _largest_sum(mask, y, x, table.masks[360 + end]) < _OVERLAP:
            _occupy(mask, dashes[step - 1], table)
            dashes[step] = y, x, 360 + end
            return True, directions[end]
    return False, angle


@numba.njit(nogil=True, cache=True)
def _largest_near(mask: Floats, y: int, x: int, disc: Ints) -> float:
    window = mask.shape[0]
    largest = 0.0
    for k in range(len(disc)):
        row, column = y + disc[k, 0], x + disc[k, 1]
        if 0 <= row < window and 0 <= column < window:
            largest = max(largest, mask[row, column])
    return largest


@numba.njit(nogil=True, cache=True)
def _largest_sum(mask: Floats, y: int, x: int, patch: Floats) -> float:
    """Largest sum of mask and dash; where there is no dash it is at most 1 and does not count."""
    window, half = mask.shape[0], patch.shape[0] // 2
    largest = 0.0
    for row in range(max(y - half, 0), min(y + half + 1, window)):
        for column in range(max(x - half, 0), min(x + half + 1, window)):
            occupied = mask[row, column] + patch[row - y + half, column - x + half]
            largest = max(largest, occupied)
    return largest


@numba.njit(nogil=True, cache=True)
def _occupy(mask: Floats, dash: Ints, table: DashTable) -> None:
    _paint(mask, dash[0], dash[1], table.masks[dash[2]], 1.0)


@numba.njit(nogil=True, cache=True)
def _paint(image: Floats, y: int, x: int, patch: Floats, contrast: float) -> None:
    """image = max(image, contrast·patch) about (y, x), cut at the border."""
    window, half = image.shape[0], patch.shape[0] // 2
    for row in range(max(y - half, 0), min(y + half + 1, window)):
        for column in range(max(x - half, 0), min(x + half + 1, window)):
            value = contrast * patch[row - y + half, column - x + half]
            image[row, column] = max(image[row, column], value)


@numba.njit(nogil=True, cache=True)
def _fill_border(mask: Floats, width: int) -> None:
    """Set ``width`` pixels at each side to 1."""
    mask[:width] = 1
    mask[-width:] = 1
    mask[:, :width] = 1
    mask[:, -width:] = 1


@numba.njit(nogil=True, cache=True)
def _move(y: int, x: int, angle: float, distance: float) -> tuple[int, int]:
    return (
        math.ceil(y + distance * math.sin(angle)),
        math.ceil(x + distance * math.cos(angle)),
    )


@numba.njit(nogil=True, cache=True)
def _opposite(angle: float) -> float:
    return angle + np.pi if angle < 0 else angle - np.pi
