"""Verdicts: what a call returned, beside what it should have."""

from __future__ import annotations

import re
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
VERDICTS = ("right", "warned", "loud", "numpy", "refused", "wrong", "foreign")
#: How far above the stated error a true one may lie. Warnings state the change by one or two random
#: perturbations of the size of rounding, to first order: of n² ≤ 144 directions one is up to 12
#: times worse than a random one, and n roundings add up to some 8 times the size assumed.
MARGIN = 100
#: A warning speaks of errors above 1e-6. One next to an error below this was needless.
HARMLESS = 1e-8
#: What in lticore's warnings states a relative error.
_STATED = re.compile(r"relative error of (?:up to )?(\d[\d.]*(?:e[+-]?\d+)?|inf|nan)")


class Wrong(AssertionError):
    """A result beyond its stated accuracy."""


class Refused(Exception):
    """A LticoreError."""


class Foreign(Exception):
    """An exception or warning that is not lticore's."""


@dataclass(eq=False)
class Case:
    """One draw, and what happened to the calls made on it.

    warned : what PrecisionWarnings said,   numpy : what NumPy said of overflow
    error : the largest relative error seen, where the check looks at one
    beyond : whether numbers too large were met
    needless : whether a warning of fewer states came where there are more
    """

    draw: Draw
    rng: np.random.Generator
    warned: list[str] = field(default_factory=list)
    numpy: list[str] = field(default_factory=list)
    error: float | None = None
    beyond: bool = False
    needless: bool = False

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
    def continuous(self):
        return self.sys.is_continuous

    @property
    def indices(self):
        return list(np.ndindex(self.sys.batch_shape))

    @cached_property
    def effort(self):
        """n + m + p: sums of so many terms are rounded."""
        return self.sys.order + self.sys.inputs + self.sys.outputs

    @property
    def stated(self):
        """What the warnings allow, relative to the size of a result: nothing without a number."""
        sizes = [float(x) for text in self.warned for x in _STATED.findall(text)]
        return MARGIN * max((np.inf if np.isnan(x) else x for x in sizes), default=0.0)

    def said(self, words):
        """Whether a warning holds these words."""
        return any(words in text for text in self.warned)

    @property
    def loud(self):
        """Whether a warning came with a result that gives no reason for it."""
        rounding = 4 * EPS_SINGLE if self.single else 0.0
        inaccurate = self.stated > 0 or self.said("lower bound") or self.said("are uncertain")
        if inaccurate and self.error is not None and not self.beyond:
            return self.needless or self.error <= HARMLESS + rounding
        return self.needless

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
            elif "overflow encountered" in str(one.message) or self.numpy:
                # NumPy's own words for numbers beyond its own, and for ∞ − ∞ after them: no fault
                # where there are such numbers, which `require_reason` asks for.
                self.numpy.append(str(one.message))
            else:
                raise Foreign(f"{one.category.__name__}: {one.message}")
        return result

    def require_reason(self):
        if self.numpy and not self.beyond:
            raise Foreign(f"RuntimeWarning without numbers that overflow: {self.numpy[0]}")

    def met(self, error, size):
        """Note an error beside the size that it is relative to."""
        error, size = arb(number(error).real), arb(number(size).real)
        share = float((error / size).mid()) if size > 0 else np.inf if error > 0 else 0.0
        self.error = max(self.error or 0.0, share)

    def require_stable(self):
        for entry in self.entries:
            if not entry.exact.stable:
                raise Wrong(f"accepted poles {float(entry.exact.gap):.3g} from the boundary")

    def close(self, found, exact, tolerance, what="", sizes=None):
        """|found − exact| ≤ tolerance + the rounding of the result itself + what warnings state of
        its ``sizes``, by default that of the largest entry."""
        eps, tiny, top = (EPS_SINGLE, 2e-45, 3e38) if self.single else (EPS, 1e-305, 1.7e308)
        found, exact = np.asarray(found), np.asarray(exact, dtype=object)
        if found.shape != exact.shape:
            raise Wrong(f"{what} has shape {found.shape}, not {exact.shape}")
        sizes = norm_of(exact) if sizes is None else sizes
        tolerance, sizes = (
            np.broadcast_to(np.asarray(x, dtype=object), exact.shape) for x in (tolerance, sizes)
        )
        worst, where, stated = -1.0, None, self.stated
        for index in np.ndindex(exact.shape):
            value, size = number(exact[index]), abs(number(exact[index]))
            allowed = arb(tolerance[index]) + 2 * eps * size + tiny
            if stated > 0:
                allowed += arb(sizes[index]) * stated
            # Infinity is right where the number is too large, or nothing of it is known.
            unknown = size + allowed > top or allowed > size * 0.1 > 0
            self.beyond |= bool(size > top * 1e-3) or not np.isfinite(found[index])
            if size > top or (not np.isfinite(found[index]) and unknown):
                continue
            if not np.isfinite(found[index]):
                worst, where = np.inf, index
                break
            error = abs(number(found[index]) - value)
            self.met(error if error > tiny else 0, sizes[index])
            excess = float((error / allowed).mid())
            if not excess <= worst:
                worst, where = excess, index
        if worst > 1:
            value = number(exact[where])
            said = f" (warnings state {stated / MARGIN:.0e})" if stated > 0 else ""
            raise Wrong(
                f"{what}{list(where)}: {found[where]!r}, exact {short(value)}, off by "
                f"{worst:.3g} × the tolerance {short(arb(tolerance[where]))}{said}"
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
