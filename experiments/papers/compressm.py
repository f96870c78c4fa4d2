"""Chahine, Nazari, Rus & Rusch: The Curious Case of In-Training Compression of State Space Models.

Expected: LRU models that shrink while they train beat models that are as small from the start,
where accuracy depends on the number of states at all.
Command: python -m experiments paper compressm --table 1 --preset small
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..config import (
    BudgetConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
)
from ..methods import from_scratch, reduced_in_training, seeds
from ..results import find_result
from .compressm_published import TABLE_1, TABLE_2, TABLE_3
from .tables import (
    NOT_IN_PAPER,
    Cell,
    FinalOrder,
    Preset,
    Statistic,
    Table,
    best,
    check_tasks,
    mean_and_deviation,
    top_three,
)

TITLE = "CompreSSM: The Curious Case of In-Training Compression of State Space Models"
TABLES = ("1", "2", "3", "modes")
FIGURES = ("2", "3", "4", "5", "6", "7", "8")

NOTES = (
    "Eq. (8) keeps the share τ of Σσ; the τ of the tables (0.15 … 0.001) is the share given up, as "
    "in the authors' code, whose tol is 1 − τ. Ours is the share given up.",
    "The first MNIST column is τ = 4e-2 with 12.7 states in Table 1, and τ = 3e-2 with 0.0 states "
    "and accuracy 0.0 in Table 3. Both are transcribed; ours runs 4e-2.",
    "MNIST at τ = 2e-2: the best CompreSSM run of Table 3 (96.2) is below the mean of the best "
    "three in Table 1 (96.9); it may be interchanged with the baseline's 96.9 beside it. "
    "Transcribed as printed.",
    "The paper attempts four reductions in the warm-up; the authors' code reduces only at common "
    "multiples of two intervals: MNIST 2 times instead of 10, CIFAR10 once. Preset paper: four in "
    "the warm-up, on MNIST ten over all of training, on IMDB at 2 000 and 3 000 steps.",
    "The authors' Hankel singular values are those of the complex system; ours are those of the "
    "real map Re(Cx), whose truncation has a bound. State dimensions are counted in complex "
    "states, as the paper does: half of the stored real states.",
    "The authors validate IMDB on its test set; here the validation split is a tenth of the "
    "training set, and the model tested is the best on it since the last reduction.",
    "Dropout on IMDB is 0.1 in Table 2, but the text doubles the 0.1 of the LRU paper and the "
    "authors' code has 0.2: ours is 0.2. As in their code features are dropped at each time step "
    "anew (in preset small on the digits only); there one mask serves all sequences of a "
    "batch, here each has its own.",
    "The text calls both CIFAR10 and MNIST cases where accuracy grows with the state dimension, "
    "but numbers MNIST as entry 5 of Table 1, which is Pathfinder.",
)

TAUS = (0.15, 0.1, 0.07, 0.05, 0.03, 0.02)
MNIST_TAUS = (0.04, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Task:
    """A data set of the paper.

    paper, small : unreduced runs of the two presets
    attempts, small_attempts, short_attempts : after which steps reductions are attempted
    short : the paper's run with fewer steps, if preset paper-short has it
    small_taus, short_taus : the tolerances that presets small and paper-short run
    label : what the small preset is, for the tables
    """

    paper: RunConfig
    attempts: tuple[int, ...]
    small: RunConfig
    small_attempts: tuple[int, ...]
    small_taus: tuple[float, ...]
    label: str
    short: RunConfig | None = None
    short_attempts: tuple[int, ...] = ()
    short_taus: tuple[float, ...] = ()


def _paper(
    data: str,
    *,
    depth: int,
    features: int,
    order: int,
    steps: int,
    batch: int,
    factor: float,
    dropout: float,
) -> RunConfig:
    """A row of Table 2; ``order`` counts complex states."""
    return RunConfig(
        data=DataConfig(data),
        model=_model(depth, features, order, dropout),
        optimizer=OptimizerConfig(1e-3, 0.05, system="AB", system_rate=factor, clip=0.0),
        schedule=ScheduleConfig("cosine", warmup=0.1, first=1e-4, last=1e-4),
        budget=BudgetConfig(steps=steps, batch_size=batch, evaluate_every=steps // 50, keep="best"),
    )


def _model(depth: int, features: int, order: int, dropout: float) -> ModelConfig:
    """An LRU with ``order`` complex states; features are dropped at each time step anew."""
    return ModelConfig(
        "lru", features, 2 * order, depth, dropout, "step", norm="batch-plain", gate="glu"
    )


def _in_warmup(steps: int) -> tuple[int, ...]:
    """Four equidistant steps, the last at the end of the warm-up."""
    return tuple(steps * k // 40 for k in (1, 2, 3, 4))


def _over_all(steps: int) -> tuple[int, ...]:
    """Ten equidistant steps with training after each."""
    return tuple(steps * k // 11 for k in range(1, 11))


def _mnist(data: DataConfig, order: int, steps: int, rate: float) -> RunConfig:
    return RunConfig(
        data=data,
        model=_model(1, 8, order, 0.1),
        optimizer=OptimizerConfig(rate, 0.0, system="AB", clip=0.0),
        schedule=ScheduleConfig("constant", warmup=0.0),
        budget=BudgetConfig(steps=steps, batch_size=50, evaluate_every=steps // 20, keep="best"),
    )


def _small(
    data: DataConfig,
    *,
    depth: int,
    features: int,
    order: int,
    steps: int,
    batch: int,
    factor: float,
) -> RunConfig:
    run = _by_sequence(
        _paper(
            "digits",
            depth=depth,
            features=features,
            order=order,
            steps=steps,
            batch=batch,
            factor=factor,
            dropout=0.1,
        )
    )
    budget = replace(run.budget, evaluate_every=steps // 20)
    optimizer = replace(run.optimizer, learning_rate=4e-3)
    return replace(run, data=data, budget=budget, optimizer=optimizer)


def _by_sequence(run: RunConfig) -> RunConfig:
    """Features dropped for whole sequences, as in the runs that are committed."""
    return replace(run, model=replace(run.model, dropout_mask="sequence"))


_LISTOPS = DataConfig(
    "listops", {"size": (20000, 2000, 2000), "longer_than": 10, "shorter_than": 60}
)

_AAN = DataConfig("aan", {"length": 1000}, train=5000, test=1000)

#: The digits are not in the paper.
TASKS = {
    "cifar10": Task(
        _paper(
            "scifar",
            depth=6,
            features=512,
            order=384,
            steps=180_000,
            batch=50,
            factor=0.25,
            dropout=0.1,
        ),
        _in_warmup(180_000),
        _small(
            DataConfig("scifar-gray", pool=2, test=5000),
            depth=2,
            features=64,
            order=64,
            steps=3000,
            batch=50,
            factor=0.25,
        ),
        _in_warmup(3000),
        (0.15, 0.05),
        "grey images averaged to 16 × 16 = 256 steps, LRU 2 × 64, width 64, 3 000 steps of 50",
    ),
    "listops": Task(
        _paper(
            "listops",
            depth=6,
            features=128,
            order=256,
            steps=80_000,
            batch=32,
            factor=0.5,
            dropout=0.0,
        ),
        _in_warmup(80_000),
        _small(_LISTOPS, depth=2, features=32, order=64, steps=3000, batch=50, factor=0.5),
        _in_warmup(3000),
        (0.15, 0.05),
        "expressions of 11–59 tokens, LRU 2 × 64 complex states, width 32, 3 000 steps of 50",
    ),
    "aan": Task(
        _paper(
            "aan",
            depth=6,
            features=128,
            order=256,
            steps=100_000,
            batch=64,
            factor=0.5,
            dropout=0.1,
        ),
        _in_warmup(100_000),
        _small(_AAN, depth=2, features=32, order=64, steps=1000, batch=32, factor=0.5),
        _in_warmup(1000),
        (0.15, 0.05),
        "first 1 000 characters, 5 000 pairs, LRU 2 × 64, width 32, 1 000 steps of 32",
    ),
    "imdb": Task(
        _paper(
            "imdb-min15",
            depth=1,
            features=256,
            order=192,
            steps=50_000,
            batch=32,
            factor=0.1,
            dropout=0.2,
        ),
        (2000, 3000),
        _small(
            DataConfig("imdb-min15", {"length": 1024}, test=2500),
            depth=1,
            features=64,
            order=64,
            steps=1500,
            batch=32,
            factor=0.5,
        ),
        (200, 400),
        (0.15, 0.05),
        "first 1 024 characters, LRU 1 × 64 complex states, width 64, 1 500 steps of 32, 2 500 "
        "test reviews",
    ),
    "pathfinder": Task(
        _paper(
            "pathfinder",
            depth=6,
            features=192,
            order=256,
            steps=500_000,
            batch=64,
            factor=0.25,
            dropout=0.0,
        ),
        _in_warmup(500_000),
        _small(
            DataConfig("pathfinder", train=10000, test=2000),
            depth=2,
            features=32,
            order=64,
            steps=2000,
            batch=32,
            factor=0.25,
        ),
        _in_warmup(2000),
        (0.15, 0.05),
        "10 000 training images, LRU 2 × 64, width 32, 2 000 steps of 32",
    ),
    "mnist": Task(
        _mnist(DataConfig("smnist"), 256, 200_000, 4e-4),
        _over_all(200_000),
        _by_sequence(_mnist(DataConfig("smnist", pool=2), 64, 3000, 4e-3)),
        _over_all(3000),
        MNIST_TAUS,
        "images averaged to 14 × 14 = 196 steps, LRU 1 × 64 complex states, width 8, 3 000 steps "
        "of 50, learning rate 4e-3",
        _mnist(DataConfig("smnist"), 256, 60_000, 4e-4),
        _over_all(60_000),
        (0.04, 0.01),
    ),
    "digits": Task(
        _mnist(DataConfig("digits"), 64, 2000, 4e-3),
        _over_all(2000),
        _mnist(DataConfig("digits"), 64, 2000, 4e-3),
        _over_all(2000),
        MNIST_TAUS,
        "8 × 8 images = 64 steps (not in the paper), LRU 1 × 64 complex states, width 8, 2 000 "
        "steps of 50",
    ),
}

_SMOKE = RunConfig(
    data=DataConfig("digits", train=60, test=40),
    model=ModelConfig("lru", 4, 24, 2, norm="batch-plain", gate="glu"),
    optimizer=OptimizerConfig(system="AB"),
    budget=BudgetConfig(steps=4, batch_size=25, evaluate_every=2, keep="best"),
)

#: Runs per cell.
SEEDS: dict[Preset, int] = {"smoke": 2, "small": 2, "paper-short": 1, "paper": 5}

# ---- configurations ----------------------------------------------------------------------------


def taus(task: str) -> tuple[float, ...]:
    """The tolerances of a task's row."""
    return MNIST_TAUS if task in ("mnist", "digits") else TAUS


