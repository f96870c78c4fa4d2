"""Reduction during training: orders, optimizer, checkpoints, rollback, processes."""

import copy
import math
import os

import numpy as np
import pytest
import torch
from gloo import join
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cross_entropy

import lticore
from lticore.errors import ArgumentError
from lticore_torch import (
    LRU,
    S4D,
    S5,
    InTrainingCompressor,
    QuadraticSSM,
    ReductionEvent,
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    output_error_bound,
    ssm_layers,
)
from lticore_torch.compression.moments import change_of_layer, transferred
from lticore_torch.layers.base import channels

KINDS = ("rotation", "lru", "s5", "s4d", "quadratic")


def make_model(kind="lru", order=16, seed=0, **options):
    torch.manual_seed(seed)
    config = SequenceClassifierConfig(1, 3, features=6, order=order, depth=2, layer=kind, **options)
    return SequenceClassifier(config)


def batch(generator):
    labels = torch.randint(3, (16,), generator=generator)
    phase = (0.3 + 0.3 * labels[:, None]) * torch.arange(30)
    noise = 0.3 * torch.randn(16, 30, generator=generator)
    return (torch.sin(phase) + noise)[..., None], labels


def train(model, optimizer, steps, compressor=None, generator=None, schedule=None):
    generator = generator or torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        x, y = batch(generator)
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if compressor is not None:
            compressor.step()
        losses.append(loss.item())
    return losses


def orders(model):
    return [layer.order for layer in ssm_layers(model).values()]


