"""Gates of blocks that are more than a plain linear map: what they are is what is computed."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from lticore_torch import (
    RotationSSM,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
)
from lticore_torch.certificates.certify import certifiable


def make_block(gate="half-glu"):
    torch.manual_seed(0)
    return SequenceBlock(RotationSSM(4, 6), gate=gate).eval()


def composed(block, v):
    """The block by its published formula, every module called as it is."""
    z = block.ssm(block.norm(v.flatten(0, -2)).reshape(v.shape))
    a = functional.gelu(z)
    w = block.gate(a)
    if w.shape == a.shape:
        return v + a * torch.sigmoid(w)
    value, gate = w.chunk(2, dim=-1)
    return v + value * torch.sigmoid(gate)


class Adapter(nn.Module):
    """W a + b + U V a, as low-rank adaptation has it."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, 1, bias=False)
        self.up = nn.Linear(1, linear.out_features, bias=False)

    def forward(self, a):
        return self.linear(a) + self.up(self.down(a))


def hooked(block):
    block.gate.register_forward_hook(lambda module, args, output: output + 1)


def hooked_before(block):
    block.gate.register_forward_pre_hook(lambda module, args: (2 * args[0],))


def weight_normed(block):
    parametrizations.weight_norm(block.gate)
    with torch.no_grad():
        block.gate.parametrizations.weight.original0.mul_(3)


def pruned(block):
    prune.l1_unstructured(block.gate, "weight", amount=0.5)


def adapted(block):
    block.gate = Adapter(block.gate)


def without_bias(block):
    block.gate = nn.Linear(4, block.gate.out_features, bias=False)


CHANGES = [hooked, hooked_before, weight_normed, pruned, adapted, without_bias]


@pytest.mark.parametrize("gate", ["half-glu", "glu"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_gate_as_it_is_takes_part(change, gate):
    block, v = make_block(gate), torch.randn(2, 5, 4)
    before = block(v)
    torch.testing.assert_close(before, composed(block, v))
    change(block)
    after = block(v)
    torch.testing.assert_close(after, composed(block, v))
    assert (after - before).abs().max() > 1e-3


def test_backward_hooks_of_the_gate_run():
    block, seen = make_block(), []
    block.gate.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs))
    block(torch.randn(2, 5, 4)).sum().backward()
    assert len(seen) == 1


def test_parameters_of_a_parametrised_gate_train():
    block = make_block()
    weight_normed(block)
    block(torch.randn(2, 5, 4)).sum().backward()
    for p in block.gate.parameters():
        assert p.grad is not None
        assert p.grad.any()


@pytest.mark.filterwarnings("ignore")  # torch's, of its own quantised tensors
def test_gates_quantised_dynamically():
    """Weights in 8 bits: half a unit of the last place of the largest weight for each of 4 terms,
    and the same of the activations."""
    block, v = make_block(), torch.randn(2, 5, 4)
    exact = block(v)
    quantised = torch.ao.quantization.quantize_dynamic(block, {nn.Linear})
    assert type(quantised.gate) is not nn.Linear
    found = quantised(v)
    torch.testing.assert_close(found, composed(quantised, v))
    assert 0 < (found - exact).abs().max() < 0.05


def test_a_gate_that_is_no_plain_linear_map_has_no_certificate():
    model = SequenceClassifier(SequenceClassifierConfig(2, 3, 4, 6, 2))
    assert certifiable(model)
    hooked(model.blocks[1])
    assert not certifiable(model)
