"""Sakamoto & Sato: A Deep State-Space Model Compression Method using Upper Bound on Output Error
(arXiv:2510.14542).

Expected: about 80 % of the parameters removed without retraining for 4–5 points of accuracy.
Command: python -m experiments paper h2 --preset small

Of the paper only the headline is known here: its other cells read "not available".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..config import BudgetConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig
from ..methods import seeds
from .tables import (
    NOT_AVAILABLE,
    Cell,
    Preset,
    RemovedParameters,
    Statistic,
    Table,
    TestAccuracy,
    Truncated,
    check_tasks,
    median,
)

TITLE = "h2: A Deep State-Space Model Compression Method using Upper Bound on Output Error"
TABLES = ("1",)
FIGURES: tuple[str, ...] = ()

NOTES = (
    "Known of the paper: IMDB of the Long Range Arena, deep models with quadratic outputs, "
    "LayerNorm and HiPPO initialisation, about 80 % of the parameters removed without retraining "
    "for 4–5 % of performance, reduced orders 32 and 16 among others. Optimizer, learning rate, "
    "batch size, widths and the published tables are not known: those of preset paper are ours.",
    "The paper descends from TLBT or TLH2 by gradients with Armijo's rule; h2 here is "
    "lticore.h2_reduction from several starts.",
)

METHODS = {
    "tlbt": "TLBT",
    "tlh2": "TLH2",
    "h2": "h2-optimal (proposed)",
    "balanced": "balanced truncation",
}
RATIOS = (0.5, 0.75, 0.875)

_MODEL = ModelConfig("s5", 64, 64, 2, dropout=0.1, norm="layer", gate="gelu")
_PRESETS: dict[Preset, RunConfig] = {
    "smoke": RunConfig(
        data=DataConfig("digits", train=60, test=40),
        model=replace(_MODEL, features=4, order=8),
        budget=BudgetConfig(steps=3, batch_size=25),
    ),
    "small": RunConfig(
        data=DataConfig("imdb", {"length": 1024}, test=2500),
        model=replace(_MODEL, features=32, order=64),
        optimizer=OptimizerConfig(4e-3, 0.05),
        budget=BudgetConfig(steps=1500, batch_size=32),
    ),
    "paper": RunConfig(
        data=DataConfig("imdb"),
        model=replace(_MODEL, layer="quadratic", features=64, order=128, depth=6),
        optimizer=OptimizerConfig(1e-3, 0.05),
        budget=BudgetConfig(epochs=30, batch_size=32),
    ),
}
TASKS = ("imdb",)

#: Runs per cell.
SEEDS: dict[Preset, int] = {"smoke": 1, "small": 2, "paper": 3}

_BUDGETS: dict[Preset, str] = {
    "smoke": "preset smoke: three steps on 60 digits, S5 2 × 8",
    "small": "preset small: first 1 024 bytes of a review, S5 (linear outputs) 2 × 64, width 32, "
    "1 500 steps of 32, 2 500 test reviews",
    "paper": "preset paper: quadratic outputs 6 × 128, width 64, 30 epochs",
}


def table(number: str, preset: Preset, tasks: Sequence[str] = ()) -> Table:
    """Accuracy and removed parameters of each method at several ratios.

    Raises
    ------
    ArgumentError
        For an unknown task, with the nearest names.
    """
    check_tasks(tasks, TASKS)
    runs = _runs(preset)

    def accuracy(method: str, ratio: float) -> Cell:
        return Cell(NOT_AVAILABLE, runs, Truncated(method, ratio), median)

    whole = Cell(NOT_AVAILABLE, runs, TestAccuracy(), median)
    rows = [
        (label, (whole, *(accuracy(method, ratio) for ratio in RATIOS)))
        for method, label in METHODS.items()
    ]
    headline = ("–", *(("about 80 % for 4–5 points",) + ("–",) * (len(RATIOS) - 1))[::-1])
    rows.append(
        (
            "removed parameters (%)",
            (
                Cell(headline[0], ours="0"),
                *(
                    Cell(text, runs, RemovedParameters("balanced", ratio), _one_digit)
                    for text, ratio in zip(headline[1:], RATIOS, strict=True)
                ),
            ),
        )
    )
    return Table(
        "h2, IMDB",
        "test accuracy (%) by share of states removed, nothing retrained, median",
        ("0%", *(f"{ratio:g}" for ratio in RATIOS)),
        tuple(rows),
        TASKS,
        (*NOTES, _BUDGETS[preset]),
        SEEDS[preset],
    )


def figure_cells(number: str, preset: Preset, tasks: Sequence[str] = ()) -> tuple[Cell, ...]:
    """No figure of the paper is known."""
    return ()


def _runs(preset: Preset) -> Callable[[], Sequence[RunConfig]]:
    return lambda: seeds(_PRESETS[preset], SEEDS[preset])


_one_digit: Statistic = lambda values: f"{sum(values) / len(values):.1f}"  # noqa: E731
