"""The snippets of the README run and print what the README says they print."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from experiments.demo_report import LABELS

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def masked(text):
    """``text`` with every number replaced, and the blanks that align them folded."""
    return re.sub(r" +", " ", NUMBER.sub("#", text))


def test_every_snippet_has_its_output():
    assert len(SNIPPETS) == README.count("```python") == 2


@pytest.mark.parametrize(("code", "output"), SNIPPETS, ids=["lticore", "lticore_torch"])
def test_snippet_prints_what_is_shown(code, output):
    if "torch" in code:
        pytest.importorskip("torch")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert masked(printed.getvalue()) == masked(output)
    if "torch" in code:
        # Training amplifies the rounding of each processor; the text around the numbers stays.
        return
    for seen, shown in zip(NUMBER.findall(printed.getvalue()), NUMBER.findall(output), strict=True):
        assert float(seen.replace(",", "")) == pytest.approx(float(shown.replace(",", "")), rel=0.1)


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