def plain_run(task: str, preset: Preset) -> RunConfig:
    """The unreduced run of a task (τ = 0)."""
    if preset == "smoke":
        return _SMOKE
    check_tasks((task,), _tasks(preset))
    known = TASKS[task]
    run = {"small": known.small, "paper-short": known.short, "paper": known.paper}[preset]
    assert run is not None
    return run


def _tasks(preset: Preset, among: Iterable[str] = TASKS) -> tuple[str, ...]:
    """Those that the preset runs."""
    return tuple(task for task in among if TASKS[task].short or preset != "paper-short")


def reduced_run(task: str, preset: Preset, tau: float) -> RunConfig:
    """The run that is reduced in training with tolerance τ."""
    attempts = {
        "smoke": (1, 2),
        "small": TASKS[task].small_attempts,
        "paper-short": TASKS[task].short_attempts,
        "paper": TASKS[task].attempts,
    }[preset]
    return reduced_in_training(plain_run(task, preset), tau, attempts)


def _reduced(task: str, preset: Preset, tau: float) -> Callable[[], Sequence[RunConfig]]:
    """One run per seed; none for tolerances that the preset leaves out."""
    known = TASKS[task]
    run = {"small": known.small_taus, "paper-short": known.short_taus}.get(preset, taus(task))
    if tau not in run:
        return tuple
    if preset == "smoke" and tau != taus(task)[0]:
        return tuple
    return lambda: seeds(reduced_run(task, preset, tau), SEEDS[preset])


