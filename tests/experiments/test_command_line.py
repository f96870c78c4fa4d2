"""The commands as a user gives them: what they print, and what they say to mistakes."""

import json
import sys

import pytest

from experiments.__main__ import main

TINY = [
    "--data.train",
    "60",
    "--data.test",
    "40",
    "--budget.steps",
    "3",
    "--model.features",
    "4",
    "--model.order",
    "4",
    "--runtime.device",
    "cpu",
    "--runtime.no-progress",
    "--runtime.no-tensorboard",
]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["experiments", *map(str, arguments)])
    main()


def test_train(tmp_path, monkeypatch, capsys):
    call(monkeypatch, "train", *TINY)
    output = capsys.readouterr().out
    assert "orders [4, 4]" in output
    (summary,) = tmp_path.glob("runs/digits/*/summary.json")
    assert str(summary.parent) in output
    assert json.loads(summary.read_text())["steps"] == 3


@pytest.mark.parametrize("command", ["train", "sweep", "data", "paper", "report"])
def test_help_lists_every_setting(monkeypatch, capsys, command):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, command, "--help")
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert f"usage: python -m experiments {command}" in output
    if command == "train":
        assert "--reduction.steps" in output
    if command == "sweep":
        assert "--run.reduction.steps" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", *TINY, "--data.name", "digts"], "did you mean digits"),
        (["train", *TINY, "--data.options", "sed", "1"], "digits has no option 'sed'"),
        (["data", "show", "pathfindr"], "did you mean pathfinder"),
        (["data", "show", "pathfinder", "--options", "sise", "9"], "did you mean size"),
        (["paper", "hsrv"], "did you mean hsvr"),
    ],
)
def test_a_mistake_is_said_in_one_line(monkeypatch, arguments, message):
    with pytest.raises(SystemExit, match=message) as stopped:
        call(monkeypatch, *arguments)
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code


def test_an_unknown_option_is_answered_with_the_nearest(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, "train", *TINY, "--modl.order", "4")
    assert "--model.order" in capsys.readouterr().err


def test_a_refused_setting_is_answered_with_the_nearest_values(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "train", *TINY, "--model.layer", "rotatoin")
    assert stopped.value.code != 0
    assert "did you mean rotation" in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LTICORE_DATA", str(tmp_path / "data"))
    call(monkeypatch, "data", "list")
    assert "pathfinder128" in capsys.readouterr().out
    picture = tmp_path / "samples.png"
    pathfinder = ("pathfinder", "--options", "size", 20)
    call(monkeypatch, "data", "show", *pathfinder, "--output", picture)
    assert "at most 1024 steps" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    listops = ("listops", "--options", "size", 20, 5, 5, "longer_than", 20, "shorter_than", 100)
    call(monkeypatch, "data", "download", *listops)
    call(monkeypatch, "data", "show", *listops)
    assert "16 symbols" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"pathfinder32-20-seed0.npz", "listops-30-20-100-seed0.npz"}
