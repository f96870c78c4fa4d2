"""Layers in training loops that are not ours: groups, marks, copies, sharding, frameworks."""

import copy
import importlib.util
import io
import math
import pickle
from pathlib import Path

import pytest
import torch
from gloo import join, leave
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from lticore.errors import ArgumentError, DtypeError
from lticore_torch import (
    LRU,
    S4D,
    S5,
    Bidirectional,
    HankelRegularizer,
    InTrainingCompressor,
    RotationSSM,
    SelectiveSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
    hankel_sum,
    parameter_groups,
    ssm_layers,
)
from lticore_torch.layers import LAYERS

POLES = {
    "rotation": {"real_atanh", "radius_logit", "angle_logit"},
    "lru": {"real_atanh", "nu_log", "theta_log", "gamma_log"},
    "s5": {"real_atanh", "decay_log", "frequency", "step_log"},
    "s4d": {"step_log", "decay_log", "frequency", "real_atanh"},
    "quadratic": {"real_atanh", "radius_logit", "angle_logit"},
    "selective": {"real_log", "decay_log", "frequency", "step_bias"},
}


def make_model(kind="lru", order=8, seed=0, **options):
    torch.manual_seed(seed)
    config = SequenceClassifierConfig(1, 3, features=6, order=order, depth=2, layer=kind, **options)
    return SequenceClassifier(config)


def batch(generator, n=8):
    labels = torch.randint(3, (n,), generator=generator)
    phase = (0.3 + 0.3 * labels[:, None]) * torch.arange(20)
    return (torch.sin(phase) + 0.3 * torch.randn(n, 20, generator=generator))[..., None], labels


def same_state(one, other):
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert x.dtype == other[name].dtype
        assert torch.equal(x, other[name]), name


# --- groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_groups(kind):
    model = make_model(kind, order=7)
    groups = parameter_groups(model, lr=4e-3, weight_decay=0.05)
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    assert (
        sum(len(group["params"]) for group in groups)
        == len(settings)
        == len(list(model.parameters()))
    )
    for name, p in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if ".ssm." in name and last in POLES[kind]:
            expected = 1e-3, 0.0
        else:
            expected = 4e-3, 0.0 if p.ndim == 1 else 0.05
        assert settings[id(p)] == expected, name


@pytest.mark.parametrize("kind", LAYERS)
def test_no_gradient_no_motion_of_poles(kind):
    """AdamW decays what it is told to, whatever the gradients are."""
    model = make_model(kind)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, weight_decay=0.1))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(50):
        optimizer.step()
    for name, p in model.named_parameters():
        factor = 1.0 if p.ndim == 1 or name.rsplit(".", 1)[-1] in POLES[kind] else 0.999**50
        torch.testing.assert_close(p, factor * before[name], rtol=1e-5, atol=0)


