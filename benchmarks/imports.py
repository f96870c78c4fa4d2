"""Seconds that imports take beside what they stand on, each in a fresh interpreter.

Aims: lticore at most 0.3 s beyond numpy and scipy.linalg, lticore_torch at most 0.3 s beyond torch.
Command: make bench-imports
"""

from __future__ import annotations

import subprocess
import sys

from machine import describe, write

#: name → (what is there already, what is imported)
IMPORTS = {
    "lticore": ("numpy, scipy.linalg", "lticore"),
    "lticore_torch": ("torch, lticore", "lticore_torch"),
}
RUNS = 7


def seconds(before: str, name: str) -> tuple[float, float]:
    """(what is there already, what is imported), the fastest of several runs with warm files."""
    code = (
        f"import time; a = time.perf_counter(); import {before}; b = time.perf_counter(); "
        f"import {name}; print(b - a, time.perf_counter() - b)"
    )
    runs = [
        [float(x) for x in subprocess.check_output([sys.executable, "-c", code]).split()]
        for _ in range(RUNS)
    ]
    first, second = zip(*runs, strict=True)
    return min(first), min(second)


def main() -> None:
    found = {name: seconds(*of) for name, of in IMPORTS.items()}
    for name, (base, own) in found.items():
        print(f"{name:<14} {own:.2f} s beyond {IMPORTS[name][0]} ({base:.2f} s)")
    write(
        "imports",
        {
            "machine": describe("torch", "numpy", "scipy"),
            "seconds": {name: {"before": base, "own": own} for name, (base, own) in found.items()},
        },
    )


if __name__ == "__main__":
    main()
