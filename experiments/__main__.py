"""Command line: ``python -m experiments COMMAND``; ``--help`` lists every setting."""

from __future__ import annotations

import os

# The systems are small: a second BLAS thread costs more than it gives, and fights with torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
from pathlib import Path

import tyro

from .demo import DemoConfig, demo
from .report import print_table, write_report

app = tyro.extras.SubcommandApp()


@app.command(name="demo")
def run_demo(config: tyro.conf.OmitArgPrefixes[DemoConfig]) -> None:
    """Train a digit classifier without and with Hankel regularisation, compress both, compare."""
    demo(config)


@app.command(name="report")
def rebuild_report(folder: tyro.conf.Positional[Path]) -> None:
    """Draw the pictures and the HTML page of a finished run again, from its summary.json."""
    summary = json.loads((folder / "summary.json").read_text())
    print_table(summary)
    write_report(summary, folder)


if __name__ == "__main__":
    app.cli(prog="python -m experiments")
