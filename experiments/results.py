"""Results of runs: from their folders, or from the summaries that are committed.

experiments/results/ holds one JSON file per finished run: config, summary (with seed, versions and
commit), what was done after training, and its curves. Reports can be made from these alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import RunConfig, from_json, to_json
from .methods import after_of
from .runs import read_json, read_lines, run_folder, runs_root, summary_of, write_json

COMMITTED = Path(__file__).parent / "results"

#: Points that a curve keeps in a committed result.
_POINTS = 60


@dataclass(frozen=True)
class Result:
    """A finished run.

    curves : "loss", "validation_accuracy" and "order" → pairs (step, value); "seconds" likewise
    hankel : records of the Hankel singular values in training, if they were tracked
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
    path = committed_path(config)
    return _from_file(path) if path.exists() else None


def all_results() -> list[Result]:
    """Every finished run at hand, by slug; run folders before committed results."""
    found = {
        read_json(path)["summary"]["slug"]: _from_file(path)
        for path in sorted(COMMITTED.glob("*.json"))
    }
    for path in sorted(runs_root().glob("*/*/summary.json")):
        config = from_json(RunConfig, read_json(path.parent / "config.json"))
        found[config.slug] = _from_folder(path.parent, config, read_json(path))
    return [found[slug] for slug in sorted(found)]


def committed_path(config: RunConfig) -> Path:
    """Where the summary of ``config`` is committed, if it is."""
    return COMMITTED / (config.slug.replace("/", "__") + ".json")


def commit_results(configs: list[RunConfig], target: Path = COMMITTED) -> list[Path]:
    """Write the committed form of each of these runs that has finished here; returns the files."""
    written = []
    for config in configs:
        result = find_result(config)
        if result is None or not Path(result.source).is_dir():
            continue
        path = target / committed_path(config).name
        content = {
            "config": to_json(config),
            "summary": result.summary,
            "after": result.after,
            "curves": result.curves,
            "hankel": result.hankel,
        }
        write_json(path, content)
        written.append(path)
    return written


def _from_file(path: Path) -> Result:
    content = read_json(path)
    return Result(
        config=from_json(RunConfig, content["config"]),
        summary=content["summary"],
        after=content["after"],
        curves=content["curves"],
        hankel=content["hankel"],
        source=str(path),
    )


def _from_folder(folder: Path, config: RunConfig, summary: dict[str, Any]) -> Result:
    curves: dict[str, list[list[float]]] = {"loss": [], "validation_accuracy": [], "order": []}
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
        summary=summary,
        after=after_of(folder),
        curves={name: _thinned(points) for name, points in curves.items()},
        hankel=_thinned(hankel),
        source=str(folder),
    )


def _thinned(points: list[Any]) -> list[Any]:
    """At most so many of them, evenly, with the first and the last."""
    if len(points) <= _POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (_POINTS - 1))] for i in range(_POINTS)]
