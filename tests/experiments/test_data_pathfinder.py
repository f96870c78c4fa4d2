"""Pathfinder: the geometry of its snakes against slow oracles, and the statistics of pictures."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from experiments.data.dashes import dash_table, draw_disc
from experiments.data.generate import random_stream
from experiments.data.pathfinder import (
    CONFIGS,
    draw_picture,
    generate_pathfinder,
    load_pathfinder,
)
from experiments.data.snakes import _is_free, _largest_near
from lticore.errors import ArgumentError

cached_table = cache(dash_table)
PICTURES = {32: 300, 64: 20, 128: 30}


@pytest.fixture(scope="module")
def pictures():
    return {
        side: [draw_picture(CONFIGS[side], random_stream(0, i)) for i in range(count)]
        for side, count in PICTURES.items()
    }


def table_of(side, picture):
    config = CONFIGS[side]
    return cached_table(config.dash_length, config.thickness, picture.margin)


def painted(window, dash, patches):
    """A picture of the window with one dash in it."""
    y, x, number = dash
    half = patches.shape[1] // 2
    wide = np.zeros((window + 2 * half, window + 2 * half))
    wide[y : y + 2 * half + 1, x : x + 2 * half + 1] = patches[number]
    return wide[half:-half, half:-half]


def moved(position, angle, distance):
    y, x = position
    return [
        math.ceil(y + distance * math.sin(angle)),
        math.ceil(x + distance * math.cos(angle)),
    ]


def disc(radius):
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


@pytest.mark.parametrize("side", CONFIGS)
def test_a_dash_is_a_line_of_its_length(side):
    config = CONFIGS[side]
    for margin in config.margins:
        table = dash_table(config.dash_length, config.thickness, margin)
        half = table.images.shape[1] // 2
        offsets = np.arange(-half, half + 1)
        for number in (0, 37, 90, 200, 359):
            image = table.images[number]
            y, x = (offsets @ image.sum(1), offsets @ image.sum(0)) / image.sum()
            middle = config.dash_length / 2
            angle = table.degrees[number]
            # Ends are rounded up on a canvas of half pixels.
            assert y == pytest.approx(middle * np.sin(angle), abs=0.5)
            assert x == pytest.approx(middle * np.cos(angle), abs=0.5)
            occupied = table.masks[number] > 0.5
            reach = ndimage.binary_dilation(image > image.max() / 2, disc(margin))
            assert (occupied & reach).sum() >= 0.7 * reach.sum()


def test_ends_lie_on_the_circle():
    for radius, length, margin in ((3, 2, 1), (6, 5, 1), (8, 5, 3)):
        table = dash_table(length, 1.0, margin)
        distance = np.hypot(*table.ends.T)
        assert distance.max() <= radius + 2**0.5
        assert distance.min() >= radius - 2**0.5
        assert len(np.unique(table.ends, axis=0)) == len(table.ends)
        assert table.images.shape[0] == 360 + len(table.ends)


def test_free_pixels_are_those_of_a_dilated_mask(pictures):
    """The oracle dilates with the kernel as described: a dash drawn beside the kernel's middle."""
    side, picture = 32, pictures[32][0]
    table = table_of(side, picture)
    mask = np.zeros((side, side))
    for dash in picture.targets.reshape(-1, 3)[:12]:
        mask = np.maximum(mask, painted(side, dash, table.masks))
    reach = table.length + table.margin
    for band in (1, 2 * CONFIGS[side].distance):
        lined = mask.copy()
        lined[:band] = lined[-band:] = lined[:, :band] = lined[:, -band:] = 1
        for number in range(0, 360, 23):
            dash = (reach + 1, reach + 1, number)
            kernel = painted(2 * reach + 1, dash, table.masks[:, ...]) == 1
            dilated = ndimage.maximum_filter(lined, footprint=kernel, mode="constant")
            expected = np.ceil(dilated - 0.3) <= 0
            free = [
                [_is_free(mask, band, table.kernels[number], y, x) for x in range(side)]
                for y in range(side)
            ]
            assert np.array_equal(free, expected)
            bare = ndimage.maximum_filter(lined, footprint=kernel, mode="constant", cval=-np.inf)
            assert table.usable[number] == np.isfinite(bare).all()
    widened = ndimage.grey_dilation(mask, footprint=disc(table.margin), mode="constant")
    near = [[_largest_near(mask, y, x, table.disc) for x in range(side)] for y in range(side)]
    assert np.array_equal(near, widened)


