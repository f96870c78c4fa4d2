"""What the processes of test_compiled.py compute: compiled by the default backend and as it is."""

from __future__ import annotations

import os

import held
import torch
from layer_kinds import make
from torch.nn import functional

from lticore_torch import (
    Bidirectional,
    HankelRegularizer,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
)
from lticore_torch.layers.sampled import sampled_zoh

#: Sizes (batch, steps) of inputs that share one graph.
SIZES = ((2, 32), (3, 33), (5, 70), (2, 130))


def run(cache, check, arguments, options):
    """With two threads, whatever the machine has: code for one thread is other code."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    torch.set_num_threads(2)
    globals()[check](*arguments, **options)


def module(name, dtype):
    """A layer by its kind, or "both ways", "block" or "classifier of" such a kind."""
    torch.manual_seed(0)
    *around, kind = name.split(" of ")
    if around == ["classifier"]:
        return SequenceClassifier(SequenceClassifierConfig(4, 3, 4, 8, 2, layer=kind)).to(dtype)
    order = 9 if kind in ("rotation real", "s5 blocks") else 8
    layer = make(kind, 4, order)
    if around == ["both ways"]:
        layer = Bidirectional(layer, make(kind, 4, order, seed=1))
    if around == ["block"]:
        layer = SequenceBlock(layer)
    return layer.to(dtype)


def check(
    name,
    *,
    dtype=torch.float32,
    sizes=SIZES[:1],
    dynamic=None,
    training=True,
    keep_states=True,
    graphs=1,
):
    """Values and gradients; ``graphs``: how many are compiled for all sizes."""
    model = module(name, dtype).train(training)
    for part in model.modules():
        if hasattr(part, "keep_states"):
            part.keep_states = keep_states
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic)
    for size in sizes:
        u = torch.randn(*size, 4, dtype=dtype)
        found, expected = (results(f, model, u, training) for f in (compiled, model))
        assert_same(found, expected, tolerance(dtype))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def tolerance(dtype):
    """Both sum some √(L n) < 40 rounding errors in single numbers, of terms that may cancel."""
    return 256 * torch.finfo(dtype).eps


def check_sampling():
    """Kernels over vectors have a function e^x − 1 that cancels (torch 2.13)."""
    held.assert_exact(torch.compile(sampled_zoh, fullgraph=True))


def check_autocast(name, inside):
    """Layers compute ``inside`` in full precision. Gates and maps round to eight bits, one way
    between more operations than the other: then both are about as far from the exact numbers."""
    model, u = module(name, torch.float32), torch.randn(2, 32, 4)
    compiled = torch.compile(model, fullgraph=True)

    def rounded(run):
        def cast(u):
            with torch.autocast("cpu", torch.bfloat16):
                return run(u)

        return results(cast, model, u)

    found, expected = rounded(compiled), rounded(model)
    if inside:
        assert_same(found, expected, tolerance(torch.float32))
        return
    exact_model = module(name, torch.float64)
    exact = results(exact_model, exact_model, u.double())
    assert largest_error(found, exact) <= 3 * largest_error(expected, exact)


def largest_error(found, exact):
    numbers = {name: x for name, x in exact.items() if x.numel()}
    return max((found[name] - x).abs().max() / x.abs().max() for name, x in numbers.items())


def check_vocabulary(name):
    """Gradients of an embedding, which are sums by index too."""
    torch.manual_seed(0)
    config = SequenceClassifierConfig(1, 3, 20, 12, 1, layer=name, vocabulary=40)
    model, x = SequenceClassifier(config), torch.randint(0, 40, (3, 50))
    lengths = torch.tensor([50, 30, 7])
    compiled = torch.compile(model, fullgraph=True)

    def both(run):
        y = run(x, lengths)
        found = torch.autograd.grad((y * torch.arange(3)).sum(), list(model.parameters()))
        return {"y": y, **dict(zip(dict(model.named_parameters()), found, strict=True))}

    assert_same(both(compiled), both(model), tolerance(torch.float32))


def results(run, model, u, training=True):
    """Of a forward pass, and in training of the backward pass."""
    if not training:
        with torch.no_grad():
            return {"y": run(u)}
    u = u.clone().requires_grad_()
    y = run(u)
    named = {"u": u, **{n: p for n, p in model.named_parameters() if p.requires_grad}}
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    found = torch.autograd.grad((y * weights).sum(), named.values())
    return {"y": y.detach(), **dict(zip(named, found, strict=True))}


def assert_same(found, expected, allowed):
    for name, x in expected.items():
        assert found[name].dtype == x.dtype, name
        assert found[name].shape == x.shape, name
        if x.numel():
            error = (found[name] - x).abs().max() / x.abs().max()
            assert error <= allowed, f"{name} is off by {error}"


def check_states(name, dtype=torch.float64):
    """From a state to a state."""
    layer, u = module(name, dtype), torch.randn(2, 9, 4, dtype=dtype)
    state = layer.step(u[:, 0])[1].detach()
    compiled = torch.compile(layer, fullgraph=True)

    def both(run):
        start = state.clone().requires_grad_()
        y, last = run(u, state=start, return_state=True)
        named = {"state": start, **dict(layer.named_parameters())}
        found = torch.autograd.grad(y.square().sum() + last.sum(), named.values())
        return {"y": y, "last": last, **dict(zip(named, found, strict=True))}

    assert_same(both(compiled), both(layer), tolerance(dtype))


def check_step(name, dtype=torch.float32):
    layer, u = module(name, dtype), torch.randn(2, 4, dtype=dtype)
    step = torch.compile(layer.step, fullgraph=True)
    with torch.no_grad():
        found = expected = None
        for _ in range(3):
            y, found = step(u, found)
            y_plain, expected = layer.step(u, expected)
            both = {"y": y, "state": found}, {"y": y_plain, "state": expected}
            assert_same(*both, tolerance(dtype))


def check_training(name, dtype=torch.float64, steps=4):
    """Losses of some steps, with a Hankel penalty in them, and the parameters after them."""
    u, labels = torch.randn(6, 20, 4, dtype=dtype), torch.arange(6) % 3
    penalty = HankelRegularizer(1e-2)

    def trained(wrap):
        model = module(name, dtype).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        loss_of = wrap(lambda: functional.cross_entropy(model(u), labels) + penalty(model))
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return {"losses": torch.stack(losses), **dict(model.named_parameters())}

    # Adam divides gradients by their size: a rounding error of one that is nearly zero counts.
    allowed = 1e-10 if dtype == torch.float64 else 1e-4
    assert_same(trained(torch.compile), trained(lambda run: run), allowed)


def check_penalty(name, function="nuclear", fullgraph=True):
    """In one graph where no number of states depends on buffers, as in S4D."""
    model, penalty = module(name, torch.float64), HankelRegularizer(0.1, function)

    def both(run):
        value = run(model)
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(value, named.values(), allow_unused=True)
        return {"value": value} | {n: g for n, g in zip(named, found, strict=True) if g is not None}

    compiled = torch.compile(penalty, fullgraph=fullgraph)
    assert_same(both(compiled), both(penalty), 1e-12)


def crash():
    os.abort()
