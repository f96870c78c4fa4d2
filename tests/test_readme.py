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
    assert len(SNIPPETS) == 2
    assert README.count("```python") == 3  # the third is for a model and data of the reader's own


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["lticore", "lticore_torch"])
def test_snippet_prints_what_is_shown(snippet):
    check_blocks(snippet, "README.md")


def test_a_model_of_another_package_goes_all_the_way():
    torch = pytest.importorskip("torch")
    from s5 import S5

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = S5(4, 8)

        def forward(self, u):
            return self.layer(u).mean(dim=-2)

    torch.manual_seed(0)
    names = {"model": Model(), "batches": [torch.randn(8, 30, 4) for _ in range(4)]}
    (code,) = re.findall(r"```python\n(from lticore_torch.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), names)
    step = names["stream"].step(torch.randn(2, 4))
    assert step.shape == (2, 4)
    assert names["report"].orders == [names["small"].layer.order]


def test_numbers_of_the_table_are_those_of_the_demo_run():
    """The table rounds what docs/demo.json, the summary of the pictured run, says."""
    docs = Path(__file__).parent.parent / "docs"
    summary, home = json.loads((docs / "demo.json").read_text()), (docs / "index.md").read_text()
    header = re.search(r"\| states removed \|(.*)\|\n", home).group(1)
    ratios = [f"{float(cell.strip(' %')) / 100:g}" for cell in header.split("|")]
    ratios = [ratio if "." in ratio else f"{ratio}.0" for ratio in ratios]
    for name, label in LABELS.items():
        row = re.search(rf"\| {label} \|(.*)\|\n", home).group(1)
        accuracy = summary["methods"][name]["accuracy"]
        expected = [f"{100 * accuracy[ratio]:.1f}" for ratio in ratios]
        assert [cell.strip() for cell in row.split("|")] == expected
