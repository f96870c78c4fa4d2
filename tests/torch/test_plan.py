"""analyze: what is found once, and models cut by it."""

import numpy as np
import pytest
import torch
from layer_kinds import ALL, make
from torch import nn

import lticore as lti
from lticore_torch import (
    Bidirectional,
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    SSMLayer,
    analyze,
    compress,
    ssm_layers,
)
from lticore_torch.compression.report import percent_change

STATES = 48
X = torch.randn(12, 20, 1, generator=torch.Generator().manual_seed(0))
METHODS = {"balanced": {}, "h2": {}, "tlbt": {"horizon": 9}, "last": {}, "data": {"calibration": X}}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = SequenceClassifierConfig(inputs=1, classes=3, features=4, order=16, depth=3)
    return SequenceClassifier(config).eval()


def same(model, other):
    one, two = model.state_dict(), other.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[x], two[x]) for x in one)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_every_cut_is_that_of_one_call(model, method, monkeypatch):
    how = {"method": method, **METHODS[method]}
    calls = {ratio: compress(model, ratio=ratio, **how) for ratio in (0.3, 0.6)}
    plan = analyze(model, **how)

    def again(*_):
        raise AssertionError("the layers are judged again")

    monkeypatch.setattr(SSMLayer, "judged", again)
    monkeypatch.setattr(SSMLayer, "sums_on", again)
    for ratio, (small, report) in calls.items():
        cut, found = plan.compress(ratio=ratio)
        assert same(cut, small)
        assert found == report


def test_energies_are_those_of_the_hankel_values(model):
    plan = analyze(model)
    assert plan.method == "balanced"
    for layer, outlook in zip(ssm_layers(model).values(), plan.layers, strict=True):
        sigma = lti.hankel_singular_values(layer.to_lti())
        held = np.cumsum(sigma) / sigma.sum()
        assert outlook.singular_values == pytest.approx(sigma, rel=1e-12)
        assert outlook.order_99 == 1 + np.flatnonzero(held >= 0.99)[0]
        assert outlook.order_999 == 1 + np.flatnonzero(held >= 0.999)[0]
        assert outlook.order_unseen is None
        assert outlook.parameters == sum(p.numel() for p in layer.parameters())


def test_complex_values_stand_for_two_states():
    torch.manual_seed(0)
    layer = RotationSSM(2, 8, real_poles=0)
    (outlook,) = analyze(layer, method="balanced-complex").layers
    assert len(outlook.singular_values) == 8
    assert outlook.singular_values[0::2] == outlook.singular_values[1::2]
    assert outlook.order_99 == compress(layer, energy=0.99, method="balanced-complex")[1].orders[0]


@pytest.mark.parametrize("loss", ["output", "cross-entropy", "own"])
def test_unseen_states_change_the_loss_by_little_to_first_order(model, loss):
    """As many of the smallest σ² as stay below the square of the change that is not seen."""

    def own(output, batch):
        return 3 + output.sum(dim=-1)

    plan = analyze(model, calibration=X, loss=own if loss == "own" else loss)
    with torch.no_grad():
        y = model(X).double()
    size = {"output": y.square().sum(dim=-1), "own": (3 + y.sum(dim=-1)).square()}
    unseen = 0.1 if loss == "cross-entropy" else 0.01 * float(size[loss].mean().sqrt())
    assert plan.unseen == pytest.approx(unseen, rel=1e-6)
    squares = np.sort(np.concatenate([np.square(x.singular_values) for x in plan.layers]))
    dropped = np.flatnonzero(np.append(np.cumsum(squares), np.inf) > unseen**2)[0]
    kept = sum(x.order_unseen for x in plan.layers)
    # Each layer keeps one state at least, whatever it does.
    assert kept == STATES - dropped or min(x.order_unseen for x in plan.layers) == 1
    assert 0 < dropped < STATES


