"""What to ask a CUDA device in eight minutes: ``make gpu-check``.

Stages, the most telling first, each with a limit of its own and a log of its own in ``gpu-check/``:
one that fails or hangs costs no other its result. Benchmarks write each row as it is measured. The
machine may be bare but for CuPy, torch, pytest, NumPy, SciPy and Numba: wheels in ``.wheels/``
(``make gpu-wheels``) are unpacked beside the logs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTEST = ("-m", "pytest", "-q", "-m", "gpu and not slow", "-W", "default", "--tb=short")
KERNELS = (sys.executable, *PYTEST, "tests/gpu/test_kernels.py")
#: A few of them, for tools that take a hundred times as long.
FEW = (*KERNELS, "-k", "(test_recurrences or test_adjoints) and complex64 and (5000 or 784)")
BENCHMARK = (sys.executable, "benchmarks/gpu.py")
VERSIONS = """
import torch, cupy, numpy, scipy, numba, array_api_compat as compat
print(torch.__version__, *(x.__version__ for x in (cupy, numpy, scipy, numba, compat)))
print(torch.cuda.get_device_name())
import lticore_torch
print(lticore_torch.LRU(8, 16).cuda()(torch.ones(1, 5, 8, device="cuda")).isfinite().all())
"""


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: float
    command: tuple[str, ...]


STAGES = (
    Stage("versions", 30, (sys.executable, "-c", VERSIONS)),
    Stage("kernels", 60, KERNELS),
    Stage("recurrence", 45, (*BENCHMARK, "recurrence", "recurrence_gradient")),
    Stage("torch", 45, (sys.executable, *PYTEST, "tests/gpu/test_torch.py")),
    Stage("gradient", 45, (*BENCHMARK, "gradient")),
    Stage("training", 75, (*BENCHMARK, "training")),
    Stage("public", 60, (sys.executable, *PYTEST, "tests/gpu/test_public_functions.py")),
    Stage("racecheck", 40, ("compute-sanitizer", "--tool", "racecheck", *FEW)),
    Stage("memcheck", 40, ("compute-sanitizer", "--tool", "memcheck", *FEW)),
    Stage("functions", 40, (*BENCHMARK, "stein", "functions")),
)


def run(stages: tuple[Stage, ...], out: Path, environment: dict[str, str]) -> list[str]:
    """The names of the stages that did not end well."""
    failed = []
    for stage in stages:
        start, log = time.monotonic(), out / f"{stage.name}.log"
        with log.open("w") as file:
            code = _code(stage, file, environment)
        failed += [stage.name] if code else []
        print(f"== {stage.name}: {code or 'ok'}, {time.monotonic() - start:.0f} s")
        print(*log.read_text(errors="replace").splitlines()[-20:], sep="\n", flush=True)
    return failed


def _code(stage: Stage, file, environment: dict[str, str]) -> int | str:
    try:
        return subprocess.run(
            stage.command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=stage.seconds,
        ).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {stage.seconds:.0f} s"
    except OSError as error:
        return str(error)


def environment(site: Path) -> dict[str, str]:
    """Wheels are folders in an archive: Python reads those without compiled parts as they are."""
    wheels = map(str, sorted((ROOT / ".wheels").glob("*.whl")))
    path = os.pathsep.join([str(ROOT), *wheels, os.environ.get("PYTHONPATH", "")])
    cache = {"CUPY_CACHE_DIR": str(site / "cupy"), "NUMBA_CACHE_DIR": str(site / "numba")}
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "REQUIRE_GPU": "1", **cache}


def main() -> int:
    out = Path(os.environ.get("OUT", ROOT / "gpu-check"))
    out.mkdir(exist_ok=True)
    names = sys.argv[1:]
    stages = tuple(stage for stage in STAGES if not names or stage.name in names)
    failed = run(stages, out, {**environment(out), "LTICORE_RESULTS": str(out)})
    print("failed:", ", ".join(failed) or "nothing")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
