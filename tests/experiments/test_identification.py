"""The toy: a layer that is too large learns a small system."""

import pytest

from experiments.identification import IdentificationConfig, identify, true_system


@pytest.mark.slow
def test_regulariser_finds_the_true_order(tmp_path):
    summary = identify(IdentificationConfig(tmp_path))
    assert summary["numerical_order"]["hankel"] == 8
    assert summary["numerical_order"]["none"] > 16
    assert summary["fits"]["hankel"]["error"] < summary["fits"]["none"]["error"]


@pytest.mark.slow
def test_regulariser_shrinks_the_values_that_the_system_does_not_have(tmp_path, capsys):
    config = IdentificationConfig(tmp_path, true_order=4, order=16, steps=150, length=60)
    tails = {name: sum(fit["values"][4:]) for name, fit in identify(config)["fits"].items()}
    assert tails["hankel"] < 0.8 * tails["none"]
    assert (tmp_path / "hankel.png").read_bytes().startswith(b"\x89PNG")
    assert "true order 4" in capsys.readouterr().out


def test_true_system_is_what_it_says():
    sys = true_system(8, seed=0)
    assert sys.order == 8
    assert sys.spectral_radius < 0.96
