"""Reduction methods on many systems, error, time and evaluations: ``make bench-reduction``.

Errors are h2 errors relative to that of balanced truncation to the same order, medians over the
systems of a family. Sequence-layer families are single channels of 64 states reduced to 8; models
come from the SLICOT collection (skipped where its files are not beside the repository), sampled
bilinearly. Also how many evaluations each method needs from one start, what more starts are worth,
how often balancing over a horizon leaves an unstable system, and what an evaluation costs with
quadratic outputs.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import machine
import numpy as np
import scipy.io
import scipy.sparse
import tyro

import lticore as lti
from lticore.reduction.h2 import modes as modes
from lticore.reduction.h2.armijo import armijo
from lticore.reduction.h2.descent import Descent, lbfgs
from lticore.reduction.h2.fixed_point import accelerated_tsia, tsia
from lticore.reduction.h2.gauss_newton import levenberg_marquardt
from lticore.reduction.h2.objective import project

MODELS = Path(__file__).parents[2] / "shared" / "benchmarks" / "slicot"
#: The orders to which these models are reduced.
ORDERS = {"CDplayer": 14, "beam": 12, "build": 18, "heat-cont": 4, "iss": 18}
#: Median squared error against balanced truncation, seconds, evaluations against gradient descent,
#: milliseconds per evaluation with quadratic outputs.
BARS = {"squared_error": 0.80, "seconds": 2.0, "evaluations": 50, "quadratic_milliseconds": 10}


@dataclass(frozen=True)
class Options:
    seeds: int = 20
    """Systems of each family."""
    descents: int = 5
    """Systems on which gradient descent is run to its end."""


# --- systems --------------------------------------------------------------------------------------


def s4d(pole: np.ndarray, rng: np.random.Generator) -> lti.LTI:
    """One channel with these continuous poles, held inputs, and a random step and outputs."""
    step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1)))
    c = rng.standard_normal((len(pole), 2)).view(complex)[:, 0]
    modal = np.exp(step * pole)
    b = (modal - 1) / pole
    B = np.stack([b.real, b.imag], axis=1).reshape(-1, 1)
    C = np.stack([c.real, -c.imag], axis=1).reshape(1, -1)
    return lti.LTI(lti.Rotation(np.abs(modal), -np.angle(modal)), B, C)


def s4d_lin(seed: int) -> lti.LTI:
    return s4d(-0.5 + 1j * np.pi * np.arange(32), np.random.default_rng(seed))


def s4d_inv(seed: int) -> lti.LTI:
    pole = -0.5 + 1j * 32 / np.pi * (32 / (2 * np.arange(32) + 1) - 1)
    return s4d(pole, np.random.default_rng(seed))


def random_rotation(seed: int) -> lti.LTI:
    """Poles spread in modulus and phase, random couplings."""
    rng = np.random.default_rng(seed)
    A = lti.Rotation(1 - 10 ** rng.uniform(-3, -1, 32), rng.uniform(0, np.pi, 32))
    return lti.LTI(A, rng.standard_normal((64, 1)), rng.standard_normal((1, 64)))


FAMILIES = {"S4D-Lin": s4d_lin, "S4D-Inv": s4d_inv, "random rotations": random_rotation}


def slicot_model(name: str) -> lti.LTI:
    data = scipy.io.loadmat(MODELS / f"{name}.mat")
    A, B, C = (
        (data[key].toarray() if scipy.sparse.issparse(data[key]) else data[key]).astype(float)
        for key in "ABC"
    )
    size = np.abs(np.linalg.eigvals(A))
    return lti.discretize(A, B, C, step=2 / np.sqrt(size.min() * size.max()), method="bilinear")


# --- methods --------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[lti.LTI, int], lti.Reduction]] = {
    "balanced truncation": lambda sys, r: lti.balanced_truncation(sys, order=r),
    "balanced, DC matched": lambda sys, r: lti.balanced_truncation(sys, order=r, match_dc=True),
    "balanced, complex half": lambda sys, r: lti.complex_balanced_truncation(sys, order=r),
    "modal, h∞ score": lambda sys, r: lti.modal_truncation(sys, r),
    "modal, magnitude": lambda sys, r: lti.modal_truncation(sys, r, score="magnitude"),
    "h2, fixed point": lambda sys, r: lti.h2_reduction(sys, r),
    "h2, L-BFGS": lambda sys, r: lti.h2_reduction(sys, r, method="lbfgs"),
    "h2, Gauss-Newton": lambda sys, r: lti.h2_reduction(sys, r, method="lm"),
}


def compare(name: str, systems: list[lti.LTI], order: int) -> list[dict]:
    base = [float(lti.balanced_truncation(sys, order=order).h2_error) for sys in systems]
    rows = []
    for method, reduce in METHODS.items():
        if method.endswith("complex half") and not isinstance(systems[0].A, lti.Rotation):
            continue
        errors, seconds, evaluations = [], [], []
        for sys, reference in zip(systems, base, strict=True):
            start = time.perf_counter()
            reduction = reduce(sys, order)
            seconds.append(time.perf_counter() - start)
            errors.append(float(reduction.h2_error) / reference)
            if reduction.convergence:
                evaluations.append(reduction.convergence.evaluations)
        rows.append(
            report(
                {
                    "systems": name,
                    "order": order,
                    "method": method,
                    "error": round(statistics.median(errors), 4),
                    "squared_error": round(statistics.median(e * e for e in errors), 4),
                    "seconds": round(statistics.median(seconds), 4),
                    "most_seconds": round(max(seconds), 3),
                    "evaluations_of_best_run": statistics.median(evaluations)
                    if evaluations
                    else None,
                }
            )
        )
    return rows


def evaluations_from_one_start(count: int) -> list[dict]:
    """Evaluations from balanced truncation to a stationary point (residual 1e-5, where fixed point
    and L-BFGS go on to 1e-8), and until J is within 1e-6 of that. Gradient descent is given up
    after a hundred thousand steps."""
    methods = {
        "fixed point": tsia,
        "fixed point, accelerated": accelerated_tsia,
        "L-BFGS, projected": lbfgs,
        "Gauss-Newton, projected": levenberg_marquardt,
        "gradient descent": partial(armijo, max_steps=100_000, tolerance=1e-5),
    }
    rows: list[dict] = []
    for name, run in methods.items():
        found = []
        for seed in range(count):
            sys = s4d_lin(seed)
            small = lti.balanced_truncation(sys, order=8).system
            target = modes.make_target(sys, None)
            found.append(run(target, modes.candidate_from(small.A, small.B, real=True)))
        stationary = statistics.median(one.evaluations for one in found)
        fixed_point = rows[0]["evaluations"] if rows else stationary
        rows.append(
            report(
                {
                    "method": name,
                    "evaluations": stationary,
                    "times_fixed_point": round(stationary / fixed_point, 1),
                    "each": [one.evaluations for one in found],
                    "residuals": [float(f"{one.residual:.1e}") for one in found],
                    "evaluations_to_1e-6": [_evaluations_until_close(one) for one in found],
                    "relative_squared_errors": [round(one.best.error, 6) for one in found],
                }
            )
        )
    return rows


def _evaluations_until_close(found: Descent) -> int:
    history = np.minimum.accumulate(found.history)
    close = int(np.argmax(history <= history[-1] * (1 + 1e-6)))
    # Evaluations are spread evenly over the steps.
    return 1 + round(close / max(len(history) - 1, 1) * (found.evaluations - 1))


def worth_of_starts(count: int) -> list[dict]:
    rows = []
    for family, make in FAMILIES.items():
        gains = []
        for seed in range(count):
            reached = lti.h2_reduction(make(seed), 8).convergence.starts
            gains.append(1 - np.sqrt(min(reached) / reached[0]))
        rows.append(
            report(
                {
                    "systems": family,
                    "error_lower_by_ten_modal_starts": round(statistics.median(gains), 4),
                    "mean": round(statistics.mean(gains), 4),
                }
            )
        )
    return rows


def unstable_over_horizons(count: int = 60) -> dict:
    unstable = 0
    for seed in range(count):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lti.balanced_truncation(random_rotation(seed), order=8, horizon=50)
        unstable += any("unstable poles" in str(warning.message) for warning in caught)
    return report({"systems": count, "horizon": 50, "unstable_before_repair": unstable})


def quadratic_evaluation() -> dict:
    """n = 256 to r = 32 with 64 outputs of rank 2."""
    rng = np.random.default_rng(0)
    n, r, p, c = 256, 32, 64, 2
    A = lti.Rotation(rng.uniform(0.5, 0.999, n // 2), rng.uniform(0, np.pi, n // 2))
    V, s = rng.standard_normal((p, n, c)), rng.standard_normal((p, c))
    B, C = rng.standard_normal((n, p)), rng.standard_normal((p, n))
    sys = lti.QuadraticOutputLTI(A, B, C, (V, s))
    target = modes.make_target(sys, None)
    small = lti.balanced_truncation(sys, order=r)
    start = modes.candidate_from(small.system.A, small.system.B, real=True)
    seconds = machine.interleaved(
        {
            "evaluation": lambda: project(target, start),
            "h2_error": lambda: lti.h2_error(sys, small.system),
        },
        9,
    )
    return report({f"{name}_milliseconds": round(1e3 * t, 3) for name, t in seconds.items()})


def report(row: dict) -> dict:
    print(
        "  ".join(f"{key} {value}" for key, value in row.items() if value is not None), flush=True
    )
    return row


def main(options: Options) -> None:
    warnings.simplefilter("ignore", lti.PrecisionWarning)
    rows = []
    for family, make in FAMILIES.items():
        rows += compare(family, [make(seed) for seed in range(options.seeds)], order=8)
    for name, order in ORDERS.items():
        if (MODELS / f"{name}.mat").exists():
            rows += compare(name, [slicot_model(name)], order)
        else:
            print(f"{name}.mat is not there: skipped")
    result = {
        "machine": machine.describe("lticore", "numpy", "scipy", "numba"),
        "bars": BARS,
        "seeds": options.seeds,
        "methods": rows,
        "evaluations": evaluations_from_one_start(options.descents),
        "starts": worth_of_starts(options.seeds),
        "horizon": unstable_over_horizons(),
        "quadratic": quadratic_evaluation(),
    }
    print("written to", machine.write("reduction", result))


if __name__ == "__main__":
    main(tyro.cli(Options))
