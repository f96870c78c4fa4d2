"""All results as one self-contained HTML page and as RESULTS.md.

Every number comes from a finished run: its folder, or its committed result. Cells without a run
say "not run".
"""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from lticore_torch import HankelRecord
from lticore_torch.files import write_atomically
from lticore_torch.penalties.tracking import plot_hankel_records

from .config import ReductionConfig
from .demo_report import STYLE, decay_figure
from .papers import PAPERS
from .papers.tables import (
    Cell,
    Preset,
    Table,
    TestAccuracy,
    Truncated,
    deviation,
    markdown,
    our_text,
    table_runs,
)
from .results import Result, all_results, commit_results, committed_results
from .runs import runs_root

matplotlib.use("Agg")
from matplotlib import pyplot as plt

#: Colours that can be told apart without colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
#: Penalties whose magnitudes are compared.
_PENALTIES = {"hankel": "Hankel penalty", "l1": "ℓ1 penalty"}
#: Quantities that are accuracies in per cent.
_ACCURACIES = (TestAccuracy, Truncated)
_MARKDOWN = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True)
class ReportConfig:
    """Build the report of all results."""

    preset: Preset = "small"
    """Whose tables to show."""
    html: Path | None = None
    """The page; default: report.html in the folder of runs."""
    markdown: Path = _MARKDOWN
    """The same tables as Markdown."""
    commit: bool = False
    """First write the results of all finished runs of these tables to experiments/results."""


def report(config: ReportConfig) -> None:
    """Write both files, and say where they are."""
    tables = {
        name: [paper.table(number, config.preset) for number in paper.TABLES]
        for name, paper in PAPERS.items()
    }
    if config.commit:
        for name, made in tables.items():
            written = commit_results(name, [run for table in made for run in table_runs(table)])
            print(f"{name}: {written} results written to experiments/results")
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
    committed = committed_results()
    for result in results:
        s, name = result.summary, result.config.slug
        if name in committed:
            name = f"[{name}](results/{Path(committed[name].source).name})"
        parts.append(
            f"| {name} | {100 * s['test_accuracy']:.2f} | {s['orders']} | {s['commit']} | "
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
        ahead=_ahead,
        tint=_tint,
        anchor=lambda table: table.name.lower().replace(" ", "-").replace(",", ""),
        figures=[
            (task, [(title, base64.b64encode(picture).decode()) for title, picture in pictures])
            for task, pictures in figures(results)
        ],
        results=results,
    )


def _ahead(cell: Cell, ours: str) -> float | None:
    """Points of accuracy by which ours is above the published; None of what is no such pair."""
    numbers = [re.match(r"-?\d+\.?\d*", text) for text in (cell.published, ours)]
    if not isinstance(cell.quantity, _ACCURACIES) or cell.statistic is deviation:
        return None
    if cell.ours is not None or None in numbers:
        return None
    published, reached = (float(number[0]) for number in numbers if number is not None)
    return reached - published


def _tint(points: float | None) -> str:
    """Blue above the published number, orange below: as strong as 30 points at most."""
    if points is None:
        return ""
    colour = "0, 114, 178" if points > 0 else "213, 94, 0"
    return f"background: rgba({colour}, {min(abs(points) / 30, 1) * 0.45:.2f})"


# ---- figures -----------------------------------------------------------------------------------