@pytest.mark.parametrize("side", CONFIGS)
def test_snakes_grow_as_described(pictures, side):
    """Pivots, turns and distances, recomputed from the positions of the dashes."""
    config = CONFIGS[side]
    for picture in pictures[side]:
        table = table_of(side, picture)
        length, margin = table.length, table.margin
        assert picture.margin in config.margins
        first, second = picture.targets[:, 0, :2]
        assert np.hypot(*(first - second)) == pytest.approx(config.distance, abs=1)
        low, high = 2 * config.distance, side - 2 * config.distance
        assert ((first >= low) & (first < high)).all()
        for snake in (*picture.targets, *picture.distractors):
            angle = table.degrees[snake[0, 2]]
            head = moved(snake[0, :2], angle, length)
            back = angle + math.pi if angle < 0 else angle - math.pi
            pivot = moved(head, back, length + margin)
            for y, x, number in snake[1:]:
                pivot = moved(pivot, angle, length + 2 * margin)
                new = np.arctan2(y - pivot[0], x - pivot[1])
                assert new == pytest.approx(table.directions[number - 360], abs=1e-9)
                turn = abs((new - angle + np.pi) % (2 * np.pi) - np.pi)
                assert turn * config.continuity < np.pi / 2
                angle = new
            assert ((snake[:, :2] >= 0) & (snake[:, :2] < side)).all()


@pytest.mark.parametrize("side", CONFIGS)
def test_snakes_keep_clear_of_each_other(pictures, side):
    for picture in pictures[side][:20]:
        table = table_of(side, picture)
        mask = np.zeros((side, side))
        for dash in (*picture.targets[0, :-1], *picture.targets[1]):
            mask = np.maximum(mask, painted(side, dash, table.masks))
        for snake in picture.distractors:
            for dash in snake[1:]:
                assert (mask + painted(side, dash, table.masks)).max() < 1.8
            for dash in snake:
                mask = np.maximum(mask, painted(side, dash, table.masks))


@pytest.mark.parametrize("side", CONFIGS)
def test_discs_mark_ends_of_one_snake_exactly_when_the_label_says_so(pictures, side):
    ambiguous = 0
    for picture in pictures[side]:
        origins, tips = picture.targets[:, 0, :2], picture.targets[:, -1, :2]
        start = [bool((picture.markers[0] == origin).all()) for origin in origins]
        end = [bool((picture.markers[1] == tip).all()) for tip in tips]
        # Two last dashes may end in one pixel: of the first snake it is not in the mask.
        assert sum(start) == 1
        assert end[start.index(True) if picture.label else start.index(False)]
        ambiguous += all(end)
    assert ambiguous <= 0.02 * len(pictures[side])


def test_pictures_show_their_snakes_with_the_right_brightness(pictures):
    """Relative to the brightest dash: discs 1/2, targets 1.5/2, distractors 2/2 (32²)."""
    side, config = 32, CONFIGS[32]
    for picture in pictures[32][:50]:
        table = table_of(side, picture)
        image = np.zeros((side, side))
        for contrast, dashes in (
            (1.5, picture.targets.reshape(-1, 3)),
            (2.0, [dash for snake in picture.distractors for dash in snake]),
        ):
            for dash in dashes:
                image = np.maximum(image, contrast * painted(side, dash, table.images))
        for y, x in picture.markers:
            image = np.maximum(image, draw_disc(side, int(y), int(x), config.marker_radius))
        expected = 255 * (image - image.min()) / np.ptp(image)
        assert np.abs(picture.pixels - expected).max() <= 0.5 + 1e-9
        assert picture.pixels.min() == 0
        assert picture.pixels.max() == 255
        # A disc has the brightness 1 of the 2 that a distractor's line has at most.
        assert min(picture.pixels[y, x] for y, x in picture.markers) >= 255 / 2


