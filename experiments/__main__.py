"""Command line: ``python -m experiments COMMAND``; ``--help`` lists every setting."""

from __future__ import annotations

import os

# The systems are small: a second BLAS thread costs more than it gives, and fights with torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from pathlib import Path

import tyro

from lticore.errors import LticoreError

from .config import RunConfig, Runtime
from .demo import DemoConfig, demo
from .demo_report import rebuild
from .papers.run import PaperConfig, run_paper

app = tyro.extras.SubcommandApp()


@app.command(name="demo")
def run_demo(config: tyro.conf.OmitArgPrefixes[DemoConfig]) -> None:
    """Train a digit classifier without and with Hankel regularisation, compress both, compare."""
    demo(config)


@app.command(name="train")
def run_train(run: RunConfig, runtime: Runtime) -> None:
    """Train one model in a run folder, or go on where an earlier call was interrupted."""
    from .runs import run_folder
    from .train import train

    summary = train(run, runtime)
    print(f"test accuracy {100 * summary['test_accuracy']:.2f} %, orders {summary['orders']}")
    print(f"run: {run_folder(run)}")


@app.command(name="paper")
def run_paper_command(
    name: tyro.conf.Positional[str], config: tyro.conf.OmitArgPrefixes[PaperConfig]
) -> None:
    """Run what is missing of a paper (hsvr, compressm, h2) and print published | ours."""
    run_paper(name, config)


@app.command(name="report")
def run_report(folder: tyro.conf.Positional[Path | None] = None) -> None:
    """Without a folder: all results, as one HTML page and as RESULTS.md. With the folder of a demo:
    draw its pictures and page again."""
    if folder is not None:
        rebuild(folder)
        return


def main() -> None:
    """Run the command line; what a user can mend is said in one line, without a traceback."""
    try:
        app.cli(prog="python -m experiments")
    except (LticoreError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


if __name__ == "__main__":
    main()
