"""compress: bounds, criteria, reports, and models that stay trainable."""

import json

import numpy as np
import pytest
import torch

import lticore as lti
from lticore_torch import (
    CompressionReport,
    LayerReport,
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
    hankel_sum,
    ssm_layers,
)

FREQUENCIES = np.linspace(0, np.pi, 300)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = SequenceClassifierConfig(inputs=1, classes=3, features=4, order=16, depth=3)
    return SequenceClassifier(config).eval()


def largest_difference(layer, other):
    error = lti.frequency_response(layer.to_lti(), FREQUENCIES) - lti.frequency_response(
        other.to_lti(), FREQUENCIES
    )
    return np.linalg.norm(error, 2, axis=(-2, -1)).max()


@pytest.mark.parametrize("criterion", [{"ratio": 0.7}, {"energy": 0.9}, {"error": 5.0}])
def test_each_layer_obeys_its_bound(model, criterion):
    small, report = compress(model, **criterion)
    pairs = zip(ssm_layers(model).values(), ssm_layers(small).values(), strict=True)
    for (before, after), bound in zip(pairs, report.error_bounds, strict=True):
        # Parameters are rounded to float32: 1e-6 of the layer's own size.
        size = np.abs(lti.frequency_response(before.to_lti(), FREQUENCIES)).max()
        assert largest_difference(before, after) <= bound + 1e-5 * size
        assert isinstance(after, RotationSSM)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.77, 0.9])
def test_ratio_counts_stored_states(model, ratio):
    small, report = compress(model, ratio=ratio)
    assert sum(report.orders) <= round((1 - ratio) * 48)
    assert report.orders == [layer.order for layer in ssm_layers(small).values()]
    assert min(report.orders) >= 1


def test_nothing_removed_changes_nothing(model):
    small, report = compress(model, ratio=0.0)
    x = torch.randn(5, 20, 1)
    torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)
    # Nothing but rounding.
    for entry in report.layers:
        assert entry.error_bound <= 1e-11 * entry.singular_values[0]


def test_error_criterion_is_met(model):
    _, report = compress(model, error=3.0)
    assert max(report.error_bounds) <= 3.0


def test_orders_are_taken_as_given(model):
    small, report = compress(model, orders=[3, 16, 1])
    assert report.orders == [3, 16, 1]
    assert small.blocks[0].ssm.B.shape == (3, 4)


def test_original_is_left_alone(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    compress(model, ratio=0.8)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])


def test_a_layer_alone_and_odd_orders():
    torch.manual_seed(0)
    layer = RotationSSM(3, 9)
    small, report = compress(layer, orders=[5])
    assert small.order == 5
    assert report.layers[0].name == ""
    assert largest_difference(layer, small) <= report.error_bounds[0] + 1e-4


def test_compressed_model_trains_on(model):
    small, _ = compress(model, ratio=0.8)
    small.train()
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-2)
    y = torch.arange(12) % 3
    x = y[:, None, None] + 0.1 * torch.randn(12, 10, 1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(small(x), y) + 1e-4 * hankel_sum(small)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_compressing_twice_goes_on_from_there(model):
    once, _ = compress(model, ratio=0.5)
    twice, report = compress(once, ratio=0.5)
    assert sum(report.orders) <= 12
    assert sum(p.numel() for p in twice.parameters()) == report.parameters_after


def test_mode_and_dtype_are_kept(model):
    small, _ = compress(model.double().train(), ratio=0.5)
    assert small.training
    assert {p.dtype for p in small.parameters()} == {torch.float64}


def test_layer_without_energy_becomes_one_silent_state(model):
    with torch.no_grad():
        model.blocks[1].ssm.B.zero_()
    with pytest.warns(lti.PrecisionWarning, match="only 0 Hankel singular values"):
        small, report = compress(model, ratio=0.5)
    assert report.orders[1] == 1
    assert report.error_bounds[1] == 0
    assert torch.isfinite(small(torch.randn(2, 5, 1))).all()


def test_report_prints_and_serialises(model):
    _, report = compress(model, ratio=0.5)
    text = str(report)
    assert "blocks.0.ssm" in text
    assert f"{report.parameters_before:,} → {report.parameters_after:,}" in text
    again = json.loads(json.dumps(report.to_dict()))
    assert again["orders"] == report.orders
    assert again["parameters_after"] == report.parameters_after < report.parameters_before
    sigma = np.array(again["layers"][0]["singular_values"])
    expected = 2 * sigma[report.orders[0] :].sum()
    assert report.error_bounds[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of"),
        ({"ratio": 0.5, "energy": 0.9}, "exactly one of"),
        ({"ratio": 1.0}, r"ratio must lie in \[0, 1\)"),
        ({"ratio": 0.97}, "a budget of 1 state"),
        ({"energy": 0.0}, r"energy must lie in \(0, 1\]"),
        ({"error": -1.0}, "error must be at least 0"),
        ({"orders": [1, 2]}, "orders has 2 entries, but the model has 3"),
        ({"orders": [1, 2, 17]}, "order is 17, but the system has only 16 states"),
        ({"orders": [1, 2, 0]}, "at least 1"),
        (
            {"ratio": 0.5, "method": "magic"},
            r"method='magic' is not one of \['balanced', 'balanced-complex', 'data', 'global'",
        ),
    ],
)
def test_bad_arguments(model, arguments, message):
    with pytest.raises(lti.ArgumentError, match=message):
        compress(model, **arguments)


