"""Stream: models step by step are the models on whole sequences."""

import io

import numpy as np
import pytest
import torch
from layer_kinds import ALL, TIME_INVARIANT, make, published, selective_with_pairs
from torch import nn

import lticore as lti
from lticore_torch import (
    LRU,
    S4D,
    Bidirectional,
    RotationSSM,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
    Stream,
    compress,
)

EPS64, EPS32 = np.finfo(np.float64).eps, np.finfo(np.float32).eps


def inputs(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stepped(stream, u):
    """All answers (batch, L, …), one step after the other."""
    return torch.stack([stream.step(u[:, k]) for k in range(u.shape[1])], dim=1)


def assert_close(y, wanted, tolerance):
    assert y.shape == wanted.shape
    assert float((y - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("batch", [1, 4, 5])
def test_steps_are_the_published_formula(kind, batch):
    """On both sides of the size from which products are left to BLAS. Each answer adds up some ten
    terms, and rounding decays with the states."""
    layer = make(kind)
    u = inputs(batch, 40, 3)
    y = stepped(Stream(layer), u)
    wanted = np.stack([published(layer, x.numpy()) for x in u])
    assert_close(y, torch.from_numpy(wanted), 1e4 * EPS64)


def test_steps_of_selective_layers_with_pairs():
    layer, u = selective_with_pairs(), inputs(2, 17, 3)
    wanted = torch.from_numpy(np.stack([published(layer, x.numpy()) for x in u]))
    assert_close(stepped(Stream(layer), u), wanted, 1e4 * EPS64)


@pytest.mark.parametrize("kind", ALL)
def test_a_prefix_in_parallel_then_steps(kind):
    layer = make(kind)
    u, stream = inputs(2, 30, 3), Stream(layer)
    parts = [stream.run(u[:, :0]), stream.run(u[:, :7]), stepped(stream, u[:, 7:12])]
    parts.append(stream.run(u[:, 12:]))
    assert_close(torch.cat(parts, dim=1), layer(u).detach(), 1e4 * EPS64)


@pytest.mark.parametrize("kind", ["rotation", "lru", "s5", "s4d"])
def test_ten_thousand_steps_in_single_precision(kind):
    """The layer itself rounds inputs, states and outputs to float32."""
    layer, u = make(kind, features=2, order=6).float(), inputs(1, 10_000, 2, dtype=torch.float32)
    with torch.no_grad():
        wanted = layer(u)
    assert_close(stepped(Stream(layer), u), wanted, 100 * EPS32)


MODELS = {
    "half-glu": {},
    "glu": {"gate": "glu", "norm": "layer"},
    "gelu": {"gate": "gelu", "norm": "batch-plain"},
    "lru": {"layer": "lru"},
    "s5": {"layer": "s5"},
    "s4d": {"layer": "s4d", "norm": "layer"},
    "quadratic": {"layer": "quadratic", "layer_options": {"rank": 2}},
    "selective": {"layer": "selective"},
    "dropout": {"dropout": 0.5},
    "tokens": {"vocabulary": 7},
}


def make_classifier(**options):
    torch.manual_seed(0)
    config = SequenceClassifierConfig(2, 3, features=4, order=6, depth=2, **options)
    model = SequenceClassifier(config).double()
    with torch.no_grad():
        for block in model.blocks:
            if isinstance(block.norm, nn.BatchNorm1d):
                block.norm.running_mean.copy_(torch.linspace(-1, 1, 4))
                block.norm.running_var.copy_(torch.linspace(0.5, 2, 4))
            if getattr(block.norm, "weight", None) is not None:
                block.norm.weight.copy_(torch.linspace(0.5, 2, 4))
                block.norm.bias.copy_(torch.linspace(-0.1, 0.2, 4))
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [2, 6])
def test_a_classifier_answers_for_the_sequence_so_far(name, batch):
    model = make_classifier(**MODELS[name])
    u = inputs(batch, 9, 2)
    if name == "tokens":
        u = torch.randint(7, (batch, 9), generator=torch.Generator().manual_seed(0))
    stream = Stream(model)  # which is in training mode
    y = torch.cat([stepped(stream, u[:, :4]), stream.run(u[:, 4:7]), stepped(stream, u[:, 7:])], 1)
    model.eval()
    with torch.no_grad():
        for k in range(9):
            assert_close(y[:, k], model(u[:, : k + 1]), 1e5 * EPS64)


def test_models_that_keep_the_sequence():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(2, 4),
        SequenceBlock(RotationSSM(4, 6)),
        nn.Sequential(nn.LayerNorm(4), LRU(4, 6), nn.ReLU(), nn.Dropout(0.3)),
        SequenceBlock(S4D(4, 4), norm="layer", gate="glu"),
        nn.Linear(4, 5, bias=False),
    ).double()
    stream, u = Stream(model), inputs(3, 12, 2)
    y = torch.cat([stream.run(u[:, :5]), stepped(stream, u[:, 5:])], dim=1)
    z = model.eval()[0](u)
    z = model[1](z)
    z = model[3](torch.relu(model[2][1](model[2][0](z))))
    assert_close(y, (z @ model[4].weight.mT).detach(), 1e5 * EPS64)


@pytest.mark.parametrize("gate", ["hook", "adapter"])
def test_gates_that_are_more_than_linear_are_called(gate):
    torch.manual_seed(0)
    block = SequenceBlock(RotationSSM(4, 6)).double().eval()
    if gate == "hook":
        block.gate.register_forward_hook(lambda module, args, output: output + 1)
    else:
        block.gate = nn.Sequential(block.gate, nn.Tanh())
    u = inputs(2, 9, 4)
    assert_close(stepped(Stream(block), u), block(u).detach(), 1e5 * EPS64)


def test_compressed_models_stream():
    model = make_classifier().eval()
    small, report = compress(model, ratio=0.5)
    stream, u = Stream(small), inputs(2, 9, 2)
    y = stepped(stream, u)
    with torch.no_grad():
        assert_close(y[:, -1], small(u), 1e5 * EPS64)
    shapes = {name: tuple(x.shape) for name, x in stream.state.items()}
    orders = {f"blocks.{i}.ssm": (2, order) for i, order in enumerate(report.orders)}
    assert shapes == {**orders, "sum": (2, 4), "steps": (2, 1)}


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("kind", ["rotation", "selective"])
def test_batches_of_every_shape(batch, kind):
    layer, u = make(kind), inputs(*batch, 8, 3)
    stream = Stream(layer)
    first = stream.run(u[..., :5, :])
    rest = [stream.step(u[..., k, :]) for k in range(5, 8)]
    y = torch.cat([first, torch.stack(rest, dim=-2)], dim=-2)
    assert_close(y, layer(u).detach(), 1e4 * EPS64)
    assert {x.shape[: len(batch)] for x in stream.state.values()} == {batch}


def test_what_comes_in_goes_out():
    layer = make("rotation").float()
    for u in (inputs(2, 3).float(), inputs(2, 3), torch.ones(2, 3, dtype=torch.int64)):
        y = Stream(layer).step(u)
        assert isinstance(y, torch.Tensor)
        assert y.dtype == torch.float32
        array = Stream(layer).step(u.numpy())
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
        assert np.array_equal(array, y.numpy())
        assert np.array_equal(Stream(layer).run(u.numpy()[:, None])[:, 0], array)
    half = Stream(make("rotation").bfloat16())
    u = inputs(2, 3).bfloat16()
    y = half.step(u)
    half.reset()
    assert torch.equal(y, half.step(u.double()))
    half.reset()
    assert half.step(inputs(2, 3)).dtype == torch.bfloat16
    assert half.step(inputs(2, 3).numpy()).dtype == np.float32


def test_arrays_as_they_come():
    """Strided, read-only, with a gradient; and none of them is changed."""
    layer, u = make("rotation"), inputs(2, 3)
    wanted = Stream(layer).step(u)
    wide = inputs(2, 6)
    wide[:, ::2] = u
    read_only = u.numpy().copy()
    read_only.flags.writeable = False
    for other in (wide[:, ::2], u.clone().requires_grad_(), u.mT.contiguous().mT):
        assert torch.equal(Stream(layer).step(other), wanted)
    assert np.array_equal(Stream(layer).step(read_only), wanted.numpy())


def test_states_move_from_one_stream_to_another():
    model, u = make_classifier().eval(), inputs(2, 9, 2)
    one, other = Stream(model), Stream(model)
    assert one.state == {}
    one.run(u[:, :5])
    file = io.BytesIO()
    torch.save(one.state, file)
    file.seek(0)
    other.state = torch.load(file)
    kept = one.state
    assert torch.equal(one.step(u[:, 5]), other.step(u[:, 5]))
    assert not torch.equal(kept["sum"], one.state["sum"])  # a copy, not the memory itself
    one.reset()
    assert one.state == {}
    assert_close(one.run(u[:1]), Stream(model).run(u)[:1], 1e4 * EPS64)


def test_states_that_are_given_stay_as_they_are():
    """A stream goes on in memory of its own, in the precision of its own."""
    model, u = make_classifier().eval(), inputs(2, 9, 2)
    one, other = Stream(model), Stream(model)
    one.run(u[:, :5])
    given = one.state
    before = {name: x.clone() for name, x in given.items()}
    other.state = given
    other.run(u[:, 5:7])
    other.step(u[:, 7])
    assert all(torch.equal(x, before[name]) for name, x in given.items())
    # Rounded to float32 and back.
    other.state = {name: x.float() for name, x in given.items()}
    for name, x in other.state.items():
        assert torch.equal(x, before[name].float().double())


def test_the_state_is_that_of_the_layer():
    layer, u = make("rotation real"), inputs(2, 9, 3)
    stream = Stream(layer)
    stepped(stream, u)
    _, last = layer(u, return_state=True)
    assert_close(stream.state[""], last.detach(), 1e4 * EPS64)


def test_the_model_is_copied():
    layer, u = make("rotation").train(), inputs(1, 3)
    before = {name: x.clone() for name, x in layer.state_dict().items()}
    stream, wanted = Stream(layer), Stream(layer).step(u)
    assert layer.training
    assert all(x.requires_grad for x in layer.parameters())
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())
    with torch.no_grad():
        layer.B.mul_(2)
    assert torch.equal(stream.step(u), wanted)