def parameters_of(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


# --- choosing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tolerance_is_the_share_of_energy_given_up(kind):
    model = make_model(kind)
    optimizer = torch.optim.Adam(model.parameters())
    layers = {name: copy.deepcopy(x) for name, x in ssm_layers(model).items()}
    event = InTrainingCompressor(model, optimizer, tolerance=0.1, steps=[1]).step()
    assert isinstance(event, ReductionEvent)
    assert event.step == 1
    for name, layer in layers.items():
        sigma = np.sum(
            [
                lticore.balanced_truncation(x, order=1).singular_values
                for x in channels(layer.to_lti())
            ],
            axis=0,
        )
        order = event.orders[name]
        assert event.orders_before[name] == 16
        assert sigma[:order].sum() >= 0.9 * sigma.sum() * (1 - 1e-12)
        assert sigma[: order - 1].sum() < 0.9 * sigma.sum()
        assert event.energies[name] == pytest.approx(sigma[:order].sum() / sigma.sum())
        assert ssm_layers(model)[name].order == order


def test_acts_at_its_steps_only_and_where_it_pays():
    model = make_model()
    compressor = InTrainingCompressor(
        model, torch.optim.Adam(model.parameters()), fraction=0.25, steps=[3, 5]
    )
    happened = [compressor.step() is not None for _ in range(6)]
    assert happened == [False, False, True, False, True, False]
    assert orders(model) == [9, 9]
    assert [event.step for event in compressor.events] == [3, 5]
    # 4 % are not worth it.
    compressor = InTrainingCompressor(
        model, torch.optim.Adam(model.parameters()), fraction=0.04, steps=[1]
    )
    assert compressor.step() is None
    assert orders(model) == [9, 9]


def test_selections_differ_in_energy_and_stay_stable():
    energies = {}
    for selection in ("largest", "smallest", "random"):
        model = make_model()
        optimizer = torch.optim.Adam(model.parameters())
        compressor = InTrainingCompressor(
            model, optimizer, fraction=0.5, steps=[1], selection=selection, seed=3
        )
        event = compressor.step()
        assert orders(model) == [8, 8]
        for layer in ssm_layers(model).values():
            assert layer.to_lti().spectral_radius < 1
        energies[selection] = list(event.energies.values())
    largest, smallest, random = (np.array(x) for x in energies.values())
    assert np.allclose(largest + smallest, 1)
    assert np.all((smallest < random) & (random < largest))


@pytest.mark.parametrize("kind", ["rotation", "lru", "s5", "s4d"])
def test_random_modes_are_modes_that_the_layer_had(kind):
    model = make_model(kind)
    optimizer = torch.optim.Adam(model.parameters())
    before = {name: channels(layer.to_lti()) for name, layer in ssm_layers(model).items()}
    event = InTrainingCompressor(
        model, optimizer, fraction=0.5, steps=[1], selection="random-modes", seed=3
    ).step()
    assert set(orders(model)) == {8}
    for name, layer in ssm_layers(model).items():
        for old, new in zip(before[name], channels(layer.to_lti()), strict=True):
            # Poles and residues c_i b_iᵀ are those of modes before, no mode twice.
            poles, residues = modal_form(old)
            kept_poles, kept_residues = modal_form(new)
            size = np.abs(residues).max()
            far = np.abs(kept_poles[:, None] - poles)
            far = far + np.abs(kept_residues[:, None] - residues).max(axis=(2, 3)) / size
            assert far[linear_sum_assignment(far)].max() < 1e-5
        assert 0 < event.energies[name] < 1.5


def modal_form(sys):
    """(poles, residues) of a system in its modes."""
    diagonal = lticore.diagonalize(sys)
    b, c = np.asarray(diagonal.B), np.asarray(diagonal.C).T
    return np.asarray(diagonal.A.poles), c[:, :, None] * b[:, None, :]


def test_random_modes_know_linear_outputs_only():
    model = make_model("quadratic")
    with pytest.raises(ArgumentError, match="quadratic"):
        InTrainingCompressor(
            model,
            torch.optim.Adam(model.parameters()),
            fraction=0.5,
            steps=[1],
            selection="random-modes",
        )


@pytest.mark.parametrize("selection", ["random", "random-modes"])
def test_random_selection_is_the_same_for_the_same_seed(selection):
    energies = []
    for _ in range(2):
        model = make_model()
        compressor = InTrainingCompressor(
            model,
            torch.optim.Adam(model.parameters()),
            fraction=0.5,
            steps=[1],
            selection=selection,
            seed=7,
        )
        energies.append(compressor.step().energies)
    assert energies[0] == energies[1]


@pytest.mark.parametrize("kind", ["rotation", "lru", "s5", "s4d"])
def test_loss_is_continuous_within_the_certificate(kind):
    model = make_model(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train(model, optimizer, 10)
    x, y = batch(torch.Generator().manual_seed(5))
    before = copy.deepcopy(model).eval()
    event = InTrainingCompressor(model, optimizer, tolerance=0.1, steps=[1]).step()
    after = copy.deepcopy(model).eval()
    assert sum(event.orders.values()) < 32
    with torch.no_grad():
        jump = abs(cross_entropy(after(x), y) - cross_entropy(before(x), y)).item()
    # The gradient of the cross entropy in the logits has norm at most √2.
    assert jump <= math.sqrt(2) * output_error_bound(before, after, x).max()
    assert jump <= 0.05


# --- optimizer --------------------------------------------------------------------------------


def adamw(groups):
    return torch.optim.AdamW(groups, lr=1e-3, amsgrad=True)


def sgd(groups):
    return torch.optim.SGD(groups, lr=1e-2, momentum=0.9)


def rmsprop(groups):
    return torch.optim.RMSprop(groups, lr=1e-3, centered=True, momentum=0.5)


@pytest.mark.parametrize(
    ("kind", "make", "moments"),
    [(kind, adamw, "transform") for kind in KINDS]
    + [("rotation", make, "transform") for make in (sgd, rmsprop)]
    + [(kind, adamw, "reset") for kind in ("lru", "s4d")],
)
def test_optimizers_go_on(kind, make, moments):
    model = make_model(kind)
    system = [p for x in ssm_layers(model).values() for p in x.system_parameters()]
    rest = [p for p in model.parameters() if id(p) not in {id(q) for q in system}]
    optimizer = make([{"params": rest}, {"params": system, "weight_decay": 0.0, "lr": 1e-4}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.4, steps=[4], moments=moments)
    train(model, optimizer, 4, compressor, schedule=schedule)
    assert orders(model) == [10, 10]
    assert parameters_of(optimizer) == {id(p) for p in model.parameters()}
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(rest), len(system)]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-4 * 0.9**4)
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if key == "step":
                assert int(value) == 4
            elif isinstance(value, torch.Tensor) and value.ndim:
                assert value.shape == p.shape
                assert value.isfinite().all()
                if key.endswith("sq") or key == "square_avg":
                    assert (value >= 0).all()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = train(model, optimizer, 3, compressor, schedule=schedule)
    assert all(map(math.isfinite, losses))
    for name, p in model.named_parameters():
        if name.endswith((".C", ".weight")):
            assert not torch.equal(before[name], p)


def test_gradient_scaler_and_frozen_parameters_go_on():
    model = make_model()
    for layer in ssm_layers(model).values():
        layer.theta_log.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.4, steps=[2])
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        x, y = batch(generator)
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        compressor.step()
    assert orders(model) == [10, 10]
    frozen = {id(x.theta_log) for x in ssm_layers(model).values()}
    assert not parameters_of(optimizer) & frozen
    assert all(not x.theta_log.requires_grad for x in ssm_layers(model).values())


