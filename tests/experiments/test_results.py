"""Results in files: what is written is read, by slug, once each; and the committed ones hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import results
from experiments.config import DataConfig, RegularizerConfig, RunConfig, to_json
from experiments.methods import seeds
from experiments.results import all_results, commit_results, committed_results, find_result
from experiments.runs import run_folder, write_json
from lticore.errors import ArgumentError

COMMITTED = results.COMMITTED


@pytest.fixture(autouse=True)
def committed(tmp_path, monkeypatch):
    """A folder of the test's own instead of the repository's."""
    monkeypatch.setattr("experiments.results.COMMITTED", tmp_path / "committed")
    monkeypatch.setattr("experiments.runs.CARRIED", tmp_path / "committed" / "runs")
    return tmp_path / "committed"


def finish(config: RunConfig, accuracy: float = 2 / 3, points: int = 7) -> Path:
    """A folder as training and truncation leave it."""
    folder = run_folder(config)
    write_json(folder / "config.json", to_json(config))
    summary = {
        "status": "finished",
        "slug": "of/an-older-rule",
        "test_accuracy": accuracy,
        "reductions": [{"step": 2, "energies": {"blocks.0.ssm": 0.987654321}}],
    }
    write_json(folder / "summary.json", summary)
    write_json(folder / "after.json", {"singular_values": [[np.pi, 1e-9 / 3]]})
    steps = range(1, points + 1)
    metrics = ({"step": i, "loss": 1 / (i + 2), "hankel": {"x": {"step": i}}} for i in steps)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    times = ({"step": i, "seconds": 12.3456 * i} for i in steps)
    (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in times))
    return folder


def test_what_is_written_is_read(tiny, monkeypatch, tmp_path):
    config = replace(tiny, data=DataConfig(options={"pad": 3}), seed=2)
    folder = finish(config)
    written = find_result(config)
    assert written.source == str(folder)
    assert commit_results("hsvr", [config]) == 1
    monkeypatch.setenv("LTICORE_RUNS", str(tmp_path / "nothing"))
    read = find_result(config)
    assert Path(read.source).name == "hsvr.jsonl"
    assert replace(read, source=written.source) == written
    assert all_results() == [read]
    assert read.summary["test_accuracy"] == 2 / 3
    assert read.summary["reductions"][0]["energies"] == {"blocks.0.ssm": 0.9877}
    assert read.after["singular_values"] == [[3.142, 3.333e-10]]


def test_a_line_holds_only_settings_that_are_not_at_their_defaults(committed):
    config = RunConfig(regularizer=RegularizerConfig("hankel", 1e-3), seed=1)
    finish(config)
    commit_results("hsvr", [config])
    line = json.loads((committed / "hsvr.jsonl").read_text())
    assert line["slug"] == config.slug
    assert line["config"] == {"regularizer": {"kind": "hankel", "weight": 1e-3}, "seed": 1}


def test_lines_are_sorted_and_a_new_run_changes_no_other(tiny, committed):
    runs = seeds(tiny, 4)
    for run in runs:
        finish(run)
    path = committed / "h2.jsonl"
    commit_results("h2", [runs[3], runs[1], runs[0]])
    before = path.read_text().splitlines()
    commit_results("h2", [runs[2]])
    after = path.read_text().splitlines()
    assert [json.loads(line)["slug"] for line in after] == sorted(run.slug for run in runs)
    assert set(before) < set(after)


def test_a_run_is_replaced_where_it_stands(tiny, committed):
    finish(tiny, accuracy=0.25)
    commit_results("hsvr", [tiny])
    finish(tiny, accuracy=0.75)
    commit_results("compressm", [tiny])
    assert [path.name for path in committed.iterdir()] == ["hsvr.jsonl"]
    (result,) = committed_results().values()
    assert result.summary["test_accuracy"] == 0.75


def test_times_stay_where_none_were_taken_on_the_same_kind_of_machine(tiny, committed):
    folder = finish(tiny)
    write_json(folder / "after.json", {"inference": {"0.5": 1.5}, "truncations": {"last": {}}})
    commit_results("hsvr", [tiny])
    finish(tiny)
    commit_results("hsvr", [tiny])
    (result,) = committed_results().values()
    assert result.after == {"inference": {"0.5": 1.5}, "singular_values": [[3.142, 3.333e-10]]}
    summary = json.loads((folder / "summary.json").read_text())
    write_json(folder / "summary.json", summary | {"machine": {"cores": 64}})
    commit_results("hsvr", [tiny])
    (result,) = committed_results().values()
    assert "inference" not in result.after


def test_only_runs_that_finished_here_are_written(tiny, committed):
    assert commit_results("hsvr", [tiny]) == 0
    assert not committed.exists()


@pytest.mark.parametrize("points", [1, 19, 20, 21, 1000])
def test_curves_keep_few_points_with_the_first_and_the_last(tiny, points):
    finish(tiny, points=points)
    result = find_result(tiny)
    assert len(result.curves["loss"]) == len(result.hankel) == min(points, 20)
    assert result.curves["loss"][0] == [1, 0.3333]
    assert result.curves["seconds"][-1] == [points, float(f"{12.3456 * points:.4g}")]
    steps = np.array(result.curves["loss"])[:, 0]
    assert np.ptp(np.diff(steps)) <= 1 if points > 1 else steps == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: line[:-5], "is not a result"),
        (lambda line: "", "is not a result"),
        (lambda line: line.replace('"seed":1', '"sead":1'), "unknown field .* did you mean seed"),
        (lambda line: line.replace('"after"', '"later"'), "later"),
        (lambda line: line.replace('"slug"', '"slag"'), "slug"),
        (lambda line: line.replace('"config":{', '"config":3,"x":{'), "is not a result"),
    ],
)
def test_a_line_that_is_no_result_is_named(tiny, committed, damage, message):
    runs = seeds(tiny, 2)
    for run in runs:
        finish(run)
    commit_results("hsvr", runs)
    path = committed / "hsvr.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{damage(second)}\n")
    with pytest.raises(ArgumentError, match=rf"hsvr\.jsonl, line 2.*{message}"):
        committed_results()


def test_runs_that_the_repository_carries_are_found(tiny, committed):
    carried = committed / "runs" / tiny.slug
    carried.mkdir(parents=True)
    assert finish(tiny) == carried
    (result,) = all_results()
    assert result.source == str(carried)


def test_what_the_repository_holds_is_complete(monkeypatch):
    monkeypatch.setattr("experiments.results.COMMITTED", COMMITTED)
    found = committed_results()
    for path in sorted(COMMITTED.glob("*.jsonl")):
        slugs = [json.loads(line)["slug"] for line in path.read_text().splitlines()]
        # Each line under the slug of its config, in order, and in this file only.
        assert slugs == sorted(s for s, r in found.items() if Path(r.source) == path)
    for result in found.values():
        assert result.summary["commit"]
        assert result.summary["versions"]["torch"]
        assert 0 <= result.summary["test_accuracy"] <= 1