def test_two_streams_keep_their_own_states():
    layer, u = make("lru"), inputs(1, 6, 3)
    one, other = Stream(layer), Stream(layer)
    for k in range(6):
        y = one.step(u[:, k])
        other.step(-u[:, k])
    assert_close(y, layer(u)[:, -1].detach(), 1e4 * EPS64)


def both_ends():
    return SequenceBlock(Bidirectional(RotationSSM(3, 4), RotationSSM(3, 4)))


def with_hook():
    block = SequenceBlock(RotationSSM(3, 4))
    block.ssm.register_forward_hook(lambda *_: None)
    return block


class Doubled(SequenceBlock):
    def forward(self, v, valid=None, **options):
        return 2 * super().forward(v, valid, **options)


def replaced_forward():
    layer = RotationSSM(3, 4)
    layer.forward = lambda u: 2 * u
    return layer


def without_statistics():
    block = SequenceBlock(RotationSSM(3, 4))
    block.norm = nn.BatchNorm1d(3, track_running_stats=False)
    return block


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (both_ends, "'ssm' is bidirectional: its second direction needs the end"),
        (lambda: make_classifier(documents=2), "pairs of documents does not stream"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 3)), "'1', a GRU, is not known"),
        (lambda: nn.MultiheadAttention(4, 2), "'the model', a MultiheadAttention, is not known"),
        (with_hook, "'ssm', a RotationSSM, has hooks"),
        (lambda: Doubled(RotationSSM(3, 4)), "'the model', a Doubled, has a forward of its own"),
        (replaced_forward, "'the model', a RotationSSM, has a forward of its own"),
        (without_statistics, "'norm', a BatchNorm1d, is not known to act on each step"),
        (lambda: nn.Sequential(nn.ReLU()), "begins with a ReLU does not say how many inputs"),
    ],
)
def test_models_that_cannot_stream(model, message):
    with pytest.raises(lti.ArgumentError, match=message):
        Stream(model())


