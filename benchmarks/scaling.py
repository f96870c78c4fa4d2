"""How cost grows with the number of states: ``make bench-scaling``.

One Stein equation of a rotation matrix: the structured solve (n²) beside a dense Schur method (n³)
and the Kronecker system of HSVR's equation (4) (n⁶); and Hankel singular values from factors that
never form a Gramian (n). Slopes are fitted to the last three points of each curve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import machine
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from matplotlib.axes import Axes

import lticore as lti

#: Name → (function of a system, orders, exponent expected).
STEIN = {
    "Kronecker, HSVR eq. (4)": (lambda sys: kronecker(sys), (8, 16, 24, 32, 48, 64), 6),
    "dense Schur, SciPy": (lambda sys: scipy_gramian(sys), (32, 64, 128, 256, 512, 1024), 3),
    "structured, lticore": (
        lambda sys: lti.controllability_gramian(sys),
        (32, 64, 128, 256, 512, 1024, 2048, 4096),
        2,
    ),
}
#: Name → (inputs and outputs, dt, orders) for values from at most 100 columns of the factors.
LOW_RANK = {
    "m = p = 1": (1, True, (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    "m = p = 4": (4, True, (10_000, 30_000, 100_000)),
    "m = p = 1, continuous time": (1, 0, (10_000, 30_000, 100_000, 300_000, 1_000_000)),
}
MAX_RANK = 100


def kronecker(sys: lti.LTI) -> np.ndarray:
    A = sys.to_dense().A
    n = len(A)
    Q = (sys.B @ sys.B.T).reshape(-1)
    return np.linalg.solve(np.eye(n * n) - np.kron(A, A), Q).reshape(n, n)


def scipy_gramian(sys: lti.LTI) -> np.ndarray:
    return scipy.linalg.solve_discrete_lyapunov(sys.to_dense().A, sys.B @ sys.B.T)


def rotation_system(order: int, inputs: int = 16) -> lti.LTI:
    rng = np.random.default_rng(0)
    A = lti.Rotation(rng.uniform(0.9, 0.999, order // 2), rng.uniform(0, np.pi, order // 2))
    B, C = rng.standard_normal((2, order, inputs)) / np.sqrt(order)
    return lti.LTI(A, B, C.T)


def diagonal_system(order: int, inputs: int, dt: float) -> lti.LTI:
    rng = np.random.default_rng(0)
    radius, angle = rng.uniform(0.9, 0.9999, order), rng.uniform(0, np.pi, order)
    poles = np.log(radius) + 1j * angle
    B, C = rng.standard_normal((2, order, inputs)) / np.sqrt(order)
    return lti.LTI(lti.Diagonal(np.exp(poles) if dt else poles), B, C.T, dt=dt)


def measure(run: Callable[[lti.LTI], object], systems: Iterable[lti.LTI]) -> list[float]:
    """Seconds for each system: the median of as many runs as fit into a second, one at least."""
    found = []
    for sys in systems:
        run(sys)
        times: list[float] = []
        while not times or (sum(times) < 1 and len(times) < 25):
            start = time.perf_counter()
            run(sys)
            times.append(time.perf_counter() - start)
        found.append(float(np.median(times)))
        print(f"  n = {sys.order:8d}   {1e3 * found[-1]:12.3f} ms", flush=True)
    return found


def slope(orders: tuple[int, ...], seconds: list[float]) -> float:
    return float(np.polyfit(np.log(orders[-3:]), np.log(seconds[-3:]), 1)[0])


def draw(axes: Axes, title: str, curves: list[dict]) -> None:
    for curve in curves:
        label = f"{curve['name']}: n^{curve['slope']:.1f}"
        axes.loglog(curve["orders"], curve["seconds"], "o-", label=label)
    axes.set(title=title, xlabel="states n", ylabel="seconds")
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="best", fontsize="small")


def main() -> None:
    stein, low_rank = [], []
    for name, (run, orders, expected) in STEIN.items():
        print(name)
        seconds = measure(run, map(rotation_system, orders))
        stein.append(
            {"name": name, "orders": orders, "seconds": seconds, "expected_slope": expected}
        )
    for kind, (inputs, dt, orders) in LOW_RANK.items():
        name = f"{kind}, rank {MAX_RANK}"
        print(name)
        seconds = measure(
            lambda sys: lti.hankel_singular_values(sys, max_rank=MAX_RANK),
            (diagonal_system(n, inputs, dt) for n in orders),
        )
        low_rank.append({"name": name, "orders": orders, "seconds": seconds, "expected_slope": 1})
    for curve in (*stein, *low_rank):
        curve["slope"] = slope(curve["orders"], curve["seconds"])

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    draw(left, "One Gramian, 16 inputs", stein)
    draw(right, "Hankel singular values without Gramians", low_rank)
    picture = machine.RESULTS / "scaling.png"
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=120)
    result = {
        "machine": machine.describe("lticore", "numpy", "scipy", "numba"),
        "stein": stein,
        "low_rank": low_rank,
    }
    print("written to", machine.write("scaling", result), "and", picture)


if __name__ == "__main__":
    main()
