"""lticore beside SciPy, SLICOT and pyMOR, in one process, taking turns: ``make bench-peers``.

Every contestant gets the same discrete-time rotation system (n states, m inputs, m outputs, radii
in [0.9, 0.999]); the others get it as dense matrices, since none of them knows the structure. The
answers are compared before they are timed. SLICOT's AB13AD comes from ``ctrlsys``, its AB09AD from
``slycot``. Both are told that the system needs no scaling.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import ctrlsys
import machine
import numpy as np
import pymor
import scipy.linalg
import slycot
import tyro
from pymor.models.iosys import LTIModel
from pymor.reductors.bt import BTReductor

import lticore as lti

#: (task, peer) → how many times faster than it lticore means to be at n = 512, m = 16.
BARS = {
    ("Hankel singular values", "SLICOT AB13AD"): 10,
    ("Hankel singular values", "pyMOR"): 30,
    ("reduction to n/8", "SLICOT AB09AD"): 10,
}


@dataclass(frozen=True)
class Options:
    """Time lticore against its peers."""

    orders: tuple[int, ...] = (128, 512)
    """Numbers of states."""
    inputs: int = 16
    """Inputs, and outputs."""
    rounds: int = 5
    """Turns of each contestant; the median counts."""


def rotation_system(order: int, inputs: int) -> lti.LTI:
    rng = np.random.default_rng(0)
    A = lti.Rotation(rng.uniform(0.9, 0.999, order // 2), rng.uniform(0, np.pi, order // 2))
    B, C = rng.standard_normal((2, order, inputs)) / np.sqrt(order)
    return lti.LTI(A, B, C.T)


def stein_solvers(sys: lti.LTI) -> dict[str, Callable[[], np.ndarray]]:
    A, Q = sys.to_dense().A, sys.B @ sys.B.T
    n = sys.order
    return {
        "lticore": lambda: lti.solve_stein(sys.A, Q),
        "SciPy": lambda: scipy.linalg.solve_discrete_lyapunov(A, Q),
        "SLICOT SB03MD": lambda: slycot.sb03md57(A.T, C=-Q, dico="D", job="X")[2],
        "lticore, dense": lambda: lti.solve_stein(A, Q),
    } | ({} if n > 64 else {"Kronecker": lambda: kronecker(A, Q)})


def kronecker(A: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """(I − A ⊗ A) vec X = vec Q, as HSVR's equation (4) writes it."""
    n = len(A)
    return np.linalg.solve(np.eye(n * n) - np.kron(A, A), Q.reshape(-1)).reshape(n, n)


def hankel_values(sys: lti.LTI) -> dict[str, Callable[[], np.ndarray]]:
    dense = sys.to_dense()
    A, B, C = dense.A, dense.B, dense.C
    n, m, p = sys.order, sys.inputs, sys.outputs

    def scipy_values() -> np.ndarray:
        P = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
        Q = scipy.linalg.solve_discrete_lyapunov(A.T, C.T @ C)
        return np.sort(np.sqrt(np.maximum(np.linalg.eigvals(P @ Q).real, 0)))[::-1]

    def slicot_values() -> np.ndarray:
        arrays = (np.array(X, order="F") for X in (A, B, C))
        return ctrlsys.ab13ad("D", "N", n, m, p, 1.0, *arrays)[2]

    return {
        "lticore": lambda: lti.hankel_singular_values(sys),
        "SciPy √eig(PQ)": scipy_values,
        "SLICOT AB13AD": slicot_values,
        "pyMOR": lambda: pymor_model(A, B, C).hsv(),
        "lticore, dense": lambda: lti.hankel_singular_values(dense),
    }


def reductions(sys: lti.LTI) -> dict[str, Callable[[], np.ndarray]]:
    """Each returns the Hankel singular values it found on the way."""
    dense = sys.to_dense()
    A, B, C = dense.A, dense.B, dense.C
    n, m, p, order = sys.order, sys.inputs, sys.outputs, sys.order // 8

    def pymor_values() -> np.ndarray:
        model = pymor_model(A, B, C)
        BTReductor(model).reduce(order)
        return model.hsv()

    return {
        "lticore": lambda: lti.balanced_truncation(sys, order=order).singular_values,
        "SLICOT AB09AD": lambda: slycot.ab09ad("D", "B", "N", n, m, p, A, B, C, nr=order)[4],
        "pyMOR": pymor_values,
        "lticore, dense": lambda: lti.balanced_truncation(dense, order=order).singular_values,
    }


def pymor_model(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> LTIModel:
    # A new model for each call: pyMOR keeps the Gramians of one it has seen.
    return LTIModel.from_matrices(A, B, C, sampling_time=1)


TASKS = {
    "one Stein equation": stein_solvers,
    "Hankel singular values": hankel_values,
    "reduction to n/8": reductions,
}


def run(options: Options) -> dict:
    pymor.core.logger.set_log_levels({"pymor": "ERROR"})
    rows = []
    for order in options.orders:
        sys = rotation_system(order, options.inputs)
        for task, contestants in TASKS.items():
            calls = contestants(sys)
            answer = calls["lticore"]()
            times = machine.interleaved(calls, options.rounds)
            for name, seconds in times.items():
                difference = float(np.abs(calls[name]() - answer).max() / np.abs(answer).max())
                ratio = seconds / times["lticore"]
                bar = BARS.get((task, name)) if order == 512 else None
                rows.append(
                    {
                        "task": task,
                        "order": order,
                        "contestant": name,
                        "milliseconds": round(1e3 * seconds, 3),
                        "times_lticore": round(ratio, 2),
                        "difference": difference,
                        "bar": bar,
                        "bar_met": None if bar is None else bool(ratio >= bar),
                    }
                )
                print(
                    f"{task:24s} n = {order:5d}  {name:16s} {1e3 * seconds:10.2f} ms "
                    f"{ratio:8.1f}×  differs by {difference:.0e}"
                    + (f"   bar {bar}×" if bar else ""),
                    flush=True,
                )
    versions = ("lticore", "numpy", "scipy", "numba", "slycot", "ctrlsys", "pymor")
    return {
        "machine": machine.describe(*versions),
        "inputs": options.inputs,
        "rounds": options.rounds,
        "rows": rows,
    }


if __name__ == "__main__":
    # pyMOR and slycot warn about things of their own on import and in use.
    warnings.simplefilter("ignore")
    print("written to", machine.write("peers", run(tyro.cli(Options))))
