"""The snippets of the README run and print what the README says they print."""

import json
import re
from pathlib import Path

import pytest

from experiments.demo_report import LABELS
from tests.shown import BLOCK, check_blocks

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = [match[0] for match in BLOCK.finditer(README) if match[2]]


def test_every_snippet_has_its_output():
    assert len(SNIPPETS) == README.count("```python") == 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["lticore", "lticore_torch"])
def test_snippet_prints_what_is_shown(snippet):
    check_blocks(snippet, "README.md")


def test_numbers_of_the_table_are_those_of_the_demo_run():
    """The table rounds what docs/demo.json, the summary of the pictured run, says."""
    summary = json.loads((Path(__file__).parent.parent / "docs" / "demo.json").read_text())
    header = re.search(r"\| states removed \|(.*)\|\n", README).group(1)
    ratios = [f"{float(cell.strip(' %')) / 100:g}" for cell in header.split("|")]
    ratios = [ratio if "." in ratio else f"{ratio}.0" for ratio in ratios]
    for name, label in LABELS.items():
        row = re.search(rf"\| {label} \|(.*)\|\n", README).group(1)
        accuracy = summary["methods"][name]["accuracy"]
        expected = [f"{100 * accuracy[ratio]:.1f}" for ratio in ratios]
        assert [cell.strip() for cell in row.split("|")] == expected