def test_model_without_layers_is_refused():
    with pytest.raises(lti.ArgumentError, match="no state-space layer"):
        compress(torch.nn.Linear(2, 2), ratio=0.5)


def test_rounding_is_reported_and_small_at_ordinary_poles(model):
    _, report = compress(model, ratio=0.5)
    for layer, entry in zip(ssm_layers(model).values(), report.layers, strict=True):
        assert 0 < entry.rounding < 1e-5 * lti.hinf_norm(layer.to_lti())


def test_bounds_that_rounding_spoils_are_not_given_silently():
    """Two pairs whose angles are neighbours in float32, at 1 − ρ = 6e-6, are one pair between them
    but for 1e-5 of the response; its angle, rounded by 1e-8, costs 1e-3."""
    layer = RotationSSM(1, 4)
    with torch.no_grad():
        layer.radius_logit.fill_(12.0)
        layer.angle_logit.fill_(0.3)
        layer.angle_logit[1] = torch.nextafter(layer.angle_logit[0], torch.tensor(1.0))
        layer.B.copy_(torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
        layer.C.copy_(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    with pytest.warns(lti.PrecisionWarning) as caught:
        _, report = compress(layer, orders=[2])
    messages = [str(warning.message) for warning in caught]
    assert any(
        m.startswith("layer '': diagonalisation and rounding to torch.float32") for m in messages
    )
    assert report.layers[0].rounding > 100 * report.error_bounds[0]


def test_warnings_name_the_layer(model):
    with torch.no_grad():
        model.blocks[2].ssm.C.zero_()
    with pytest.warns(lti.PrecisionWarning, match=r"layer 'blocks\.2\.ssm': order 3 was asked"):
        compress(model, orders=[4, 4, 3])


# --- methods ----------------------------------------------------------------------------------

METHODS = {
    "balanced": {},
    "balanced-complex": {},
    "h2": {},
    "tlbt": {"horizon": 30},
    "tlh2": {"horizon": 30},
    "last": {},
    "global": {},
    "uniform": {},
}
#: Modes are chosen one by one, so their errors are larger.
MODAL = ("last", "global", "uniform")


@pytest.mark.parametrize("ratio", [0.5, 0.75])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_every_method_meets_the_budget_and_its_bound(model, method, ratio):
    small, report = compress(model, ratio=ratio, method=method, **METHODS[method])
    layers = list(ssm_layers(small).values())
    assert sum(report.orders) <= round((1 - ratio) * 48)
    assert min(report.orders) >= 1
    assert report.orders == [layer.order for layer in layers]
    assert report.method == method
    bounded = method in ("balanced", "balanced-complex", *MODAL)
    for before, after, bound in zip(
        ssm_layers(model).values(), layers, report.error_bounds, strict=True
    ):
        assert after.to_lti().spectral_radius < 1
        size = np.abs(lti.frequency_response(before.to_lti(), FREQUENCIES)).max()
        assert (bound is not None) == bounded
        if bounded:
            assert largest_difference(before, after) <= bound + 1e-5 * size
    json.dumps(report.to_dict())
    assert str(report)
    small(torch.randn(2, 9, 1)).sum().backward()


def h2_errors(model, small, horizon=None):
    pairs = zip(ssm_layers(model).values(), ssm_layers(small).values(), strict=True)
    return [lti.h2_error(x.to_lti(), y.to_lti(), horizon=horizon) for x, y in pairs]


def test_h2_is_better_in_h2(model):
    orders = [6, 6, 6]
    balanced, _ = compress(model, orders=orders)
    optimal, _ = compress(model, orders=orders, method="h2")
    for e, f in zip(h2_errors(model, balanced), h2_errors(model, optimal), strict=True):
        assert f <= e * (1 + 1e-6)


def test_all_states_of_all_methods(model):
    for method in ("balanced", "balanced-complex", "h2", *MODAL):
        small, _ = compress(model, ratio=0.0, method=method)
        x = torch.randn(5, 20, 1)
        torch.testing.assert_close(small(x), model(x), rtol=1e-3, atol=1e-4)


def test_uniform_orders_are_the_same_everywhere(model):
    _, report = compress(model, ratio=0.5, method="uniform")
    assert report.orders == [8, 8, 8]


def test_uniform_orders_keep_pairs_in_small_layers():
    model = torch.nn.ModuleList([*(RotationSSM(4, 2) for _ in range(3)), RotationSSM(4, 64)])
    _, report = compress(model, ratio=0.7, method="uniform")
    assert report.orders == [2, 2, 2, 14]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.5, "method": "tlbt"}, "need horizon="),
        ({"ratio": 0.5, "horizon": 9}, "need horizon="),
        ({"error": 0.1, "method": "h2"}, "error= has no meaning.*ratio= or energy= or orders="),
        ({"energy": 0.9, "method": "last"}, "energy= has no meaning"),
        ({"orders": [4, 4], "method": "last"}, "orders has 2 entries"),
    ],
)
def test_methods_refuse_what_they_cannot_mean(model, options, message):
    with pytest.raises(lti.ArgumentError, match=message):
        compress(model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.9}, r"a budget of 5 states \(of 48\) cannot give each of 3 layers its pair"),
        ({"ratio": 0.97}, r"a budget of 1 state \(of 48\)"),
        ({"ratio": 1.0}, "ratio must lie in"),
        ({"orders": [8, 18, 8]}, "order is 18, but the system has only 16 states"),
        ({"orders": [8, 3, 8]}, "two real states .* 3"),
    ],
)
def test_complex_method_counts_real_states(model, options, message):
    with pytest.raises(lti.ArgumentError, match=message):
        compress(model, method="balanced-complex", **options)


