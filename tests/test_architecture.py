"""The map of the house: arrows point down only, and no room is entered but through its doors."""

import ast
import copy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import grimp
import pytest

import lticore
from lticore import kernels

#: Floors from the top down. A room imports from lower floors only; rooms on one floor, divided by
#: "|", know nothing of each other.
FLOORS = """
experiments

lticore_torch.compression
lticore_torch.certificates | lticore_torch.deploy | lticore_torch.penalties | lticore_torch.storage
lticore_torch.conversion | lticore_torch.models
lticore_torch.layers
lticore_torch.ops
lticore_torch.files

lticore.internal | lticore.plot
lticore.reduction
lticore.convert
lticore.analysis
lticore.hankel | lticore.sampling
lticore.equations
lticore.systems
lticore.matrices
lticore.kernels
lticore.arrays
lticore.errors
"""

#: What each package may import from outside.
LIBRARIES = {"lticore": {"numpy", "scipy", "array_api_compat", "typing_extensions"}}
#: What is loaded when it is first needed, never by ``import lticore``.
LATE = {"torch", "cupy", "numba", "matplotlib", "sklearn", "pandas", "control"}
PACKAGES = ("lticore", "lticore_torch", "experiments")
ROOT = Path(__file__).parents[1]


def floors():
    return [[room.strip() for room in line.split("|")] for line in FLOORS.split("\n") if line]


@pytest.fixture(scope="module")
def graph():
    """All imports: those inside functions too, and those that kernels.TABLE spells out."""
    found = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    for entry in kernels.TABLE.values():
        module, _ = entry.split(":")
        found.add_import(importer="lticore.kernels", imported=f"lticore.kernels.{module}")
    return found


def test_floors_name_every_room(graph):
    rooms = {room for floor in floors() for room in floor}
    found = {child for top in PACKAGES[:2] for child in graph.find_children(top)}
    assert rooms == found | {"experiments"}


def arrows_up(graph):
    """(room, room it must not import)"""
    layers = [{*floor} for floor in floors()]
    wrong = graph.find_illegal_dependencies_for_layers(layers=layers)
    return sorted((x.importer, x.imported) for x in wrong)


def in_cycles(graph):
    """Modules that import each other, on one floor or not, and those that import such."""
    above: dict[str, set[str]] = {}
    waiting = {
        module: {x for x in graph.find_modules_directly_imported_by(module) if _ours(x)}
        for module in graph.modules
        if _ours(module)
    }
    while free := [module for module, imported in waiting.items() if imported <= above.keys()]:
        above |= {module: waiting.pop(module) for module in free}
    return sorted(waiting)


def test_arrows_point_down(graph):
    assert arrows_up(graph) == []


def test_no_cycle(graph):
    assert in_cycles(graph) == []


def test_wrong_arrows_are_seen(graph):
    """From lower to upper floors, beside each other on one floor, and within a room."""
    wrong = copy.deepcopy(graph)
    wrong.add_import(importer="lticore.kernels.lapack", imported="lticore.systems.lti")
    wrong.add_import(importer="lticore_torch.storage", imported="lticore_torch.penalties.tracking")
    assert arrows_up(wrong) == [
        ("lticore.kernels", "lticore.systems"),
        ("lticore_torch.storage", "lticore_torch.penalties"),
    ]
    circular = copy.deepcopy(graph)
    circular.add_import(importer="lticore.systems.structure", imported="lticore.systems.lti")
    assert {"lticore.systems.structure", "lticore.systems.lti"} <= set(in_cycles(circular))


def _ours(module):
    return module.split(".")[0] in PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_knows_nothing_of_the_tests(graph, package):
    imported = {
        x
        for module in graph.find_descendants(package) | {package}
        for x in graph.find_modules_directly_imported_by(module)
    }
    assert not {x.split(".")[0] for x in imported} & {"tests", "benchmarks"}
    if package in LIBRARIES:
        allowed = LIBRARIES[package] | LATE | {package} | sys.stdlib_module_names
        assert {x.split(".")[0] for x in imported} <= allowed


def _imports(path):
    """(module, name) of each ``from module import name``, inside functions too."""
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def sources(*packages):
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def test_the_parser_sees_relative_imports():
    found = set(_imports(ROOT / "lticore" / "reduction" / "balanced.py"))
    assert {("lticore.analysis.norms", "whole_h2_error"), ("lticore.systems.lti", "LTI")} <= found


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=lambda p: str(p.relative_to(ROOT)))
def test_private_names_stay_in_their_modules(path):
    assert [x for x in _imports(path) if x[1].startswith("_") and _ours(x[0])] == []


@pytest.mark.parametrize(
    "path", sources("lticore_torch", "experiments"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_core_is_entered_through_its_doors(path):
    """Public names, errors, and what lticore.internal declares."""
    for module, name in _imports(path):
        if module.split(".")[0] == "lticore":
            assert module in ("lticore", "lticore.errors", "lticore.internal")
            declared = lticore.errors if module == "lticore.errors" else import_module(module)
            assert name in getattr(declared, "__all__", lticore.__all__), f"{name} of {module}"


#: Private names of several modules: of what a decorator registers and nobody calls.
SHARED = {"_"}


def test_a_private_name_means_one_thing():
    """The same thing has one place; different things have names that tell them apart."""
    places = {}
    for path in sources("lticore", "lticore_torch"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.startswith("_"):
                places.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    several = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert several.keys() <= SHARED, several


@pytest.mark.parametrize("package", ["lticore", "lticore_torch"])
def test_import_is_light(package):
    """Neither plotting nor compilers are loaded by an import, in a fresh interpreter, nor parts of
    SciPy and torch that take as long as all the rest."""
    heavy = LATE - ({"torch"} if package == "lticore_torch" else set())
    heavy |= {"torch._dynamo", "torch._inductor", "scipy.optimize", "scipy.signal", "scipy.sparse"}
    # Older versions of scipy.linalg load scipy.sparse themselves.
    code = (
        "import sys, scipy.linalg; there = set(sys.modules);"
        f"import {package}; print(sorted({heavy!r} & set(sys.modules) - there))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_exist_and_are_documented():
    assert len(set(lticore.__all__)) == len(lticore.__all__)
    for name in lticore.__all__:
        assert getattr(lticore, name).__doc__, name