def test_predicted_sizes_are_those_of_the_cut(model):
    plan = analyze(model, calibration=X)
    orders = [x.order_unseen for x in plan.layers]
    small, report = plan.compress(orders=orders)
    *_, text = str(plan).splitlines()
    assert f"without visible change of the loss: {report.parameters_after:,} parameters" in text
    assert report.parameters_after == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_every_kind_is_looked_at_on_data(kind):
    model = nn.ModuleList([make(kind), make(kind, seed=1)])
    model.forward = lambda u: model[1](torch.tanh(model[0](u)))
    u = torch.randn(6, 15, 3, dtype=torch.float64)
    plan = analyze(model, calibration=u)
    assert [x.order for x in plan.layers] == [layer.order for layer in model]
    assert [x.kind for x in plan.layers] == 2 * [type(model[0]).__name__]
    for outlook in plan.layers:
        squares = np.square(outlook.singular_values)
        assert len(squares) == outlook.order
        held = np.cumsum(squares) / squares.sum()
        assert outlook.order_99 == 1 + np.flatnonzero(held >= 0.99)[0]
        assert outlook.order_999 == 1 + np.flatnonzero(held >= 0.999)[0]
    assert len(str(plan).splitlines()) == 5


def test_both_directions_are_layers_of_their_own():
    torch.manual_seed(0)
    layer = Bidirectional(RotationSSM(3, 6), RotationSSM(3, 6))
    plan = analyze(layer)
    assert [x.name for x in plan.layers] == ["ahead", "back"]
    small, report = plan.compress(orders={"back": 2})
    assert same(small.ahead, layer.ahead)
    assert report.orders == [6, 2] == [small.ahead.order, small.back.order]


def test_layers_by_name_and_others_as_they_are(model):
    small, report = compress(model, ratio={"blocks.1.ssm": 0.5, "blocks.2.ssm": 0.75})
    assert report.orders == [16, 8, 4]
    assert same(small.blocks[0], model.blocks[0])
    assert report.layers[0].error_bound == 0
    alone, _ = compress(model.blocks[1].ssm, ratio=0.5)
    assert same(small.blocks[1].ssm, alone)
    assert same(compress(model, orders={"blocks.1.ssm": 8, "blocks.2.ssm": 4})[0], small)


def test_excluded_layers_do_not_count(model):
    small, report = compress(model, ratio=0.5, exclude="blocks.1")
    assert [x.name for x in report.layers] == ["blocks.0.ssm", "blocks.2.ssm"]
    assert sum(report.orders) == 16
    assert same(small.blocks[1], model.blocks[1])
    wanted, _ = compress(model, orders=[report.orders[0], 16, report.orders[1]])
    assert same(small.blocks[0], wanted.blocks[0])


def test_excluded_layers_are_not_judged(model):
    """One of whose parameters some are made of others, which compression refuses."""
    nn.utils.parametrizations.weight_norm(model.blocks[0].ssm, "C")
    with pytest.raises(lti.ArgumentError, match="is made of other tensors"):
        analyze(model)
    assert len(analyze(model, exclude=["blocks.0.ssm"]).layers) == 2


def test_refitting_and_distillation_by_a_plan(model):
    how = {"refit": True, "fine_tune_steps": 3}
    wanted, report = compress(model, ratio=0.7, method="data", calibration=X, **how)
    small, found = analyze(model, calibration=X).compress(ratio=0.7, **how)
    assert same(small, wanted)
    assert found == report
    assert found.error_bounds == [None] * 3


@pytest.mark.parametrize("tolerance", [0, 10, 45, 100])
def test_the_fewest_states_within_a_tolerance(model, tolerance):
    modes, models = [], []

    def states(x):
        modes.append(x.training)
        models.append(x)
        return sum(layer.order for layer in ssm_layers(x).values())

    small, report = analyze(model.train()).compress(evaluate=states, tolerance=tolerance)
    assert sum(report.orders) == max(STATES - tolerance, 3)
    assert (report.score_before, report.score) == (STATES, sum(report.orders))
    assert model.training
    assert not any(modes)
    assert small is models[-1] or small in models
    assert len(models) <= 2 + np.ceil(np.log2(STATES))
    assert f"evaluate: {STATES} → {sum(report.orders)}" in str(report)


def test_scores_below_zero(model):
    def removed(x):
        return sum(layer.order for layer in ssm_layers(x).values()) - 100

    _, report = compress(model, evaluate=removed, tolerance=8)
    assert sum(report.orders) == STATES - 8


def test_all_states_stay_where_nothing_is_good_enough(model):
    _, report = compress(model, evaluate=lambda x: float(x is model), tolerance=0.5)
    assert report.orders == [16, 16, 16]
    assert (report.score_before, report.score) == (1, 0)


