"""Whole sequences from a state and to a state: chunks are the whole, and the steps."""

import pytest
import torch
from layer_kinds import ALL, make
from torch.autograd import gradcheck, gradgradcheck

import lticore as lti
from lticore_torch import (
    Bidirectional,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
)

# Sums of ≤ 30 terms of size 1 in each order of addition: 30 · 5 states · eps and a margin of 4.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
KEEPING = [(kind, keep) for kind in ALL for keep in (True, False) if keep or kind in ("lru", "s5")]


def make_keeping(kind, keep, **options):
    layer = make(kind, **options)
    if not keep:
        layer.keep_states = False
    return layer


def stepped(layer, u, state=None):
    """(y, state) by one step after the other."""
    outputs = []
    for u_k in u.unbind(dim=-2):
        y, state = layer.step(u_k, state)
        outputs.append(y)
    return torch.stack(outputs, dim=-2), state


def assert_same(found, expected, dtype=torch.float64):
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype == dtype
        torch.testing.assert_close(x, y, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("kind", "keep"), KEEPING)
def test_chunks_are_the_whole_and_the_steps(kind, keep, dtype):
    layer, u = make_keeping(kind, keep).to(dtype), torch.randn(2, 2, 9, 3, dtype=dtype)
    expected = stepped(layer, u)
    assert_same(layer(u, return_state=True), expected, dtype)
    for cut in (1, 4, 9):
        first, state = layer(u[..., :cut, :], return_state=True)
        second, last = layer(u[..., cut:, :], state=state, return_state=True)
        assert_same((torch.cat([first, second], dim=-2), last), expected, dtype)
        rest = layer(u[..., cut:, :], state=state)
        torch.testing.assert_close(rest, second, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ALL)
def test_backwards_in_time_the_state_enters_at_the_end(kind):
    layer, u = make(kind), torch.randn(2, 7, 3, dtype=torch.float64)
    _, state = layer.step(torch.randn(2, 3, dtype=torch.float64))
    y, last = layer(u.flip(-2), state=state, return_state=True, reverse=True)
    assert_same((y.flip(-2), last), stepped(layer, u, state))


@pytest.mark.parametrize(("kind", "keep"), KEEPING)
def test_gradients_pass_from_chunk_to_chunk(kind, keep):
    """In input and parameters; a detached state stops them."""
    layer, u = make_keeping(kind, keep), torch.randn(2, 8, 3, dtype=torch.float64)
    u.requires_grad_()
    tensors = (u, *layer.parameters())

    def squares(cut):
        first, state = layer(u[:, :3], return_state=True)
        second = layer(u[:, 3:], state=cut(state))
        return (torch.cat([first, second], dim=1) if cut is not torch.detach else second).square()

    whole = torch.autograd.grad(layer(u).square().sum(), tensors)
    chunks = torch.autograd.grad(squares(lambda state: state).sum(), tensors)
    assert_same(chunks, whole)
    (truncated, *_) = torch.autograd.grad(squares(torch.detach).sum(), tensors)
    assert not truncated[:, :3].any()
    assert truncated[:, 3:].all()


@pytest.mark.parametrize(("kind", "keep"), KEEPING)
def test_derivatives_of_both_orders(kind, keep):
    layer = make_keeping(kind, keep, features=2, order=3, **_small(kind))
    u = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    _, state = layer.step(torch.randn(1, 2, dtype=torch.float64))
    state = state.detach().requires_grad_()

    def run(u, state):
        return layer(u, state=state, return_state=True)

    assert gradcheck(run, (u, state))
    assert gradgradcheck(run, (u, state))


def _small(kind):
    return {"rotation real": {"real_poles": 3}, "s5 blocks": {"blocks": 1}}.get(kind, {})


