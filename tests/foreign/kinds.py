"""Layers and models of other packages that `convert` knows."""

import pytest
import torch

from .minimal_lru import LRU as MinimalLRU
from .s4d import S4D as ForeignS4D


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


def from_package(package, name):
    return getattr(pytest.importorskip(package), name)


def s5(width, states, **options):
    """Of s5-pytorch, with poles that no longer are conjugate to each other."""
    layer = from_package("s5", "S5")(width, states, **options)
    seq = layer.seq
    with torch.no_grad():
        seq.Lambda += 0.05 * torch.randn(states, dtype=torch.complex64)
        seq.log_step += 0.3 * torch.randn(states)
        seq.D -= 1
    return layer


def bilinear_s5(width, states):
    layer = s5(width, states)
    layer.seq.discretize = layer.seq.discretize.__globals__["discretize_bilinear"]
    return layer


#: name → (layer, class that takes the recurrence's place, its states, an input)
LAYERS = {
    "LRU-pytorch": (lambda: from_package("LRU_pytorch", "LRU")(3, 5, 4), "LRU", 8, (2, 30, 3)),
    "LRU-pytorch square": (lambda: from_package("LRU_pytorch", "LRU")(3, 3, 4), "LRU", 8, (9, 3)),
    "minimal-LRU": (lambda: MinimalLRU(4, 3), "LRU", 8, (2, 30, 3)),
    "s5-pytorch": (lambda: s5(3, 6), "S5", 12, (2, 30, 3)),
    "s5-pytorch blocks": (lambda: s5(3, 6, block_count=3), "S5", 12, (2, 30, 3)),
    "s5-pytorch bilinear": (lambda: bilinear_s5(3, 6), "S5", 12, (2, 30, 3)),
    "s5-pytorch complex": (lambda: s5(3, 6, bcInit="complex_normal"), "S5", 12, (2, 30, 3)),
    "s5-pytorch recurrence": (lambda: s5(3, 6).seq, "S5", 12, (30, 3)),
    "s5-pytorch bidirectional": (lambda: s5(3, 6, bidir=True), "S5", 12, (2, 30, 3)),
    "S4D": (lambda: ForeignS4D(3, 8), "S4D", 8, (2, 3, 30)),
    "S4D features last": (lambda: ForeignS4D(3, 8, transposed=False), "S4D", 8, (2, 30, 3)),
}


def answer(module, u):
    y = module(u)
    return y[0] if isinstance(y, tuple) else y


def scattered(model, seed=0):
    """Every parameter moved, so that nothing is as it is initialised."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def mambapy_model(**options):
    mamba = pytest.importorskip("mambapy.mamba")
    torch.manual_seed(0)
    config = {"d_model": 6, "n_layers": 2, "d_state": 4, **options}
    return scattered(mamba.Mamba(mamba.MambaConfig(**config)))


def transformers_model(name="MambaForCausalLM", **options):
    transformers = pytest.importorskip("transformers")
    config = {
        "vocab_size": 20,
        "hidden_size": 8,
        "state_size": 4,
        "num_hidden_layers": 2,
        **options,
    }
    torch.manual_seed(0)
    return scattered(getattr(transformers, name)(transformers.MambaConfig(**config)))
