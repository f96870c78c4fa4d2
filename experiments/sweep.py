"""Many runs through submitit: local processes, or jobs of SLURM.

    python -m experiments sweep --seeds 0 1 2 --weights 1e-4 1e-3 --run.data.name smnist
    python -m experiments sweep --paper hsvr --preset paper --cluster slurm --gpus 1 --workers 8

Submitting again leaves finished runs alone and goes on with interrupted ones.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import submitit

from lticore.errors import ArgumentError

from .config import RegularizerConfig, RunConfig, Runtime, check_name
from .methods import reduced_in_training, regularised
from .results import find_result
from .runs import runs_root
from .train import train

#: What submitit writes above and below the traceback of a failed job.
_TRACE_BORDER = "-" * 22


@dataclass(frozen=True)
class SweepConfig:
    """Train a run with all combinations of seeds, regularisation magnitudes and tolerances, or all
    runs of a paper's tables."""

    run: RunConfig = field(default_factory=RunConfig)
    """What the runs have in common."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds."""
    weights: tuple[float, ...] = ()
    """Magnitudes of the regulariser (0: none); its kind is that of the run, else "hankel"."""
    tolerances: tuple[float, ...] = ()
    """Tolerances τ of in-training reduction at the steps --run.reduction.steps (0: none)."""
    paper: str | None = None
    """Instead: all runs of a paper that are known by now."""
    preset: Literal["smoke", "small", "paper"] = "paper"
    """Of that paper."""
    tasks: tuple[str, ...] = ()
    """Only these data sets of that paper."""
    cluster: Literal["local", "slurm"] = "local"
    """Where."""
    workers: int = 1
    """Runs at the same time."""
    gpus: int = 0
    """Devices of each run; more than one: one process each, DistributedDataParallel."""
    nodes: int = 1
    """Nodes of each run."""
    cpus: int = 2
    """Cores of each process."""
    minutes: int = 24 * 60
    """Time limit of a job; a run that needs more goes on in the next."""
    partition: str | None = None
    """Of SLURM."""
    runtime: Runtime = field(default_factory=lambda: Runtime(progress=False))
    """How each run is carried out."""

    def __post_init__(self) -> None:
        for name in ("workers", "nodes", "cpus", "minutes"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if any(self.tolerances) and not self.run.reduction.steps:
            raise ArgumentError("tolerances need --run.reduction.steps")


@dataclass(frozen=True)
class Job:
    """One run; submitted again when the cluster takes its node away."""

    config: RunConfig
    runtime: Runtime
    processes: int

    def __call__(self) -> float:
        if self.processes > 1:
            submitit.helpers.TorchDistributedEnvironment().export()
        return train(self.config, self.runtime)["test_accuracy"]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit in the last minute; the run resumes from its own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def sweep_runs(config: SweepConfig) -> list[RunConfig]:
    """The runs of a sweep, once each."""
    if config.paper is not None:
        from .papers import PAPERS
        from .papers.tables import table_runs

        check_name("paper", config.paper, PAPERS)
        paper = PAPERS[config.paper]
        tables = (paper.table(n, config.preset, config.tasks) for n in paper.TABLES)
        runs = [run for table in tables for run in table_runs(table)]
    else:
        runs = [
            replace(changed, seed=seed)
            for weight, tolerance, seed in product(
                config.weights or (None,), config.tolerances or (None,), config.seeds
            )
            for changed in [_changed(config.run, weight, tolerance)]
        ]
    return list({run.slug: run for run in runs}.values())


def sweep(config: SweepConfig) -> dict[str, str]:
    """Submit what has not finished and wait; returns slug → outcome, and prints it.

    Raises
    ------
    ArgumentError
        At the end, when runs have failed; it lists them with their reasons.
    """
    outcomes, missing = {}, []
    for run in sweep_runs(config):
        if (result := find_result(run)) is None:
            missing.append(run)
        else:
            outcomes[run.slug] = f"had finished: {100 * result.summary['test_accuracy']:.2f} %"
    print(f"{len(missing)} of {len(missing) + len(outcomes)} runs to do, on {config.cluster}")
    processes = max(config.gpus, 1) * config.nodes
    runtime = replace(config.runtime, threads=config.runtime.threads or config.cpus)
    jobs = [Job(run, runtime, processes) for run in missing]
    outcomes |= _outcomes(jobs, _executor(config), config)
    for slug, outcome in sorted(outcomes.items()):
        print(f"  {slug}  {outcome}")
    failed = [f"{slug}: {x}" for slug, x in sorted(outcomes.items()) if x.startswith("failed")]
    if failed:
        raise ArgumentError(f"{len(failed)} runs failed:\n  " + "\n  ".join(failed))
    return outcomes


def _changed(run: RunConfig, weight: float | None, tolerance: float | None) -> RunConfig:
    if weight is not None:
        kind = run.regularizer.kind if run.regularizer.kind != "none" else "hankel"
        none = replace(run, regularizer=RegularizerConfig())
        run = regularised(run, kind, weight) if weight else none
    if tolerance is not None and tolerance > 0:
        run = reduced_in_training(run, tolerance, run.reduction.steps)
    return run


def _executor(config: SweepConfig) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(runs_root() / "submitit", cluster=config.cluster)
    executor.update_parameters(
        timeout_min=config.minutes,
        nodes=config.nodes,
        tasks_per_node=max(config.gpus, 1),
        gpus_per_node=config.gpus,
        cpus_per_task=config.cpus,
    )
    if config.cluster == "slurm":
        executor.update_parameters(slurm_array_parallelism=config.workers)
        if config.partition is not None:
            executor.update_parameters(slurm_partition=config.partition)
    return executor


def _outcomes(
    jobs: list[Job], executor: submitit.AutoExecutor, config: SweepConfig
) -> dict[str, str]:
    """Submit and wait. SLURM limits how many of an array run at once; local processes all start
    when they are submitted, so each waits for a free place."""
    if not jobs:
        return {}
    with ThreadPoolExecutor(config.workers if config.cluster == "local" else len(jobs)) as pool:
        if config.cluster == "local":
            outcomes = pool.map(lambda job: _outcome(lambda: executor.submit(job)), jobs)
        else:
            with executor.batch():
                submitted = [executor.submit(job) for job in jobs]
            outcomes = pool.map(lambda job: _outcome(lambda: job), submitted)
        return {job.config.slug: text for job, text in zip(jobs, outcomes, strict=True)}


def _outcome(submit: Callable[[], submitit.Job[Any]]) -> str:
    job = submit()
    try:
        return f"finished: {100 * job.results()[0]:.2f} %"
    except submitit.core.utils.FailedJobError as error:
        trace = str(error).split(_TRACE_BORDER)[1]
        return f"failed: {trace.strip().splitlines()[-1]}"
    except submitit.core.utils.UncompletedJobError:
        return (
            f"failed: the job ended without a result, as when killed (log: {job.paths.stderr}); "
            "the same command goes on from its checkpoint"
        )
