"""`make gpu-check` without a device: its stages, and the benchmark on the stand-in."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from gpu_check import ROOT, STAGES, Stage, environment, run


def test_all_stages_together_take_eight_minutes():
    assert sum(stage.seconds for stage in STAGES) <= 480
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    for word in (word for stage in STAGES for word in stage.command if word.endswith(".py")):
        assert (ROOT / word).exists()


def test_a_stage_that_fails_costs_no_other_its_result(tmp_path, capsys):
    def python(name, text, seconds=30):
        return Stage(name, seconds, (sys.executable, "-c", text))

    stages = (
        python("raises", "print('seen'); raise SystemExit(3)"),
        python("hangs", "print('begun', flush=True); import time; time.sleep(60)", 1),
        Stage("missing", 1, ("no-such-tool",)),
        python("works", "import lticore; print(lticore.__version__)"),
    )
    assert run(stages, tmp_path, environment(tmp_path)) == ["raises", "hangs", "missing"]
    logs = {stage.name: (tmp_path / f"{stage.name}.log").read_text() for stage in stages}
    assert logs["raises"] == "seen\n"
    assert logs["hangs"] == "begun\n"
    assert logs["works"].strip()
    assert "stopped after 1 s" in capsys.readouterr().out


@pytest.fixture
def small_benchmark(standin, monkeypatch, tmp_path):
    """benchmarks/gpu.py, with small sizes."""
    folder = Path(ROOT, "benchmarks")
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("benchmark_of_gpu", folder / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.machine, "RESULTS", tmp_path)
    for name, value in {
        "FORMS": ((2, 40, 3),),
        "ORDERS": (6,),
        "ROTATED_BYTES": 1,
        "LAUNCHES": 2,
        "ROUNDS": 1,
    }.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_row_is_written_as_it_is_measured(small_benchmark, monkeypatch, tmp_path):
    small_benchmark.main(["recurrence", "recurrence_gradient", "stein", "functions"])

    def fails(*_):
        raise RuntimeError

    monkeypatch.setitem(small_benchmark.PARTS, "training", fails)
    with pytest.raises(RuntimeError):
        small_benchmark.main(["training"])
    (file,) = tmp_path.glob("gpu-*.json")
    result = json.loads(file.read_text())
    counts = {part: len(result[part]) for part in small_benchmark.PARTS if part in result}
    assert counts == {"recurrence": 2, "recurrence_gradient": 2, "stein": 2, "functions": 2}
    assert all(row["share_of_copy_bandwidth"] > 0 for row in result["recurrence"])
