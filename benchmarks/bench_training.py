"""What the Hankel regulariser adds to a training step. Run by ``make bench``."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from lticore_torch import (
    HankelRegularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
)

BATCH = 50


@pytest.mark.parametrize("weight", [0.0, 1e-3], ids=["without", "with"])
@pytest.mark.parametrize(
    ("length", "order", "features", "depth"), [(64, 64, 32, 2), (256, 128, 64, 2)]
)
def test_training_step(benchmark, length, order, features, depth, weight):
    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 10, features, order, depth))
    regularizer = HankelRegularizer(weight)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, labels = torch.randn(BATCH, length, 1), torch.arange(BATCH) % 10

    def step():
        optimizer.zero_grad()
        (cross_entropy(model(inputs), labels) + regularizer(model)).backward()
        optimizer.step()

    benchmark.group = f"training step, L = {length}, n = {order}, h = {features}, depth {depth}"
    benchmark.pedantic(step, rounds=10, warmup_rounds=2)
