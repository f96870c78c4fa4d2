"""torch.compile with its default backend: the numbers are those of the code as it is.

Each case has a process of its own, since what is compiled wrongly may end it.
"""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import compiled
import pytest
import torch
from layer_kinds import ALL

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or "forkserver" not in multiprocessing.get_all_start_methods(),
    reason="torch.compile needs g++ here, and the tests processes from a server of forks",
)
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    """Where processes start with torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._inductor.compile_fx", "lticore_torch"])
    return context


@pytest.fixture(scope="module")
def kernels(pytestconfig, tmp_path_factory):
    """Where kernels are kept, by their text: from one run of the tests to the next if it can be."""
    cache = getattr(pytestconfig, "cache", None)
    return str(cache.mkdir("inductor") if cache else tmp_path_factory.mktemp("inductor"))


@pytest.fixture
def run(server, kernels):
    """Call a check of tests/compiled.py."""

    def call(check, *arguments, **options):
        with ProcessPoolExecutor(1, mp_context=server) as pool:
            pool.submit(compiled.run, kernels, check.__name__, arguments, options).result(600)

    return call


@pytest.mark.parametrize("name", ["rotation", "lru", "s5", "s4d", "quadratic", "selective"])
def test_layers(run, name):
    run(compiled.check, name)


@pytest.mark.parametrize("name", ["both ways of lru", "block of s4d", "classifier of lru"])
def test_models(run, name):
    run(compiled.check, name)


def test_sampling(run):
    run(compiled.check_sampling)


def test_penalty(run):
    run(compiled.check_penalty, "lru")


KINDS = [name for name in ALL if name not in ("s4d inv", "s4d legs")]  # the same code as s4d
MODELS = [
    *KINDS,
    *(f"{around} of {kind}" for around in ("both ways", "block") for kind in ("s4d", "selective")),
    *(f"classifier of {kind}" for kind in ("rotation", "lru", "s4d", "selective")),
]
OPTIONS = {
    "double": {"dtype": torch.float64},
    "recomputed states": {"keep_states": False, "sizes": compiled.SIZES[-1:]},
    "evaluation": {"training": False},
    "any size": {"dynamic": True, "sizes": compiled.SIZES},
    # One graph for the size that comes first, one for all others.
    "sizes seen": {"sizes": compiled.SIZES, "graphs": 2},
}


@slow
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_all_ways(run, name, options):
    run(compiled.check, name, **OPTIONS[options])


@slow
@pytest.mark.parametrize("name", MODELS)
def test_autocast(run, name):
    run(compiled.check_autocast, name, name in ALL or name.startswith("both ways"))


@slow
@pytest.mark.parametrize("name", KINDS)
def test_states_and_steps(run, name):
    run(compiled.check_states, name)
    run(compiled.check_step, name)


@slow
@pytest.mark.parametrize("name", [name for name in KINDS if name != "selective"])
def test_penalties(run, name):
    run(compiled.check_penalty, name, fullgraph=not name.startswith("s4d"))


@slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["rotation", "lru", "s5", "s4d", "quadratic"])
def test_training(run, kind, dtype):
    run(compiled.check_training, f"classifier of {kind}", dtype)


@slow
@pytest.mark.parametrize("kind", ["lru", "s4d"])
def test_vocabularies(run, kind):
    run(compiled.check_vocabulary, kind)


@slow
@pytest.mark.parametrize("kind", ["lru", "s4d"])
def test_penalties_of_other_functions(run, kind):
    run(compiled.check_penalty, f"block of {kind}", "log", fullgraph=kind != "s4d")


def test_a_crash_is_a_failure_of_one_test(run):
    with pytest.raises(BrokenProcessPool):
        run(compiled.crash)