# --- moments ----------------------------------------------------------------------------------


def gradients(layer, u, weights):
    layer.zero_grad()
    (layer(u) * weights).sum().backward()
    return {name: p.grad.numpy().copy() for name, p in layer.named_parameters()}


@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (lambda: RotationSSM(3, 8), ("B", "C", "D", "radius_logit", "angle_logit")),
        (lambda: RotationSSM(3, 7, real_poles=3), ("B", "C", "D", "radius_logit", "real_atanh")),
        (lambda: LRU(3, 8), ("B", "C", "D", "nu_log", "theta_log")),
        (lambda: S5(3, 8), ("B", "C", "D")),
        (lambda: QuadraticSSM(3, 8), ("B", "C", "D", "V", "s", "radius_logit")),
        (lambda: S4D(3, 6, start="inv"), ("C", "D")),
    ],
    ids=["rotation", "real poles", "lru", "s5", "quadratic", "s4d"],
)
def test_first_moments_follow_a_change_of_coordinates_exactly(make, exact):
    """Gradients of the same map in other coordinates are what the old ones are carried over to."""
    torch.manual_seed(1)
    old = make().double()
    new = copy.deepcopy(old)
    full = [lticore.balanced_truncation(x, order=x.order) for x in channels(old.to_lti())]
    if isinstance(old, S4D):
        new.load_channels([x.system for x in full])
    else:
        new.load_lti(full[0].system)
    u, weights = torch.randn(4, 50, 3, dtype=torch.float64), torch.randn(4, 50, 3).double()
    before, after = gradients(old, u, weights), gradients(new, u, weights)
    moved = transferred(change_of_layer(old, new), before, 1)
    assert set(moved) == set(before)
    for name in exact:
        scale = np.abs(after[name]).max()
        assert np.abs(moved[name] - after[name]).max() <= 1e-5 * scale, name


def test_first_moments_pass_by_states_that_fill_channels_up():
    """A channel of one pair and one real pole next to one of two pairs and one real pole."""
    rng = np.random.default_rng(0)
    systems = [
        lticore.LTI(
            A, rng.normal(size=(A.order, 1)), rng.normal(size=(1, A.order)), np.ones((1, 1))
        )
        for A in (
            lticore.Rotation([0.9, 0.7], [0.3, 1.5], [0.5]),
            lticore.Rotation([0.8], [2.0], [-0.6]),
        )
    ]
    old, new = (S4D(2, 5).double() for _ in range(2))
    old.load_channels(systems)
    new.load_channels([lticore.balanced_truncation(x, order=x.order).system for x in systems])
    u, weights = torch.randn(4, 50, 2, dtype=torch.float64), torch.randn(4, 50, 2).double()
    before, after = gradients(old, u, weights), gradients(new, u, weights)
    moved = transferred(change_of_layer(old, new), before, 1)
    for name in ("C", "real_C"):
        scale = np.abs(after[name]).max()
        assert np.abs(moved[name] - after[name]).max() <= 1e-5 * scale, name


def halved(kind, seed):
    """A layer of 12 states and itself reduced to 6."""
    torch.manual_seed(seed)
    old = kind(3, 12).double()
    new = copy.deepcopy(old)
    new.load_lti(lticore.balanced_truncation(old.to_lti(), order=6).system)
    return old, new


def cotangent_of_parameter(layer, g):
    """What the gradient of s B, the inputs of the layer's system, gives the parameter B."""
    return torch.autograd.grad(layer._inputs(), layer.B, torch.tensor(g))[0].numpy()


