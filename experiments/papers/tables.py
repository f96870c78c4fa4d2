"""Tables whose cells know what was published and which runs give our number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lticore.errors import ArgumentError

from ..config import RunConfig, Runtime
from ..methods import truncate
from ..results import Result, find_result
from ..runs import log, run_folder
from ..timing import time_inference, time_training
from ..train import train

Preset = Literal["smoke", "small", "paper-short", "paper"]

#: What a cell shows where there is no number.
NOT_RUN, NOT_AVAILABLE, NOT_IN_PAPER = "not run", "not available", "–"


class Quantity(Protocol):
    """A number of a finished run."""

    def prepare(self, folder: Path, config: RunConfig) -> None:
        """Do what the number needs beyond training."""

    def read(self, result: Result) -> float | None:
        """The number, or None where it has not been prepared."""


@dataclass(frozen=True)
class TestAccuracy:
    """In per cent."""

    def prepare(self, folder: Path, config: RunConfig) -> None:
        pass

    def read(self, result: Result) -> float | None:
        return 100 * result.summary["test_accuracy"]


def _truncated(result: Result, method: str, ratio: float) -> dict[str, Any] | None:
    """What a truncation left of the trained model; None where it was not made."""
    return result.after.get("truncations", {}).get(method, {}).get(f"{ratio:g}")


@dataclass(frozen=True)
class Truncated:
    """Accuracy in per cent after :func:`experiments.methods.truncate`."""

    method: str
    ratio: float
    split: Literal["test", "validation"] = "test"

    def prepare(self, folder: Path, config: RunConfig) -> None:
        truncate(folder, config, self.method, [self.ratio])

    def read(self, result: Result) -> float | None:
        done = _truncated(result, self.method, self.ratio)
        key = "accuracy" if self.split == "test" else "validation_accuracy"
        if done is None or done.get(key) is None:
            return None
        return 100 * done[key]


@dataclass(frozen=True)
class RemovedParameters:
    """Share of all parameters that truncation removes, in per cent."""

    method: str
    ratio: float

    def prepare(self, folder: Path, config: RunConfig) -> None:
        truncate(folder, config, self.method, [self.ratio])

    def read(self, result: Result) -> float | None:
        done = _truncated(result, self.method, self.ratio)
        if done is None:
            return None
        return 100 * (1 - done["parameters"] / result.summary["parameters"])


@dataclass(frozen=True)
class FinalOrder:
    """Mean over the layers of the final order, in states as the paper counts them."""

    real_states: int = 2
    """Real states in one state of the paper: 2 where it counts complex ones."""

    def prepare(self, folder: Path, config: RunConfig) -> None:
        pass

    def read(self, result: Result) -> float | None:
        return statistics.mean(result.summary["orders"]) / self.real_states


@dataclass(frozen=True)
class InferenceTime:
    """Time of the truncated model as a multiple of that of the trained one."""

    ratio: float

    def prepare(self, folder: Path, config: RunConfig) -> None:
        time_inference(folder, config, [self.ratio])

    def read(self, result: Result) -> float | None:
        seconds = result.after.get("inference", {})
        if f"{self.ratio:g}" not in seconds:
            return None
        return seconds[f"{self.ratio:g}"] / seconds["0"]


@dataclass(frozen=True)
class StepTime:
    """Time of a training step with a penalty as a multiple of one without; measured in an extra
    run, all in turns. None where memory does not allow the naive one."""

    penalty: Literal["none", "blocked", "naive"]

    def prepare(self, folder: Path, config: RunConfig) -> None:
        time_training(folder, config)

    def read(self, result: Result) -> float | None:
        seconds = result.after.get("training", {})
        return seconds[self.penalty] / seconds["none"] if self.penalty in seconds else None


Statistic = Callable[[Sequence[float]], str]


def median(values: Sequence[float]) -> str:
    """HSVR's statistic of accuracies in Tables 1 and 6–8."""
    return f"{statistics.median(values):.2f}"


def deviation(values: Sequence[float]) -> str:
    """Standard deviation over the runs (of the population, so that one run gives 0)."""
    return f"{statistics.pstdev(values):.2f}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """CompreSSM's statistic of state dimensions."""
    return f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"


