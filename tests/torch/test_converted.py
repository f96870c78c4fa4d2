"""What works on layers of other packages once they are converted, whatever their kind."""

import copy
import pickle

import numpy as np
import pytest
import torch
from foreign.kinds import LAYERS, answer, mambapy_model, s5, seeded, transformers_model
from foreign.minimal_lru import LRU as MinimalLRU
from torch import nn

import lticore as lti
from lticore_torch import (
    LRU,
    S4D,
    S5,
    ConversionError,
    HankelRegularizer,
    InTrainingCompressor,
    SelectiveSSM,
    analyze,
    compress,
    convert,
    export_program,
    hankel_sum,
    load,
    save,
)
from lticore_torch.layers import ssm_layers, state_space_layers

#: name → (layer, shape of its input)
SELECTIVE = {
    "mambapy": (lambda: mambapy_model().layers[0].mixer, (2, 30, 6)),
    "transformers": (lambda: transformers_model("MambaModel").layers[0].mixer, (2, 30, 8)),
}
LINEAR = {name: (make, shape) for name, (make, _, _, shape) in LAYERS.items()}
KINDS = {**LINEAR, **SELECTIVE}


class Half(nn.Module):
    """A layer, and half of its outputs: its cotangents are not those of the outputs."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, u):
        return answer(self.layer, u) / 2


def made(name, seed=0):
    """(model with one converted layer, its inputs)"""
    make, shape = KINDS[name]
    converted, _ = convert(Half(seeded(make, seed)))
    return converted, torch.randn(shape)


# --- in every kind --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:layer 'layer")  # of poles that balancing on data reflected
@pytest.mark.parametrize("name", KINDS)
def test_compressed_on_data_and_loaded_into_a_fresh_conversion(name):
    converted, u = made(name)
    whole, _ = compress(converted, ratio=0.0, calibration=u)
    torch.testing.assert_close(whole(u), converted(u), rtol=1e-3, atol=1e-4)
    small, report = compress(converted, ratio=0.5, method="data", calibration=u)
    before = [x.order for x in state_space_layers(converted).values()]
    assert sum(report.orders) == sum(before) / 2
    table = str(analyze(converted, calibration=u))
    assert all(x.name in table for x in report.layers)
    fresh, _ = made(name, seed=5)
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh.eval()(u), small.eval()(u), rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_stored_copied_and_pickled(name, tmp_path):
    converted, u = made(name)
    expected = converted.eval()(u)
    for other in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert torch.equal(other(u), expected)
    for layer in state_space_layers(converted).values():
        save(layer, tmp_path / "layer")
        found = load(tmp_path / "layer")
        x = torch.randn(2, 9, layer.features)
        assert torch.equal(found(x), layer(x))


@pytest.mark.parametrize("name", LINEAR)
def test_hankel_sums_and_compression_in_training(name):
    converted, u = made(name)
    layers = ssm_layers(converted)
    expected = sum(float(np.sum(lti.hankel_sum(x.to_lti()))) for x in layers.values())
    assert float(hankel_sum(converted).detach()) == pytest.approx(expected, rel=1e-5)
    HankelRegularizer(1.0)(converted).backward()
    assert all(p.grad.any() for x in layers.values() for p in x.system_parameters() if p.numel())
    _, report = compress(converted, ratio=0.5)
    assert sum(report.orders) == sum(x.order for x in layers.values()) / 2
    optimizer = torch.optim.Adam(converted.parameters())
    compressor = InTrainingCompressor(converted, optimizer, fraction=0.5, steps=[1])
    for _ in range(2):
        optimizer.zero_grad()
        converted(u).square().sum().backward()
        optimizer.step()
        compressor.step()
    assert {x.order for x in ssm_layers(converted).values()} == set(report.orders)


@pytest.mark.parametrize("name", SELECTIVE)
def test_what_needs_hankel_values_says_that_mamba_has_none(name):
    converted, _ = made(name)
    optimizer = torch.optim.Adam(converted.parameters())
    for asked in (
        lambda: hankel_sum(converted),
        lambda: HankelRegularizer(1.0)(converted),
        lambda: InTrainingCompressor(converted, optimizer, fraction=0.5, steps=[1]),
    ):
        with pytest.raises(lti.ArgumentError, match=r"no time-invariant .*Selec"):
            asked()
    with pytest.raises(lti.ArgumentError, match=r"is selective.*calibration="):
        compress(converted, ratio=0.5)


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", KINDS)
def test_converted_layers_compute_in_half_precision(name, dtype):
    """Parameters rounded to it: a few units of its last place, of sums of 30 terms."""
    converted, u = made(name)
    expected = converted.eval()(u).detach()
    found = copy.deepcopy(converted).to(dtype)(u.to(dtype)).detach()
    assert found.dtype == dtype
    error = float((found.float() - expected).abs().max() / expected.abs().max())
    assert error < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["minimal-LRU", "S4D", "mambapy", "transformers"])
def test_half_precision_is_converted_as_it_is(name, dtype):
    """Compared in float32, in which both hold the same values: most originals do not run in less.
    What it answers is what float32 of the same rounded parameters answers."""
    make, shape = KINDS[name]
    layer = seeded(make).to(dtype)
    converted, report = convert(layer)
    assert report.layers[0].difference < 1e-5
    assert {p.dtype for p in converted.parameters()} == {dtype}
    u = torch.randn(shape)
    expected = answer(layer.float().eval(), u)
    torch.testing.assert_close(answer(converted.float().eval(), u), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("name", ["LRU-pytorch", "s5-pytorch"])
def test_complex_parameters_that_a_cast_made_real_are_named(name):
    layer = seeded(KINDS[name][0]).to(torch.bfloat16)
    with pytest.raises(ConversionError, match=r"of torch.bfloat16, and lost its imaginary part"):
        convert(layer)


@pytest.mark.parametrize("name", KINDS)
def test_parameters_without_values_are_refused(name):
    layer = seeded(KINDS[name][0]).to("meta")
    for check in (True, False):
        with pytest.raises(ConversionError, match="on the meta device and have no values"):
            convert(layer, check=check)


# --- out of torch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LRU-pytorch", "s5-pytorch bidirectional", "mambapy"])
def test_converted_layers_are_exported(name):
    converted, u = made(name)
    expected = converted.eval()(u)
    found = export_program(converted, u).module()(u)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- checkpoints of JAX, by arrays ----------------------------------------------------------------


def test_arrays_of_checkpoints():
    """What JAX packages store, without torch: poles, complex maps and steps as they write them."""
    rng = np.random.default_rng(0)
    b, c = (rng.normal(size=x) + 1j * rng.normal(size=x) for x in ((4, 3), (3, 4)))
    D, u = rng.normal(size=3), rng.normal(size=(20, 3))
    poles = np.exp(-np.exp(rng.normal(size=4)) + 1j * rng.normal(size=4))
    generator, step = -rng.random(4) + 1j * rng.normal(size=4), 0.1 + rng.random(4)
    lru, s5_layer = LRU(3, 8).double(), S5(3, 8).double()
    lru.load_lti(lti.from_lru(poles, b, c, D))
    s5_layer.load_lti(lti.from_s5(generator, b, c, D, step=step))
    sampled = np.exp(generator * step)
    for layer, a, drive, gain in (
        (lru, poles, b, 1),
        (s5_layer, sampled, ((sampled - 1) / generator)[:, None] * b, 2),
    ):
        x, expected = np.zeros(4, complex), []
        for v in u:
            x = a * x + drive @ v
            expected.append(gain * (c @ x).real + D * v)
        found = layer(torch.from_numpy(u)).detach()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
    s4d = S4D(3, 8).double()
    rates = -rng.random((3, 4)) + 1j * rng.normal(size=(3, 4))
    weights = rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))
    s4d.load_lti(lti.from_s4d(rates, weights, D, step=np.full(3, 0.1)))
    response = s4d(torch.eye(20, dtype=torch.float64)[:, :1].expand(20, 3)).detach()
    powers = np.exp(0.1 * rates[..., None] * np.arange(20))
    held = weights * (np.exp(0.1 * rates) - 1) / rates
    kernel = 2 * (held[..., None] * powers).sum(axis=1).real
    kernel[:, 0] += D
    np.testing.assert_allclose(response, kernel.T, rtol=1e-9, atol=1e-10)


# --- what others do to modules --------------------------------------------------------------------


def test_replaced_forwards_are_refused():
    layer = MinimalLRU(4, 3)
    layer.forward = lambda u: MinimalLRU.forward(layer, u) * 2
    with pytest.raises(ConversionError, match="its forward was replaced by a function"):
        convert(nn.Sequential(layer))


def test_layers_that_fail_themselves_are_named():
    class LRU(MinimalLRU):
        def forward(self, u):
            raise RuntimeError("no kernel on this device")

    with pytest.raises(ConversionError, match=r"fails itself .*\(2, 40, 3\) \(no kernel on this"):
        convert(LRU(4, 3))
    converted, report = convert(LRU(4, 3), check=False)
    assert report.layers[0].difference is None
    assert converted(torch.randn(2, 9, 3)).shape == (2, 9, 3)


def test_both_directions_of_an_unstable_s5_are_reflected():
    layer = seeded(lambda: s5(3, 6, bidir=True))
    with torch.no_grad():
        layer.seq.Lambda.real[0] = 0.2
    with pytest.raises(ConversionError, match="spectral radius"):
        convert(layer)
    with pytest.warns(lti.PrecisionWarning, match="2 of 12 states") as caught:
        converted, report = convert(layer, unstable="reflect")
    assert len(report.layers[0].notes) == len(caught) == 2  # one of each direction
    assert all(x.to_lti().spectral_radius < 1 for x in ssm_layers(converted).values())


def test_channel_poles_of_selective_layers_are_those_of_the_original():
    for name in SELECTIVE:
        layer = seeded(SELECTIVE[name][0])
        converted, _ = convert(layer)
        (found,) = (x for x in converted.modules() if isinstance(x, SelectiveSSM))
        assert torch.equal(found.real_log, layer.A_log)
        assert found.real_log.shape == (found.features, found.order)