@pytest.mark.parametrize("side", CONFIGS)
def test_a_disc_has_its_radius(side):
    radius = CONFIGS[side].marker_radius
    image = draw_disc(side, side // 2, side // 3, radius)
    assert image.max() == 1
    assert image.sum() == pytest.approx(np.pi * radius**2, rel=0.1)
    assert draw_disc(side, 0, 0, radius)[0, 0] > 0.9


def test_lines_are_drawn_as_the_original_draws_them():
    """One dash by hand: a canvas twice as fine, a white line, Lanczos to bytes."""
    canvas = Image.new("F", (33, 33), "black")  # half-size (5 + 2 + 1)·2
    ImageDraw.Draw(canvas).line([(16, 16), (26, 16)], fill="white", width=3)
    fine = np.array(canvas).astype(np.uint8)
    small = Image.fromarray(fine).resize((17, 17), Image.Resampling.LANCZOS)
    table = dash_table(5, 1.5, 1)
    assert np.array_equal(table.images[180], np.array(small) / 255)


def test_statistics_of_pictures(pictures):
    labels = np.array([picture.label for picture in pictures[32]])
    assert abs(labels.mean() - 0.5) < 3 * 0.5 / len(labels) ** 0.5
    origin = np.array([(p.markers[0] == p.targets[0, 0, :2]).all() for p in pictures[32]])
    assert abs(origin.mean() - 0.5) < 0.1
    for side, some in pictures.items():
        counts = np.array([len(picture.distractors) for picture in some])
        most = CONFIGS[side].distractors
        assert counts.max() <= most
        # Each has 5 attempts, which fail at once in a direction that is not usable.
        usable = np.mean([table_of(side, picture).usable.mean() for picture in some])
        expected = most * (1 - (1 - usable) ** 5)
        assert 0.5 * expected < counts.mean() <= expected
        assert {picture.targets.shape for picture in some} == {(2, 14, 3)}
        assert {len(snake) for picture in some for snake in picture.distractors} == {4}
    assert {picture.margin for picture in pictures[128]} == {2, 3}


def test_the_number_of_workers_does_not_matter():
    first, second = (generate_pathfinder(CONFIGS[32], 230, 3, workers=w) for w in (1, 3))
    assert np.array_equal(first["images"], second["images"])
    assert np.array_equal(first["label"], second["label"])
    fewer = generate_pathfinder(CONFIGS[32], 10, 3)
    assert np.array_equal(fewer["images"], first["images"][:10])
    other = generate_pathfinder(CONFIGS[32], 10, 4)
    assert not np.array_equal(other["images"], fewer["images"])


def test_shorter_snakes_are_an_option():
    easy = replace(CONFIGS[128], dashes=6)
    picture = draw_picture(easy, random_stream(0))
    assert picture.targets.shape == (2, 6, 3)
    assert {len(snake) for snake in picture.distractors} == {2}


def test_splits_are_stored(tmp_path):
    first, again = (load_pathfinder(tmp_path, size=50) for _ in range(2))
    assert [len(s) for s in (first.train, first.validation, first.test)] == [40, 5, 5]
    inputs, _, lengths = first.test.batch(np.arange(5))
    assert inputs.shape == (5, 1024, 1)
    assert inputs.min() == 0
    assert inputs.max() == 1
    assert lengths is None
    assert again.train.labels.tolist() == first.train.labels.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["pathfinder32-50-seed0.npz"]
    with pytest.raises(ArgumentError, match="side must be one of 32, 64, 128"):
        load_pathfinder(tmp_path, side=33)
    with pytest.raises(ArgumentError, match="size must be at least 10"):
        load_pathfinder(tmp_path, size=9)
