"""Command line: ``python -m experiments COMMAND``; ``--help`` lists every setting."""

from __future__ import annotations

import os

# The systems are small: a second BLAS thread costs more than it gives, and fights with torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import sys
from pathlib import Path

import tyro

from lticore.errors import ArgumentError, LticoreError

from .demo import DemoConfig, demo
from .demo_report import print_table, write_report

app = tyro.extras.SubcommandApp()


@app.command(name="demo")
def run_demo(config: tyro.conf.OmitArgPrefixes[DemoConfig]) -> None:
    """Train a digit classifier without and with Hankel regularisation, compress both, compare."""
    demo(config)


@app.command(name="report")
def rebuild_report(folder: tyro.conf.Positional[Path]) -> None:
    """Draw the pictures and the HTML page of a finished run again, from its summary.json."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{path} is not JSON ({error}): run the demo again") from error
    try:
        print_table(summary)
        write_report(summary, folder)
    except (KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path} is not the summary of a demo run: {error} is missing"
        ) from error


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
