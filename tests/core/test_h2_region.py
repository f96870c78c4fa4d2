"""Where poles of reduced systems may be: hyperbolic geometry of the disc and of the half plane."""

import numpy as np
import pytest

from lticore.reduction.h2.region import Circle, HalfPlane, distance, width

#: In the left half plane, pairs and real ones.
FIRST = np.array([-1 + 2j, -1 - 2j, -0.3, -5 + 1j])
SECOND = np.array([-2 + 1j, -0.1 - 4j, -7.0])


def in_disc(s):
    """The half plane on the unit disc, by a map that keeps hyperbolic lengths."""
    return (1 + s) / (1 - s)


def test_poles_outside_are_reflected():
    """The reflection keeps the argument at a circle, and the frequency at a line."""
    outside = np.array([2.0, 4.0]) * np.exp(1j * np.array([1.0, -2.5]))
    for radius in (1.0, 1.25):
        expected = radius**2 / np.abs(outside) * np.exp(1j * np.angle(outside))
        np.testing.assert_allclose(Circle(radius).inside(outside), expected, rtol=4e-15)
        assert Circle(radius).holds(expected)
        assert not Circle(radius).holds(outside)
    np.testing.assert_array_equal(
        HalfPlane().inside(np.array([3 + 4j, -2 - 1j])), [-3 + 4j, -2 - 1j]
    )
    np.testing.assert_array_equal(
        HalfPlane(1.0).inside(np.array([3 + 4j, -2 - 1j])), [-1 + 4j, -2 - 1j]
    )


@pytest.mark.parametrize("second", [SECOND, SECOND[:1], SECOND[1:2]])
def test_distances_are_those_of_the_hyperbolic_plane(second):
    """Largest of all distances to the nearest: Hausdorff's, the same in the disc."""
    apart = np.abs((FIRST[:, None] - second) / (FIRST[:, None] + second.conj()))
    expected = max(apart.min(axis=0).max(), apart.min(axis=1).max())
    assert distance(HalfPlane(), FIRST, second) == pytest.approx(expected, rel=1e-14)
    assert distance(HalfPlane(2.0), FIRST + 2, second + 2) == pytest.approx(expected, rel=1e-14)
    first, second = in_disc(FIRST), in_disc(second)
    assert distance(Circle(), first, second) == pytest.approx(expected, rel=1e-13)
    assert distance(Circle(1.5), 1.5 * first, 1.5 * second) == pytest.approx(expected, rel=1e-13)


def test_widths_are_those_of_small_distances():
    """|dλ| over that of the pseudohyperbolic distance: 1 − |λ|² in the disc, −2 Re λ beside it."""
    np.testing.assert_allclose(width(HalfPlane(), FIRST), -2 * FIRST.real, rtol=1e-15)
    z = in_disc(FIRST)
    np.testing.assert_allclose(width(Circle(), z), 1 - np.abs(z) ** 2, rtol=1e-14)
    np.testing.assert_allclose(width(Circle(1.5), 1.5 * z), 1.5 * (1 - np.abs(z) ** 2), rtol=1e-14)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_real_poles_decay_as_others_or_faster(share):
    pole = Circle().real_pole(0.6 + 0.5j, share)
    assert 0 < pole <= abs(0.6 + 0.5j)
    pole = HalfPlane(0.5).real_pole(-2 + 3j, share)
    assert pole == pytest.approx(0.5 - 2.5 / share)