@pytest.mark.parametrize("kind", [LRU, S5])
def test_first_moments_of_B_pass_through_the_scales(kind):
    """Also where states are lost, and with them the phases of the scales change."""
    old, new = halved(kind, seed=2)
    change = change_of_layer(old, new)
    T_B, _ = change.states[0]
    g = np.random.default_rng(0).normal(size=(12, 3))
    moved = transferred(change, {"B": cotangent_of_parameter(old, g)}, 1)["B"]
    expected = cotangent_of_parameter(new, T_B @ g)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_second_moments_of_B_are_those_of_a_scaled_parameter():
    """The same poles with γ and 1/γ of B moved by e^δ: gradients of B grow by e^δ, their squares
    by e^{2δ}. Both parts of a pair get the mean, as if their phase were not known."""
    torch.manual_seed(0)
    old = LRU(3, 7).double()
    new = copy.deepcopy(old)
    delta = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64)
    with torch.no_grad():
        new.gamma_log += delta
        new.B[:6] *= torch.exp(-delta).repeat_interleave(2)[:, None]
    squares = np.random.default_rng(0).uniform(1, 2, size=(7, 3))
    moved = transferred(change_of_layer(old, new), {"B": squares}, 2)["B"]
    means = squares[:6].reshape(3, 2, 3).mean(axis=1) * np.exp(2 * delta.numpy())[:, None]
    np.testing.assert_allclose(moved[:6], np.repeat(means, 2, axis=0), rtol=1e-6)
    np.testing.assert_allclose(moved[6:], squares[6:], rtol=1e-6)


def test_modes_are_averaged_by_participation_factors():
    """w_ij ∝ |tr (T_B)_ji (T_C)_ij|, one block after another; some traces are negative."""
    old, new = halved(LRU, seed=3)
    change = change_of_layer(old, new)
    T_B, T_C = change.states[0]
    pairs = len(new.gamma_log)

    def blocks(count):
        return [slice(2 * i, 2 * i + 2) for i in range(count)]

    traces = np.array(
        [
            [np.trace(T_B[rows, columns] @ T_C[columns, rows]) for columns in blocks(6)]
            for rows in blocks(pairs)
        ]
    )
    assert pairs >= 2
    assert traces.min() < 0
    traces = np.abs(traces)
    expected = traces / traces.sum(axis=1, keepdims=True)
    (weights,) = change.modes["gamma_log"]
    # Traces of products of 2 × 2 blocks, summed here in another way.
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)


def test_second_moments_stay_positive_and_of_the_size_of_squares():
    torch.manual_seed(1)
    old = LRU(4, 12).double()
    new = copy.deepcopy(old)
    new.load_lti(lticore.balanced_truncation(old.to_lti(), order=7).system)
    u, weights = torch.randn(8, 60, 4, dtype=torch.float64), torch.randn(64, 8, 60, 4).double()
    before = [gradients(old, u, w) for w in weights]
    after = [gradients(new, u, w) for w in weights]
    squares = {name: np.mean([g[name] ** 2 for g in before], axis=0) for name in before[0]}
    moved = transferred(change_of_layer(old, new), squares, 2)
    for name in ("B", "C"):
        true = np.mean([g[name] ** 2 for g in after], axis=0)
        assert (moved[name] >= 0).all()
        # Uncorrelated entries are assumed: right in size, not in detail.
        assert 0.2 < moved[name].mean() / true.mean() < 5


def test_transformed_moments_point_where_the_gradient_points():
    """After a real truncation the carried-over average still is close to the new gradient."""
    torch.manual_seed(2)
    old = LRU(6, 24).double()
    new = copy.deepcopy(old)
    new.load_lti(lticore.balanced_truncation(old.to_lti(), energy=0.99).system)
    assert new.order < 24
    u, weights = torch.randn(8, 80, 6, dtype=torch.float64), torch.randn(8, 80, 6).double()
    moved = transferred(change_of_layer(old, new), gradients(old, u, weights), 1)
    after = gradients(new, u, weights)
    for name in ("B", "C"):
        a, b = moved[name].ravel(), after[name].ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9


# --- on data ----------------------------------------------------------------------------------


