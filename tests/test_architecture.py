"""Arrows point down only: which package, and which layer inside lticore, may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "cupy", "numba", "matplotlib", "sklearn", "pandas", "control"}

CONVERSIONS = {"convert", *(f"convert.{x}" for x in ("diagonal", "rotation", "discretize"))}
CONVERSIONS |= {"convert.statespace", "convert.nearby", "convert.layers"}

KERNELS = {f"kernels.{path.stem}" for path in (ROOT / "lticore" / "kernels").glob("[!_]*.py")}

#: Layers of lticore from the bottom up; a module imports from its own layer or from lower ones.
LAYERS = (
    {"errors", "_arrays", "_check"},
    {"kernels", *KERNELS, "_linalg", "_balance"},
    {"structure", "_modes", "_foreign", "algebra", "systems", "quadratic"},
    {"_doors", "_signals", "feedback"},
    {"_stein_dense", "_hammarling", "cauchy", "recurrence", "spectral", "_geometric_mean"},
    {"_stein_modal", "_directions", "_stability"},
    {"stein", "response"},
    {"gramians", "_pull_back"},
    {"_relative"},
    {"hankel"},
    {"spectral_sums"},
    {"norms", "hinf", *CONVERSIONS},
    {"differences"},
    {"reduction", "reduction.result", "reduction.orders", "reduction.refit", "certificate"},
    {"reduction._h2_modes", "reduction._h2_objective", "reduction._split", "reduction._rounding"},
    {"reduction._h2_methods", "reduction._repair", "reduction.balanced", "reduction.modal"},
    {"reduction._h2_armijo", "reduction._h2_gauss_newton"},
    {"reduction.h2", "reduction.complex_balanced"},
    {"__init__"},
)


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def dotted(path, package):
    """``lticore/reduction/__init__.py`` is ``reduction``, ``lticore/__init__.py`` ``__init__``."""
    parts = path.relative_to(ROOT / package).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def imports(path, *, nested=True):
    """Absolute names imported by a file; without ``nested`` those outside functions only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = list(path.relative_to(ROOT).parent.parts)
    found = set()

    def visit(node, inside):
        if isinstance(node, ast.Import) and (nested or not inside):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (nested or not inside):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            found.add(".".join(base))
            found.update(".".join([*base, alias.name]) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return found


def roots(names):
    return {name.split(".")[0] for name in names}


def test_the_parser_sees_relative_and_nested_imports():
    path = ROOT / "lticore" / "reduction" / "balanced.py"
    assert {"lticore.gramians", "lticore.reduction.orders"} <= imports(path)
    assert "lticore.systems.LTI" in imports(path)


@pytest.mark.parametrize("path", modules("lticore"), ids=lambda p: dotted(p, "lticore"))
def test_core_knows_nothing_of_the_layers_above(path):
    assert not roots(imports(path)) & {"lticore_torch", "experiments", "tests", "benchmarks"}
    # Kernel modules are loaded when a kernel first runs, never by ``import lticore``.
    allowed = {"numba", "cupy"} if path.parent.name == "kernels" else set()
    assert not roots(imports(path, nested=False)) & HEAVY - allowed


@pytest.mark.parametrize("path", modules("lticore"), ids=lambda p: dotted(p, "lticore"))
def test_core_imports_its_declared_dependencies_only(path):
    allowed = {"numpy", "scipy", "array_api_compat", "lticore", *HEAVY}
    allowed |= sys.stdlib_module_names
    assert roots(imports(path)) <= allowed


@pytest.mark.parametrize("path", modules("lticore_torch"), ids=lambda p: dotted(p, "lticore_torch"))
def test_torch_layer_knows_nothing_of_the_experiments(path):
    assert not roots(imports(path)) & {"experiments", "tests", "benchmarks"}
    # Figures need matplotlib when they are asked for, `import lticore_torch` does not.
    assert "matplotlib" not in roots(imports(path, nested=False))


@pytest.mark.parametrize("path", modules("lticore"), ids=lambda p: dotted(p, "lticore"))
def test_layers_inside_the_core_import_downwards(path):
    name = dotted(path, "lticore")
    rank = {module: level for level, layer in enumerate(LAYERS) for module in layer}
    # A new module is given its place in LAYERS.
    assert name in rank
    for imported in imports(path):
        if imported.startswith("lticore."):
            target = imported.removeprefix("lticore.")
            assert rank.get(target, 0) <= rank[name], f"{name} imports {target}"


def test_import_is_light():
    """Neither torch nor plotting is loaded by ``import lticore``, in a fresh interpreter."""
    code = f"import sys, lticore; print(sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_exist_and_are_documented():
    import lticore

    assert len(set(lticore.__all__)) == len(lticore.__all__)
    for name in lticore.__all__:
        assert getattr(lticore, name).__doc__, name