def baseline_runs(task: str, preset: Preset, tau: float) -> Sequence[RunConfig]:
    """Runs as small from the start as the reduced ones became on average, once those exist."""
    results = [find_result(config) for config in _reduced(task, preset, tau)()]
    orders = [statistics.mean(r.summary["orders"]) for r in results if r is not None]
    if not orders or len(orders) < len(results):
        return ()
    order = 2 * max(round(statistics.mean(orders) / 2), 1)
    return seeds(from_scratch(plain_run(task, preset), order), SEEDS[preset])


# ---- tables ------------------------------------------------------------------------------------


def table(number: str, preset: Preset, tasks: Sequence[str] = ()) -> Table:
    """A table of the paper with our runs of ``preset``; ``tasks`` leaves others out.

    Raises
    ------
    ArgumentError
        For an unknown task, with the nearest names.
    """
    check_tasks(tasks, _tasks(preset))
    if number == "2":
        made = _table_2(preset, tasks)
    elif number == "modes":
        made = _modes(preset, tasks)
    elif number == "1":
        made = _accuracies(preset, tasks, "1", TABLE_1, top_three)
    else:
        made = _accuracies(preset, tasks, "3", TABLE_3, best)
    return replace(made, notes=(*made.notes, *budgets(preset, made.tasks)))


