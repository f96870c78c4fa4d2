"""Results of runs: from their folders, or from the files that are committed.

experiments/results/ holds one file per paper, with a line per finished run, by slug: the settings
that differ from the defaults, the summary (with versions and commit), what was done after training,
and curves. Reports can be made from these alone. A run stands in one file: that of the paper with
which it was committed first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lticore.errors import ArgumentError
from lticore_torch.files import write_atomically

from .config import RunConfig, changed_settings, with_settings
from .methods import after_of
from .runs import finished_folders, read_config, read_json, read_lines, run_folder, summary_of

COMMITTED = Path(__file__).parent / "results"

#: Points that a curve keeps.
_POINTS = 20
#: Significant digits of curves, and of what is as long as a curve; no table shows either.
_DIGITS = 4
#: What is so long in the summary and in what was done after training.
_LONG = ("reductions", "singular_values")
#: What timing.py measured.
_TIMES = ("inference", "training")


@dataclass(frozen=True)
class Result:
    """A finished run; the same from its folder as from a committed line.

    summary : without the slug, which the config has
    curves : "loss", "validation_accuracy" and "seconds" → some pairs (step, value)
    hankel : some records of the Hankel singular values in training, if they were tracked
    source : folder or file that it was read from
    """

    config: RunConfig
    summary: dict[str, Any]
    after: dict[str, Any]
    curves: dict[str, list[list[float]]]
    hankel: list[dict[str, Any]]
    source: str


def find_result(config: RunConfig) -> Result | None:
    """The result of ``config`` from its run folder, else from the committed ones, else None."""
    folder = run_folder(config)
    summary = summary_of(folder)
    if summary is not None:
        return _from_folder(folder, config, summary)
    return committed_results().get(config.slug)


def all_results() -> list[Result]:
    """Every finished run at hand, by slug; run folders before committed results."""
    found = committed_results()
    for folder in finished_folders():
        config = read_config(folder)
        found[config.slug] = _from_folder(folder, config, read_json(folder / "summary.json"))
    return [found[slug] for slug in sorted(found)]


def committed_results() -> dict[str, Result]:
    """The committed results by slug.

    Raises
    ------
    ArgumentError
        For a line that is not a result, with its file and number.
    """
    found: dict[str, Result] = {}
    for path in sorted(COMMITTED.glob("*.jsonl")):
        found |= _read(path, path.read_text())
    return found


def commit_results(paper: str, configs: Iterable[RunConfig]) -> int:
    """Write a line for each of these runs that has finished here, in place of the one that there
    is, else in the file of ``paper``; returns how many.

    Times of that line stay where none were taken here on the same kind of machine: they depend on
    sizes alone.
    """
    committed = committed_results()
    new = {}
    for config in configs:
        result = find_result(config)
        if result is not None and Path(result.source).is_dir():
            old = committed.get(config.slug)
            path = old.source if old else str(COMMITTED / f"{paper}.jsonl")
            after = (_times(old, result) if old else {}) | result.after
            new[config.slug] = replace(result, source=path, after=after)
    committed |= new
    for path in {result.source for result in new.values()}:
        lines = [_line(r) for _, r in sorted(committed.items()) if r.source == path]
        write_atomically(Path(path), "".join(lines))
    return len(new)


def _times(old: Result, new: Result) -> dict[str, Any]:
    if old.summary.get("machine") != new.summary.get("machine"):
        return {}
    return {name: x for name, x in old.after.items() if name in _TIMES}


# ---- lines -------------------------------------------------------------------------------------


def _line(result: Result) -> str:
    content = {
        "slug": result.config.slug,
        "config": changed_settings(result.config),
        "summary": result.summary,
        "after": result.after,
        "curves": result.curves,
        "hankel": result.hankel,
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


# Tables ask for their runs one by one; with the text as key, a changed file is read again.
@lru_cache(maxsize=16)
def _read(path: Path, text: str) -> dict[str, Result]:
    """Results by slug of a file with this text."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            result = _from_line(line, str(path))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"{path}, line {number} is not a result: {error}") from error
        found[result.config.slug] = result
    return found


def _from_line(line: str, source: str) -> Result:
    content = json.loads(line)
    # The slug in the line is for people; the config gives it.
    del content["slug"]
    config = with_settings(content.pop("config"))
    return Result(config=config, source=source, **content)


# ---- folders -----------------------------------------------------------------------------------


def _from_folder(folder: Path, config: RunConfig, summary: dict[str, Any]) -> Result:
    curves: dict[str, list[list[float]]] = {"loss": [], "validation_accuracy": []}
    hankel = []
    for line in read_lines(folder / "metrics.jsonl"):
        for name, points in curves.items():
            if name in line:
                points.append([line["step"], line[name]])
        if "hankel" in line:
            hankel.append(line)
    times = {line["step"]: line["seconds"] for line in read_lines(folder / "timing.jsonl")}
    curves["seconds"] = [[step, seconds] for step, seconds in sorted(times.items())]
    return Result(
        config=config,
        summary=_shortened({k: v for k, v in summary.items() if k != "slug"}),
        after=_shortened(after_of(folder)),
        curves={name: _rounded(_thinned(points)) for name, points in curves.items()},
        hankel=_rounded(_thinned(hankel)),
        source=str(folder),
    )


def _shortened(content: dict[str, Any]) -> dict[str, Any]:
    """With what is long rounded."""
    return {name: _rounded(x) if name in _LONG else x for name, x in content.items()}


def _thinned(points: list[Any]) -> list[Any]:
    """At most so many of them, evenly, with the first and the last."""
    if len(points) <= _POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (_POINTS - 1))] for i in range(_POINTS)]


def _rounded(content: Any) -> Any:
    """With all floats, however deep, rounded."""
    if isinstance(content, dict):
        return {name: _rounded(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return float(f"{content:.{_DIGITS}g}") if isinstance(content, float) else content
