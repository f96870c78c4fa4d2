"""All results as one self-contained HTML page and as RESULTS.md.

Every number comes from a finished run: its folder, or its committed summary. Cells without a run
say "not run".
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import matplotlib
import numpy as np

from lticore_torch.files import write_atomically

from .demo_report import STYLE, png
from .papers import PAPERS
from .papers.tables import Table, markdown, our_text, table_runs
from .results import Result, all_results, commit_results
from .runs import runs_root

matplotlib.use("Agg")
from matplotlib import pyplot as plt

#: Colours that can be told apart without colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKDOWN = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True)
class ReportConfig:
    """Build the report of all results."""

    preset: Literal["smoke", "small", "paper"] = "small"
    """Whose tables to show."""
    html: Path | None = None
    """The page; default: report.html in the folder of runs."""
    markdown: Path = _MARKDOWN
    """The same tables as Markdown."""
    commit: bool = False
    """First write summaries of all finished runs of these tables to experiments/results."""


def report(config: ReportConfig) -> None:
    """Write both files, and say where they are."""
    tables = {
        name: [paper.table(number, config.preset) for number in paper.TABLES]
        for name, paper in PAPERS.items()
    }
    if config.commit:
        runs = [run for made in tables.values() for table in made for run in table_runs(table)]
        print(f"{len(commit_results(runs))} summaries written to experiments/results")
    results = all_results()
    html = config.html or runs_root() / "report.html"
    write_atomically(config.markdown, _markdown(tables, results, config.preset))
    write_atomically(html, _page(tables, results, config.preset))
    print(f"{len(results)} results; written: {html}, {config.markdown}")


# ---- texts -------------------------------------------------------------------------------------


def _markdown(tables: dict[str, list[Table]], results: Sequence[Result], preset: str) -> str:
    parts = [
        "# Results",
        "",
        f"Made by `python -m experiments report --preset {preset}`: published numbers beside ours, "
        "every one of ours from a run whose config, seed, versions and commit are recorded in "
        f"`experiments/results/`. Preset {preset}: the budget of each run is said below its table.",
        "",
    ]
    for name, made in tables.items():
        parts += [f"## {PAPERS[name].TITLE}", ""]
        parts += [markdown(table) for table in made]
    parts += ["## Runs", "", "| run | test accuracy (%) | orders | commit | torch | device |"]
    parts.append("|---|---|---|---|---|---|")
    for result in results:
        s = result.summary
        parts.append(
            f"| {s['slug']} | {100 * s['test_accuracy']:.2f} | {s['orders']} | {s['commit']} | "
            f"{s['versions']['torch']} | {s['device']} |"
        )
    return "\n".join(parts) + "\n"


def _page(tables: dict[str, list[Table]], results: Sequence[Result], preset: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        preset=preset,
        papers=[(PAPERS[name].TITLE, made) for name, made in tables.items()],
        our_text=our_text,
        figures=[
            (title, base64.b64encode(picture).decode()) for title, picture in figures(results)
        ],
        results=results,
    )


# ---- figures -----------------------------------------------------------------------------------


def figures(results: Sequence[Result]) -> list[tuple[str, bytes]]:
    """(title, PNG) of every figure that the results can fill."""
    by_task: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_task[result.summary["data"]["name"]].append(result)
    drawn = []
    for task, members in sorted(by_task.items()):
        for title, draw in _FIGURES:
            with plt.rc_context(STYLE):
                figure = draw(members)
                if figure is not None:
                    figure.suptitle(task)
                    drawn.append((f"{task}: {title}", png(figure)))
    return drawn


def _kind(result: Result) -> str:
    """What the run is, but for its seed."""
    config = result.config
    if config.reduction.mode != "none":
        return f"in training, τ = {config.reduction.amount:g}"
    if config.regularizer.kind != "none":
        return f"{config.regularizer.kind} {config.regularizer.weight:g}"
    return f"none, {config.model.layer} {config.model.order}"


def _groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[_kind(result)].append(result)
    return dict(sorted(groups.items()))


def _hankel_decay(results: Sequence[Result]) -> Any:
    """One panel per layer, one line per run (HSVR Figures 1 and 3)."""
    shown = [r for r in results if r.after.get("singular_values")]
    if not shown:
        return None
    depth = max(len(r.after["singular_values"]) for r in shown)
    figure, axes = plt.subplots(
        1, depth, figsize=(4.4 * depth, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for colour, (kind, members) in zip(_COLOURS, _groups(shown).items(), strict=False):
        for index, result in enumerate(members):
            for axis, values in zip(axes[0], result.after["singular_values"], strict=False):
                sigma = np.maximum(np.array(values) / max(values[0], 1e-300), 1e-16)
                axis.semilogy(
                    np.arange(1, len(sigma) + 1),
                    sigma,
                    color=colour,
                    label=kind if index == 0 else None,
                )
    for layer, axis in enumerate(axes[0]):
        axis.set(title=f"layer {layer + 1}", xlabel="state i")
    axes[0, 0].set_ylabel("σᵢ / σ₁")
    axes[0, 0].legend(loc="lower left", fontsize=8)
    return figure


def _truncation(results: Sequence[Result]) -> Any:
    """Mean over seeds, range shaded (HSVR Figures 1, 2 and 4)."""
    lines: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for method, points in result.after.get("truncations", {}).items():
            kind = _kind(result) if method == "balanced" else f"{_kind(result)}: {method}"
            lines[kind][0.0].append(100 * result.summary["test_accuracy"])
            for ratio, done in points.items():
                lines[kind][float(ratio)].append(100 * done["accuracy"])
    if not lines:
        return None
    figure, axis = plt.subplots(figsize=(6.8, 4.0), layout="constrained")
    for index, (kind, points) in enumerate(sorted(lines.items())):
        x = sorted(points)
        colour = _COLOURS[index % len(_COLOURS)]
        low, high = [min(points[r]) for r in x], [max(points[r]) for r in x]
        removed = [100 * r for r in x]
        axis.fill_between(removed, low, high, color=colour, alpha=0.15)
        axis.plot(removed, [np.mean(points[r]) for r in x], "o-", color=colour, label=kind)
    axis.set(xlabel="states removed (%)", ylabel="test accuracy (%)", ylim=(0, 101))
    axis.legend(fontsize=8, loc="lower left")
    return figure


def _in_training(results: Sequence[Result]) -> Any:
    """Accuracy against final order and training time (CompreSSM Figures 3 and 4)."""
    shown = [r for r in results if r.config.model.layer == "lru"]
    if not any(r.config.reduction.mode != "none" for r in shown):
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True, layout="constrained")
    for reduced, colour, marker in ((False, "#777777", "s"), (True, "#D55E00", "o")):
        members = [r for r in shown if (r.config.reduction.mode != "none") == reduced]
        accuracy = [100 * r.summary["test_accuracy"] for r in members]
        label = "reduced in training" if reduced else "small from scratch"
        order = [np.mean(r.summary["orders"]) / 2 for r in members]
        seconds = [r.summary["training_seconds"] for r in members]
        for axis, x in zip(axes, (order, seconds), strict=True):
            axis.scatter(x, accuracy, color=colour, marker=marker, label=label)
    axes[0].set(xlabel="final state dimension (complex states)", ylabel="test accuracy (%)")
    axes[1].set(xlabel="training time (s)")
    axes[0].legend()
    return figure


def _over_time(results: Sequence[Result]) -> Any:
    """Validation accuracy against seconds of training."""
    shown = [r for r in results if len(r.curves["validation_accuracy"]) > 1]
    if not shown:
        return None
    figure, axis = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
    for index, (kind, members) in enumerate(_groups(shown).items()):
        for first, result in enumerate(members):
            steps, seconds = np.array(result.curves["seconds"]).T
            points = np.array(result.curves["validation_accuracy"])
            axis.plot(
                np.interp(points[:, 0], steps, seconds),
                100 * points[:, 1],
                color=_COLOURS[index % len(_COLOURS)],
                label=None if first else kind,
            )
    axis.set(xlabel="training time (s)", ylabel="validation accuracy (%)")
    axis.legend(fontsize=8)
    return figure


def _trajectories(results: Sequence[Result]) -> Any:
    """Hankel singular values in training, layer by layer, with Weyl bounds as margins
    (CompreSSM Figures 2 and 5–8)."""
    shown = [r for r in results if r.hankel]
    if not shown:
        return None
    records = shown[0].hankel
    names = list(records[0]["hankel"])
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.8 * len(names), 3.6), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        last = len(records[-1]["hankel"][name]["trajectory"])
        kept = [x for x in records if len(x["hankel"][name]["trajectory"]) == last]
        steps = [x["step"] for x in kept]
        bounds = np.array([x["hankel"][name]["weyl_bound"] or 0.0 for x in kept])
        for path in np.array([x["hankel"][name]["trajectory"] for x in kept]).T:
            (line,) = axis.plot(steps, path, linewidth=1)
            axis.fill_between(
                steps, path - bounds, path + bounds, color=line.get_color(), alpha=0.1
            )
        axis.set(title=name, xlabel="step", ylabel="σ", ylim=(0, None))
    return figure


def _inference(results: Sequence[Result]) -> Any:
    """Inference time of truncated models (HSVR Table 3)."""
    shown = [r for r in results if r.after.get("inference")]
    if not shown:
        return None
    figure, axis = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    for colour, (kind, members) in zip(_COLOURS, _groups(shown).items(), strict=False):
        for index, result in enumerate(members):
            seconds = {float(k): v for k, v in result.after["inference"].items()}
            x = sorted(seconds)
            axis.plot(
                [100 * r for r in x],
                [seconds[r] / seconds[0.0] for r in x],
                "o-",
                color=colour,
                label=None if index else kind,
            )
    axis.set(xlabel="states removed (%)", ylabel="inference time ratio", ylim=(0, None))
    axis.legend(fontsize=8)
    return figure


_FIGURES: tuple[tuple[str, Callable[[Sequence[Result]], Any]], ...] = (
    ("decay of the Hankel singular values", _hankel_decay),
    ("accuracy against truncation", _truncation),
    ("reduction in training against small from scratch", _in_training),
    ("accuracy against training time", _over_time),
    ("Hankel singular values in training", _trajectories),
    ("inference time", _inference),
)
