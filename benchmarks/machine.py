"""What every result file says of where it comes from, and how contestants are timed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(os.environ.get("LTICORE_RESULTS", Path(__file__).parent / "results"))


def describe(*packages: str) -> dict:
    """Processor, threads, versions and commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": {
            name: os.environ.get(name, "default")
            for name in ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        },
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "commit": _commit(),
    }


def write(name: str, result: dict) -> Path:
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def copy_bandwidth(rounds: int = 9) -> float:
    """Bytes per second, read and written, of copying an array too large for the cache, with all
    threads of torch and into memory that is already there; the best of ``rounds``."""
    import torch

    source = torch.ones(1 << 26)
    target = torch.ones_like(source)
    best = min(_seconds(lambda: target.copy_(source), 1) for _ in range(rounds))
    return 2 * source.nbytes / best


def interleaved(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contestant, taking turns so that drift meets all alike.

    A turn lasts at least 20 ms; the first, for compilation and caches, does not count.
    """
    return {k: statistics.median(x) for k, x in turns(contestants, rounds).items()}


def turns(
    contestants: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of its turns, as for :func:`interleaved`. The fastest turn
    is what other processes disturb least; of one thread ``time.process_time`` leaves them out."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    repeats = {name: 1 + int(0.02 / _seconds(run, 1)) for name, run in contestants.items()}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(_seconds(run, repeats[name], clock))
    return times


def _seconds(
    run: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(
        command, cwd=RESULTS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