@pytest.mark.parametrize("kind", ["rotation", "s5", "s4d", "quadratic", "selective"])
def test_vmap_over_sequences_and_states(kind):
    layer, u = make(kind), torch.randn(3, 6, 3, dtype=torch.float64)
    _, state = layer.step(torch.randn(3, 3, dtype=torch.float64))

    def run(u, state):
        return layer(u, state=state, return_state=True)

    assert_same(torch.func.vmap(run)(u, state), run(u, state))
    shared = torch.func.vmap(run, in_dims=(0, None))(u, state[0])
    assert_same(shared, run(u, state[:1].expand_as(state)))


@pytest.mark.parametrize("kind", ["lru", "s4d", "selective"])
def test_compiles_as_one_graph(kind):
    layer, u = make(kind), torch.randn(2, 9, 3, dtype=torch.float64)
    state = layer.step(u[:, 0])[1].detach()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = layer(u, state=state, return_state=True)
    assert_same(compiled(u, state=state, return_state=True), expected)
    y, last = compiled(u, state=state, return_state=True)
    (y.sum() + last.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", ALL)
def test_half_precision_keeps_the_state_in_single(kind):
    layer, u = make(kind).bfloat16(), torch.randn(2, 6, 3).bfloat16()
    y, state = layer(u, return_state=True)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    second, _ = layer(u, state=state, return_state=True)
    expected, _ = layer.float()(torch.cat([u, u], dim=1).float(), return_state=True)
    torch.testing.assert_close(second.float(), expected[:, 6:], rtol=0.02, atol=0.02)


def test_bidirectional_layers_have_no_state():
    layer, u = Bidirectional(make("lru"), make("rotation")), torch.zeros(2, 4, 3)
    for options in ({"state": torch.zeros(2, 5)}, {"return_state": True}):
        with pytest.raises(lti.ArgumentError, match="bidirectional layer takes and returns no"):
            layer(u, **options)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("kind", ["rotation", "s4d", "selective"])
def test_blocks_in_evaluation_mode_chain(kind, norm):
    block = SequenceBlock(make(kind), norm=norm, dropout=0.3).double().eval()
    v = torch.randn(2, 8, 3, dtype=torch.float64)
    first, state = block(v[:, :3], return_state=True)
    second, last = block(v[:, 3:], state=state, return_state=True)
    expected, expected_last = block(v, return_state=True)
    torch.testing.assert_close(block(v), expected, rtol=1e-12, atol=1e-12)
    assert_same((torch.cat([first, second], dim=1), last), (expected, expected_last))


def test_a_classifier_may_run_in_chunks():
    """Encoder and blocks chunk by chunk, the mean over time at the end."""
    torch.manual_seed(0)
    config = SequenceClassifierConfig(inputs=2, classes=3, features=4, order=6, depth=2)
    model, x = SequenceClassifier(config).double().eval(), torch.randn(2, 9, 2).double()
    states, total = [None] * 2, 0.0
    for chunk in x.split(4, dim=1):
        v = model.encoder(chunk)
        for i, block in enumerate(model.blocks):
            v, states[i] = block(v, state=states[i], return_state=True)
        total = total + v.sum(dim=1)
    torch.testing.assert_close(model.decoder(total / 9), model(x), rtol=1e-12, atol=1e-12)


class InChunks(torch.nn.Module):
    """A layer that is given a sequence in two chunks."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, u):
        first, state = self.layer(u[:, :4], return_state=True)
        return torch.cat([first, self.layer(u[:, 4:], state=state)], dim=1)


def test_models_that_pass_states_on_compress():
    """Measured on data, but not refitted: outputs are fitted from rest."""
    layer, u = make("rotation", order=8), torch.randn(3, 9, 3, dtype=torch.float64)
    _, report = compress(InChunks(layer), ratio=0.5, calibration=u)
    small, expected = compress(layer, ratio=0.5, calibration=u)
    assert report.output_change == pytest.approx(expected.output_change, rel=1e-9)
    assert small.order == 4
    with pytest.raises(lti.ArgumentError, match="start from rest"):
        compress(InChunks(layer), ratio=0.5, calibration=u, refit=True)
