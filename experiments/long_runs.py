"""Runs that take longer than a day's work: a queue that is taken up where it was left.

    make long-runs                                # one process, one thread, lowest priority
    python -m experiments long-runs --status      # how much is done; runs nothing

The runs of preset paper-short, in the order of the queue below. Their folders (runs.py), with their
checkpoints, are carried in the repository, so that another clone on another machine goes on from
the last commit. Ctrl-C or SIGTERM writes a checkpoint and ends; a kill loses the minutes since the
last one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .config import RunConfig, Runtime
from .papers import compressm, hsvr
from .runs import CARRIED, claimed, failure_of, is_claimed, load_checkpoint, log, summary_of
from .train import train

#: Called anew each time, since some runs depend on the results of others; () until those exist.
Runs = Callable[[], Sequence[RunConfig]]


def _hsvr(task: str) -> dict[str, Runs]:
    return {
        f"HSVR {task}, no penalty": lambda: [hsvr.plain_run(task, "paper-short")],
        f"HSVR {task}, Hankel penalty": lambda: [hsvr.hsvr_run(task, "paper-short")],
    }


def _compressm(task: str, taus: Sequence[float]) -> dict[str, Runs]:
    def reduced(tau: float) -> Runs:
        return lambda: [compressm.reduced_run(task, "paper-short", tau)]

    def small(tau: float) -> Runs:
        return lambda: compressm.baseline_runs(task, "paper-short", tau)

    return {
        **{f"CompreSSM {task}, τ = {tau:g}": reduced(tau) for tau in taus},
        f"CompreSSM {task}, τ = 0": lambda: [compressm.plain_run(task, "paper-short")],
        **{f"CompreSSM {task}, as small as τ = {tau:g}": small(tau) for tau in taus},
    }


#: What is run, in this order, by name.
QUEUE: dict[str, Runs] = {
    **_hsvr("smnist"),
    **_compressm("mnist", (0.04, 0.01)),
    **_hsvr("imdb"),
}


@dataclass(frozen=True)
class LongRunsConfig:
    """Train the runs of preset paper-short, one after another, from where they were left."""

    status: bool = False
    """Say how much is done, and run nothing."""
    checkpoint_minutes: float = 4.0
    """Minutes between checkpoints."""


@dataclass(frozen=True)
class Progress:
    """How far a run of the queue is.

    state : "finished", "running" (another process is at it), "failed", "begun", "waiting", or
        "depends" on runs before it, whose results decide its size
    """

    name: str
    state: str
    config: RunConfig | None = None
    step: int = 0
    total: int | None = None

    def __str__(self) -> str:
        done = "" if self.total is None else f"{self.step:,} of {self.total:,} steps"
        return f"{self.name:<38} {self.state:<9} {done}".rstrip()


def progress(queue: dict[str, Runs] = QUEUE, root: Path = CARRIED) -> list[Progress]:
    """How far every run of the queue is."""
    return [entry for name, runs in queue.items() for entry in _of_entry(name, runs(), root)]


def _of_entry(name: str, configs: Sequence[RunConfig], root: Path) -> Iterator[Progress]:
    if not configs:
        yield Progress(name, "depends")
    for config in configs:
        folder = root / config.slug
        summary = summary_of(folder)
        if summary is not None:
            yield Progress(name, "finished", config, summary["steps"], summary["steps"])
            continue
        reached = load_checkpoint(folder) or {"step": 0, "total": config.budget.steps}
        state = "begun" if reached["step"] else "waiting"
        if failure_of(folder) is not None:
            state = "failed"
        elif is_claimed(folder):
            state = "running"
        yield Progress(name, state, config, reached["step"], reached.get("total"))


def long_runs(config: LongRunsConfig, queue: dict[str, Runs] = QUEUE, root: Path = CARRIED) -> None:
    """Train what is missing, in the order of the queue; the first run that can go on goes on.

    A run that another process trains, or that failed for good, is left alone.

    Raises
    ------
    KeyboardInterrupt
        After the checkpoint that Ctrl-C or SIGTERM asked for.
    ArgumentError
        While another process works on the queue, or for a damaged checkpoint.
    """
    for entry in progress(queue, root):
        print(entry, flush=True)
    if config.status:
        return
    runtime = Runtime(
        device="cpu",
        threads=1,
        checkpoint_minutes=config.checkpoint_minutes,
        tensorboard=False,
    )
    with claimed(root), _stopped_by_signals() as stop:
        while (following := _next(queue, root)) is not None:
            assert following.config is not None
            print(f"{following.name}: from step {following.step:,} on", flush=True)
            folder = root / following.config.slug
            try:
                train(following.config, runtime, folder, stop)
                (folder / "checkpoint.pt").unlink()  # model.pt stays; the repository carries it
            except FloatingPointError as error:  # which failed.json now tells
                log(folder, f"left alone: {error}")
                print(error, flush=True)


def _next(queue: dict[str, Runs], root: Path) -> Progress | None:
    entries = progress(queue, root)
    return next((entry for entry in entries if entry.state in ("begun", "waiting")), None)


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """A question that is answered by yes once Ctrl-C or SIGTERM has come."""
    asked = threading.Event()
    kept = {
        number: signal.signal(number, lambda *_: asked.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked.is_set
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
