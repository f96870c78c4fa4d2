"""The commands that README, pages and docstrings show are there, with the options shown."""

import re
import sys
from pathlib import Path

import pytest

from experiments import __main__ as command_line
from experiments.config import check_name
from experiments.papers import PAPERS

ROOT = Path(__file__).parents[1]
FOLDERS = ("lticore", "lticore_torch", "experiments", "examples", "benchmarks")
TEXTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "docs" / "tutorials").glob("*.py"),
    *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py")),
    ROOT / "experiments" / "README.md",
]
#: Words after a command up to the end of the code, a comment or dots.
WORDS = r"((?: (?!\.\.\.)[^\s`#|…]+)*)"


def shown(pattern):
    """What the texts show of this form, each once; not what a format string makes."""
    found = {match for path in TEXTS for match in re.findall(pattern, path.read_text())}
    return sorted(match for match in found if "{" not in match)


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = shown(r"`make ([a-z-]+)[`\s]") + shown(r"\n(?: {4})?make ([a-z-]+)(?:  |\n)")
    assert {"demo", "bench-gradient", "long-runs"} <= set(named) <= targets


def test_scripts_exist():
    scripts = shown(r"python ((?:examples|benchmarks|tests)/\S+?\.py)")
    assert "examples/fine_tune.py" in scripts
    assert [name for name in scripts if not (ROOT / name).exists()] == []


class Parsed(Exception):
    """The command line was understood."""


@pytest.fixture
def nothing_runs(monkeypatch):
    """Commands end where they have read their settings."""

    def stop(*arguments):
        raise Parsed

    def look_up(name, config):
        check_name("paper", name, PAPERS)
        check_name("table", config.table or PAPERS[name].TABLES[0], PAPERS[name].TABLES)
        check_name("figure", config.figure or "", ["", *PAPERS[name].FIGURES])
        raise Parsed

    for name in ("demo", "train", "identify", "sweep", "long_runs", "load", "report", "rebuild"):
        monkeypatch.setattr(command_line, name, stop)
    monkeypatch.setattr(command_line, "run_paper", look_up)


@pytest.mark.parametrize("words", shown(r"-m experiments(?![.\w])" + WORDS))
def test_experiments_take_these_words(words, nothing_runs, monkeypatch):
    arguments = words.split()
    if not arguments or arguments == ["COMMAND"]:
        arguments = ["--help"]
    monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
    if arguments == ["data", "list"]:
        command_line.main()
    elif "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            command_line.main()
    else:
        with pytest.raises(Parsed):
            command_line.main()
