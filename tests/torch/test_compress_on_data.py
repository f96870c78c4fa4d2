"""compress on data: Gramians of inputs and cotangents, calibration in every form, predictions."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
from layer_kinds import ALL, LINEAR, TIME_INVARIANT, make
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import lticore as lti
from lticore.errors import ArgumentError, NonFiniteError, PrecisionWarning
from lticore_torch import (
    LRU,
    S4D,
    Bidirectional,
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
    ssm_layers,
)
from lticore_torch.compression.losses import Loss, _root_of_fisher
from lticore_torch.compression.measure import measure
from lticore_torch.compression.sensitivity import gramians_on_data
from lticore_torch.layers.batches import batches_of


def signals(batch=4, length=30, features=3, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, batch, length, features, dtype=torch.float64).unbind()


def weighted(w):
    """A linear loss, whose gradient with respect to the output is w."""
    return lambda output, batch: (output * w).sum(dim=(-2, -1))


def classifier(**changes):
    torch.manual_seed(0)
    config = {"inputs": 2, "classes": 3, "features": 4, "order": 8, "depth": 2, **changes}
    return SequenceClassifier(SequenceClassifierConfig(**config)).eval()


# --- Gramians ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*TIME_INVARIANT, "both ways"])
def test_gramians_are_those_of_inputs_and_gradients(kind):
    """A bare layer under a linear loss, in two batches: its input and the weights are the data."""
    u, w = signals()
    layer = Bidirectional(make("lru"), make("s5", seed=1)) if kind == "both ways" else make(kind)
    names = ssm_layers(layer)
    batches = batches_of([(u[:3], w[:3]), (u[3:], w[3:])])
    loss = Loss(lambda output, batch: (output * batch[1]).sum(dim=(1, 2)), 0)
    found, size = gramians_on_data(layer, names, batches, loss)
    products = (layer(u) * w).sum(dim=(1, 2))
    assert size == pytest.approx(products.square().mean().sqrt().item(), rel=1e-12)
    for name, one in names.items():
        pair = [x.flip(-2) if name == "back" else x for x in (u, w)]
        data = [one.signals_of_channels(x).contiguous().numpy() for x in pair]
        P, Q = lti.data_gramians(one.to_lti(), [tuple(data)], timing="current")
        np.testing.assert_allclose(found[name].P, P, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[name].Q, Q, rtol=1e-10, atol=1e-12)
        squares = np.linalg.eigvals(P @ Q).real
        if squares.ndim == 2:
            squares = np.sort(squares)[:, ::-1].sum(axis=0)
        else:
            squares = np.sort(squares)[::-1]
        top = squares[0]
        np.testing.assert_allclose(found[name].singular_values ** 2, squares, atol=1e-9 * top)


def test_directions_have_the_covariance_of_the_fisher_metric():
    """The mean of R s sᵀ Rᵀ over all 2⁴ signs s is diag p − p pᵀ exactly."""
    y = torch.tensor([[2.0, -1.0, 0.3, 0.0]], dtype=torch.float64)
    p = torch.softmax(y[0], dim=0)
    every = [_root_of_fisher(y, torch.tensor([s]))[0] for s in itertools.product((-1, 1), repeat=4)]
    mean = torch.stack([torch.outer(r, r) for r in every]).mean(dim=0)
    torch.testing.assert_close(mean, torch.diag(p) - torch.outer(p, p), rtol=1e-14, atol=1e-15)


def test_changes_along_random_directions_are_the_measure_to_first_order():
    """E (f(y + εd) − f(y))² = ε² dᵀ F d over directions, and 2 KL the same to leading order."""
    torch.manual_seed(0)
    y, d = torch.randn(2, 20000, 5, dtype=torch.float64).unbind()
    y, d = y[:1].expand(20000, 5), d[:1].expand(20000, 5)
    for kind, scale in (("cross-entropy", 1e-4), ("output", 1.0)):
        loss = Loss(kind, 3)
        f, z = loss.along(y, 0), y + scale * d
        mean = (f(z, None) - f(y, None)).square().mean()
        wanted = loss.squared_change(y, z, None)[0]
        # Products of independent signs: a share √(2/20000) of deviation at most, four of them.
        assert mean == pytest.approx(wanted.item(), rel=4 * (2 / 20000) ** 0.5)
        torch.testing.assert_close(f(z, None), Loss(kind, 3).along(y, 0)(z, None))
        assert not torch.equal(f(z, None), Loss(kind, 4).along(y, 0)(z, None))


# --- compression ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LINEAR)
def test_layers_are_truncated_by_the_gramians_of_data(kind):
    """Of one channel, the core's truncation of those Gramians, up to the layer's own form."""
    u, w = signals(features=1)
    options = {"s5 blocks": {"blocks": 1, "real_poles": 0}, "rotation real": {"real_poles": 4}}
    layer = make(kind, 1, 6, **options.get(kind, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        small, report = compress(layer, orders=[2], method="data", calibration=u, loss=weighted(w))
        sys = layer.to_lti()
        sys = sys[0] if sys.batch_shape else sys
        pair = lti.data_gramians(sys, [(u.numpy(), w.numpy())], timing="current")
        expected = lti.balanced_truncation(sys, order=2, gramians=pair).system
    held = small.to_lti()
    held = held[0] if held.batch_shape else held
    assert report.orders == [2]
    size = float(lti.hinf_norm(sys))
    # Poles of a reduced system that nearly meet move by √eps; responses by far less.
    omega = np.linspace(0, np.pi, 9)
    change = lti.frequency_response(held, omega) - lti.frequency_response(expected, omega)
    assert np.abs(change).max() < 1e-6 * size


@pytest.mark.parametrize("kind", [*ALL, "both ways"])
def test_every_kind(kind):
    u, _ = signals()
    layer = Bidirectional(make("lru"), make("s5", seed=1)) if kind == "both ways" else make(kind)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        whole, report = compress(layer, ratio=0.0, method="data", calibration=u)
        small, less = compress(layer, ratio=0.4, method="data", calibration=u)
    torch.testing.assert_close(whole(u), layer(u), rtol=1e-5, atol=1e-5)
    assert report.output_change < 1e-5
    assert sum(less.orders) <= round(0.6 * sum(entry.order_before for entry in less.layers))
    assert torch.isfinite(small(u)).all()
    for name, p in layer.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None


def test_one_threshold_over_all_layers():
    """What is dropped has smaller σ² than all that is kept, whatever the layer."""
    model = classifier(order=10, depth=3)
    x = torch.randn(16, 40, 2)
    _, report = compress(model, ratio=0.5, method="data", calibration=x)
    assert sum(report.orders) == 15
    kept = [layer.singular_values[: layer.order] for layer in report.layers]
    dropped = [layer.singular_values[layer.order :] for layer in report.layers]
    assert min(map(min, kept)) >= max(map(max, dropped))
    every = np.sort(np.concatenate([layer.singular_values for layer in report.layers]))[::-1] ** 2
    for energy in (0.5, 0.9, 0.999):
        _, by_energy = compress(model, energy=energy, method="data", calibration=x)
        needed = int(np.argmax(np.cumsum(every) >= energy * every.sum())) + 1
        assert sum(by_energy.orders) == max(needed, 3)


def test_what_nothing_drives_and_nothing_reads_is_removed_first():
    """Two systems beside each other, one under inputs of 1e-3: balanced truncation cannot know."""
    A = lti.Rotation(np.array([0.9, 0.9]), np.array([0.3, 1.5]))
    B = np.array([[1.0, 0], [0, 0], [0, 1.0], [0, 0]])
    layer = RotationSSM(2, 4).double()
    layer.load_lti(lti.LTI(A, B, np.array([[1.0, 0, 0, 0], [0, 0, 1.2, 0]]), np.zeros((2, 2))))
    u, _ = signals(features=2)
    u = u * torch.tensor([1.0, 1e-3], dtype=torch.float64)
    plain, _ = compress(layer, orders=[2], calibration=u)
    _, report = compress(layer, orders=[2], method="data", calibration=u)
    assert report.output_change < 2e-3
    assert (plain(u) - layer(u)).norm() > 0.5 * layer(u).norm()
    swapped = weighted(torch.tensor([1e-6, 1.0], dtype=torch.float64))
    other, _ = compress(layer, orders=[2], method="data", calibration=u, loss=swapped)
    assert (other(u) - layer(u))[..., 1].norm() < 0.01 * layer(u)[..., 1].norm()


# --- predictions ------------------------------------------------------------------------------


def test_the_prediction_is_exact_where_the_model_is_linear():
    u, w = signals()
    layer = make("rotation", 3, 8)
    small, report = compress(layer, ratio=0.5, method="data", calibration=u, loss=weighted(w))
    change = (weighted(w)(small(u), None) - weighted(w)(layer(u), None)).square().mean().sqrt()
    assert report.loss_change == pytest.approx(change.item(), rel=1e-10)
    assert report.predicted_loss_change == pytest.approx(change.item(), rel=1e-8)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_prediction_is_right_to_first_order(bidirectional):
    """All C of a copy moved by ε: prediction and change agree to a share of order ε."""
    model = classifier(bidirectional=bidirectional).double()
    x, _ = signals(batch=8, features=2)
    loss = Loss(
        lambda output, batch: functional.cross_entropy(
            output, torch.arange(8) % 3, reduction="none"
        ),
        0,
    )
    shares = []
    for epsilon in (1e-2, 1e-3):
        moved = classifier(bidirectional=bidirectional).double()
        torch.manual_seed(5)
        with torch.no_grad():
            for layer in ssm_layers(moved).values():
                layer.C += epsilon * torch.randn_like(layer.C)
        predicted = measure(
            model, moved, batches_of(x), loss, cut=ssm_layers(moved), certify=False
        ).predicted_loss_change
        measured = loss.squared_change(model(x), moved(x), next(iter(batches_of(x))))
        shares.append(abs(predicted / measured.mean().sqrt().item() - 1))
    assert shares[0] < 0.1
    assert shares[1] < 0.2 * shares[0]


def test_layers_that_return_their_state_are_the_same():
    class Returning(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, u):
            return self.layer(u, return_state=True)[0]

    u, w = signals()
    layer = make("rotation", 3, 8)
    options = {"ratio": 0.5, "method": "data", "calibration": u, "loss": weighted(w)}
    small, report = compress(layer, **options, refit=True)
    other, again = compress(Returning(layer), **options, refit=True)
    assert again.predicted_loss_change == pytest.approx(report.predicted_loss_change, rel=1e-12)
    torch.testing.assert_close(other(u), small(u))


def test_cuts_that_first_order_cannot_see_are_reported():
    """At its minimum a square has no slope: with 1e-9 of one, the prediction is far too small."""
    u, _ = signals()
    layer = make("rotation", 3, 8)
    target = layer(u).detach()

    def loss(output, batch):
        return (output - target).square().sum(dim=(1, 2)) + 1e-9 * output.sum(dim=(1, 2))

    with pytest.warns(PrecisionWarning, match="was predicted to first order"):
        _, report = compress(layer, ratio=0.5, method="data", calibration=u, loss=loss)
    assert report.loss_change > 100 * report.predicted_loss_change
    assert "to first order" in str(report)


def test_nothing_removed_changes_nothing_worth_a_warning():
    """What is left of the loss's change is rounding, of which nothing was predicted."""
    model = classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        _, report = compress(model, ratio=0.0, method="data", calibration=torch.randn(64, 30, 2))
    assert report.loss_change < 1e-5


