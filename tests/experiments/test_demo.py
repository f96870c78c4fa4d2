"""The demo at toy size, its files, and the command line."""

import json
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from experiments import demo as demo_module
from experiments.__main__ import app, main
from experiments.demo import DemoConfig, TrainConfig, demo
from experiments.demo_report import write_report
from lticore.errors import ArgumentError
from lticore_torch.files import write_atomically

TOY = {
    "features": 6,
    "order": 8,
    "truncation_ratios": (0.5, 0.8),
    "calibration": 32,
    "fine_tune_steps": 2,
    "train": TrainConfig(epochs=1, batch_size=400),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    summary = demo(DemoConfig(output=folder, seeds=(0, 1), **TOY))
    return folder, summary


def test_summary_has_the_promised_form(run):
    folder, summary = run
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["truncation_ratios"] == [0.5, 0.8]
    assert summary["seeds"] == [0, 1]
    assert summary["seconds"] > 0
    assert list(summary["methods"]) == ["none", "data", "distilled", "hsvr"]
    for name, method in summary["methods"].items():
        assert list(method["accuracy"]) == ["0.0", "0.5", "0.8"]
        for ratio, value in method["accuracy"].items():
            assert 0 <= value <= 1
            assert value == pytest.approx(np.mean(method["accuracy_by_seed"][ratio]))
        for ratio in (0.5, 0.8):
            for orders in method["orders"][str(ratio)]:
                assert 2 <= sum(orders) <= round((1 - ratio) * 16)
        sigma = np.array(method["singular_values"])
        assert sigma.shape == (2, 8)
        assert (np.diff(sigma, axis=1) <= 0).all()
        if name in ("data", "distilled"):
            assert method["error_bounds"]["0.8"] == [[None, None]] * 2
            continue
        first = np.array(method["singular_values_by_seed"])[0, 0]
        bound = 2 * first[method["orders"]["0.8"][0][0] :].sum()
        assert method["error_bounds"]["0.8"][0][0] == pytest.approx(bound)


def test_compression_by_data_sees_as_many_sequences_as_asked_for(tmp_path, monkeypatch):
    seen = []

    monkeypatch.setattr(demo_module, "_summarise", lambda sweeps: {})
    monkeypatch.setattr(demo_module, "_trained", lambda *_: None)
    monkeypatch.setattr(demo_module, "analyze", lambda _, calibration=None: calibration)
    monkeypatch.setattr(demo_module, "truncation_sweep", lambda plan, *_, **how: seen.append(plan))
    monkeypatch.setattr(demo_module, "print_table", lambda *_: None)
    monkeypatch.setattr(demo_module, "write_report", lambda *_: None)
    demo(DemoConfig(output=tmp_path, seeds=(0,), **TOY))
    counts = [x and sum(len(inputs[0]) for inputs, _ in x) for x in seen]
    assert counts == [None, 32, 32, None]


def test_report_is_self_contained(run):
    folder, summary = run
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"""(src|href)=["']?(https?:|/|\.)""", page)
    shown = f"{100 * summary['methods']['hsvr']['accuracy']['0.8']:.1f}"
    assert f"<td>{shown}<br>" in page
    for name in ("accuracy.png", "hankel_decay.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy.png",
        "hankel_decay.png",
        "report.html",
        "runs",
        "summary.json",
    ]


def test_report_can_be_drawn_again(run, tmp_path):
    _, summary = run
    write_report(summary, tmp_path)
    assert (tmp_path / "report.html").exists()


def test_same_seed_same_summary(run):
    folder, summary = run
    again = demo(DemoConfig(output=folder.parent / "again", seeds=(1,), **TOY))
    for name, method in again["methods"].items():
        for ratio, values in method["accuracy_by_seed"].items():
            assert values == summary["methods"][name]["accuracy_by_seed"][ratio][1:]


def test_interrupted_demo_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo(DemoConfig(output=tmp_path, **TOY))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lticore_torch.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "seeds is empty"),
        ({"hankel_weight": 0.0}, "hankel_weight must be positive"),
        ({"fine_tune_steps": 0}, "fine_tune_steps must be positive"),
        ({"truncation_ratios": (1.0,)}, r"ratios must lie in \(0, 1\)"),
        ({"truncation_ratios": (0.95,), "order": 8}, "0.95 leaves fewer than one of 8 states"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ArgumentError, match=message):
        DemoConfig(**change)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}, {"warmup": 1.0}])
def test_bad_training_settings(change):
    with pytest.raises(ArgumentError, match=next(iter(change))):
        DemoConfig(train=TrainConfig(**change))


def test_unusable_output_folder_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_module, "train", lambda *_: pytest.fail("trained first"))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError):
        demo(DemoConfig(output=file / "folder", **TOY))


def test_command_line_starts_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "experiments", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "demo" in result.stdout
    assert "report" in result.stdout


def test_command_line_reaches_every_setting(capsys):
    with pytest.raises(SystemExit) as stop:
        app.cli(args=["demo", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--output", "--seeds", "--hankel-weight", "--epochs", "--learning-rate"):
        assert option in text


def test_command_line_draws_a_report_again(run, tmp_path, capsys):
    _, summary = run
    write_atomically(tmp_path / "summary.json", json.dumps(summary))
    app.cli(args=["report", str(tmp_path)])
    assert (tmp_path / "report.html").exists()
    assert "Hankel regularisation" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, '{"a":'])
def test_command_line_says_what_is_wrong_without_a_traceback(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["experiments", "report", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .*summary\.json"):
        main()


def test_pictures_need_no_display():
    assert matplotlib.get_backend().lower() == "agg"
