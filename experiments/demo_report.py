"""Tables, pictures and the self-contained HTML report of a summary."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from lticore.errors import ArgumentError
from lticore_torch.files import write_atomically

matplotlib.use("Agg")
from matplotlib import pyplot as plt

#: What each way is called, and its colour (distinguishable without colour vision).
LABELS = {
    "none": "standard truncation",
    "data": "truncation by data",
    "distilled": "by data, refit and distilled",
    "hsvr": "trained with Hankel regularisation",
}
COLOURS = {"none": "#D55E00", "data": "#E69F00", "distilled": "#009E73", "hsvr": "#0072B2"}
#: Those that are judged by Hankel singular values, one for each kind of training.
_HANKEL = {"none": "no regularisation", "hsvr": "Hankel regularisation"}

#: Settings of matplotlib for all figures.
STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def print_table(summary: dict[str, Any]) -> None:
    """Test accuracy by method and truncation ratio, means over the seeds, in per cent."""
    ratios = _ratios(summary)
    seeds = ", ".join(map(str, summary["seeds"]))
    print(f"\nTest accuracy (%), mean over seeds {seeds}, by share of states removed")
    print(f"{'':<36}" + "".join(f"{float(r):>7.0%}" for r in ratios))
    for name, method in summary["methods"].items():
        cells = "".join(f"{100 * method['accuracy'][r]:>7.1f}" for r in ratios)
        print(f"{LABELS[name]:<36}{cells}")


def write_report(summary: dict[str, Any], folder: Path) -> None:
    """summary.json, hankel_decay.png, accuracy.png and report.html, each complete or absent."""
    write_atomically(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    pictures = {"hankel_decay.png": plot_decay(summary), "accuracy.png": plot_accuracy(summary)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.2g}"
    page = environment.get_template("demo.html.j2").render(
        summary=summary,
        labels=LABELS,
        bounded=_HANKEL,
        colours=COLOURS,
        ratios=_ratios(summary),
        pictures={name: base64.b64encode(png).decode() for name, png in pictures.items()},
    )
    for name, png in pictures.items():
        write_atomically(folder / name, png)
    write_atomically(folder / "report.html", page)


def rebuild(folder: Path) -> None:
    """Draw the pictures and the page of a finished demo again, from its summary.json.

    Raises
    ------
    ArgumentError
        When there is no summary of a demo in the folder.
    """
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text())
        print_table(summary)
        write_report(summary, folder)
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{path} is not JSON ({error}): run the demo again") from error
    except (KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path} is not the summary of a demo run: {error} is missing"
        ) from error


def plot_decay(summary: dict[str, Any]) -> bytes:
    """Hankel singular values relative to the largest, one panel per layer, one line per seed."""
    lines = {
        label: summary["methods"][name]["singular_values_by_seed"]
        for name, label in _HANKEL.items()
    }
    with plt.rc_context(STYLE):
        return png(decay_figure(lines, [COLOURS[name] for name in _HANKEL]))


def decay_figure(
    lines: Mapping[str, Sequence[Sequence[Sequence[float]]]], colours: Sequence[Any]
) -> Any:
    """Hankel singular values relative to the largest, one panel per layer.

    lines : label → those of each layer, of each run; runs may differ in their depth
    colours : one per label
    """
    depth = max(len(layers) for runs in lines.values() for layers in runs)
    figure, axes = plt.subplots(
        1, depth, figsize=(4.6 * depth, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for colour, (label, runs) in zip(colours, lines.items(), strict=True):
        for index, layers in enumerate(runs):
            for axis, values in zip(axes[0], layers, strict=False):
                sigma = np.maximum(np.array(values) / max(values[0], 1e-300), 1e-16)
                axis.semilogy(
                    np.arange(1, len(sigma) + 1),
                    sigma,
                    color=colour,
                    linewidth=1.6,
                    label=label if index == 0 else None,
                )
    for layer, axis in enumerate(axes[0]):
        axis.set(title=f"layer {layer + 1}", xlabel="state i")
    axes[0, 0].set_ylabel("Hankel singular value σᵢ / σ₁")
    axes[0, 0].legend(loc="lower left", fontsize=8 if len(lines) > 3 else None)
    return figure


def plot_accuracy(summary: dict[str, Any]) -> bytes:
    """Test accuracy against the share of states removed: mean line, range over seeds."""
    ratios = _ratios(summary)
    x = 100 * np.array([float(r) for r in ratios])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        for name, method in summary["methods"].items():
            seeds = 100 * np.array([method["accuracy_by_seed"][r] for r in ratios])
            colour = COLOURS[name]
            axis.fill_between(x, seeds.min(axis=1), seeds.max(axis=1), color=colour, alpha=0.2)
            axis.plot(x, seeds.mean(axis=1), "o-", color=colour, label=LABELS[name])
        axis.set(
            xlabel="states removed (%)",
            ylabel="test accuracy (%)",
            xlim=(-2, 100),
            ylim=(0, 102),
        )
        axis.legend(loc="lower left")
        return png(figure)


def _ratios(summary: dict[str, Any]) -> list[str]:
    """Keys of the tables of a method; "0.0" is the model as trained."""
    return ["0.0", *map(str, summary["truncation_ratios"])]


def png(figure: Any) -> bytes:
    """The picture of a figure, which is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    return buffer.getvalue()
