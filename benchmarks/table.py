"""One table of all results in benchmarks/results, and what got slower than the last commit says.

make bench-all      # runs every benchmark first
make bench-table    # only the table, benchmarks/results/table.md
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from machine import RESULTS

#: A ratio that fell below this share of the committed one is named: runs differ by less.
_SLOWER = 0.8


@dataclass(frozen=True)
class Row:
    """One contestant beside lticore.

    seconds : lticore's
    times : the contestant's seconds in units of these, from the same run
    """

    task: str
    seconds: float
    contestant: str
    times: float


def peers(result: dict[str, Any]) -> Iterator[Row]:
    ours: dict[tuple[str, int], float] = {}
    for row in result["rows"]:
        key = row["task"], row["order"]
        if row["contestant"] == "lticore":
            ours[key] = row["milliseconds"] / 1e3
        else:
            task = f"{row['task']}, n = {row['order']}"
            yield Row(task, ours[key], row["contestant"], row["times_lticore"])


def sparse(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["rows"]:
        task = f"truncation of a sparse {row['model']}"
        yield Row(task, row["seconds"]["lticore"], "pyMOR", row["times_lticore"])


def dense(result: dict[str, Any]) -> Iterator[Row]:
    """Of real systems with two inputs; the others are in the file."""
    for row in result["rows"]:
        if row["kind"] == "complex" or row["signals"] > 2:
            continue
        count = "" if row["batch"] == 1 else f"{row['batch']} systems of "
        task = f"{row['task']}, {row['time']}, {count}n = {row['order']}"
        times = row["milliseconds"]
        yield Row(task, times["lticore"] / 1e3, "SLICOT", times["SLICOT"] / times["lticore"])


def compress(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["rows"]:
        if "times_lticore" in row:
            task = f"compress, {len(row['orders'])} {row['model']} layers, {row['method']}"
            seconds = row["seconds"]["lticore"]
            yield Row(task, seconds, "SLICOT, for the layers alone", row["times_lticore"])


def gradient(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["gradient"]:
        task = f"Hankel sum and gradient, n = {row['order']}, m = p = {row['width']}"
        if row["system"] == "full":
            seconds = row["milliseconds"] / 1e3
            yield Row(task, seconds, "one eigh of the same order", 1 / row["times_eigh"])


def recurrence(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["recurrence"]:
        shape = " × ".join(map(str, row["form"]))
        task = f"recurrence {shape}, {row['dtype']}, both ways"
        yield from _beside(row, task, _TORCH, "times_faster_than_")


def training(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["steps"]:
        size = f"{row['depth']} × {row['order']}, width {row['features']}"
        yield from _beside(
            row, f"training step, {row['model']} {size}", _TORCH, "times_faster_than_"
        )


def conversion(result: dict[str, Any]) -> Iterator[Row]:
    for name, row in result["layers"].items():
        shape = " × ".join(map(str, row["shape"]))
        yield Row(f"layer on {shape}, both ways", row["converted"], name, row["ratio"])


def streaming(result: dict[str, Any]) -> Iterator[Row]:
    times = result["microseconds"]
    for name, ours in times.items():
        kind, _, way = name.partition(": ")
        if way == "Stream" and f"{kind}: layer.step" in times:
            slower = times[f"{kind}: layer.step"] / ours
            yield Row(f"one step of a {kind} layer", ours / 1e6, "the layer's own step", slower)


_TORCH = {
    "fft_convolution": "FFT convolution in torch",
    "log_step_scan": "log-step scan in torch",
    "odd_even_scan": "odd-even scan in torch",
}


def _beside(
    row: dict[str, Any], task: str, contestants: dict[str, str], prefix: str
) -> Iterator[Row]:
    for key, name in contestants.items():
        yield Row(task, row["lticore_milliseconds"] / 1e3, name, row[prefix + key])


#: Subject and rows of each result file.
SUBJECTS: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[Row]]]] = {
    "peers": ("Control computations", peers),
    "dense": ("Dense systems", dense),
    "sparse": ("Sparse state matrices", sparse),
    "compress_seconds": ("Compression", compress),
    "gradient": ("The regulariser", gradient),
    "recurrence": ("Recurrences", recurrence),
    "training": ("Training", training),
    "conversion": ("Layers of other packages", conversion),
    "streaming": ("Step by step", streaming),
}


def section(name: str, result: dict[str, Any]) -> Iterator[str]:
    subject, rows = SUBJECTS[name]
    machine = result["machine"]
    threads = ", ".join(f"{key} {value}" for key, value in machine["threads"].items())
    versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
    yield f"## {subject}\n"
    yield f"{machine['processor']}, {machine['cores']} cores; {threads}; {versions}.\n"
    yield "| | lticore | beside it | takes |\n|---|---|---|---|"
    last = None
    for row in rows(result):
        ours = row.task, _readable(row.seconds)
        shown = " | ".join(("", "") if ours == last else ours)
        yield f"| {shown} | {row.contestant} | {row.times:.3g} × |"
        last = ours
    yield ""


def slower(name: str, now: dict[str, Any], before: dict[str, Any]) -> Iterator[str]:
    """What takes a smaller ratio than the committed result says."""
    rows = SUBJECTS[name][1]
    known = {(row.task, row.contestant): row.times for row in rows(before)}
    for row in rows(now):
        was = known.get((row.task, row.contestant))
        if was is not None and row.times < _SLOWER * was:
            yield f"{row.task}, beside {row.contestant}: {was:.3g} × → {row.times:.3g} ×"


def committed(name: str) -> dict[str, Any] | None:
    command = ["git", "show", f"HEAD:./{name}.json"]
    shown = subprocess.run(command, cwd=RESULTS, capture_output=True, text=True, check=False)
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def _readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


if __name__ == "__main__":
    lines, losses = [], []
    for name in SUBJECTS:
        result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        lines += section(name, result)
        if (before := committed(name)) is not None:
            losses += slower(name, result, before)
    (RESULTS / "table.md").write_text("\n".join(lines), encoding="utf-8")
    print(
        "\n".join(["slower than the last commit says:", *losses] if losses else ["nothing slower"])
    )
