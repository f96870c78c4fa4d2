"""Hankel singular values followed over training."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import lticore
from lticore.errors import ArgumentError
from lticore_torch import S4D, HankelTracker, InTrainingCompressor, RotationSSM


def wiggle(layer, size, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("make", [lambda: RotationSSM(3, 9), lambda: S4D(3, 6)])
def test_values_change_by_no_more_than_weyls_bound(make):
    torch.manual_seed(0)
    layer = make().double()
    tracker = HankelTracker(layer)
    records = []
    for step in range(6):
        records.append(tracker.record(step)[""])
        sigma = lticore.hankel_singular_values(layer.to_lti())
        sigma = sigma.reshape(-1, sigma.shape[-1]).sum(axis=0)
        assert np.allclose(records[-1].singular_values, sigma, rtol=1e-6, atol=1e-7 * sigma[0])
        wiggle(layer, 0.02, step)
    assert records[0].weyl_bound is None
    for before, after in pairwise(records):
        change = np.subtract(after.singular_values, before.singular_values)
        assert np.abs(change).max() <= after.weyl_bound * (1 + 1e-9)
        assert sorted(after.trajectory) == pytest.approx(sorted(after.singular_values))
    assert tracker.history[""] == records


def test_trajectories_cross_where_states_do():
    """Two uncoupled real poles, one of which grows past the other."""
    layer = RotationSSM(2, 2, real_poles=2).double()
    tracker = HankelTracker(layer)
    for step, gain in enumerate(np.linspace(0.5, 2.0, 16)):
        sys = lticore.LTI(np.diag([0.5, 0.6]), np.diag([1.0, gain]), np.eye(2), np.zeros((2, 2)))
        with torch.no_grad():
            layer.real_atanh.copy_(torch.atanh(torch.tensor([0.5, 0.6])))
            layer.B.copy_(torch.tensor(sys.B))
            layer.C.copy_(torch.tensor(sys.C))
        tracker.record(step)
    paths = np.array([record.trajectory for record in tracker.history[""]])
    grows = np.argmax(paths[-1])
    assert np.all(np.diff(paths[:, grows]) > 0)
    assert np.allclose(paths[:, 1 - grows], paths[0, 1 - grows])
    assert paths[0, grows] < paths[0, 1 - grows]


def test_the_bound_of_uncoupled_states_is_their_largest_change():
    """Of H = diag(σ): ‖δH‖₂ = max |δσ_i|, with σ = c b/(1 − λ²)."""
    poles, gains = np.array([0.5, 0.6]), np.array([[1.0, 2.0], [1.25, 1.6]])
    layer = RotationSSM(2, 2, real_poles=2).double()
    tracker = HankelTracker(layer)
    for step, gain in enumerate(gains):
        layer.load_lti(lticore.LTI(np.diag(poles), np.diag(gain), np.eye(2), np.zeros((2, 2))))
        record = tracker.record(step)[""]
    sigma = gains / (1 - poles**2)
    assert record.singular_values == pytest.approx(np.sort(sigma[1])[::-1], rel=1e-12)
    assert record.weyl_bound == pytest.approx(np.abs(sigma[1] - sigma[0]).max(), rel=1e-11)


def test_a_new_order_starts_anew_and_records_serialise():
    torch.manual_seed(0)
    layer = RotationSSM(3, 8)
    tracker = HankelTracker(layer)
    tracker.record(0)
    InTrainingCompressor(
        layer, torch.optim.SGD(layer.parameters(), lr=0.1), fraction=0.5, steps=[1]
    ).step()
    record = tracker.record(1)[""]
    assert len(record.singular_values) == 4
    assert record.weyl_bound is None
    assert set(record.to_dict()) == {"step", "singular_values", "trajectory", "weyl_bound"}
    wiggle(layer, 0.01, 0)
    tracker.record(2)
    assert len(tracker.plot("").axes) == 3


def test_a_loaded_tracker_goes_on_as_the_one_before():
    """Also over a change of order that only one of them has seen coming."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(RotationSSM(3, 8), S4D(3, 6))
    one, other = HankelTracker(model), HankelTracker(model)
    for step in range(4):
        before = one.state_dict()
        if step == 3:
            InTrainingCompressor(
                model[0], torch.optim.SGD(model.parameters(), lr=0.1), fraction=0.5, steps=[1]
            ).step()
        wiggle(model, 0.1, step)
        other.load_state_dict(before)
        assert other.record(step) == one.record(step)
    assert not before["1"][0].equal(one.state_dict()["1"][0])
    assert len(one.history["0"][-1].trajectory) == 4


def test_models_without_layers_are_refused():
    with pytest.raises(ArgumentError, match="no time-invariant"):
        HankelTracker(torch.nn.Linear(2, 2))