def budgets(preset: Preset, tasks: Sequence[str]) -> tuple[str, ...]:
    """What the preset's runs are."""
    if preset == "smoke":
        return ("preset smoke: four steps on 60 digits stand for every task",)
    if preset == "paper":
        return ("preset paper: settings of Table 2",)
    if preset == "paper-short":
        return tuple(f"preset paper-short, {task}: {_short_label(task)}" for task in tasks)
    return tuple(f"preset small, {task}: {TASKS[task].label}" for task in tasks)


def _short_label(task: str) -> str:
    short, paper = TASKS[task].short, TASKS[task].paper
    assert short is not None
    return (
        f"settings of Table 2 with {short.budget.steps:,} instead of {paper.budget.steps:,} steps"
    )


def _accuracies(
    preset: Preset,
    tasks: Sequence[str],
    number: str,
    published: dict[str, tuple[str, str, str]],
    statistic: Statistic,
) -> Table:
    chosen = check_tasks(tasks, _tasks(preset))
    rows = [row for task in chosen for row in _rows_of(task, preset, published, statistic)]
    name = "mean of the top 3 runs" if number == "1" else "best run"
    return Table(
        f"CompreSSM Table {number}",
        f"final state dimension (complex states) and test accuracy (%), {name}",
        (*(f"τ{i}" for i in range(1, 7)), "τ = 0"),
        tuple(rows),
        chosen,
        NOTES,
        SEEDS[preset],
    )


def _rows_of(
    task: str,
    preset: Preset,
    published: dict[str, tuple[str, str, str]],
    statistic: Statistic,
) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    """Tolerances, state dimensions and both accuracies of a task; unreduced runs (τ = 0) last."""
    blank = "|".join([NOT_IN_PAPER] * 7)
    dims, reduced, baseline = (x.split("|") for x in published.get(task, (blank,) * 3))
    small = [_reduced(task, preset, tau) for tau in taus(task)]
    scratch = [partial(baseline_runs, task, preset, tau) for tau in taus(task)]
    unreduced = partial(seeds, plain_run(task, preset), SEEDS[preset])

    def size(text: str, runs: Callable[[], Sequence[RunConfig]]) -> Cell:
        return Cell(text, runs, FinalOrder(), mean_and_deviation)

    def accuracy(text: str, runs: Callable[[], Sequence[RunConfig]]) -> Cell:
        return Cell(text, runs, statistic=statistic)

    return (
        (f"{task}: τ", tuple(Cell(f"{t:g}", ours=f"{t:g}") for t in (*taus(task), 0))),
        (f"{task}: state dim", (*map(size, dims, small), size(dims[-1], unreduced))),
        (f"{task}: CompreSSM", (*map(accuracy, reduced, small), Cell(reduced[-1], ours="-"))),
        (
            f"{task}: small from scratch",
            (*map(accuracy, baseline, scratch), accuracy(baseline[-1], unreduced)),
        ),
    )


