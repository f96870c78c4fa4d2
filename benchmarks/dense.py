"""Dense systems beside SLICOT, in one process, taking turns: ``make bench-dense``.

One of n states without any structure, m inputs and as many outputs, in both times, real and
complex; then a batch of a thousand small ones beside a loop over slycot. SLICOT knows real matrices
only: of a complex system it gets the real one of twice the states. Its AB13AD comes from
``ctrlsys``, the others from ``slycot``. Answers are compared before they are timed, and of each
contestant the processor time of its fastest turn counts.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctrlsys
import machine
import numpy as np
import slycot
import tyro

import lticore as lti

#: n → how many times slower than SLICOT lticore means to be at most.
BARS = {4: 8.0, 16: 3.0, 64: 1.0, 128: 1.0, 256: 1.0}
#: A batch of so many systems of so many states should take at most this share of the loop.
BATCH, SMALL, BAR_BATCH = 1000, 8, 0.2

Contestants = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Options:
    """Time dense systems beside SLICOT."""

    orders: tuple[int, ...] = (4, 16, 64, 128, 256)
    """Numbers of states."""
    signals: tuple[int, ...] = (2, 16)
    """Inputs, and outputs."""
    rounds: int = 5
    """Turns of each contestant."""
    tasks: tuple[str, ...] = ()
    """Only these."""
    write: bool = True
    """Whether to write the result file."""


def dense_system(
    order: int, signals: int, dt: float, kind: str, batch: tuple[int, ...] = ()
) -> lti.LTI:
    """Poles of a random matrix, the slowest of which decays by 2 % per sample or unit of time."""
    rng = np.random.default_rng(order)

    def draw(*shape: int) -> np.ndarray:
        X = rng.standard_normal((*batch, *shape))
        return X + 1j * rng.standard_normal(X.shape) if kind == "complex" else X

    A, B, C = draw(order, order), draw(order, signals), draw(signals, order)
    poles = np.linalg.eigvals(A)
    if dt:
        A = 0.98 / np.abs(poles).max(axis=-1)[..., None, None] * A
    else:
        A = A - (poles.real.max(axis=-1)[..., None, None] + 0.02) * np.eye(order)
    return lti.LTI(A, B / np.sqrt(order), C / np.sqrt(order), dt=dt)


def as_real(X: np.ndarray) -> np.ndarray:
    """The real matrix that does to (Re x, Im x) what X does to x."""
    return np.block([[X.real, -X.imag], [X.imag, X.real]]) if np.iscomplexobj(X) else X


class Slicot:
    """The calls that SLICOT answers for one system."""

    def __init__(self, sys: lti.LTI) -> None:
        self.time = "C" if sys.is_continuous else "D"
        self.A, self.B, self.C = (np.asfortranarray(as_real(X)) for X in (sys.A, sys.B, sys.C))
        self.Q = np.asfortranarray(as_real(sys.B @ sys.B.conj().T))
        self.edge = 0.0 if sys.is_continuous else 1.0
        self.D = np.zeros((len(self.C), self.B.shape[1]))
        self.sizes = len(self.A), self.B.shape[1], len(self.C)
        self.copies = 2 if np.iscomplexobj(sys.A) else 1

    def gramian(self) -> np.ndarray:
        X = slycot.sb03md57(self.A.T, C=-self.Q, dico=self.time, job="X")[2]
        n = len(X) // self.copies
        return X if self.copies == 1 else X[:n, :n] + 1j * X[n:, :n]

    def hankel_values(self) -> np.ndarray:
        copies = (np.array(X, order="F") for X in (self.A, self.B, self.C))
        return ctrlsys.ab13ad(self.time, "N", *self.sizes, self.edge, *copies)[2][:: self.copies]

    def truncation(self) -> np.ndarray:
        order = max(self.sizes[0] // 4, 1)
        matrices = self.A, self.B, self.C
        found = slycot.ab09ad(self.time, "B", "N", *self.sizes, *matrices, nr=order)
        return found[4][:: self.copies]

    def h2_norm(self) -> float:
        matrices = self.A, self.B, self.C, self.D
        norm = slycot.ab13bd(self.time, "H", *self.sizes, *matrices)
        return norm / np.sqrt(self.copies)

    def hinf_norm(self) -> float:
        matrices = self.A, np.eye(len(self.A)), self.B, self.C, self.D
        return slycot.ab13dd(self.time, "I", "N", "Z", *self.sizes, *matrices, 1e-8)[0]


def truncated(sys: lti.LTI) -> np.ndarray:
    return lti.balanced_truncation(sys, order=max(sys.order // 4, 1)).singular_values


def tasks(sys: lti.LTI) -> dict[str, tuple[Callable[[], Any], Callable[[Slicot], Any]]]:
    """What both are asked for."""
    Q = sys.B @ sys.B.conj().mT
    solve = lti.solve_lyapunov if sys.is_continuous else lti.solve_stein
    return {
        "one equation": (lambda: solve(sys.A, Q), Slicot.gramian),
        "Hankel values": (lambda: lti.hankel_singular_values(sys), Slicot.hankel_values),
        "truncation to n/4": (lambda: truncated(sys), Slicot.truncation),
        "h2 norm": (lambda: lti.h2_norm(sys), Slicot.h2_norm),
        "h∞ norm": (lambda: lti.hinf_norm(sys), Slicot.hinf_norm),
    }


def row(task: str, sys: lti.LTI, calls: Contestants, rounds: int, bar: float) -> dict:
    answer, other = (np.asarray(call()) for call in calls.values())
    turns_of_all = machine.turns(calls, rounds, time.process_time)
    times = {name: min(turns) for name, turns in turns_of_all.items()}
    ratio = times["lticore"] / times["SLICOT"]
    found = {
        "task": task,
        "order": sys.order,
        "signals": sys.inputs,
        "time": "continuous" if sys.is_continuous else "discrete",
        "kind": "complex" if np.iscomplexobj(sys.A) else "real",
        "batch": int(np.prod(sys.batch_shape)),
        "milliseconds": {name: round(1e3 * seconds, 3) for name, seconds in times.items()},
        "times_slicot": round(ratio, 2),
        "difference": float(np.abs(answer - other).max() / np.abs(other).max()),
        "bar": bar,
        "bar_met": bool(ratio <= bar),
    }
    size = f"{found['batch']} × {sys.order}"
    print(
        f"{task:18s} {size:>9s} {sys.inputs:3d} {found['time']:10s} {found['kind']:8s}"
        f"{1e3 * times['lticore']:10.3f} ms {ratio:7.2f} × SLICOT, bar {bar:3g}"
        f"   differs by {found['difference']:.0e}",
        flush=True,
    )
    return found


def single_rows(options: Options, order: int, signals: int, dt: float, kind: str) -> list[dict]:
    sys = dense_system(order, signals, dt, kind)
    slicot, rows = Slicot(sys), []
    for task, (ours, theirs) in tasks(sys).items():
        if not options.tasks or task in options.tasks:
            calls: Contestants = {"lticore": ours, "SLICOT": lambda call=theirs: call(slicot)}
            rows.append(row(task, sys, calls, options.rounds, BARS.get(order, 1.0)))
    return rows


def batch_rows(options: Options, dt: float) -> list[dict]:
    sys = dense_system(SMALL, 2, dt, "real", (BATCH,))
    each, rows = [Slicot(sys[k]) for k in range(BATCH)], []
    for task, (ours, theirs) in tasks(sys).items():
        if not options.tasks or task in options.tasks:
            calls: Contestants = {
                "lticore": ours,
                "SLICOT": lambda call=theirs: [call(slicot) for slicot in each],
            }
            rows.append(row(task, sys, calls, options.rounds, BAR_BATCH))
    return rows


def run(options: Options) -> dict:
    rows = []
    for dt in (True, 0):
        for kind in ("real", "complex"):
            for order in options.orders:
                for signals in options.signals:
                    rows += single_rows(options, order, signals, dt, kind)
        rows += batch_rows(options, dt)
    return {
        "machine": machine.describe("lticore", "numpy", "scipy", "numba", "slycot", "ctrlsys"),
        "rounds": options.rounds,
        "rows": rows,
    }


if __name__ == "__main__":
    # slycot warns about things of its own in use.
    warnings.simplefilter("ignore")
    options = tyro.cli(Options)
    result = run(options)
    if options.write:
        print("written to", machine.write("dense", result))