def test_short_calibration_names_the_rank():
    """One sequence of two steps has states in two directions."""
    layer = make("rotation", 3, 8)
    u = torch.randn(1, 2, 3, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, report = compress(layer, orders=[6], method="data", calibration=u)
    lowered = [str(x.message) for x in caught if "order 6 was asked for" in str(x.message)]
    assert len(lowered) == 1
    assert "only 2 directions" in lowered[0]
    assert report.orders == [2]


# --- calibration ------------------------------------------------------------------------------


class Named(nn.Module):
    """Keyword inputs, and outputs in a dict."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *, sequences, lengths=None):
        return {"hidden": self.model(sequences, lengths)}


@pytest.mark.parametrize(
    "form",
    [
        "tuple",
        "list",
        "generator",
        "pairs",
        "loader",
        "pairs of lists",
        "dict",
        "dicts",
        "dicts and labels",
        "singles",
    ],
)
def test_calibration_in_every_form(form):
    """The same batches give the same model."""
    x, labels = torch.randn(12, 20, 2), torch.arange(12) % 3
    model = classifier()
    parts = list(zip(x.split(4), labels.split(4), strict=True))
    data, one = {
        "tuple": ((x,), True),
        "list": ([a for a, _ in parts], False),
        "generator": ((a for a, _ in parts), False),
        "pairs": (parts, False),
        "loader": (DataLoader(TensorDataset(x, labels), batch_size=4), False),
        "pairs of lists": ([[[a], b] for a, b in parts], False),
        "dict": ({"sequences": x}, True),
        "dicts": ([{"sequences": a} for a, _ in parts], False),
        "dicts and labels": ([({"sequences": a}, b) for a, b in parts], False),
        "singles": ([(a,) for a, _ in parts], False),
    }[form]
    expected, _ = compress(
        model, ratio=0.5, method="data", calibration=x if one else [a for a, _ in parts], refit=True
    )
    user = Named(model) if "dict" in form else model
    options = {"loss": "cross-entropy"} if "dict" in form else {}
    small, report = compress(
        user, ratio=0.5, method="data", calibration=data, refit=True, fine_tune_steps=0, **options
    )
    small = small.model if "dict" in form else small
    assert report.loss_change > 0
    for p, q in zip(small.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_integer_labels_say_that_outputs_are_logits():
    class Wrapped(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x)

    model = classifier()
    x, labels = torch.randn(8, 20, 2), torch.arange(8) % 3
    expected, _ = compress(model, ratio=0.5, method="data", calibration=[x])
    small, _ = compress(Wrapped(model), ratio=0.5, method="data", calibration=[(x, labels)])
    for p, q in zip(small.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    other, _ = compress(Wrapped(model), ratio=0.5, method="data", calibration=[x])
    assert not torch.equal(other.inner.blocks[0].ssm.C, small.inner.blocks[0].ssm.C)


def test_the_model_and_the_random_state_stay_as_they_were():
    model = classifier().train()
    model.blocks[1].eval()
    model.encoder.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    loader = DataLoader(TensorDataset(torch.randn(12, 20, 2)), batch_size=4, shuffle=True)
    state = torch.get_rng_state()
    small, _ = compress(
        model, ratio=0.5, method="data", calibration=loader, refit=True, fine_tune_steps=3
    )
    assert torch.equal(torch.get_rng_state(), state)
    for module in (model, small):
        assert [m.training for m in module.modules()] == modes
        assert [p.requires_grad for p in module.parameters()] == wanted
        assert all(p.grad is None for p in module.parameters())
        assert not any(m._forward_hooks for m in module.modules())


def test_frozen_models_and_callers_without_gradients():
    model = classifier().requires_grad_(False)
    with torch.no_grad():
        small, _ = compress(model, ratio=0.5, method="data", calibration=torch.randn(8, 20, 2))
    assert sum(layer.order for layer in ssm_layers(small).values()) == 8


# --- refitting and fine-tuning ----------------------------------------------------------------


def test_refitting_goes_layer_by_layer():
    """The second layer is fitted to its original's outputs, under the inputs that the reduced
    first one leaves it: by least squares on those, each output on the states and its own input."""
    model = classifier(norm="layer").double()
    x, _ = signals(batch=3, features=2)  # too few sequences to hold any out
    small, _ = compress(model, ratio=0.5, calibration=x, refit=True)
    seen = {}
    for name, m in (("full", model), ("small", small)):
        m.blocks[1].ssm.register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: (args[0], output)})
        )
        m(x)
    layer = small.blocks[1].ssm
    (u, _), (_, y) = seen["small"], seen["full"]
    sys = layer.to_lti()
    states = lti.LTI(sys.A, sys.B, np.eye(sys.order))
    X = lti.simulate(states, u.detach().numpy(), timing="current").reshape(-1, sys.order)
    u, y = (x.detach().numpy().reshape(-1, 4) for x in (u, y))
    for i, (c, d) in enumerate(zip(sys.C, layer.D.tolist(), strict=True)):
        expected = np.linalg.lstsq(np.column_stack([X, u[:, i]]), y[:, i])[0]
        np.testing.assert_allclose([*c, d], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


class Mean(nn.Module):
    """The mean over time of what a layer answers."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, u):
        return self.layer(u).mean(dim=-2)


def test_a_fit_that_the_loss_likes_less_is_given_up():
    """Least squares go where the signal is, in a fast oscillation that the mean does not notice."""
    torch.manual_seed(3)
    model = Mean(make("rotation", 2, 12))
    fast = (-1.0) ** torch.arange(60.0, dtype=torch.float64)[:, None]
    u = 20 * torch.randn(16, 1, 2).double() * fast + torch.randn(16, 1, 2).double()
    plain, before = compress(model, ratio=0.8, method="data", calibration=u)
    fitted, after = compress(model, ratio=0.8, method="data", calibration=u, refit=True)
    assert after.loss_change == before.loss_change
    for p, q in zip(plain.parameters(), fitted.parameters(), strict=True):
        assert torch.equal(p, q)
    # The fit itself is closer step by step, and farther in the mean.
    layer, target = plain.layer, model.layer(u).detach()
    sys = lti.refit_outputs(
        layer.to_lti(), [(u.numpy(), target.numpy())], feedthrough="diagonal", timing="current"
    ).system
    answers = [lti.simulate(x, u.numpy(), timing="current") for x in (layer.to_lti(), sys)]
    errors = [y - target.numpy() for y in answers]
    assert np.linalg.norm(errors[1]) < np.linalg.norm(errors[0])
    assert np.linalg.norm(errors[1].mean(axis=1)) > np.linalg.norm(errors[0].mean(axis=1))


@pytest.mark.parametrize("count", [3, 12, 64])
def test_fine_tuning_never_loses_on_what_is_held_out(count):
    """KL on every fourth batch, or sequence of fewer batches."""
    model = classifier()
    x = torch.randn(count, 20, 2)
    data = [x] if count < 64 else list(x.split(8))
    plain, _ = compress(model, ratio=0.6, method="data", calibration=data)
    tuned, report = compress(
        model, ratio=0.6, method="data", calibration=data, fine_tune_steps=25, learning_rate=3e-3
    )
    if count < 64:
        rows = torch.arange(count) % 4 == 3
        rows = rows if rows.any() else ~rows
        held = x[rows]
    else:
        held = torch.cat([data[3], data[7]])
    divergences = [
        functional.kl_div(
            m(held).log_softmax(-1),
            model(held).log_softmax(-1),
            log_target=True,
            reduction="batchmean",
        ).item()
        for m in (plain, tuned)
    ]
    assert divergences[1] < divergences[0]
    assert set(report.error_bounds) == {None}


# --- bad input --------------------------------------------------------------------------------


class Inside(nn.Module):
    """Two layers, with something between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = RotationSSM(2, 4), RotationSSM(2, 4), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


def without_gradients(model):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @torch.no_grad()
        def forward(self, x):
            return self.model(x)

    return Wrapped()


X = torch.randn(4, 10, 2)


@pytest.mark.parametrize(
    ("model", "calibration", "options", "error", "message"),
    [
        (RotationSSM(2, 4), [], {}, ArgumentError, "calibration holds no batches"),
        (RotationSSM(2, 4), None, {}, ArgumentError, "need calibration="),
        (RotationSSM(2, 4), [X, X * np.nan], {}, NonFiniteError, "argument 0 of batch 1"),
        (RotationSSM(2, 4), [(X, X, X)], {}, ArgumentError, "batch 0 .* has 3 parts"),
        (RotationSSM(2, 4), [3], {}, ArgumentError, "batch 0 .* is a int"),
        (RotationSSM(2, 4), 3, {}, ArgumentError, "is a int: give one batch"),
        (RotationSSM(2, 4), "text", {}, ArgumentError, "is a str: give one batch"),
        (RotationSSM(2, 4), X, {"loss": "mse"}, ArgumentError, "loss='mse' is neither"),
        (RotationSSM(2, 4), X, {"seed": -1}, ArgumentError, "seed must be"),
        (RotationSSM(2, 4), X, {"error": 0.1, "ratio": None}, ArgumentError, "error= has no"),
        (RotationSSM(2, 4), X, {"loss": lambda y, b: 1.0}, ArgumentError, "must return a tensor"),
        (RotationSSM(2, 4), X, {"loss": lambda y, b: y}, ArgumentError, r"\(4, 10, 2\)"),
        (
            RotationSSM(2, 4),
            X,
            {"loss": lambda y, b: y.sum() * np.inf},
            NonFiniteError,
            "loss returned NaN",
        ),
        (
            RotationSSM(2, 4),
            X,
            {"loss": lambda y, b: 0 * y.sum()},
            ArgumentError,
            "does not change with its output",
        ),
        (
            Inside(lambda x: x.detach()),
            X,
            {},
            ArgumentError,
            "layer 'first': the loss does not depend on its output",
        ),
        (without_gradients(Inside(torch.tanh)), X, {}, ArgumentError, "torch.no_grad"),
    ],
)
def test_bad_input(model, calibration, options, error, message):
    options = {"ratio": 0.5, "method": "data", **options}
    with pytest.raises(error, match=message):
        compress(model, calibration=calibration, **options)


@pytest.mark.parametrize("ran", [False, True], ids=["new", "has run"])
def test_compiled_models_are_compressed_as_they_are_written(ran):
    """Compiled code knows nothing of hooks; the result is compiled too."""
    model = classifier()
    x = torch.randn(8, 20, 2)
    expected, report = compress(model, ratio=0.5, method="data", calibration=x, refit=True)
    for compiled in (torch.compile(model, backend="eager"), copy.deepcopy(model)):
        if compiled is not model and not hasattr(compiled, "_orig_mod"):
            compiled.compile(backend="eager")
        before = compiled(x) if ran else None
        small, again = compress(compiled, ratio=0.5, method="data", calibration=x, refit=True)
        assert again.orders == report.orders
        assert again.loss_change == pytest.approx(report.loss_change, rel=1e-4)
        torch.testing.assert_close(small(x), expected(x), rtol=1e-5, atol=1e-6)
        if ran:
            torch.testing.assert_close(compiled(x), before, rtol=1e-5, atol=1e-6)


def test_a_forward_that_a_copy_would_share_is_refused():
    model = classifier()
    model.forward = torch.compile(model.forward, backend="eager")
    with pytest.raises(ArgumentError, match=r"SequenceClassifier was replaced .* module.compile"):
        compress(model, ratio=0.5)


def test_data_parallel_models_count_as_what_they_wrap():
    model, x = classifier(norm="layer"), torch.randn(8, 20, 2)
    _, plain = compress(model, ratio=0.5, method="data", calibration=x)
    small, report = compress(nn.DataParallel(model), ratio=0.5, method="data", calibration=x)
    assert isinstance(small, nn.DataParallel)
    assert report.orders == plain.orders
    assert report.output_bound == pytest.approx(plain.output_bound)
    assert report.loss_change == pytest.approx(plain.loss_change)


def test_exported_models_are_refused():
    model = classifier().eval()
    exported = torch.export.export(model, (torch.randn(4, 20, 2),)).module()
    with pytest.raises(ArgumentError, match="contains no state-space layer"):
        compress(exported, ratio=0.5, method="data", calibration=X)


class Theirs(nn.Module):
    """A user's own model: modules by other names, keyword arguments, layers called twice, an output
    among others."""

    def __init__(self):
        super().__init__()
        self.take = nn.Linear(3, 4)
        self.mixers = nn.ModuleList([LRU(4, 8), S4D(4, 4)])
        self.norm = nn.LayerNorm(4)
        self.give = nn.Linear(4, 5)

    def forward(self, *, tokens, scale=1.0):
        h = self.take(tokens) * scale
        for mixer in self.mixers:
            h = self.norm(h + torch.tanh(mixer(h)))
        h = h + self.mixers[0](h)  # shared
        return {"hidden": h.mean(dim=1), "scores": self.give(h[:, -1])}


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_models_of_other_people():
    """Predicted and measured change agree while few states go, whatever the model is made of."""
    torch.manual_seed(1)
    model = Theirs()
    loader = [{"tokens": torch.randn(8, 60, 3), "scale": 0.5} for _ in range(4)]

    def loss(output, batch):
        return output["scores"].square().sum(dim=-1)

    small, report = compress(
        model,
        orders=[6, 2],
        method="data",
        calibration=loader,
        loss=loss,
        refit=True,
        fine_tune_steps=3,
    )
    assert report.orders == [6, 2]
    assert set(small(**loader[0])) == {"hidden", "scores"}
    _, plain = compress(model, orders=[7, 3], method="data", calibration=loader, loss=loss)
    assert 0.5 < plain.predicted_loss_change / plain.loss_change < 2


def test_outputs_without_a_tensor():
    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = RotationSSM(2, 4)

        def forward(self, x):
            self.layer(x)
            return "done"

    with pytest.raises(ArgumentError, match="returns a str without a tensor"):
        compress(Says(), ratio=0.5, calibration=X)