def _table_2(preset: Preset, tasks: Sequence[str]) -> Table:
    rows = []
    chosen = check_tasks(tasks, _tasks(preset, TABLE_2))
    for task in chosen:
        run = plain_run(task, preset)
        ours = (
            run.model.depth,
            run.model.features,
            run.model.order // 2,
            run.budget.steps,
            run.budget.batch_size,
            run.optimizer.system_rate,
            run.optimizer.weight_decay,
            run.model.dropout,
        )
        printed = TABLE_2.get(task, (NOT_IN_PAPER,) * 8)
        rows.append((task, tuple(Cell(p, ours=str(o)) for p, o in zip(printed, ours, strict=True))))
    names = ("depth", "h", "n", "steps", "batch", "LR factor", "weight decay", "dropout")
    caption = "hyperparameters of the LRU experiments"
    return Table("CompreSSM Table 2", caption, names, tuple(rows), chosen)


def _modes(preset: Preset, tasks: Sequence[str]) -> Table:
    """Ways to reduce that the paper names or leaves open, at about the same final dimension: by a
    share of the states instead of energy, that by data or taken back where validation falls, other
    states kept, and Adam's moments set to zero."""
    chosen = check_tasks(tasks, _tasks(preset, ("mnist", "digits")))
    rows = []
    for task in chosen:
        tau = 0.01 if preset != "smoke" else taus(task)[0]
        run = reduced_run(task, preset, tau)
        by_energy = run.reduction
        by_share = replace(by_energy, mode="fraction", amount=0.12)
        ways = {
            f"energy, τ = {tau:g}": by_energy,
            "the same, moments reset": replace(by_energy, moments="reset"),
            "the same, random balanced states kept": replace(by_energy, selection="random"),
            "the same, random modes kept (the authors' code)": replace(
                by_energy, selection="random-modes"
            ),
            "the same, smallest states kept": replace(by_energy, selection="smallest"),
            "12 % of the states each time": by_share,
            "the same, by data": replace(by_share, criterion="data"),
            "12 %, taken back beyond a drop of 2 points": replace(
                by_share, mode="rollback", max_drop=0.02
            ),
        }
        for label, reduction in ways.items():
            runs = partial(seeds, replace(run, reduction=reduction), SEEDS[preset])
            cells = (
                Cell(NOT_IN_PAPER, runs, FinalOrder(), mean_and_deviation),
                Cell(NOT_IN_PAPER, runs, statistic=top_three),
            )
            rows.append((f"{task}: {label}", cells))
    return Table(
        "CompreSSM modes",
        "final state dimension (complex states) and test accuracy (%), mean of the top 3 runs",
        ("state dim", "test accuracy"),
        tuple(rows),
        chosen,
        seeds=SEEDS[preset],
    )


# ---- figures -----------------------------------------------------------------------------------

#: Figures that follow Hankel singular values in training: task, blocks, complex states.
TRACKED = {
    "2": ("mnist", 1, 8),
    "5": ("mnist", 1, 64),
    "6": ("imdb", 1, 64),
    "7": ("cifar10", 6, 57),
    "8": ("listops", 6, 56),
}


def tracked_run(number: str, preset: Preset) -> RunConfig:
    """The run of a figure of trajectories. Figure 2 looks at each of 25 000 steps, the others
    every few thousand; presets smoke and small record 100 times or at every step."""
    task, depth, order = TRACKED[number]
    run = plain_run(task, preset)
    steps = run.budget.steps or 0
    every = max(steps // 100, 1)
    if preset == "paper":
        depth_used = depth
        if number == "2":
            run = replace(run, budget=replace(run.budget, steps=25_000, evaluate_every=500))
            every = 1
    else:
        depth_used = min(depth, 2)
    model = replace(run.model, depth=depth_used, order=2 * order if preset != "smoke" else 8)
    return replace(run, model=model, budget=replace(run.budget, track_every=every))


def figure_cells(number: str, preset: Preset, tasks: Sequence[str] = ()) -> tuple[Cell, ...]:
    """What the report needs to draw a figure: 3 (CIFAR10) and 4 accuracy against final state
    dimension and training time, 2 and 5–8 trajectories of Hankel singular values."""
    if number in TRACKED:
        return (Cell(NOT_IN_PAPER, lambda: (tracked_run(number, preset),)),)
    known = ("cifar10",) if number == "3" else tuple(TABLE_1)
    chosen = check_tasks(tasks, _tasks(preset)) if tasks else _tasks(preset, known)
    made = _accuracies(preset, chosen, "1", TABLE_1, top_three)
    return tuple(cell for _, cells in made.rows for cell in cells)