@pytest.mark.parametrize(
    ("u", "error", "message"),
    [
        (torch.zeros(2, 4), lti.ShapeError, r"u has shape \(2, 4\), but \(batch, 3\) is expected"),
        (torch.tensor(1.0), lti.ShapeError, r"\(batch, 3\) is expected"),
        (torch.zeros(2, 3, dtype=torch.complex64), lti.DtypeError, "takes real numbers"),
        (torch.zeros(3, 3), lti.ShapeError, r"in the middle of sequences of batch \(2,\)"),
        (np.array([["a", "b", "c"]]), lti.DtypeError, "takes real numbers"),
    ],
)
def test_bad_input(u, error, message):
    stream = Stream(make("rotation"))
    stream.step(inputs(2, 3))
    with pytest.raises(error, match=message):
        stream.step(u)


def test_tokens_are_integers():
    with pytest.raises(lti.DtypeError, match="takes integer tokens"):
        Stream(make_classifier(vocabulary=7)).step(inputs(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"x": state[""]}, r"the entries \['x'\], but this model needs \[''\]"),
        (
            lambda state: {"": state[""][:, :-1]},
            r"state\[''\] has shape \(2, 4\), but \(batch, 5\)",
        ),
    ],
)
def test_states_that_do_not_fit(change, message):
    stream = Stream(make("rotation"))
    stream.step(inputs(2, 3))
    with pytest.raises(lti.LticoreError, match=message):
        stream.state = change(stream.state)


def test_states_of_different_batches():
    stream = Stream(make_classifier())
    stream.step(inputs(2, 2))
    state = stream.state
    state["sum"] = state["sum"][:1]
    with pytest.raises(lti.ShapeError, match="of different batches"):
        stream.state = state


def test_infinite_inputs_stay_with_their_sequence():
    layer, u = make("rotation"), inputs(2, 3)
    bad = u.clone()
    bad[0, 1] = torch.nan
    y = Stream(layer).step(bad)
    assert bool(y[0].isnan().any())
    assert torch.equal(y[1], Stream(layer).step(u)[1])


@pytest.mark.parametrize("kind", TIME_INVARIANT)
def test_no_sequences(kind):
    assert Stream(make(kind)).step(torch.zeros(0, 3)).shape == (0, 3)
