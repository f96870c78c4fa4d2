"""Change the code in known places, one at a time, and see the tests fail.

    python tests/mutants.py                  # all of tests/mutants.toml
    python tests/mutants.py schedule _split  # those in files whose path holds one of these words

Each mutant is a text in a file, what stands there instead, and the tests that must notice. It is
made in a copy of the tree, never in the tree itself. Exit status: 0 when every mutant dies, 1 when
one survives, 2 when the tests fail as the code stands or do not run.

The places are chosen, and each names its tests: tools that mutate every operator (mutmut,
cosmic-ray) make tens of thousands of mutants of numerical code, many of which change nothing but
rounding, and run the same tests for each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".toml")

#: What the tests need of the tree, compiled files among it: without them each run would compile.
_COPIED = ("lticore", "lticore_torch", "experiments", "tests", "pyproject.toml")
#: Of the compiled kernels, which Numba looks up by the time of their own file only.
_KERNELS = ("*.nbi", "*.nbc")
#: Seconds after which a mutant counts as noticed: some loops no longer end.
_LONGEST = 900


class Misplaced(ValueError):
    """A mutant whose text does not stand in its file exactly once."""


@dataclass(frozen=True)
class Mutant:
    """One change.

    file : path from the root of the repository
    text : stands in it exactly once
    replacement : what stands there instead
    tests : files, or tests in them, as pytest takes them
    """

    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        line = 1 + (ROOT / self.file).read_text().split(self.text)[0].count("\n")
        old, new = (" ".join(x.split()) for x in (self.text, self.replacement))
        return f"{self.file}:{line}  {old}  →  {new or 'nothing'}"

    def apply(self, root: Path) -> None:
        """Change the file in the tree ``root``.

        Raises
        ------
        Misplaced
        """
        path = root / self.file
        content = path.read_text()
        found = content.count(self.text)
        if found != 1:
            raise Misplaced(f"{self.file} holds {self.text!r} {found} times, not once")
        path.write_text(content.replace(self.text, self.replacement))


def read_mutants() -> list[Mutant]:
    """The table."""
    rows = tomllib.loads(TABLE.read_text())["mutant"]
    return [Mutant(row["file"], row["text"], row["to"], tuple(row["tests"])) for row in rows]


def copy_tree(target: Path, *, kernels: bool = True) -> None:
    """What the tests need; without the compiled kernels where one of their sources will change."""
    left_out = ("runs", ".pytest_cache", *(() if kernels else _KERNELS))
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy2(source, target / name)


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Exit status of pytest and the first test that failed, if one did."""
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        return 1, f"no end within {_LONGEST} s"
    lines = done.stdout.splitlines()
    failed = [x for x in lines if x.startswith(("FAILED", "ERROR"))]
    if failed:
        return done.returncode, failed[0].split(" - ")[0]
    return done.returncode, "" if done.returncode == 0 else "\n".join(lines[-3:])


def try_mutant(mutant: Mutant) -> tuple[int, str]:
    """:func:`run_tests` on a copy of the tree with this change."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        copy_tree(root, kernels="njit" not in (ROOT / mutant.file).read_text())
        mutant.apply(root)
        return run_tests(root, mutant.tests)


def main(words: list[str]) -> int:
    """Try the mutants in files whose path holds one of ``words``, all if there are none."""
    mutants = [m for m in read_mutants() if not words or any(word in m.file for word in words)]
    if not mutants:
        print(f"no file of {TABLE.name} holds {' or '.join(words)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy_tree(Path(folder))
        tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
        status, failed = run_tests(Path(folder), tuple(tests))
    if status != 0:
        print(f"the tests fail as the code stands: {failed}")
        return 2
    survivors = 0
    for mutant in mutants:
        start = time.perf_counter()
        status, failed = try_mutant(mutant)
        seconds = time.perf_counter() - start
        if status not in (0, 1):
            print(f"{mutant}\n    the tests do not run: {failed}")
            return 2
        survivors += status == 0
        print(f"{mutant}\n    {failed or 'SURVIVES'}  ({seconds:.0f} s)", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants die")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
