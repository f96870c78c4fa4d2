"""Dashes and markers of the Pathfinder pictures, drawn finer and resized as the originals were.

The original code draws with PIL on a canvas A times finer and resizes with a Lanczos filter to
bytes. A snake only ever points in finitely many directions, so every dash is drawn once, here.

Source: D. Linsley et al., Learning long-range spatial dependencies with horizontal gated recurrent
units, 2018; the published generator, in the version of 2019.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

#: How much finer the canvas is that lines and discs are drawn on.
FINER = 2


class DashTable(NamedTuple):  # which compiled functions can take, unlike a dataclass
    """All dashes of one length, thickness and margin.

    degrees : (360,) directions −180°, …, 179° of first dashes, in radians
    ends : (K, 2) ends (y, x) that a dash may have, relative to the pivot it starts from
    directions : (K,) from the pivot to the end
    images, masks : (360 + K, side, side) in [0, 1], what a dash paints and what it occupies, about
        the point it is drawn from: first dashes from their tail, others backwards from their end
    disc : (·, 2) offsets within one margin
    kernels : (360, ·, 2) offsets that must be free for a first dash to be drawn from a pixel; the
        first one is repeated where a dash has fewer
    usable : (360,) whether a first dash may have this direction. The original dilates the mask with
        the kernel; where at a border no part of the kernel lies in the picture, OpenCV yields its
        lowest number, and the original then gives the snake up. So it does for every direction
        whose kernel does not reach to all four quadrants.
    """

    length: int
    margin: int
    degrees: NDArray[np.float64]
    ends: NDArray[np.int64]
    directions: NDArray[np.float64]
    images: NDArray[np.float64]
    masks: NDArray[np.float64]
    disc: NDArray[np.int64]
    kernels: NDArray[np.int64]
    usable: NDArray[np.bool_]


def dash_table(length: int, thickness: float, margin: int) -> DashTable:
    """Draw the dashes of ``length`` pixels with ``margin`` free pixels around them."""
    degrees = np.arange(-180, 180) * np.pi / 180
    ends = _ends(length + margin)
    directions = np.arctan2(ends[:, 0], ends[:, 1])
    backwards = np.where(directions < 0, directions + np.pi, directions - np.pi)
    angles = np.concatenate([degrees, backwards])
    drawn = [_draw_dash(angle, length, thickness, margin) for angle in angles]
    masks = np.array([mask for _, mask in drawn])
    kernels = _kernels(masks[:360], length + margin)
    return DashTable(
        length=length,
        margin=margin,
        degrees=degrees,
        ends=ends,
        directions=directions,
        images=np.array([image for image, _ in drawn]),
        masks=masks,
        disc=np.argwhere(_disc(margin)) - margin,
        kernels=kernels,
        usable=_in_every_quadrant(kernels),
    )


@lru_cache(maxsize=1024)  # all positions in a picture of 32² pixels
def draw_disc(window: int, y: int, x: int, radius: float) -> NDArray[np.float64]:
    """A disc about pixel (y, x) in a picture of ``window``² pixels, values in [0, 1]."""
    rows, columns = np.ogrid[: window * FINER, : window * FINER]
    inside = (rows - y * FINER) ** 2 + (columns - x * FINER) ** 2 <= (radius * FINER) ** 2
    return _resized(255 * inside.astype(np.uint8), window)


def _moved(position: tuple[int, int], angle: float, distance: float) -> list[int]:
    """(y, x) moved in the direction ``angle``; both coordinates are rounded up."""
    return [
        math.ceil(position[0] + distance * math.sin(angle)),
        math.ceil(position[1] + distance * math.cos(angle)),
    ]


def _ends(radius: int) -> NDArray[np.int64]:
    """Pixels on the circle about 0, one sample per pixel of its length, without repetition."""
    angles = np.arange(0, 360, 360 / (2 * np.pi * radius)) * np.pi / 180
    # The original truncates coordinates in the picture; far from 0 rounding noise plays no part.
    far = 1000
    circle = np.stack([far + radius * np.sin(angles), far + radius * np.cos(angles)], axis=1)
    return np.unique(circle.astype(np.int64) - far, axis=0)


def _kernels(masks: NDArray[np.float64], reach: int) -> NDArray[np.int64]:
    """Pixels that each dash fills entirely.

    The original draws it one pixel beside the middle of a kernel that reaches ``reach`` pixels
    to each side, hence the shift and the cut.
    """
    half = masks.shape[1] // 2
    kernels = [np.argwhere(mask == 1) - half + 1 for mask in masks]
    kernels = [kernel[(kernel <= reach).all(axis=1)] for kernel in kernels]
    most = max(map(len, kernels))
    return np.array([np.concatenate([k, np.repeat(k[:1], most - len(k), axis=0)]) for k in kernels])


def _in_every_quadrant(kernels: NDArray[np.int64]) -> NDArray[np.bool_]:
    y, x = kernels[..., 0], kernels[..., 1]
    quadrants = [(a * y >= 0) & (b * x >= 0) for a in (-1, 1) for b in (-1, 1)]
    return np.all([quadrant.any(axis=1) for quadrant in quadrants], axis=0)


def _draw_dash(
    angle: float, length: int, thickness: float, margin: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = length + math.ceil(thickness) + margin
    centre = half * FINER
    y, x = _moved((centre, centre), angle, length * FINER)
    canvas = Image.new("F", (2 * centre + 1, 2 * centre + 1), 0.0)
    line = [(centre, centre), (x, y)]
    ImageDraw.Draw(canvas).line(line, fill=255.0, width=round(thickness * FINER))
    fine = np.asarray(canvas).astype(np.uint8)
    occupied = ndimage.grey_dilation(fine, footprint=_disc(margin * FINER), mode="constant")
    return _resized(fine, 2 * half + 1), _resized(occupied, 2 * half + 1)


def _disc(radius: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


def _resized(fine: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    image = Image.fromarray(fine).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image) / 255
