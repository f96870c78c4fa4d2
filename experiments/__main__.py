"""Command line: ``python -m experiments COMMAND``; ``--help`` lists every setting."""

from __future__ import annotations

import os

# The systems are small: a second BLAS thread costs more than it gives, and fights with torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lticore.errors import LticoreError

from .config import RunConfig, Runtime
from .data import DATASETS, load
from .data.show import describe, draw_samples, sample_text
from .demo import DemoConfig, demo
from .demo_report import rebuild
from .identification import IdentificationConfig, identify
from .long_runs import LongRunsConfig, long_runs
from .papers.run import PaperConfig, run_paper
from .report import ReportConfig, report
from .runs import run_folder
from .sweep import SweepConfig, sweep
from .train import leaving_at_once, train

app = tyro.extras.SubcommandApp()


@app.command(name="demo")
def run_demo(config: tyro.conf.OmitArgPrefixes[DemoConfig]) -> None:
    """Train a digit classifier without and with Hankel regularisation, compress both, compare."""
    demo(config)


@app.command(name="train")
def run_train(run: Annotated[RunConfig, tyro.conf.arg(name="")], runtime: Runtime) -> None:
    """Train one model in a run folder, or go on where an earlier call was interrupted."""
    with leaving_at_once() if "RANK" in os.environ else nullcontext():
        summary = train(run, runtime)
    if os.environ.get("RANK", "0") != "0":  # of several processes only the first speaks
        return
    print(f"test accuracy {100 * summary['test_accuracy']:.2f} %, orders {summary['orders']}")
    print(f"run: {run_folder(run)}")


@app.command(name="paper")
def run_paper_command(
    name: tyro.conf.Positional[str], config: tyro.conf.OmitArgPrefixes[PaperConfig]
) -> None:
    """Run what is missing of a paper (hsvr, compressm, h2) and print published | ours."""
    run_paper(name, config)


@app.command(name="identify")
def run_identify(config: tyro.conf.OmitArgPrefixes[IdentificationConfig]) -> None:
    """Fit data of a system of order 8 with a layer of 64 states, without and with regulariser."""
    identify(config)


@app.command(name="sweep")
def run_sweep(config: Annotated[SweepConfig, tyro.conf.arg(name="")]) -> None:
    """Train many runs through submitit, on this machine or on SLURM."""
    # SIGTERM ends a sweep as Ctrl-C does, also in the background, where shells switch Ctrl-C off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sweep(config)


@app.command(name="long-runs")
def run_long_runs(config: tyro.conf.OmitArgPrefixes[LongRunsConfig]) -> None:
    """Go on with the runs of the papers' own size, one after another."""
    long_runs(config)


@app.command(name="data")
def run_data(
    action: tyro.conf.Positional[Literal["list", "show", "download"]],
    name: tyro.conf.Positional[str] = "",
    options: dict[str, int | str | tuple[int, ...]] = {},  # noqa: B006
    output: Path = Path("samples.png"),
) -> None:
    """List the data sets; show samples of one (pictures go to --output); fetch or generate it.

    Parameters
    ----------
    action
        What to do.
    name
        A data set of the list.
    options
        Settings of its loader or generator, such as: size 1000 seed 1.
    output
        Where pictures are drawn.
    """
    if action == "list":
        for known, entry in DATASETS.items():
            print(f"{known:<14} {entry.summary}")
        return
    chosen: dict[str, Any] = dict(options)
    data = load(name, **chosen)
    print(describe(data))
    if action == "show" and data.vocabulary is not None:
        print(sample_text(data))
    elif action == "show":
        draw_samples(data, output)
        print(f"samples: {output}")


@app.command(name="report")
def run_report(
    config: tyro.conf.OmitArgPrefixes[ReportConfig],
    folder: tyro.conf.Positional[Path | None] = None,
) -> None:
    """All results, as one HTML page and as RESULTS.md; with the folder of a demo: draw its pictures
    and page again."""
    if folder is None:
        report(config)
    else:
        rebuild(folder)


def main() -> None:
    """Run the command line; what a user can mend is said in one line, without a traceback."""
    try:
        app.cli(prog="python -m experiments")
    except (LticoreError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interrupt:
        sys.exit(": ".join(["interrupted", *interrupt.args]))


if __name__ == "__main__":
    main()
