"""Verdicts: what a call returned, beside what it should have."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flint import arb

import lticore as lti

from .draws import STEP, Draw, Given
from .exact import ZERO, absolute, largest, number

EPS = float(np.finfo(np.float64).eps)
EPS_SINGLE = float(np.finfo(np.float32).eps)
VERDICTS = ("right", "warned", "numpy", "refused", "wrong", "foreign")


class Wrong(AssertionError):
    """A result beyond its stated accuracy."""


class Refused(Exception):
    """A LticoreError."""


class Foreign(Exception):
    """An exception or warning that is not lticore's."""


@dataclass(eq=False)
class Case:
    """One draw, and what happened to the calls made on it."""

    draw: Draw
    rng: np.random.Generator
    warned: list = field(default_factory=list)
    numpy: list = field(default_factory=list)

    @property
    def sys(self):
        return self.draw.sys

    @property
    def entries(self):
        return self.draw.entries

    @property
    def single(self):
        return self.draw.single

    @property
    def indices(self):
        return list(np.ndindex(self.sys.batch_shape))

    @cached_property
    def effort(self):
        """n + m + p: sums of so many terms are rounded."""
        return self.sys.order + self.sys.inputs + self.sys.outputs

    def call(self, function: Callable, *args, **options):
        """The result; warnings of precision are noted, what is not lticore's is a fault."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            try:
                result = function(*args, **options)
            except lti.LticoreError as error:
                raise Refused(f"{type(error).__name__}: {error}") from error
            except Exception as error:
                raise Foreign(f"{type(error).__name__}: {error}") from error
        for one in seen:
            if issubclass(one.category, lti.PrecisionWarning):
                self.warned.append(str(one.message))
            elif "flow encountered" in str(one.message) or self.numpy:
                # NumPy's own words for numbers beyond its own; no fault, but not silent either.
                self.numpy.append(str(one.message))
            else:
                raise Foreign(f"{one.category.__name__}: {one.message}")
        return result

    def require_stable(self):
        for entry in self.entries:
            if not entry.exact.stable:
                raise Wrong(
                    f"accepted a spectral radius of 1 − {float(1 - entry.exact.radius):.3g}"
                )

    def close(self, found, exact, tolerance, what=""):
        """|found − exact| ≤ tolerance + the rounding of the result itself."""
        eps, tiny, top = (EPS_SINGLE, 2e-45, 3e38) if self.single else (EPS, 1e-305, 1.7e308)
        found, exact = np.asarray(found), np.asarray(exact, dtype=object)
        if found.shape != exact.shape:
            raise Wrong(f"{what} has shape {found.shape}, not {exact.shape}")
        tolerance = np.broadcast_to(np.asarray(tolerance, dtype=object), exact.shape)
        worst, where = -1.0, None
        for index in np.ndindex(exact.shape):
            value, size = number(exact[index]), abs(number(exact[index]))
            allowed = arb(tolerance[index]) + 2 * eps * size + tiny
            # Infinity is right where the number is too large, or nothing of it is known.
            unknown = size + allowed > top or allowed > size * 0.1 > 0
            if size > top or (not np.isfinite(found[index]) and unknown):
                continue
            if not np.isfinite(found[index]):
                worst, where = np.inf, index
                break
            excess = float((abs(number(found[index]) - value) / allowed).mid())
            if not excess <= worst:
                worst, where = excess, index
        if worst > 1:
            value = number(exact[where])
            raise Wrong(
                f"{what}{list(where)}: {found[where]!r}, exact {short(value)}, off by "
                f"{worst:.3g} × the tolerance {short(arb(tolerance[where]))}"
            )


def short(x):
    """A few digits of a number of any size."""
    x = number(x)
    if x.imag.mid() == 0:
        return x.real.mid().str(6, radius=False)
    return f"({x.real.mid().str(6, radius=False)} + {x.imag.mid().str(6, radius=False)}j)"


def as_array(value):
    return np.asarray(value, dtype=object)


def derivative(value, moved):
    """Change of an array by a perturbation of relative size eps, entrywise, the largest seen."""
    worst = absolute(as_array(moved[0]) - value)
    for other in moved[1:]:
        change = absolute(as_array(other) - value)
        worst = np.where(
            np.vectorize(lambda a, b: bool(a > b), otypes=[bool])(change, worst), change, worst
        )
    return worst * (EPS / STEP)


def measured(entry: Given, function, effort):
    """(f(system), 100 n × its change under perturbations of size eps)."""
    value = as_array(function(entry.exact))
    moved = [function(other) for other in entry.neighbours]
    return value, derivative(value, moved) * (100 * effort)


def at_least(found, exact, what, slack=0):
    """found ≥ exact − slack."""
    short_by = arb(number(exact).real) - arb(slack) - number(found).real
    if np.isnan(found) or short_by > 0:
        raise Wrong(f"{what}: {found!r} is below the exact {short(exact)}")


def norm_of(values):
    return largest(absolute(values).ravel()) if np.size(values) else ZERO
