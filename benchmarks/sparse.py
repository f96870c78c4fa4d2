"""lticore beside pyMOR on sparse models, in one process, taking turns: ``make bench-sparse``.

Heat in a rod, by differences and by finite elements with their mass matrix E, and convection and
diffusion on a square, with many states, one heated part and the mean temperature for an output,
reduced to ten states by low-rank ADI and the square-root method.
Both run with their defaults: pyMOR stops at residuals of 1e-10, lticore where a sweep over its
shifts adds less than 2e-16 to the traces of the Gramians. The Hankel singular values of both are
compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import machine
import numpy as np
import pymor
import scipy.sparse
import tyro
from pymor.models.iosys import LTIModel
from pymor.reductors.bt import BTReductor

import lticore as lti

ORDER = 10


@dataclass(frozen=True)
class Options:
    """Time lticore against pyMOR."""

    rod: tuple[int, ...] = (1000, 10000, 100000)
    """Numbers of states of the rod."""
    square: tuple[int, ...] = (32, 100, 316)
    """Numbers of points along a side of the square."""
    rounds: int = 3
    """Turns of each contestant; the median counts."""


def heat(n: int) -> scipy.sparse.csc_array:
    outer = np.ones(n - 1)
    differences = scipy.sparse.diags_array([outer, -2 * np.ones(n), outer], offsets=[-1, 0, 1])
    return scipy.sparse.csc_array((n + 1) ** 2 * differences)


def mass(n: int) -> scipy.sparse.csc_array:
    """Of linear elements, whose stiffness is that of the differences."""
    outer = np.full(n - 1, 1 / 6)
    return scipy.sparse.csc_array(
        scipy.sparse.diags_array([outer, np.full(n, 2 / 3), outer], offsets=[-1, 0, 1])
    )


def convection(k: int) -> scipy.sparse.csc_array:
    one, outer = scipy.sparse.eye_array(k), np.ones(k - 1)
    slope = (k + 1) / 2 * scipy.sparse.diags_array([-outer, outer], offsets=[-1, 1])
    x, y = (heat(k) - speed * slope for speed in (10.0, 100.0))
    return scipy.sparse.csc_array(scipy.sparse.kron(one, x) + scipy.sparse.kron(y, one))


def contestants(
    A: scipy.sparse.csc_array, E: scipy.sparse.csc_array | None
) -> dict[str, Callable[[], np.ndarray]]:
    """Each returns the Hankel singular values that it found on the way."""
    n = A.shape[0]
    B, C = np.zeros((n, 1)), np.full((1, n), 1 / n)
    B[: n // 3] = 1

    def by_lticore() -> np.ndarray:
        if E is None:
            sys = lti.LTI(lti.Sparse(A), B, C, dt=0)
        else:
            sys = lti.from_descriptor(E, A, B, C, dt=0)
        return lti.balanced_truncation(sys, order=ORDER).singular_values

    def by_pymor() -> np.ndarray:
        # A new model for each call: pyMOR keeps the Gramians of one it has seen.
        as_matrix = scipy.sparse.csc_matrix
        mass_matrix = None if E is None else as_matrix(E)
        model = LTIModel.from_matrices(as_matrix(A), B, C, E=mass_matrix)
        BTReductor(model).reduce(ORDER)
        return model.hsv()

    return {"lticore": by_lticore, "pyMOR": by_pymor}


def run(options: Options) -> dict:
    pymor.core.logger.set_log_levels({"pymor": "ERROR"})
    models = {f"rod of {n} states": (heat(n), None) for n in options.rod}
    models |= {f"rod of {n} states, finite elements": (heat(n), mass(n)) for n in options.rod}
    models |= {f"square of {k}² states": (convection(k), None) for k in options.square}
    rows = []
    for name, (A, E) in models.items():
        calls = contestants(A, E)
        values = {who: call()[:ORDER] for who, call in calls.items()}
        times = machine.interleaved(calls, options.rounds)
        size = values["lticore"][0]
        row = {
            "model": name,
            "seconds": {who: round(seconds, 4) for who, seconds in times.items()},
            "times_lticore": round(times["pyMOR"] / times["lticore"], 2),
            "difference": float(np.abs(values["pyMOR"] - values["lticore"]).max() / size),
        }
        rows.append(row)
        print(row, flush=True)
    return {
        "machine": machine.describe("lticore", "numpy", "scipy", "pymor"),
        "order": ORDER,
        "rounds": options.rounds,
        "rows": rows,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print("written to", machine.write("sparse", run(tyro.cli(Options))))