def test_warnings_are_those_of_the_cut_that_is_returned(model):
    with torch.no_grad():
        model.blocks[2].ssm.C.zero_()  # one silent state at every ratio

    def states(x):
        return sum(layer.order for layer in ssm_layers(x).values())

    with pytest.warns(lti.PrecisionWarning, match="only 0 Hankel singular values") as caught:
        compress(model, evaluate=states, tolerance=20)
    assert len(caught) == 1


@pytest.mark.parametrize("change", ["parameter", "buffer", "order"])
def test_a_plan_of_a_model_that_has_changed_is_refused(model, change):
    plan = analyze(model)
    if change == "parameter":
        model.blocks[1].ssm.B.data[3, 2] += 1e-3
    elif change == "buffer":
        next(model.buffers()).data += 1
    else:
        model.blocks[0].ssm.load_lti(lti.modal_truncation(model.blocks[0].ssm.to_lti(), 4).system)
    with pytest.raises(lti.ArgumentError, match="has changed since it was analysed"):
        plan.compress(ratio=0.5)


def test_bounds_beside_the_norm_of_the_layer():
    """H(e^{iω}) = c b/(1 − λ e^{−iω}) + d is largest at ω = 0."""
    layer = RotationSSM(1, 3, real_poles=3).double()
    poles, b = np.array([0.9, 0.5, 0.1]), np.array([1.0, 0.5, 2.0])
    with torch.no_grad():
        layer.real_atanh.copy_(torch.tensor(np.arctanh(poles)))
        layer.B.copy_(torch.tensor(b)[:, None])
        layer.C.fill_(1.0)
        layer.D.fill_(0.25)
    norm = np.sum(b / (1 - poles)) + 0.25
    _, report = compress(layer, orders=[1])
    (entry,) = report.layers
    assert entry.size == pytest.approx(norm, rel=1e-12)
    assert entry.relative_bound == pytest.approx(entry.error_bound / norm, rel=1e-12)
    assert f"{entry.error_bound / norm:.1%}" in str(report)


def test_pictures_mark_the_orders(model):
    plan = analyze(model, calibration=X)
    axes = [axis for axis in plan.plot().axes if axis.get_visible()]
    assert len(axes) == 3
    for axis, outlook in zip(axes, plan.layers, strict=True):
        curve, *marks = axis.get_lines()
        assert len(curve.get_ydata()) == outlook.order
        assert [line.get_xdata()[0] - 0.5 for line in marks] == [
            outlook.order_99,
            outlook.order_999,
            outlook.order_unseen,
        ]


@pytest.mark.parametrize(
    ("how", "options", "message"),
    [
        ({"method": "magic"}, {}, "method='magic' is not one of"),
        ({"method": "data"}, {}, "need calibration="),
        ({"exclude": ["blocks.7"]}, {}, r"exclude= names \['blocks.7'\], which the model does not"),
        ({"exclude": ""}, {}, "exclude= leaves none of the layers"),
        ({}, {}, "exactly one of"),
        ({}, {"ratio": 0.5, "energy": 0.9}, "exactly one of"),
        ({}, {"ratio": {"blocks.0": 0.5}}, r"ratio= names \['blocks.0'\], but the layers are"),
        ({}, {"orders": {}}, "orders= names no layer"),
        ({}, {"ratio": {"blocks.0.ssm": 1.5}}, "ratio must lie in"),
        ({}, {"ratio": 0.5, "refit": True}, "need calibration="),
        ({}, {"ratio": 0.5, "fine_tune_steps": -1}, "fine_tune_steps"),
        ({}, {"evaluate": len}, "evaluate= goes with tolerance="),
        ({}, {"ratio": 0.5, "tolerance": 0.1}, "evaluate= goes with tolerance="),
        ({}, {"evaluate": len, "tolerance": -1.0}, "evaluate= goes with tolerance="),
        ({}, {"evaluate": lambda x: np.nan, "tolerance": 0.1}, "evaluate= returned NaN"),
    ],
)
def test_bad_input(model, how, options, message):
    with pytest.raises(lti.ArgumentError, match=message):
        analyze(model, **how).compress(**options)


def test_a_model_without_layers_is_refused():
    with pytest.raises(lti.ArgumentError, match="no state-space layer, only Linear"):
        analyze(nn.Linear(2, 2))


def test_changes_have_their_sign():
    assert percent_change(200, 160) == "−20%"
    assert percent_change(200, 206) == "+3%"
