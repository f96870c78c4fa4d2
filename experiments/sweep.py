"""Many runs through submitit: local processes, or jobs of SLURM.

    python -m experiments sweep --seeds 0 1 2 --weights 1e-4 1e-3 --run.data.name smnist
    python -m experiments sweep --paper hsvr --preset paper --cluster slurm --gpus 1 --workers 8

Submitting again leaves finished runs alone and goes on with interrupted ones. Ctrl-C ends the jobs,
those of SLURM too; their runs go on from their checkpoints when the same command is given again.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from tempfile import mkdtemp
from typing import Any, Literal

import submitit

from lticore.errors import ArgumentError

from .config import RegularizerConfig, RunConfig, Runtime, check_name
from .methods import reduced_in_training, regularised
from .papers import PAPERS
from .papers.tables import Preset, table_runs
from .results import find_result
from .runs import runs_root
from .train import leaving_at_once, train

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
    preset: Preset = "paper"
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
    """Time limit of a job; a run that needs more goes on in the next, up to three times."""
    partition: str | None = None
    """Of SLURM."""
    runtime: Runtime = field(default_factory=lambda: Runtime(progress=False))
    """How each run is carried out."""

    def __post_init__(self) -> None:
        for name in ("workers", "nodes", "cpus", "minutes"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if self.cluster == "local" and self.nodes > 1:
            raise ArgumentError(f"nodes={self.nodes} needs --cluster slurm: this machine is one")
        if any(self.tolerances) and not self.run.reduction.steps:
            raise ArgumentError("tolerances need --run.reduction.steps")


@dataclass(frozen=True)
class Job:
    """One run; submitted again when the cluster takes its node away."""

    config: RunConfig
    runtime: Runtime
    processes: int

    def __call__(self) -> float:
        if submitit.JobEnvironment().cluster == "local":
            # submitit lets it pass, for SLURM announces preemption by it; here it comes from _stop.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self.processes == 1:
            return train(self.config, self.runtime)["test_accuracy"]
        # All devices stay visible: each process takes the one of its LOCAL_RANK.
        environment = submitit.helpers.TorchDistributedEnvironment()
        environment.export(set_cuda_visible_devices=False)
        with leaving_at_once():
            return train(self.config, self.runtime)["test_accuracy"]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit in the last minute; the run resumes from its own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def sweep_runs(config: SweepConfig) -> list[RunConfig]:
    """The runs of a sweep, once each."""
    if config.paper is not None:
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
    KeyboardInterrupt
        Once the jobs have ended, when the sweep was interrupted.
    """
    outcomes, missing = {}, []
    for run in sweep_runs(config):
        if (result := find_result(run)) is None:
            missing.append(run)
        else:
            outcomes[run.slug] = f"had finished: {100 * result.summary['test_accuracy']:.2f} %"
    print(f"{len(missing)} of {len(missing) + len(outcomes)} runs to do, on {config.cluster}")
    for slug, outcome in sorted(outcomes.items()):
        print(f"  {slug}  {outcome}")
    processes = max(config.gpus, 1) * config.nodes
    runtime = replace(config.runtime, threads=config.runtime.threads or config.cpus)
    if missing:
        outcomes |= _carry_out([Job(run, runtime, processes) for run in missing], config)
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


def _carry_out(jobs: list[Job], config: SweepConfig) -> dict[str, str]:
    """Submit and wait; slug → outcome.

    SLURM limits how many of an array run at once; local processes all start when they are
    submitted, so each waits for a free place.
    """
    executor = _executor(config)
    places = config.workers if config.cluster == "local" else len(jobs)
    waiting, outcomes = jobs, {}
    running: dict[str, submitit.Job[Any]] = {}
    try:
        while waiting or running:
            free = places - len(running)
            with _interrupts_held():
                running |= _submit(waiting[:free], executor)
                waiting = waiting[free:]
            for slug in [slug for slug, job in running.items() if job.done()]:
                outcomes[slug] = _outcome(running.pop(slug))
                print(f"  {slug}  {outcomes[slug]}", flush=True)
            time.sleep(1)
    except KeyboardInterrupt:
        hint = f"{len(outcomes)} of {len(jobs)} runs were done, the same command goes on"
        raise KeyboardInterrupt(hint) from None
    finally:
        with _interrupts_held():
            _stop(running.values(), config.cluster)
    return outcomes


def _executor(config: SweepConfig) -> submitit.AutoExecutor:
    if config.cluster == "slurm" and shutil.which("srun") is None:
        raise ArgumentError('cluster="slurm", but there is no srun: sweep from a login node')
    root = runs_root() / "submitit"
    root.mkdir(parents=True, exist_ok=True)
    # A folder of its own: numbers of local jobs, those of processes, come again.
    folder = mkdtemp(prefix=f"{datetime.now():%Y%m%d-%H%M%S}-", dir=root)
    executor = submitit.AutoExecutor(folder, cluster=config.cluster)
    executor.update_parameters(
        timeout_min=config.minutes,
        nodes=config.nodes,
        tasks_per_node=max(config.gpus, 1),
        gpus_per_node=config.gpus or None,  # clusters without devices refuse to be asked for 0
        cpus_per_task=config.cpus,
        slurm_array_parallelism=config.workers,
        slurm_partition=config.partition,
        # Since SLURM 22.05 srun does not take it over from sbatch.
        slurm_srun_args=[f"--cpus-per-task={config.cpus}"],
    )
    return executor


def _submit(jobs: list[Job], executor: submitit.AutoExecutor) -> dict[str, submitit.Job[Any]]:
    """slug → the first process of each job; its result is that of all."""
    if not jobs:
        return {}
    try:
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise ArgumentError(f"sbatch refused the jobs: {error}") from error
    return {job.config.slug: one.task(0) for job, one in zip(jobs, submitted, strict=True)}


def _outcome(job: submitit.Job[Any]) -> str:
    try:
        return f"finished: {100 * job.result():.2f} %"
    except submitit.core.utils.FailedJobError as error:
        trace = str(error).split(_TRACE_BORDER)[1]
        return f"failed: {trace.strip().splitlines()[-1]}"
    except submitit.core.utils.UncompletedJobError:
        return (
            f"failed: the job ended without a result, as when killed (log: {job.paths.stderr}); "
            "the same command goes on from its checkpoint"
        )


def _stop(jobs: Iterable[submitit.Job[Any]], cluster: str) -> None:
    """End the jobs; local ones have ended on return.

    The number of a local job is that of submitit's process, which hands SIGTERM on to those that
    train and ends after them. One that was about to start another is told again.
    """
    if cluster == "slurm":
        for job in jobs:
            job.cancel(check=False)
        return
    while alive := [job for job in jobs if not job.done()]:
        for job in alive:
            os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C takes effect afterwards: no job is started and not known.

    Processes started meanwhile never hear it, though a terminal tells them too: the sweep ends them
    in order (_stop), and submitit's do not write tracebacks to the terminal.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
