"""A run is a folder: what it holds, and how it survives being killed.

Runs that take longer than a day's work (long_runs.py) are carried in the repository.

config.json       what was asked for           summary.json    the result; only of finished runs
provenance.json   versions, commit, machine    failed.json     why a run cannot go on
metrics.jsonl     numbers, a line each         timing.jsonl    seconds and time of day
checkpoint.pt     all that resuming needs      previous.pt     the one before, while it trains
model.pt          the tested model             log.txt         what happened, for people
tensorboard/      event files
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import io
import json
import os
import pickle
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lticore.errors import ArgumentError
from lticore_torch.files import write_atomically

from .config import RunConfig, from_json, to_json

#: Packages whose versions can change a result.
_PACKAGES = ("lticore", "torch", "numpy", "scipy", "numba")


def runs_root() -> Path:
    """``LTICORE_RUNS``, or ./runs."""
    return Path(os.environ.get("LTICORE_RUNS", "runs"))


#: Folders of runs that the repository carries, checkpoints included.
CARRIED = Path(__file__).parent / "results" / "runs"


def run_folder(config: RunConfig) -> Path:
    """Where the run of ``config`` lives; the same config has the same folder."""
    carried = CARRIED / config.slug
    return carried if carried.exists() else runs_root() / config.slug


def finished_folders() -> list[Path]:
    """Folders of finished runs: those in ``LTICORE_RUNS``, then those in the repository."""
    found = (sorted(root.glob("*/*/summary.json")) for root in (runs_root(), CARRIED))
    return [path.parent for paths in found for path in paths]


def open_run(folder: Path, config: RunConfig) -> None:
    """Make the folder, or make sure that it is of this config.

    Raises
    ------
    ArgumentError
        When the folder holds a run of another config.
    """
    path = folder / "config.json"
    if not path.exists():
        write_json(path, to_json(config))
        write_json(folder / "provenance.json", provenance())
    elif (found := read_config(folder)) != config:
        raise ArgumentError(
            f"{folder} holds another run: {_differences(to_json(found), to_json(config))}"
        )
    for leftover in folder.glob(".*.*"):  # of writes that a kill interrupted
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """No other process trains here meanwhile; the system ends the claim of a killed process.

    Raises
    ------
    ArgumentError
        When another process is at work here, such as a job that outlived its sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArgumentError(
                f"another process trains in {folder}: wait until it ends, or stop it"
            ) from error
        yield


def read_config(folder: Path) -> RunConfig:
    """The config of the run in ``folder``."""
    return from_json(RunConfig, read_json(folder / "config.json"))


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    ArgumentError
        When the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{path} is not JSON ({error}): remove it and run again") from error


def write_json(path: Path, content: Any) -> None:
    """Complete or not at all."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def summary_of(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None."""
    path = folder / "summary.json"
    return read_json(path) if path.exists() else None


def failure_of(folder: Path) -> dict[str, Any] | None:
    """Why the run stopped for good, or None."""
    path = folder / "failed.json"
    return read_json(path) if path.exists() else None


def log(folder: Path, message: str) -> None:
    """A line in log.txt, with the time of day."""
    with (folder / "log.txt").open("a") as file:
        file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {message}\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a .jsonl file."""
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


class MetricsLog:
    """metrics.jsonl and timing.jsonl of a run.

    Numbers and times are kept apart: a resumed run writes the same metrics.jsonl, byte for byte,
    as one that was never interrupted. What was written after the last checkpoint is cut off when
    the run resumes, for it will be written again.
    """

    def __init__(self, folder: Path, offset: int) -> None:
        self._metrics = folder / "metrics.jsonl"
        self._timing = folder / "timing.jsonl"
        self._metrics.touch()
        if self._metrics.stat().st_size < offset:
            raise ArgumentError(
                f"{self._metrics} is shorter than when the checkpoint beside it was written: "
                f"remove {folder}, and the run starts anew"
            )
        os.truncate(self._metrics, offset)

    def write(self, numbers: dict[str, Any], seconds: float) -> None:
        """One line in each file."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        timing = {"step": numbers["step"], "seconds": round(seconds, 3), "at": now}
        for path, content in ((self._metrics, numbers), (self._timing, timing)):
            with path.open("a") as file:
                file.write(json.dumps(content) + "\n")

    def secure(self) -> int:
        """Everything on disk; returns the length of metrics.jsonl."""
        with self._metrics.open("a") as file:
            os.fsync(file.fileno())
            return file.tell()


def is_claimed(folder: Path) -> bool:
    """Whether a process is at work in the folder, see :func:`claimed`."""
    try:
        with (folder / "log.txt").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


#: What a checkpoint holds beside much else; a file without it is none of ours.
_CHECKPOINT_KEYS = frozenset({"step", "model", "optimizer", "random", "metrics_length"})


def save_checkpoint(folder: Path, state: dict[str, Any], name: str = "checkpoint.pt") -> None:
    """Replace the checkpoint at once; the one before is kept beside it.

    Raises
    ------
    OSError
        When it cannot be written, e.g. to a full disk; the one before stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        if name == "checkpoint.pt" and (folder / name).exists():
            (folder / "previous.pt").unlink(missing_ok=True)
            os.link(folder / name, folder / "previous.pt")
        write_atomically(folder / name, buffer.getvalue())
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: {name} of step {state['step']} was not written; the one before it "
            f"is kept, and the same command goes on from there",
            str(folder / name),
        ) from error


def load_checkpoint(folder: Path, name: str = "checkpoint.pt") -> dict[str, Any] | None:
    """The last checkpoint that can be read, on the CPU, or None.

    Raises
    ------
    ArgumentError
        When there is a file, but neither it nor the one before can be read.
    """
    path = folder / name
    if not path.exists():
        return None
    keys = _CHECKPOINT_KEYS if name == "checkpoint.pt" else frozenset({"model"})
    try:
        return _read_checkpoint(path, keys)
    except ArgumentError as error:
        previous = folder / "previous.pt"
        if name != "checkpoint.pt" or not previous.exists():
            raise
        state = _read_checkpoint(previous, keys)
        log(folder, f"{error}; going on from the one before, of step {state['step']}")
        return state


def _read_checkpoint(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ArgumentError(
            f"{path} is damaged or no checkpoint: remove it, and the run starts anew"
        ) from error
    if not isinstance(state, dict) or not keys <= state.keys():
        raise ArgumentError(f"{path} is not a checkpoint of a run: remove it")
    return state


@cache
def provenance() -> dict[str, Any]:
    """Versions, commit and machine of this process."""
    versions = {name: _version(name) for name in _PACKAGES}
    versions["python"] = platform.python_version()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "cuda": device,
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code, with a + where files were changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _differences(found: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> str:
    parts = []
    for key in found:
        if found[key] == asked[key]:
            continue
        if isinstance(found[key], dict) and isinstance(asked[key], dict) and found[key]:
            parts.append(_differences(found[key], asked[key], f"{prefix}{key}."))
        else:
            parts.append(f"{prefix}{key} is {found[key]!r} there and {asked[key]!r} here")
    return ", ".join(parts)