def top_three(values: Sequence[float]) -> str:
    """CompreSSM's statistic of accuracies in Table 1: mean and deviation of the best three."""
    return mean_and_deviation(sorted(values, reverse=True)[:3])


def best(values: Sequence[float]) -> str:
    """CompreSSM's statistic of accuracies in Table 3."""
    return f"{max(values):.1f}"


@dataclass(frozen=True)
class Cell:
    """A published number and how ours comes about.

    published : as printed, or NOT_IN_PAPER, NOT_AVAILABLE
    runs : the configs, one per seed; they may depend on other runs, and are () until those exist
    quantity, statistic : what is read of each run, and what of all of them is shown
    ours : a text of our own (settings, for instance) instead of a number of runs
    """

    published: str
    runs: Callable[[], Sequence[RunConfig]] = field(default=tuple)
    quantity: Quantity = field(default_factory=TestAccuracy)
    statistic: Statistic = median
    ours: str | None = None


@dataclass(frozen=True)
class Table:
    """A published table.

    tasks : the data sets whose runs it shows
    seeds : runs in each cell; 0 where it shows no results
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    tasks: tuple[str, ...]
    notes: tuple[str, ...] = ()
    seeds: int = 0

    @property
    def seeds_text(self) -> str:
        """ "2 seeds", "1 seed"."""
        return f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"


def run_cell(cell: Cell, runtime: Runtime) -> list[str]:
    """Train and prepare what is missing; returns the failures, each in a line."""
    failures = []
    for config in cell.runs():
        result = find_result(config)
        if result is not None and cell.quantity.read(result) is not None:
            continue
        folder = run_folder(config)
        try:
            train(config, runtime, folder)
            cell.quantity.prepare(folder, config)
        except (FloatingPointError, ArgumentError, OSError) as error:
            failures.append(f"{config.slug}: {error}")
            if folder.is_dir():
                log(folder, f"failed: {error}")
    return failures


def our_text(cell: Cell) -> str:
    """Our number, or "not run"; with the number of seeds where they are fewer than asked for."""
    if cell.ours is not None:
        return cell.ours
    configs = cell.runs()
    values = [value for config in configs if (value := read_run(config, cell)) is not None]
    if not values:
        return NOT_RUN
    text = cell.statistic(values)
    return text if len(values) == len(configs) else f"{text} ({len(values)} of {len(configs)})"


def read_run(config: RunConfig, cell: Cell) -> float | None:
    """The cell's quantity of one run, or None."""
    result = find_result(config)
    return None if result is None else cell.quantity.read(result)


def markdown(table: Table) -> str:
    """The table as Markdown: published | ours in each cell."""
    lines = [
        f"### {table.name}: {table.caption}",
        "",
        f"Each cell: published \\| ours ({table.seeds_text})." if table.seeds else "",
        "",
        "| | " + " | ".join(table.columns) + " |",
        "|---" * (len(table.columns) + 1) + "|",
    ]
    for label, cells in table.rows:
        texts = (f"{cell.published} \\| {our_text(cell)}" for cell in cells)
        lines.append(f"| {label} | " + " | ".join(texts) + " |")
    lines += ["", *(f"- {note}" for note in table.notes), ""]
    return "\n".join(lines)


def plain(table: Table) -> str:
    """The table for a terminal."""
    texts = [["", *table.columns]]
    texts += [
        [label, *(f"{cell.published} | {our_text(cell)}" for cell in cells)]
        for label, cells in table.rows
    ]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = [f"{table.name}: {table.caption}", "published | ours"]
    lines += ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)) for row in texts]
    lines += [f"- {note}" for note in table.notes]
    return "\n".join(line.rstrip() for line in lines)


def table_runs(table: Table) -> list[RunConfig]:
    """All runs of a table, once each, as far as they are known by now."""
    found: dict[str, RunConfig] = {}
    for _, cells in table.rows:
        for cell in cells:
            found |= {config.slug: config for config in cell.runs()}
    return list(found.values())


def check_tasks(tasks: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The tasks asked for, or all."""
    from ..config import check_name

    for task in tasks:
        check_name("task", task, known)
    return tuple(tasks or known)