def figures(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """(task, [(title, WebP), …]) of every figure that the results can fill; the tasks of most runs
    come first."""
    by_task: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        quadratic = ", quadratic outputs" if result.config.model.layer == "quadratic" else ""
        by_task[result.summary["data"]["name"] + quadratic].append(result)
    drawn = []
    for task, members in sorted(by_task.items(), key=lambda item: (-len(item[1]), item[0])):
        pictures = []
        for title, draw in _FIGURES:
            with plt.rc_context(STYLE):
                pictures += [(title, _webp(figure)) for figure in draw(members)]
        drawn.append((task, pictures))
    return [(task, pictures) for task, pictures in drawn if pictures]


def _webp(figure: Any) -> bytes:
    """The picture of a figure, which is closed; a third of a PNG's size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=100, pil_kwargs={"quality": 70, "method": 6})
    plt.close(figure)
    return buffer.getvalue()


def _kind(result: Result) -> str:
    """What the run is, but for its seed."""
    config = result.config
    reduction = config.reduction
    if reduction.mode != "none":
        how = "τ =" if reduction.mode == "tolerance" else reduction.mode
        kept = "" if reduction.selection == "largest" else f", {reduction.selection} kept"
        reset = ", moments reset" if reduction.moments == "reset" else ""
        return f"in training, {how} {reduction.amount:g}{kept}{reset}"
    if config.regularizer.kind != "none":
        return f"{config.regularizer.kind} {config.regularizer.weight:g}"
    return f"none, {config.model.layer} {config.model.order}"


def _groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """By kind, in the order of weight, tolerance and states."""
    groups: dict[str, list[Result]] = defaultdict(list)

    def size(result: Result) -> tuple[float, float, int, str]:
        config = result.config
        amounts = config.regularizer.weight, config.reduction.amount
        return *amounts, config.model.order, config.slug

    for result in sorted(results, key=size):
        groups[_kind(result)].append(result)
    return dict(groups)


def _shades(count: int, name: str = "viridis") -> list[Any]:
    """Colours in an order, none of them close to white."""
    return [plt.get_cmap(name)(x) for x in np.linspace(0.9, 0.25, count)]


def _penalised(results: Sequence[Result], kind: str) -> list[Result]:
    return [
        r
        for r in results
        if r.config.regularizer.kind == kind and r.config.reduction.mode == "none"
    ]


def _hankel_decay(results: Sequence[Result]) -> list[Any]:
    """One panel per layer, one line per run (HSVR Figures 1 and 3)."""
    shown = [r for r in results if r.after.get("singular_values")]
    drawn = []
    for penalty in _PENALTIES:
        groups = _groups(_penalised(shown, "none") + _penalised(shown, penalty))
        if shown and (penalty == "hankel" or len(groups) > 1):
            lines = {
                kind: [r.after["singular_values"] for r in members]
                for kind, members in groups.items()
            }
            figure = decay_figure(lines, _shades(len(lines)))
            if len(groups) > 1:
                figure.suptitle(_PENALTIES[penalty])
            drawn.append(figure)
    return drawn


def _truncation(results: Sequence[Result]) -> list[Any]:
    """Ways to truncate the model without penalty beside the best Hankel one, then all magnitudes of
    each penalty (HSVR Figures 1, 2 and 4, Tables 6-8)."""
    plain = _truncation_lines(_penalised(results, "none"))
    hankel = _truncation_lines(_penalised(results, "hankel"), "balanced")
    l1 = _truncation_lines(_penalised(results, "l1"), "balanced")
    panels = {
        "methods": plain | _best(hankel),
        _PENALTIES["hankel"]: hankel,
        _PENALTIES["l1"]: l1,
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return []
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(5.2 * len(panels) + 1, 4.0),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        few = title == "methods" and len(lines) <= len(_COLOURS)
        colours = _COLOURS if few else _shades(len(lines))
        for colour, (label, points) in zip(colours, lines.items(), strict=False):
            x = sorted(points)
            low, high = [min(points[r]) for r in x], [max(points[r]) for r in x]
            removed = [100 * r for r in x]
            axis.fill_between(removed, low, high, color=colour, alpha=0.15)
            axis.plot(removed, [np.mean(points[r]) for r in x], "o-", color=colour, label=label)
        axis.set(title=title, xlabel="states removed (%)", ylim=(0, 101))
        axis.legend(fontsize=8, loc="lower left")
    axes[0, 0].set_ylabel("test accuracy (%)")
    return [figure]


#: What a line of accuracies is made of: share of states removed → accuracy of each seed.
_Line = dict[float, list[float]]


def _truncation_lines(results: Sequence[Result], *methods: str) -> dict[str, _Line]:
    """Kind and method → line, of these methods or of all."""
    lines: dict[str, _Line] = {}
    for kind, members in _groups(results).items():
        for result in members:
            for method, points in result.after.get("truncations", {}).items():
                if methods and method not in methods:
                    continue
                label = kind if method == "balanced" else f"{kind}: {method}"
                line = lines.setdefault(label, defaultdict(list))
                line[0.0].append(100 * result.summary["test_accuracy"])
                for ratio, done in points.items():
                    line[float(ratio)].append(100 * done["accuracy"])
    return lines


def _best(lines: dict[str, _Line]) -> dict[str, _Line]:
    """The line of most seeds: magnitudes are chosen with one."""
    if not lines:
        return {}
    label = max(lines, key=lambda name: len(lines[name][0.0]))
    return {label: lines[label]}


def _as_published(results: Sequence[Result]) -> list[Result]:
    """The runs of CompreSSM's tables: reduced by energy or not at all, largest values kept."""
    usual = ReductionConfig()
    return [
        r
        for r in results
        if r.config.model.layer == "lru"
        and r.config.reduction.mode in ("none", "tolerance")
        and r.config.reduction.selection == usual.selection
        and r.config.reduction.moments == usual.moments
        and not r.config.budget.track_every
    ]


def _in_training(results: Sequence[Result]) -> list[Any]:
    """Accuracy against final order and training time (CompreSSM Figures 3 and 4)."""
    shown = _as_published(results)
    if not any(r.config.reduction.mode != "none" for r in shown):
        return []
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
    return [figure]


def _over_time(results: Sequence[Result]) -> list[Any]:
    """Validation accuracy against seconds of training: grey from scratch, orange reduced."""
    shown = [r for r in _as_published(results) if len(r.curves["validation_accuracy"]) > 1]
    if not shown:
        return []
    figure, axis = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
    for reduced, shade in ((False, "Greys"), (True, "Oranges")):
        groups = _groups([r for r in shown if (r.config.reduction.mode != "none") == reduced])
        for colour, (kind, members) in zip(
            _shades(len(groups), shade), groups.items(), strict=True
        ):
            for index, result in enumerate(members):
                steps, seconds = np.array(result.curves["seconds"]).T
                points = np.array(result.curves["validation_accuracy"])
                axis.plot(
                    np.interp(points[:, 0], steps, seconds),
                    100 * points[:, 1],
                    color=colour,
                    label=None if index else kind,
                )
    axis.set(xlabel="training time (s)", ylabel="validation accuracy (%)")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return [figure]


def _trajectories(results: Sequence[Result]) -> list[Any]:
    """Hankel singular values in training, layer by layer (CompreSSM Figures 2 and 5–8)."""
    drawn = []
    for result in results:
        for name in result.hankel[0]["hankel"] if result.hankel else ():
            records = [HankelRecord(**line["hankel"][name]) for line in result.hankel]
            order = result.summary["orders"][0] // 2
            drawn.append(plot_hankel_records(records, f"{name}, {order} complex states"))
    return drawn


def _inference(results: Sequence[Result]) -> list[Any]:
    """Inference time of truncated models (HSVR Table 3)."""
    shown = [r for r in results if r.after.get("inference")]
    if not shown:
        return []
    groups = _groups(shown)
    figure, axis = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    for colour, (kind, members) in zip(_shades(len(groups)), groups.items(), strict=True):
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
    return [figure]


_FIGURES: tuple[tuple[str, Callable[[Sequence[Result]], list[Any]]], ...] = (
    ("accuracy against truncation", _truncation),
    ("decay of the Hankel singular values", _hankel_decay),
    ("reduction in training against small from scratch", _in_training),
    ("accuracy against training time", _over_time),
    ("Hankel singular values in training", _trajectories),
    ("inference time", _inference),
)