def passes(model, steps):
    """Inputs and gradients of outputs of each layer while a model trains; its Gramians by them."""
    seen = {name: [] for name in ssm_layers(model)}

    def hook(name):
        def record(module, args, kwargs, output):
            back = (-2,) if kwargs.get("reverse") else ()
            u = args[0].detach().double().flip(back).numpy()
            output.register_hook(lambda g: seen[name].append((u, g.double().flip(back).numpy())))

        return record

    for name, layer in ssm_layers(model).items():
        layer.register_forward_hook(hook(name), with_kwargs=True)
    train(model, torch.optim.SGD(model.parameters(), lr=0.0), steps)
    return seen


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["one way", "both ways"])
def test_data_are_those_of_the_sixteen_training_steps_before(options):
    """Layers that stand still: orders by one threshold on σ² of their Gramians, and truncation by
    these, both from inputs and gradients recorded apart."""
    model = make_model("rotation", **options)
    recorded = passes(copy.deepcopy(model), 20)
    systems = {name: layer.to_lti() for name, layer in ssm_layers(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.5, steps=[20], criterion="data")
    assert not any(layer._forward_hooks for layer in ssm_layers(model).values())
    train(model, optimizer, 20, compressor)
    assert not any(layer._forward_hooks for layer in ssm_layers(model).values())
    gramians = {
        name: lticore.data_gramians(systems[name], found[4:], timing="current")
        for name, found in recorded.items()
    }
    squares = {}
    for name, (P, Q) in gramians.items():
        whole = lticore.balanced_truncation(systems[name], order=1, gramians=(P, Q))
        squares[name] = whole.singular_values**2
    kept = sorted(np.concatenate(list(squares.values())))[-sum(orders(model)) :]
    assert sum(orders(model)) == sum(sys.order for sys in systems.values()) // 2
    frequencies = np.linspace(0, np.pi, 50)
    for name, layer in ssm_layers(model).items():
        assert layer.order == sum(squares[name] >= kept[0])
        truncated = lticore.balanced_truncation(
            systems[name], order=layer.order, gramians=gramians[name]
        ).system
        G, H = (lticore.frequency_response(x, frequencies) for x in (truncated, layer.to_lti()))
        assert np.abs(G - H).max() < 1e-4 * np.abs(G).max()  # parameters are in float32
        event = compressor.events[0]
        share = squares[name][: layer.order].sum() / squares[name].sum()
        assert event.energies[name] == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shrinks_on_data_and_trains_on(kind):
    model = make_model(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    compressor = InTrainingCompressor(
        model, optimizer, tolerance=0.05, steps=[3, 6], criterion="data"
    )
    losses = train(model, optimizer, 9, compressor)
    assert np.isfinite(losses).all()
    assert 2 <= sum(orders(model)) < 32
    assert parameters_of(optimizer) == {id(p) for p in model.parameters()}
    for event in compressor.events:
        assert all(0 < share <= 1 for share in event.energies.values())


def test_tolerance_on_data_is_of_all_layers_together():
    model = make_model("rotation")
    recorded = passes(copy.deepcopy(model), 3)
    squares = [
        lticore.balanced_truncation(
            layer.to_lti(),
            order=1,
            gramians=lticore.data_gramians(layer.to_lti(), recorded[name], timing="current"),
        ).singular_values
        ** 2
        for name, layer in ssm_layers(model).items()
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    compressor = InTrainingCompressor(model, optimizer, tolerance=0.01, steps=[3], criterion="data")
    train(model, optimizer, 3, compressor)
    everything = np.sort(np.concatenate(squares))
    left = [sum(np.sort(x)[: len(x) - r]) for x, r in zip(squares, orders(model), strict=True)]
    assert sum(left) <= 0.01 * everything.sum() * (1 + 1e-5)
    # One state less would give up more than the tolerance.
    assert sum(left) + min(everything[everything > max(left)]) > 0.01 * everything.sum()


def test_evaluation_and_steps_without_gradients_do_not_count():
    model = make_model("rotation")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.5, steps=[1], criterion="data")
    x, y = batch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(x)
    model.eval()
    cross_entropy(model(x), y).backward()
    with pytest.raises(ArgumentError, match=r"layer 'blocks.0.ssm': no gradient came through"):
        compressor.step()


def test_layers_that_are_given_a_state_are_refused():
    layer = RotationSSM(2, 6)
    compressor = InTrainingCompressor(
        layer,
        torch.optim.SGD(layer.parameters(), lr=0.0),
        fraction=0.5,
        steps=[1],
        criterion="data",
    )
    assert compressor.events == []
    _, state = layer(torch.randn(1, 5, 2), return_state=True)
    with pytest.raises(ArgumentError, match="give whole sequences"):
        layer(torch.randn(1, 5, 2), state=state)


# --- checkpoints and rollback -----------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["balanced", "data"])
def test_resuming_from_a_checkpoint_changes_nothing(tmp_path, criterion):
    def start():
        model = make_model("rotation")
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        return model, optimizer

    settings = {"tolerance": 0.05, "steps": [4, 8, 12], "criterion": criterion}
    model, optimizer = start()
    compressor = InTrainingCompressor(model, optimizer, **settings)
    generator = torch.Generator().manual_seed(0)
    train(model, optimizer, 10, compressor, generator)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "compressor": compressor.state_dict(),
            "generator": generator.get_state(),
        },
        tmp_path / "checkpoint.pt",
    )
    straight = train(model, optimizer, 5, compressor, generator)

    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed, _ = start()
    resumed.load_state_dict(saved["model"])
    optimizer = torch.optim.AdamW(resumed.parameters(), lr=3e-3)
    optimizer.load_state_dict(saved["optimizer"])
    compressor = InTrainingCompressor(resumed, optimizer, **settings)
    compressor.load_state_dict(saved["compressor"])
    generator.set_state(saved["generator"])
    assert train(resumed, optimizer, 5, compressor, generator) == straight
    assert orders(resumed) == orders(model)
    assert [event.step for event in compressor.events] == [4, 8, 12]


