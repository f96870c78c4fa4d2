"""Run the core tests under every OpenBLAS kernel that this processor can run.

    python tests/openblas_kernels.py [arguments for pytest; tests/core by default]

Each kernel (SSE2, SSE4.2, AVX, AVX2, AVX-512) sums in an order of its own, so that results differ
in their last digits: what the tests ask for must follow from the conditions of the problems.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CORE_TYPES = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake")
#: Kernels beyond what the processor can do die in a product or factorisation.
PROBE = """
import json, numpy, scipy.linalg, threadpoolctl
X = numpy.random.default_rng(0).standard_normal((200, 200))
numpy.linalg.svd(X @ X), scipy.linalg.schur(X)
print(json.dumps([x["architecture"] for x in threadpoolctl.threadpool_info()
                  if x["internal_api"] == "openblas"]))
"""


def under(core_type: str) -> dict[str, str]:
    return os.environ | {"OPENBLAS_CORETYPE": core_type}


def kernels() -> dict[str, str]:
    """Core types by the architecture that NumPy's and SciPy's libraries then both report."""
    found: dict[str, str] = {}
    for core_type in CORE_TYPES:
        probe = [sys.executable, "-c", PROBE]
        run = subprocess.run(probe, env=under(core_type), capture_output=True, text=True)
        architectures = json.loads(run.stdout) if run.returncode == 0 else []
        if len(set(architectures)) == 1:
            found.setdefault(architectures[0], core_type)
    return found


def main(arguments: list[str]) -> int:
    found = kernels()
    if not found:
        print("NumPy and SciPy do not use OpenBLAS here, or not one whose kernel can be chosen.")
        return 1
    failed = []
    for architecture, core_type in found.items():
        print(f"--- OPENBLAS_CORETYPE={core_type} ({architecture})", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *arguments]
        if subprocess.run(command, env=under(core_type), cwd=Path(__file__).parents[1]).returncode:
            failed.append(core_type)
    print(f"{len(found)} kernels: " + (f"failed under {', '.join(failed)}" if failed else "passed"))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests/core"]))