def test_groups_of_parametrised_and_shared_and_foreign_parameters():
    layer = RotationSSM(4, 6)
    torch.nn.utils.parametrize.register_parametrization(layer, "radius_logit", torch.nn.Tanh())
    foreign = torch.nn.Linear(4, 4, bias=False)
    foreign.weight._optim = {"lr": 1e-5, "weight_decay": 0.0}
    kept = torch.nn.Linear(4, 4, bias=False)
    kept.weight._no_weight_decay = True
    model = torch.nn.ModuleList([layer, foreign, kept, foreign])
    groups = parameter_groups(model, lr=1.0, weight_decay=0.5, pole_rate=0.125)
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    assert found[id(layer.parametrizations.radius_logit.original)] == (0.125, 0.0)
    assert found[id(foreign.weight)] == (1e-5, 0.0)
    assert found[id(kept.weight)] == (1.0, 0.0)
    assert found[id(layer.B)] == (1.0, 0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "options", [{"lr": 0.0}, {"lr": math.nan}, {"weight_decay": -1.0}, {"pole_rate": 0.0}]
)
def test_bad_rates(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        parameter_groups(make_model(), **{"lr": 1.0, **options})


# --- marks ------------------------------------------------------------------------------------


def marked(layer):
    """As training code of Mamba and of S4 looks for them."""
    mamba = {n for n, p in layer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    s4 = {n for n, p in layer.named_parameters() if getattr(p, "_optim", None)}
    assert mamba == s4
    return mamba


def through_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


def through_torch_save(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def through_assignment(layer):
    new = type(layer)(layer.features, layer.order, **layer.options())
    new.load_state_dict(layer.state_dict(), assign=True)
    return new


@pytest.mark.parametrize(
    "way",
    [
        lambda layer: layer,
        copy.deepcopy,
        through_pickle,
        through_torch_save,
        through_assignment,
        lambda layer: layer.double(),
        lambda layer: layer.to("meta").to_empty(device="cpu"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_marks_stay(kind, way):
    assert marked(way(LAYERS[kind](6, 7))) == POLES[kind] | {"D"}


@pytest.mark.parametrize("kind", [x for x in LAYERS if x != "selective"])
def test_marks_of_compressed_layers(kind):
    small, _ = compress(LAYERS[kind](6, 8), ratio=0.5)
    assert marked(small) == POLES[kind] | {"D"}


def test_dense_feedthrough_is_a_weight():
    assert "D" not in marked(LRU(4, 6, outputs=3))


# --- device, dtype, initial values --------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_made_where_they_are_wanted(kind):
    torch.manual_seed(3)
    plain = LAYERS[kind](6, 7)
    torch.manual_seed(3)
    double = LAYERS[kind](6, 7, device="cpu", dtype=torch.float64)
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    for name, p in plain.named_parameters():
        torch.testing.assert_close(double.get_parameter(name).float(), p, rtol=1e-6, atol=1e-6)
    meta = LAYERS[kind](6, 7, device="meta")
    assert all(x.is_meta for x in (*meta.parameters(), *meta.buffers()))
    with torch.device("meta"):
        assert all(p.is_meta for p in LAYERS[kind](6, 7).parameters())
    with pytest.raises(DtypeError, match="real floating-point"):
        LAYERS[kind](6, 7, dtype=torch.complex64)


def test_classifiers_are_made_where_they_are_wanted():
    config = SequenceClassifierConfig(1, 3, 6, 8, 2, norm="layer", documents=2, bidirectional=True)
    model = SequenceClassifier(config, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("kind", LAYERS)
def test_reset_is_a_new_layer(kind):
    """Also of one that was made without memory, as sharding does."""
    torch.manual_seed(3)
    expected = LAYERS[kind](6, 7).state_dict()
    trained = LAYERS[kind](6, 7)
    empty = LAYERS[kind](6, 7, device="meta").to_empty(device="cpu")
    for layer in (trained, empty):
        pointers = [p.data_ptr() for p in layer.parameters()]
        torch.manual_seed(3)
        layer.reset_parameters()
        same_state(layer.state_dict(), expected)
        assert [p.data_ptr() for p in layer.parameters()] == pointers


@pytest.mark.parametrize("kind", [x for x in LAYERS if x != "selective"])
def test_reset_keeps_the_sizes_of_a_compressed_layer(kind):
    small, _ = compress(LAYERS[kind](6, 12), ratio=0.6)
    before = {name: x.clone() for name, x in small.state_dict().items()}
    small.reset_parameters()
    for name, x in small.state_dict().items():
        assert x.shape == before[name].shape
        if not x.is_floating_point():
            assert torch.equal(x, before[name])
        elif x.numel() and name != "decay_log":
            assert not torch.equal(x, before[name]), name
    assert torch.isfinite(small(torch.randn(2, 30, 6))).all()


def test_reset_of_what_is_made_of_others_is_refused():
    layer = RotationSSM(4, 6)
    torch.nn.utils.parametrize.register_parametrization(layer, "C", torch.nn.Tanh())
    with pytest.raises(ArgumentError, match=r"C of a .*remove_parametrizations"):
        layer.reset_parameters()


def test_second_direction_keeps_no_feedthrough():
    both = Bidirectional(LRU(4, 6), LRU(4, 6))
    for layer in (both, copy.deepcopy(both)):
        for module in layer.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        assert not layer.back.D.any()
        assert not layer.back.D.requires_grad
        assert layer.ahead.D.all()


@pytest.mark.parametrize("kind", LAYERS)
def test_double_precision_by_default(kind):
    torch.set_default_dtype(torch.float64)
    try:
        layer = LAYERS[kind](6, 7)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}


# --- averages over training -----------------------------------------------------------------------


def averaging(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))


def train(model, optimizer, compressor, average, steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x, y = batch(generator)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        compressor.step()
        average.update_parameters(model)


@pytest.mark.parametrize("kind", [x for x in LAYERS if x != "selective"])
def test_averages_follow_reductions(kind):
    """Of layers they begin anew at the reduction, of all else they are those without it."""
    runs = []
    for steps in ([4], []):
        model = make_model(kind, order=12)
        average = averaging(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        compressor = InTrainingCompressor(
            model, optimizer, fraction=0.5, steps=steps, copies=[average]
        )
        train(model, optimizer, compressor, average, 3)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.01)
        train(model, optimizer, compressor, average, 3)
        runs.append((model, average))
    (model, average), (_, without) = runs
    layers, averaged = ssm_layers(model), ssm_layers(average)
    assert {x.order for x in layers.values()} == {6} == {x.order for x in averaged.values()}
    for layer, twin in zip(layers.values(), averaged.values(), strict=True):
        for name, p in twin.named_parameters():  # nothing moved since
            torch.testing.assert_close(p, layer.get_parameter(name), rtol=1e-6, atol=1e-7)
    for name, p in average.named_parameters():
        if ".ssm." not in name:
            assert torch.equal(p, without.get_parameter(name)), name


def test_averages_are_put_back_with_the_model():
    scores = iter([1.0, 0.0])
    model = make_model(order=12)
    average = averaging(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    compressor = InTrainingCompressor(
        model,
        optimizer,
        fraction=0.5,
        steps=[2, 4],
        validate=lambda: next(scores),
        copies=[average],
    )
    train(model, optimizer, compressor, average, 1)
    before = copy.deepcopy(average.state_dict())
    train(model, optimizer, compressor, average, 1)
    assert ssm_layers(average)["module.blocks.0.ssm"].order == 6
    undo = compressor._undo["copies"][0]
    same_state(undo, before)
    model_was = {name: x.clone() for name, x in model.state_dict().items()}
    compressor.count = 3
    assert compressor.step().rolled_back
    same_state(average.state_dict(), before)
    average.update_parameters(model)
    assert model_was.keys() == model.state_dict().keys()


def test_what_is_no_copy_is_refused():
    model = make_model(order=12)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for other in (make_model(order=8), make_model("s5", order=12), torch.nn.Linear(2, 2)):
        with pytest.raises(ArgumentError, match="no copy of SequenceClassifier"):
            InTrainingCompressor(model, optimizer, fraction=0.5, steps=[1], copies=[other])


# --- gradient checkpointing ----------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradient_checkpointing_changes_nothing(kind, reentrant):
    model = make_model(kind)
    x, _ = batch(torch.Generator().manual_seed(0))
    v = model.encoder(x)
    found = []
    for kept in (True, False):
        model.zero_grad()
        u = v.detach().requires_grad_()
        y = u
        for block in model.blocks:
            y = block(y) if kept else checkpoint(block, y, use_reentrant=reentrant)
        y.square().mean().backward()
        found.append([y.detach(), u.grad, *(p.grad for p in model.blocks.parameters())])
    for kept, computed_again in zip(*found, strict=True):
        assert torch.equal(kept, computed_again)


# --- processes ------------------------------------------------------------------------------------


def _data(rank):
    return batch(torch.Generator().manual_seed(rank))


def _loss(model, x, y):
    return cross_entropy(model(x), y)


def _sharded(rank, folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    join(rank, folder)
    mesh = init_device_mesh("cpu", (2,))
    results = {}
    for kind in LAYERS:
        model = make_model(kind, norm="layer")
        ignored = {p for p in model.parameters() if p.numel() == 0}
        for block in model.blocks:
            fully_shard(block, mesh=mesh, ignored_params=ignored)
        fully_shard(model, mesh=mesh, ignored_params=ignored)
        loss = _loss(model, *_data(rank))
        if kind != "selective":
            penalty = HankelRegularizer(0.5)(model)
            results[kind, "penalty"] = penalty.item()
            loss = loss + penalty
        loss.backward()
        results[kind] = {
            name: p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
            for name, p in model.named_parameters()
        }
        if kind == "lru":
            for refused in (
                lambda model=model: compress(model, ratio=0.5),
                lambda model=model: InTrainingCompressor(
                    model, torch.optim.SGD(model.parameters(), lr=1.0), fraction=0.5, steps=[1]
                ),
            ):
                with pytest.raises(ArgumentError, match="sharded over processes"):
                    refused()
    leave(rank, results, folder)


def test_fully_sharded_in_two_processes(tmp_path):
    """Gradients are those of the mean loss over both, penalties those of one process."""
    torch.multiprocessing.spawn(_sharded, (str(tmp_path),), nprocs=2)
    results = torch.load(tmp_path / "results.pt")
    for kind in LAYERS:
        model = make_model(kind, norm="layer")
        loss = (_loss(model, *_data(0)) + _loss(model, *_data(1))) / 2
        if kind != "selective":
            penalty = hankel_sum(model) / 2
            assert results[kind, "penalty"] == pytest.approx(penalty.item(), rel=1e-6)
            loss = loss + penalty
        loss.backward()
        for name, p in model.named_parameters():
            if p.numel():
                torch.testing.assert_close(
                    results[kind][name], p.grad, rtol=1e-4, atol=1e-6, msg=f"{kind} {name}"
                )


def _alike(rank, folder):
    join(rank, folder)
    results = {}
    for kind in LAYERS:
        for both in (False, True):
            model = make_model(kind, order=7, norm="layer", bidirectional=both)
            wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)
            for _ in range(2):  # a parameter without gradient is an error of the second
                wrapped.zero_grad()
                _loss(wrapped, *_data(rank)).backward()
            results[kind, both] = {n: p.grad for n, p in model.named_parameters()}
    leave(rank, results, folder)


def test_distributed_data_parallel_finds_every_parameter_used(tmp_path):
    torch.multiprocessing.spawn(_alike, (str(tmp_path),), nprocs=2)
    results = torch.load(tmp_path / "results.pt")
    for (kind, both), gradients in results.items():
        model = make_model(kind, order=7, norm="layer", bidirectional=both)
        ((_loss(model, *_data(0)) + _loss(model, *_data(1))) / 2).backward()
        for name, p in model.named_parameters():
            if p.grad is None:
                assert gradients[name] is None
            else:
                torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-6)


def test_flat_sharding_is_refused_by_name():
    class FullyShardedDataParallel(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ArgumentError, match="fully_shard"):
        hankel_sum(FullyShardedDataParallel(make_model()))


# --- loops of other packages ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings(
    "ignore:.*num_workers:UserWarning", "ignore:.*does not have many workers"
)
def test_lightning(tmp_path):
    """Training with a penalty and a reduction; its checkpoint loads into a fresh model."""
    lightning = pytest.importorskip("pytorch_lightning")

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = make_model(order=12)
            self.penalty = HankelRegularizer(1e-3)

        def configure_optimizers(self):
            groups = parameter_groups(self.model, lr=1e-2, weight_decay=0.01)
            optimizer = torch.optim.AdamW(groups)
            self.compressor = InTrainingCompressor(self.model, optimizer, fraction=0.5, steps=[3])
            return optimizer

        def training_step(self, pair, _):
            x, y = pair
            return cross_entropy(self.model(x), y) + self.penalty(self.model)

        def on_train_batch_end(self, *_):
            self.compressor.step()

    generator = torch.Generator().manual_seed(0)
    task = Task()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(
        task,
        torch.utils.data.DataLoader(list(zip(*batch(generator, 48), strict=True)), batch_size=8),
    )
    assert {x.order for x in ssm_layers(task).values()} == {6}
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in task.parameters()}
    assert all(int(x["step"]) == 6 for x in trainer.optimizers[0].state.values())
    trainer.save_checkpoint(tmp_path / "small.ckpt")
    fresh = Task()
    state = torch.load(tmp_path / "small.ckpt", weights_only=True)["state_dict"]
    fresh.load_state_dict(state)
    same_state(fresh.state_dict(), task.state_dict())


def test_accelerate():
    """The optimizer that `prepare` returns is the one to give to the compressor."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = make_model(order=12)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2))
    model, optimizer = accelerator.prepare(model, optimizer)
    compressor = InTrainingCompressor(
        accelerator.unwrap_model(model), optimizer, fraction=0.5, steps=[3]
    )
    penalty = HankelRegularizer(1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        x, y = batch(generator)
        optimizer.zero_grad()
        accelerator.backward(cross_entropy(model(x), y) + penalty(model))
        optimizer.step()
        compressor.step()
    assert {x.order for x in ssm_layers(model).values()} == {6}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("kind", LAYERS)
def test_training_in_half_precision_products(kind):
    """Autocast in bfloat16: losses fall as in float32, and gradients are finite."""
    losses = {}
    for half in (False, True):
        model = make_model(kind)
        optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2))
        generator = torch.Generator().manual_seed(0)
        for _ in range(15):
            x, y = batch(generator, 32)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters())
            optimizer.step()
        losses[half] = loss.item()
    assert losses[True] == pytest.approx(losses[False], abs=0.1)


def test_kinds_are_all():
    assert {type(x) for x in (RotationSSM(2, 2), LRU(2, 2), S5(2, 2), S4D(2, 2))} | {
        SelectiveSSM,
        LAYERS["quadratic"],
    } == set(LAYERS.values())


# --- the recipe for a checkpoint ------------------------------------------------------------------


def test_fine_tuning_makes_a_checkpoint_compressible():
    """docs/training.md, with fewer epochs: at c = 2 a quarter of the states does what all did."""
    path = Path(__file__).parents[2] / "examples/fine_tune.py"
    spec = importlib.util.spec_from_file_location("fine_tune", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    inputs, labels, *others = example.digits()
    torch.manual_seed(0)
    config = SequenceClassifierConfig(1, 10, 16, 32, 2, layer="rotation", norm="layer")
    model = SequenceClassifier(config)
    example.train(model, inputs, labels, epochs=12, weight=0.0)
    before, sum_before = example.accuracies(model, *others), hankel_sum(model).item()
    example.train(model, inputs, labels, epochs=8, weight=2 * math.log(10) / sum_before)
    after = example.accuracies(model, *others)
    assert hankel_sum(model) < sum_before / 3
    assert before[2] < 0.45 < 0.65 < after[2]
    assert after[0] > before[0] - 0.03