def test_complex_method_needs_pairs():
    layer = RotationSSM(3, 5)
    with pytest.raises(lti.ArgumentError, match="without real poles"):
        compress(layer, ratio=0.5, method="balanced-complex")


def test_complex_method_rounds_the_budget_down(model):
    """9 of 16 states are four complex ones."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(RotationSSM(2, 8, real_poles=0) for _ in range(2)))
    _, report = compress(layers, ratio=0.45, method="balanced-complex")
    assert sum(report.orders) == 8


def test_rounding_is_sought_at_the_slowest_poles():
    """A sharp pole between the evenly spread frequencies, among more poles than are looked at."""
    torch.manual_seed(0)
    layer = RotationSSM(2, 40, real_poles=0)
    with torch.no_grad():
        layer.radius_logit[0] = 9.0
        layer.angle_logit[0] = 0.13
    sys = layer.to_lti()
    small, report = compress(layer, orders=[38])
    reduced = lti.balanced_truncation(sys, order=38).system
    loaded = small.to_lti()
    omega = np.concatenate([np.angle(loaded.poles), FREQUENCIES])
    change = lti.frequency_response(loaded, omega) - lti.frequency_response(reduced, omega)
    largest = np.linalg.norm(change, 2, axis=(-2, -1)).max()
    # Differences of responses of about 1e3 times the change.
    assert report.layers[0].rounding == pytest.approx(largest, rel=1e-6)


def test_report_prints_the_share_of_parameters_removed():
    layer = LayerReport("", "S5", 8, 4, None, None, (), 40, 20)
    assert "m: 200 → 150 parameters (−25%)" in str(CompressionReport("m", (layer,), 200, 150))
