"""A table or figure of a paper: run what is missing, print what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lticore.errors import ArgumentError

from ..config import Runtime, check_name
from ..results import commit_results, find_result
from . import PAPERS
from .tables import Preset, plain, run_cell, table_runs


@dataclass(frozen=True)
class PaperConfig:
    """Run what is missing of a paper's table or figure, and print published | ours."""

    table: str | None = None
    """Number of a table; all tables without it (and without --figure)."""
    figure: str | None = None
    """Number of a figure: its runs; `report` draws it."""
    preset: Preset = "small"
    """smoke (seconds), small (minutes on two cores, on less data), paper (as published)."""
    tasks: tuple[str, ...] = ()
    """Only these data sets."""
    report_only: bool = False
    """Run nothing."""
    commit: bool = False
    """Write the results of the finished runs to experiments/results."""
    runtime: Runtime = field(default_factory=Runtime)


def run_paper(name: Literal["hsvr", "compressm", "h2"] | str, config: PaperConfig) -> None:
    """Print the tables of a paper; raises at the end when runs have failed."""
    check_name("paper", name, PAPERS)
    paper = PAPERS[name]
    failures: list[str] = []
    configs = []
    if config.figure is not None:
        check_name("figure", config.figure, paper.FIGURES)
        for cell in paper.figure_cells(config.figure, config.preset, config.tasks):
            if not config.report_only:
                failures += run_cell(cell, config.runtime)
            configs += list(cell.runs())
    numbers: Sequence[str] = paper.TABLES if config.table is None else (config.table,)
    if config.figure is not None and config.table is None:
        numbers = ()
    for number in numbers:
        check_name("table", number, paper.TABLES)
        table = paper.table(number, config.preset, config.tasks)
        if not config.report_only:
            for _, cells in table.rows:
                for cell in cells:
                    failures += run_cell(cell, config.runtime)
        print(plain(table), end="\n\n")
        configs += table_runs(table)
    links = {c.slug: r.source for c in configs if (r := find_result(c)) is not None}
    print(f"runs: {len(links)} of {len({c.slug for c in configs})}")
    for slug, source in sorted(links.items()):
        print(f"  {slug}  {source}")
    if config.commit:
        print(f"{commit_results(name, configs)} results written")
    if failures:
        unique = sorted(set(failures))
        raise ArgumentError(f"{len(unique)} runs failed:\n  " + "\n  ".join(unique))