def test_a_drop_in_validation_is_rolled_back():
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scores = iter([0.9, 0.895, 0.5])
    compressor = InTrainingCompressor(
        model,
        optimizer,
        fraction=0.25,
        steps=[2, 4, 6, 8],
        validate=lambda: next(scores),
        max_drop=0.01,
    )
    train(model, optimizer, 3, compressor)
    assert orders(model) == [12, 12]
    train(model, optimizer, 1)
    x, _ = batch(torch.Generator().manual_seed(1))
    kept = copy.deepcopy(model)
    assert not compressor.step().rolled_back  # the fourth count, at 0.895
    assert orders(model) == [9, 9]
    train(model, optimizer, 1, compressor)
    event = None
    while event is None:
        event = compressor.step()
    assert event.rolled_back
    assert event.step == 6
    assert event.score == 0.5
    assert orders(model) == [12, 12]
    assert torch.equal(model.eval()(x), kept.eval()(x))
    model.train()
    # It goes on training and does nothing at the last step.
    assert parameters_of(optimizer) == {id(p) for p in model.parameters()}
    train(model, optimizer, 3, compressor)
    assert orders(model) == [12, 12]
    assert len(compressor.events) == 3


def test_a_rollback_takes_the_optimizer_back_too():
    """Training goes on as it would have without the reduction, at the rate of now."""
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, optimizer, 3)
    kept = copy.deepcopy(model)
    kept_optimizer = torch.optim.Adam(kept.parameters(), lr=5e-4)
    averages = copy.deepcopy(optimizer.state_dict()["state"])
    kept_optimizer.load_state_dict({**kept_optimizer.state_dict(), "state": averages})
    scores = iter([0.9, 0.5])
    compressor = InTrainingCompressor(
        model, optimizer, fraction=0.5, steps=[1, 2, 3], validate=lambda: next(scores)
    )
    assert orders(model) == [16, 16]
    assert not compressor.step().rolled_back
    train(model, optimizer, 4)
    optimizer.param_groups[0]["lr"] = 5e-4
    assert compressor.step().rolled_back
    assert optimizer.param_groups[0]["lr"] == 5e-4
    for p, q in zip(model.parameters(), kept.parameters(), strict=True):
        assert all(
            torch.equal(optimizer.state[p][key], value)
            for key, value in kept_optimizer.state[q].items()
        )
    assert train(model, optimizer, 3) == train(kept, kept_optimizer, 3)


