"""The lower bounds of the dependencies are the versions that `make test-oldest` runs with."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_lower_bounds_are_those_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = ("plot", "torch", "onnx", "experiments", "foreign", "test")
    lines = [*project["dependencies"], *(line for name in named for line in extras[name])]
    needed = [Requirement(line) for line in lines]
    bounds = {
        need.name: Version(next(iter(need.specifier)).version)
        for need in needed
        if need.name != project["name"]
    }
    pins = [
        line.split("==")
        for line in (ROOT / "constraints" / "oldest.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    tested = {name: Version(version) for name, version in pins}
    assert {name: tested.get(name) for name in bounds} == bounds
