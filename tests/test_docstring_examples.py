"""Every public name has an example in its docstring, which runs and prints what it says."""

import doctest
import inspect

import numpy as np
import pytest

import lticore
from lticore import LticoreError, PrecisionWarning

torch = pytest.importorskip("torch")
lticore_torch = pytest.importorskip("lticore_torch")

#: What examples need beside our own packages.
REQUIRED = {
    "lticore.plot": "matplotlib",
    "lticore_torch.convert": "LRU_pytorch",
    "lticore_torch.ConversionReport": "LRU_pytorch",
    "lticore_torch.ConvertedLayer": "LRU_pytorch",
    "lticore_torch.export_onnx": "onnxscript",
}
#: Those that trace a model.
SLOW = {"lticore_torch.export_program", "lticore_torch.export_onnx"}
#: The names that all examples begin with.
NAMES = {"np": np, "lti": lticore, "torch": torch, "lt": lticore_torch}

PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (lticore, lticore_torch)
    for name in package.__all__
}
FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = {
    test.name: test
    for name, public in PUBLIC.items()
    for test in FINDER.find(public, name, globs=NAMES)
    if test.examples
}


def is_error(public):
    return inspect.isclass(public) and issubclass(public, LticoreError | PrecisionWarning)


def test_every_public_name_has_an_example():
    expected = {name for name, public in PUBLIC.items() if not is_error(public)}
    assert expected - EXAMPLES.keys() == set()


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in EXAMPLES]
)
def test_example_prints_what_it_says(name, tmp_path, monkeypatch):
    if name in REQUIRED:
        pytest.importorskip(REQUIRED[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    printed = []
    assert runner.run(EXAMPLES[name], out=printed.append).failed == 0, "".join(printed)
