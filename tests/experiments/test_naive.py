"""The penalty without structure is the same number, with the same gradient."""

import pytest
import torch

from experiments.naive import naive_bytes, naive_hankel_sum
from lticore_torch import (
    RotationSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    hankel_sum,
)


@pytest.mark.parametrize("order", [4, 7])
def test_naive_penalty_is_the_hankel_penalty(order):
    torch.manual_seed(0)
    layer = RotationSSM(3, order, radius_mean=0.0).double()
    values = []
    for penalty in (naive_hankel_sum, hankel_sum):
        value = penalty(layer)
        gradients = torch.autograd.grad(
            value, layer.system_parameters(), allow_unused=True, materialize_grads=True
        )
        values.append((value.detach().double(), torch.cat([g.flatten() for g in gradients])))
    (naive, naive_gradient), (value, gradient) = values
    assert float(abs(naive - value)) < 1e-5 * float(value)
    assert float((naive_gradient - gradient).norm()) < 1e-3 * float(gradient.norm())


def test_memory_of_the_naive_penalty():
    """HSVR trained with it on sMNIST (4 layers of 128 states), and could not on IMDB (6 of 192)."""
    sizes = []
    for depth, order in ((4, 128), (6, 192)):
        shape = {"inputs": 1, "classes": 2, "features": 2, "order": order, "depth": depth}
        sizes.append(naive_bytes(SequenceClassifier(SequenceClassifierConfig(**shape))))
    assert sizes[0] == 4 * 8 * 128.0**4
    assert sizes[0] < 16e9 < sizes[1]
