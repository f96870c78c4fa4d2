"""The tutorials: each runs from its first cell to its last, and what it links to is there."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = {path.stem: path for path in sorted((DOCS / "tutorials").glob("*.py"))}
MARKS = {name: [pytest.mark.slow] for name in TUTORIALS} | {"long_convolution": []}
# Of small layers in float32; the page says so.
MARKS["compress_trained"].append(pytest.mark.filterwarnings("default::lticore.PrecisionWarning"))
#: Also as users get them: in a kernel, from the file that lies beside the page.
NOTEBOOKS = ("reduce_a_model", "compress_trained", "stream_and_export")

LINK = re.compile(r"\]\((?!https?:)([^()#]+)(?:#([^()]+))?\)")


def cells(path):
    """(kind, source) of each cell, the source on the lines that it has in the file."""
    above = 0
    for text in re.split(r"^(?=# %%)", path.read_text(), flags=re.MULTILINE)[1:]:
        yield "markdown" if text.startswith("# %% [markdown]") else "code", "\n" * above + text
        above += text.count("\n")


@pytest.fixture
def pyplot(tmp_path, monkeypatch):
    """In a folder of its own, with figures that nobody sees; threads of torch as they were."""
    torch, drawing = map(pytest.importorskip, ("torch", "matplotlib.pyplot"))
    threads = torch.get_num_threads()
    drawing.switch_backend("Agg")
    drawing.close("all")  # those of other tests
    monkeypatch.chdir(tmp_path)
    yield drawing
    drawing.close("all")
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [pytest.param(x, marks=MARKS[x]) for x in TUTORIALS])
def test_tutorial_runs(name, pyplot, capsys):
    path = TUTORIALS[name]
    for package in re.findall(r"^(?:import|from) (\w+)", path.read_text(), flags=re.MULTILINE):
        pytest.importorskip(package)
    names = {"__name__": "__main__"}
    for kind, source in cells(path):
        if kind == "code":
            exec(compile(source, str(path), "exec"), names)
    assert 1 <= len(pyplot.get_fignums()) <= 4
    assert len(capsys.readouterr().out.splitlines()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name, tmp_path):
    jupytext, nbclient = map(pytest.importorskip, ("jupytext", "nbclient"))
    notebook = jupytext.read(TUTORIALS[name])
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": tmp_path}}
    ).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert 1 <= len(pictures) <= 4


@pytest.mark.parametrize("name", TUTORIALS)
def test_links_lead_somewhere(name):
    """To a page, and there to a public name or to a heading."""
    path = TUTORIALS[name]
    links = LINK.findall(" ".join(path.read_text().replace("\n# ", " ").split()))
    assert links
    for target, anchor in links:
        page = path.parent / target
        assert page.is_file(), target
        assert not anchor or anchor.startswith("lticore"), anchor
        owner = re.sub(r"^(lticore\.plot|lticore|lticore_torch)\..*", r"\1", anchor)
        names = {f"::: {anchor}", f"::: {owner}"} - {"::: lticore", "::: lticore_torch"}
        assert not anchor or names & set(page.read_text().splitlines()), anchor
