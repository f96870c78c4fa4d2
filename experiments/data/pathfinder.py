"""Pathfinder: are the two discs the ends of the same dashed snake? 32², 64² or 128² pixels.

A picture holds two long snakes, begun near each other, and short distractors. Half of the pictures
(label 1) have discs on both ends of one long snake, the others on one end of each. Pixels enter row
by row, in [0, 1]: 1 024 steps (PATH), 4 096, or 16 384 (PATH-X). "Hard" is the contour length 14.

Sources: Y. Tay et al., Long Range Arena, 2021; D. Linsley et al., Learning long-range spatial
dependencies with horizontal gated recurrent units, 2018, and the published generator of 2019 with
the Long Range Arena's parameters. The published pictures carry no seed, so these are other draws
from the same distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lticore.errors import ArgumentError

from .base import SequenceData
from .cache import Arrays, generated
from .dashes import dash_table, draw_disc
from .generate import in_parallel, random_stream
from .images import image_split
from .snakes import grow_distractor, grow_targets, paint_snake

_ATTEMPTS = 5  # at each distractor; then it is left out
_PART = 100


@dataclass(frozen=True)
class PathfinderConfig:
    """Parameters of the Long Range Arena for one size of pictures; lengths in pixels."""

    window: int
    distance: int
    """Between the beginnings of the long snakes."""
    marker_radius: float
    dash_length: int
    thickness: float
    margins: tuple[int, ...]
    """Free pixels around a dash: one is drawn per picture."""
    continuity: float
    """c ≥ 1: a dash turns by less than 90°/c."""
    distractors: int
    distractor_contrast: float
    target_contrast: float
    padding: int = 1
    dashes: int = 14
    """Dashes of a long snake; a distractor has a third."""


#: The "hard" pictures by their side. Targets have the contrast paddle times snake, distractors
#: that of the snake alone.
CONFIGS = {
    32: PathfinderConfig(
        window=32,
        distance=7,
        marker_radius=1.5,
        dash_length=2,
        thickness=0.5,
        margins=(1,),
        continuity=1.0,
        distractors=5,
        distractor_contrast=2.0,
        target_contrast=1.5,
    ),
    64: PathfinderConfig(
        window=64,
        distance=12,
        marker_radius=2.5,
        dash_length=5,
        thickness=1.0,
        margins=(1,),
        continuity=1.8,
        distractors=5,
        distractor_contrast=0.8,
        target_contrast=0.8,
    ),
    128: PathfinderConfig(
        window=128,
        distance=20,
        marker_radius=3.0,
        dash_length=5,
        thickness=1.5,
        margins=(2, 3),
        continuity=1.8,
        distractors=8,
        distractor_contrast=0.9,
        target_contrast=0.9,
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture with all that is known of it.

    pixels : (H, H) uint8
    label : 1 when the discs mark the two ends of one snake
    margin : free pixels around a dash
    markers : (2, 2) positions (y, x) of the discs
    targets : (2, dashes, 3) dashes of the long snakes: position (y, x), which is the tail of the
        first dash and the far end of the others, and number in the table of dashes
    distractors : the same for each short snake that found room, (dashes, 3)
    """

    pixels: NDArray[np.uint8]
    label: int
    margin: int
    markers: NDArray[np.int64]
    targets: NDArray[np.int64]
    distractors: list[NDArray[np.int64]]


def load_pathfinder(
    root: Path | str | None = None,
    *,
    side: int = 32,
    size: int = 200_000,
    seed: int = 0,
    workers: int | None = None,
) -> SequenceData:
    """``size`` pictures: 80 % training, 10 % validation, 10 % test, generated once and stored."""
    if side not in CONFIGS:
        raise ArgumentError(f"side must be one of {', '.join(map(str, CONFIGS))}, but is {side}")
    if size < 10:
        raise ArgumentError(f"size must be at least 10, but is {size}")
    arrays = generated(
        f"pathfinder{side}-{size}-seed{seed}.npz",
        lambda: generate_pathfinder(CONFIGS[side], size, seed, workers),
        root,
    )
    pictures = image_split(arrays["images"], arrays["label"])
    held = size // 10
    train, validation, test = torch.arange(size).split((size - 2 * held, held, held))
    return SequenceData(
        name="pathfinder" if side == 32 else f"pathfinder{side}",
        length=side * side,
        classes=2,
        channels=1,
        train=pictures.select(train),
        validation=pictures.select(validation),
        test=pictures.select(test),
    )


def generate_pathfinder(
    config: PathfinderConfig, size: int, seed: int, workers: int | None = None
) -> Arrays:
    """``size`` pictures (N, H, H) and labels; picture i depends on ``seed`` and i only."""
    images = np.empty((size, config.window, config.window), np.uint8)
    labels = np.empty(size, np.uint8)

    def draw(first: int) -> None:
        for i in range(first, min(first + _PART, size)):
            picture = draw_picture(config, random_stream(seed, i))
            images[i], labels[i] = picture.pixels, picture.label

    parts = range(0, size, _PART)
    for _ in in_parallel(draw, parts, workers=workers, label=f"pathfinder{config.window}"):
        pass
    return {"images": images, "label": labels}


def draw_picture(config: PathfinderConfig, random: np.random.Generator) -> Picture:
    """Draw label and margin, then pairs of snakes until one succeeds, distractors and discs."""
    label = int(random.integers(2))
    margin = config.margins[random.integers(len(config.margins))]
    table = _table(config.dash_length, config.thickness, margin)
    mask = np.empty((config.window, config.window))
    targets = np.empty((2, config.dashes, 3), np.int64)
    grow_targets(mask, targets, config.distance, config.padding, config.continuity, table, random)
    image = np.zeros_like(mask)
    for snake in targets:
        paint_snake(image, snake, config.target_contrast, table)
    distractors = []
    for _ in range(config.distractors):
        snake = np.empty((config.dashes // 3, 3), np.int64)
        if any(
            grow_distractor(mask, snake, config.continuity, table, random) for _ in range(_ATTEMPTS)
        ):
            paint_snake(image, snake, config.distractor_contrast, table)
            distractors.append(snake)
    first = int(random.integers(2))
    markers = np.array([targets[first, 0, :2], targets[first if label else 1 - first, -1, :2]])
    for y, x in markers.tolist():
        image = np.maximum(image, draw_disc(config.window, y, x, config.marker_radius))
    return Picture(_bytes(image), label, margin, markers, targets, distractors)


#: One table per kind of dash: a snake points in few directions, so that each is drawn once.
_table = cache(dash_table)


def _bytes(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scaled so that the smallest value is 0 and the largest 255, rounded."""
    low, high = image.min(), image.max()
    return ((image - low) * (255 / (high - low)) + 0.5).astype(np.uint8)
