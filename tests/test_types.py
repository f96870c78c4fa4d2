"""Type checkers see in a user's file what is wrong, and nothing else."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Lines that must be refused end in `# wrong`; all others must be accepted.
USER = """
from typing import Any

import numpy as np
from typing_extensions import assert_type

import lticore as lti
import lticore_torch as lt

A, B, C = np.diag([0.5, -0.2]), np.ones((2, 1)), np.ones((1, 2))
dense = lti.LTI(A, B, C)
modal = lti.LTI(lti.Diagonal([0.5, -0.2]), [[1.0], [1.0]], C, 0.5, dt=0.1)
quadratic = lti.QuadraticOutputLTI(A, B, C, np.ones((1, 2, 2)))
lti.h2_norm("nonsense")  # wrong
lti.h2_norm(3.0)  # wrong
lti.h2_norm(A)  # wrong
lti.h2_norm(dense, horizon="long")  # wrong
lti.hinf_norm(quadratic)  # wrong
lti.LTI(dense, B, C)  # wrong
lti.LTI(A, B)  # wrong

# NumPy in means NumPy out.
assert_type(lti.h2_norm(dense), np.ndarray)
assert_type(lti.h2_norm(quadratic, horizon=10), np.ndarray)
assert_type(lti.hankel_singular_values(modal), np.ndarray)
assert_type(lti.frequency_response(modal, np.linspace(0, 3)), np.ndarray)
assert_type(lti.simulate(dense, np.ones((10, 1))), np.ndarray)
assert_type(lti.solve_stein(A, [[1.0, 0.0], [0.0, 1.0]]), np.ndarray)
assert_type(lti.linear_recurrence(np.ones(2), np.ones((10, 2))), np.ndarray)
assert_type(dense.B, np.ndarray)
assert_type(dense.A, np.ndarray)
assert_type(modal.A, lti.Diagonal[np.ndarray])
assert_type(lti.to_rotation(dense).A.radius, np.ndarray)
assert_type(lti.diagonalize(dense).A.poles, np.ndarray)
value, gradient = lti.hankel_sum_and_gradient(dense)
assert_type(gradient.B, np.ndarray)
assert_type(lti.discretize(A, B, C, step=0.1).C, np.ndarray)
lti.h2_norm((A, B, C))
lti.hankel_singular_values([A, B, C, 0.0])
lti.h2_norm(2 * dense[0] + modal @ dense - lti.feedback(dense))
modal.A.no_such_attribute  # wrong
dense.no_such_attribute  # wrong
lti.hankel_singular_values(dense).no_such_attribute  # wrong
lti.hankel_singular_values(dense, accuracy="perfect")  # wrong
(dense + modal).no_such_attribute  # wrong

reduction = lti.balanced_truncation(dense, order=1)
reduction.system.no_such_attribute  # wrong
reduction.no_such_attribute  # wrong
assert_type(reduction.system.C, np.ndarray)
bound: float = 2 * float(reduction.error_bound)
lti.hinf_error(dense, reduction.system)
lti.balanced_truncation(quadratic, order=1).system.M
lti.balanced_truncation(dense, order=1).system.M  # wrong
lti.h2_reduction(dense, 1).system.no_such_attribute  # wrong
lti.modal_truncation(dense, 1).system.no_such_attribute  # wrong
lti.balanced_truncation(dense, orders=1)  # wrong
lti.no_such_function(dense)  # wrong


def of_any_library(x: Any, sys: lti.LTI) -> Any:
    lti.LTI(x, x, x).no_such_attribute  # wrong
    sys.no_such_attribute  # wrong
    return lti.h2_norm(sys), lti.h2_norm(lti.LTI(lti.Diagonal(x), x, x)), lti.h2_norm(x)


layer = lt.RotationSSM(3, 8)
assert_type(float(lti.h2_norm(layer.to_lti())), float)
# Only pyright refuses h2_norm(layer): `__getattr__` of nn.Module has all names, says mypy.
lt.compress(layer, no_such_option=1)  # wrong
model = lt.SequenceClassifier(lt.SequenceClassifierConfig(1, 10, features=4, order=8, depth=1))
small, report = lt.compress(model, ratio=0.5)
report.no_such_attribute  # wrong
"""


def _run(*command: str, folder: Path) -> str:
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def _mypy(folder: Path) -> str:
    cache = ROOT / ".mypy_cache" / "user"
    return _run("mypy", "--strict", f"--cache-dir={cache}", "user.py", folder=folder)


def _pyright(folder: Path) -> str:
    settings = {"extraPaths": [str(ROOT)], "include": ["user.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return _run("pyright", "--pythonpath", sys.executable, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("check", [_mypy, _pyright], ids=["mypy", "pyright"])
def test_a_user_is_told_what_is_wrong_and_nothing_else(tmp_path, check):
    if find_spec(check.__name__.strip("_")) is None:
        pytest.skip("type checkers come with the extra dev")
    (tmp_path / "user.py").write_text(USER)
    output = check(tmp_path)
    found = {int(n) for n in re.findall(r"user\.py:(\d+)(?:|:\d+ -):? error", output)}
    lines = USER.splitlines()
    wrong = {i for i, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    assert found == wrong, output


@pytest.mark.parametrize("package", ["lticore", "lticore_torch"])
def test_packages_declare_that_they_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()
