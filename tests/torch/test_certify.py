"""The certificate is the one that the formula gives by hand, not only some bound."""

import copy
import math

import numpy as np
import pytest
import torch

import lticore as lti
from lticore.analysis.certificate import GELU_LIPSCHITZ
from lticore_torch import (
    SequenceClassifier,
    SequenceClassifierConfig,
    output_error_bound,
)
from lticore_torch.certificates import certify

#: One state for each of two features; the second is cut. ‖D‖₂ = 0.7.
POLES, C, D = np.array([0.5, 0.8]), np.diag([1.0, 0.1]), np.diag([0.3, -0.7])
LENGTHS = np.array([12, 5, 9])


def layer_system(states):
    return lti.LTI(np.diag(POLES[:states]), np.eye(2)[:states], C[:, :states], D)


def make_models(norm, gate, gain):
    """A classifier of two blocks, and the same with one state in each layer."""
    torch.manual_seed(0)
    config = SequenceClassifierConfig(1, 3, 2, 2, 2, norm=norm, gate=gate)
    model = SequenceClassifier(config).double().eval()
    with torch.no_grad():
        for block in model.blocks:
            block.norm.weight.copy_(gain * torch.tensor([1.0, -0.8]))
            block.norm.bias.copy_(torch.tensor([-0.1, 0.2]))
            block.ssm.load_lti(layer_system(2))
            if norm == "batch":
                block.norm.running_var.copy_(torch.tensor([0.4, 2.0]))
        small = copy.deepcopy(model)
        for block in small.blocks:
            block.ssm.load_lti(layer_system(1))
    return model, small


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def answers(model, x, states):
    """(v, z, y) of each block: its input, and input and output of its layer."""
    p = {
        name: t.detach().numpy() for name, t in (*model.named_parameters(), *model.named_buffers())
    }
    v = x @ p["encoder.weight"].T + p["encoder.bias"]
    valid = (np.arange(x.shape[1]) < LENGTHS[:, None])[..., None]
    seen = []
    for i in range(2):
        own = {name.split(".", 2)[2]: t for name, t in p.items() if name.startswith(f"blocks.{i}")}
        mean, variance = own.get("norm.running_mean"), own.get("norm.running_var")
        if mean is None:
            mean, variance = v.mean(axis=-1, keepdims=True), v.var(axis=-1, keepdims=True)
        z = (v - mean) / np.sqrt(variance + 1e-5) * own["norm.weight"] + own["norm.bias"]
        z = z * valid
        state, y = np.zeros((len(x), states)), np.empty_like(z)
        for k in range(x.shape[1]):
            state = POLES[:states] * state + z[:, k, :states]
            y[:, k] = state @ C[:, :states].T + z[:, k] @ D
        seen.append((v, z, y))
        a = gelu(y)
        if "gate.weight" in own:
            a = a / (1 + np.exp(-a @ own["gate.weight"].T - own["gate.bias"]))
        v = v + a
    return seen


def sizes(z):
    return np.sqrt((z**2).sum(axis=(1, 2)))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("norm", "gate", "gain", "capped"),
    [
        ("batch", "gelu", 0.2, False),
        ("batch", "gelu", 4.0, True),  # by the sizes of the inputs
        ("layer", "gelu", 0.2, True),
        ("layer", "gelu", 0.005, False),
        ("batch", "half-glu", 0.2, False),
    ],
)
def test_the_bound_by_hand(norm, gate, gain, capped, large, monkeypatch):
    """E_l = E_{l−1} + Lip(N)[‖S − Ŝ‖ U_l + (‖Ŝ‖ + ‖D‖) min(Lip(F) E_{l−1}, U_l + Û_l)]."""
    model, small = make_models(norm, gate, gain)
    x = np.random.default_rng(1).normal(size=(3, 12, 1))
    # c b/(1 − λ) of one pole; twice its Hankel value is 2 c b/(1 − λ²).
    kept, cut = 1 / (1 - 0.5), 0.1 / (1 - 0.8)
    if large:
        monkeypatch.setattr(certify, "_LARGEST_PENCIL", 0)
        kept, cut = 2 / (1 - 0.5**2), 2 * 0.1 / (1 - 0.8**2)
    error = np.zeros(3)
    both = zip(answers(model, x, 2), answers(small, x, 1), strict=True)
    for block, ((v, z, y), (v_small, z_small, y_small)) in zip(model.blocks, both, strict=True):
        weight = np.abs(block.norm.weight.detach().numpy())
        if norm == "batch":
            slope = (weight / np.sqrt(block.norm.running_var.numpy() + 1e-5)).max()
        else:
            smallest = min(v.var(axis=-1).min(), v_small.var(axis=-1).min())
            slope = weight.max() / np.sqrt(smallest + 1e-5)
        nonlinearity = GELU_LIPSCHITZ
        if gate == "half-glu":
            largest = np.minimum(*(np.abs(gelu(t)).max(axis=(1, 2)) for t in (y, y_small)))
            G = np.linalg.norm(block.gate.weight.detach().numpy(), 2)
            nonlinearity = GELU_LIPSCHITZ * (1 + G * largest / 4)
        carried = np.array([slope * error, sizes(z) + sizes(z_small)])
        chosen, carried = carried.argmin(axis=0), carried.min(axis=0)
        error = error + nonlinearity * (cut * sizes(z) + (kept + 0.7) * carried)
    decoder = np.linalg.norm(model.decoder.weight.detach().numpy(), 2)
    expected = decoder * error / np.sqrt(LENGTHS)
    assert np.all(chosen == capped)
    bound = output_error_bound(model, small, (torch.tensor(x), torch.tensor(LENGTHS)))
    # h∞ norms come to rtol = 1e-6 and are raised by as much; two of them are multiplied.
    assert np.all(bound >= expected * (1 - 1e-12))
    np.testing.assert_allclose(bound, expected, rtol=1e-12 if large else 5e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_the_difference_of_two_systems_answers_by_the_difference(dense):
    random = np.random.default_rng(0)
    systems = [
        lti.LTI(A, random.normal(size=(A.order, 2)), random.normal(size=(3, A.order)))
        for A in (
            lti.Rotation([0.9, 0.6], [0.4, 2.0], [0.5]),
            lti.Rotation([0.8], [1.0], [-0.3, 0.7]),
        )
    ]
    if dense:
        systems[0] = systems[0].to_dense()
    omega = np.linspace(0, np.pi, 7)
    first, second, difference = (
        lti.frequency_response(sys, omega) for sys in (*systems, certify._difference(*systems))
    )
    np.testing.assert_allclose(difference, first - second, rtol=0, atol=1e-13)