def test_the_last_step_only_looks():
    model = make_model()
    compressor = InTrainingCompressor(
        model,
        torch.optim.Adam(model.parameters()),
        fraction=0.25,
        steps=[1, 3],
        validate=lambda: 0.5,
    )
    assert [compressor.step() is not None for _ in range(3)] == [True, False, False]
    assert orders(model) == [12, 12]


def resumed(model, compressor, **settings):
    """Copies of a model and its compressor, the latter from its state."""
    other = copy.deepcopy(model)
    again = InTrainingCompressor(other, torch.optim.Adam(other.parameters()), **settings)
    again.load_state_dict(copy.deepcopy(compressor.state_dict()))
    return other, again


@pytest.mark.parametrize("selection", ["random", "random-modes"])
def test_random_selections_go_on_where_they_were(selection):
    settings = {"fraction": 0.25, "steps": [1, 2], "selection": selection, "seed": 1}
    model = make_model()
    compressor = InTrainingCompressor(model, torch.optim.Adam(model.parameters()), **settings)
    compressor.step()
    other, again = resumed(model, compressor, **settings)
    compressor.step()
    again.step()
    assert orders(model) == orders(other)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_resumed_compressor_can_still_roll_back():
    scores = iter([0.9, 0.5])
    settings = {"fraction": 0.25, "steps": [1, 2, 3], "validate": lambda: next(scores)}
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    compressor = InTrainingCompressor(model, torch.optim.Adam(model.parameters()), **settings)
    compressor.step()
    other, again = resumed(model, compressor, **settings)
    assert orders(other) == [12, 12]
    assert again.step().rolled_back
    for name, value in other.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "tolerance"),
        ({"tolerance": 0.1, "fraction": 0.1}, "tolerance"),
        ({"tolerance": 1.0}, r"\[0, 1\)"),
        ({"fraction": 0.0}, r"\(0, 1\)"),
        ({"fraction": 0.1, "selection": "best"}, "selection"),
        ({"fraction": 0.1, "moments": "keep"}, "moments"),
        ({"fraction": 0.1, "max_drop": -1.0}, "max_drop"),
        ({"tolerance": 0.1, "validate": lambda: 0.0}, "fraction"),
        ({"tolerance": 0.1, "steps": [0]}, "steps"),
        ({"fraction": 0.1, "criterion": "loss"}, "criterion='loss' is not"),
        ({"fraction": 0.1, "criterion": "data", "selection": "random"}, "selection='random'"),
    ],
)
def test_bad_arguments(options, message):
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ArgumentError, match=message):
        InTrainingCompressor(model, optimizer, **{"steps": [1], **options})


def test_models_without_linear_layers_are_refused():
    model = make_model("selective")
    with pytest.raises(ArgumentError, match="no time-invariant"):
        InTrainingCompressor(model, torch.optim.Adam(model.parameters()), tolerance=0.1, steps=[1])


# --- processes --------------------------------------------------------------------------------


def _process(rank, folder, criterion):
    join(rank, folder)
    model = torch.nn.parallel.DistributedDataParallel(make_model("rotation", dropout=0.1))
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=3e-3)
    compressor = InTrainingCompressor(
        model.module, optimizer, tolerance=0.05, steps=[3, 6], criterion=criterion
    )
    generator = torch.Generator().manual_seed(rank)
    for _ in range(8):
        x, y = batch(generator)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        if compressor.step():
            model = torch.nn.parallel.DistributedDataParallel(model.module)
    torch.save(
        {"model": model.module.state_dict(), "events": len(compressor.events)},
        f"{folder}/{rank}.pt",
    )
    # Taking a group down can wait for Gloo's threads while these wait for the interpreter.
    os._exit(0)


@pytest.mark.parametrize("criterion", ["balanced", "data"])
def test_two_processes_stay_the_same(tmp_path, criterion):
    torch.multiprocessing.start_processes(
        _process, args=(str(tmp_path), criterion), nprocs=2, start_method="spawn"
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["events"] == second["events"] > 0
    for name, x in first["model"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(x, second["model"][name]), name
    assert first["model"]["blocks.0.ssm.B"].shape[0] < 16
