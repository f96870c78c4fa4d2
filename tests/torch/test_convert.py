"""Layers of other packages inside a model, before and after their conversion."""

import copy
import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign.kinds import LAYERS, answer, from_package, s5, seeded
from foreign.minimal_lru import LRU as MinimalLRU
from foreign.s4d import S4D as ForeignS4D
from torch import nn
from torch.nn.utils import parametrizations, prune

import lticore as lti
from lticore_torch import (
    LRU,
    S4D,
    ConversionError,
    HankelRegularizer,
    InTrainingCompressor,
    RotationSSM,
    SSMLayer,
    analyze,
    compress,
    convert,
    hankel_sum,
    load,
    register_conversion,
    save,
    ssm_layers,
)
from lticore_torch.conversion import registry

ROOT = Path(__file__).parents[2]


class Model(nn.Module):
    """A user's own module tree."""

    def __init__(self, *layers):
        super().__init__()
        self.encoder = nn.Linear(2, 3)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(3, 4)

    def forward(self, u):
        x = self.encoder(u)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.head(x.mean(dim=1))


def model_of_lrus(count=2, seed=0):
    torch.manual_seed(seed)
    return Model(*(MinimalLRU(4, 3) for _ in range(count)))


# --- what converted layers compute -------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_those_of_the_original(name):
    """To float32 rounding, over more steps than the check looks at."""
    make, kind, order, shape = LAYERS[name]
    layer = seeded(make)
    converted, report = convert(layer)
    assert dict(report) == {"": kind}
    assert report.layers[0].difference < 1e-5
    found = list(ssm_layers(converted).values())
    assert [type(x).__name__ for x in found] == [kind] * (2 if "bidirectional" in name else 1)
    assert {x.order for x in found} == {order}
    u = torch.randn(shape)
    expected = answer(layer, u)
    torch.testing.assert_close(answer(converted, u), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_the_original(name):
    """Parameters are copied, not fitted: what trains one trains the other."""
    make, _, _, shape = LAYERS[name]
    layer = seeded(make)
    converted, _ = convert(layer)
    u = torch.randn(shape)
    gradients = []
    for module in (layer, converted):
        x = u.clone().requires_grad_()
        answer(module, x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4)
    assert all(p.grad is not None for p in converted.parameters() if p.requires_grad and p.numel())


def test_minimal_lru_in_double_precision_is_exact():
    layer = seeded(lambda: MinimalLRU(4, 3)).double()
    converted, report = convert(layer)
    assert converted.B.dtype == torch.float64
    u = torch.randn(2, 200, 3, dtype=torch.float64)
    torch.testing.assert_close(converted(u), layer(u), rtol=1e-12, atol=1e-13)
    assert report.layers[0].difference < 1e-13


def test_s4d_in_double_precision_is_exact():
    layer = seeded(lambda: ForeignS4D(3, 8)).double()
    converted, _ = convert(layer)
    u = torch.randn(2, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(answer(converted, u), answer(layer, u), rtol=1e-11, atol=1e-12)
    response = layer.kernel(20) + nn.functional.pad(layer.D[:, None], (0, 19))
    markov = lti.impulse_response(converted.ssm.to_lti(), 21)[..., 0, 0]
    expected = markov[:, 1:] + np.eye(1, 20) * markov[:, :1]
    np.testing.assert_allclose(response.detach(), expected, rtol=1e-11, atol=1e-12)


def test_trained_flags_precision_and_mode_are_kept():
    layer = seeded(lambda: MinimalLRU(4, 3)).double().eval()
    layer.nu_log.requires_grad_(False)
    layer.B_re.requires_grad_(False)
    converted, _ = convert(layer)
    flags = {name: p.requires_grad for name, p in converted.named_parameters() if p.numel()}
    # B holds both parts, one of which is trained.
    trained = dict.fromkeys(("theta_log", "gamma_log", "B", "C", "D"), True)
    assert flags == {"nu_log": False, **trained}
    assert {p.dtype for p in converted.parameters()} == {torch.float64}
    assert not converted.training


# --- inside a model ---------------------------------------------------------------------------


def test_the_model_stays_the_users():
    model = model_of_lrus()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    converted, report = convert(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(report) == {"layers.0": "LRU", "layers.1": "LRU"}
    assert type(converted) is Model
    assert isinstance(converted.layers[0], LRU)
    assert isinstance(model.layers[0], MinimalLRU)
    with torch.no_grad():
        for p in converted.parameters():
            p.add_(1)
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])


def test_the_model_stays_the_users_around_kept_modules():
    model = seeded(lambda: ForeignS4D(3, 8))
    before = copy.deepcopy(model.state_dict())
    converted, _ = convert(model)
    with torch.no_grad():
        for p in converted.parameters():
            p.add_(1)
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])


def test_the_report_is_a_table():
    model = model_of_lrus()
    _, report = convert(model, exclude=["layers.1"])
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "was", "is", "difference"]
    assert lines[1].split()[:3] == ["layers.0", "foreign.minimal_lru.LRU", "LRU"]
    assert lines[2].split() == ["layers.1", "foreign.minimal_lru.LRU", "excluded", "-"]
    assert report["layers.0"] == "LRU"
    assert report.remaining == {"layers.1": "foreign.minimal_lru.LRU"}


def test_everything_works_on_the_converted_model(tmp_path):
    converted, _ = convert(model_of_lrus())
    u = torch.randn(8, 40, 2)
    assert float(hankel_sum(converted).detach()) == pytest.approx(
        sum(lti.hankel_sum(x.to_lti()) for x in converted.layers), rel=1e-5
    )
    HankelRegularizer(1.0)(converted).backward()
    assert all(layer.nu_log.grad.abs().sum() > 0 for layer in converted.layers)
    assert "layers.1" in str(analyze(converted, calibration=u))
    small, report = compress(converted, ratio=0.5, method="data", calibration=u)
    assert [layer.order for layer in report.layers] != [8, 8]
    optimizer = torch.optim.Adam(converted.parameters())
    compressor = InTrainingCompressor(converted, optimizer, fraction=0.5, steps=[1])
    small_before = [layer.order for layer in converted.layers]
    converted(u).square().sum().backward()
    optimizer.step()
    compressor.step()
    assert [layer.order for layer in converted.layers] != small_before
    save(small.layers[0], tmp_path / "layer")
    loaded = load(tmp_path / "layer")
    x = torch.randn(2, 9, 3)
    assert torch.equal(loaded(x), small.layers[0].eval()(x))
    fresh, _ = convert(model_of_lrus(seed=5))
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh(u), small(u), rtol=0, atol=0)


def test_one_module_at_two_places_stays_one():
    layer = seeded(lambda: MinimalLRU(4, 3))
    model = Model(layer, nn.Sequential(layer), MinimalLRU(4, 3))
    model.referred_to = [layer]  # not a module of the tree
    converted, report = convert(model)
    one = converted.layers[0]
    assert converted.layers[1][0] is one
    assert converted.referred_to[0] is one
    assert converted.layers[2] is not one
    assert dict(report) == dict.fromkeys(("layers.0", "layers.1.0", "layers.2"), "LRU")
    assert [x.name for x in report.layers] == ["layers.0", "layers.2"]
    u = torch.randn(2, 7, 2)
    torch.testing.assert_close(converted(u), model(u), rtol=1e-4, atol=1e-5)


# --- own conversions ----------------------------------------------------------------------------


class Leaky(nn.Module):
    """x_k = a x_{k−1} + u_k, y = x."""

    def __init__(self, *rates):
        super().__init__()
        self.rates = nn.Parameter(torch.tensor(rates))

    def forward(self, u):
        x, outputs = 0, []
        for step in u.unbind(dim=-2):
            x = self.rates * x + step
            outputs.append(x)
        return torch.stack(outputs, dim=-2)


@pytest.fixture
def leaky(monkeypatch):
    """Registered for the length of a test."""

    def from_leaky(layer, unstable):
        n = len(layer.rates)
        ours = RotationSSM(n, n, real_poles=n)
        A = lti.Rotation(np.zeros(0), np.zeros(0), layer.rates.detach().double().numpy())
        ours.load_lti(lti.LTI(A, np.eye(n), np.eye(n)), unstable=unstable)
        return ours

    monkeypatch.setattr(registry, "_CONVERSIONS", dict(registry._CONVERSIONS))
    register_conversion(Leaky, from_leaky)


@pytest.mark.usefixtures("leaky")
def test_own_conversions():
    model = nn.Sequential(nn.Linear(3, 2), Leaky(0.5, -0.9), MinimalLRU(4, 2))
    converted, report = convert(model)
    assert dict(report) == {"1": "RotationSSM", "2": "LRU"}
    u = torch.randn(2, 25, 3)
    torch.testing.assert_close(converted(u), model(u), rtol=1e-4, atol=1e-5)
    assert isinstance(converted[1], SSMLayer)


@pytest.mark.usefixtures("leaky")
def test_the_longest_name_counts():
    register_conversion("Leaky", lambda layer, unstable: LRU(2, 4))
    assert isinstance(convert(Leaky(0.5, 0.1))[0], RotationSSM)
    register_conversion(Leaky, lambda layer, unstable: LRU(2, 4))
    with pytest.raises(ConversionError, match="differ by"):
        convert(Leaky(0.5, 0.1))
    converted, report = convert(Leaky(0.5, 0.1), check=False)
    assert isinstance(converted, LRU)
    assert report.layers[0].difference is None
    assert str(report).splitlines()[1].split()[-2:] == ["LRU", "-"]


def test_the_example_of_an_own_conversion(monkeypatch):
    """One input, many outputs, and a dense D of zeros."""
    monkeypatch.setattr(registry, "_CONVERSIONS", dict(registry._CONVERSIONS))
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/own_conversion.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert len(inspect.getsource(example.from_memory).splitlines()) <= 10
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 1), example.Memory(6, 20.0)))
    converted, report = convert(model)
    assert dict(report) == {"1": "RotationSSM"}
    assert (converted[1].features, converted[1].outputs, converted[1].order) == (1, 6, 6)
    u = torch.randn(2, 60, 3)
    torch.testing.assert_close(converted(u), model(u), rtol=1e-3, atol=1e-4)
    long = seeded(lambda: example.Memory(12, 50.0)).double()
    _, report = convert(long)
    assert report.layers[0].difference < 1e-8
    with pytest.raises(ConversionError, match="or its modes need float64"):
        convert(long.float())
    small, _ = compress(converted, ratio=0.5)
    assert small[1].order == 3
    assert small(u).shape == (2, 60, 6)


def test_names_that_are_none_are_refused():
    for wrong in ("", "no name.Layer", 3):
        with pytest.raises(lti.ArgumentError, match="neither a class nor the qualified name"):
            register_conversion(wrong, lambda layer, unstable: layer)


# --- unstable poles ---------------------------------------------------------------------------


@pytest.mark.usefixtures("leaky")
def test_unstable_poles_are_refused_or_reflected():
    model = nn.Sequential(Leaky(0.5, -1.25))
    with pytest.raises(ConversionError, match=r"spectral radius 1\.25.* unstable=\"reflect\""):
        convert(model)
    with pytest.warns(lti.PrecisionWarning, match=r"layer '0': 1 of 2 states .* up to 1\.25"):
        converted, report = convert(model, unstable="reflect")
    assert "1 of 2 states" in report.layers[0].notes[0]
    assert "1 of 2 states" in str(report)
    assert report.layers[0].difference > 0.1
    np.testing.assert_allclose(converted[0].to_lti().A.real_poles, [0.5, -0.8], rtol=1e-6)


def test_an_unstable_s5_is_reflected_mode_by_mode():
    """|H| of each mode is kept, as is what was stable."""
    layer = seeded(lambda: s5(3, 6))
    with torch.no_grad():
        layer.seq.Lambda.real[:2] = torch.tensor([0.3, 0.01])
    with pytest.raises(ConversionError, match="spectral radius"):
        convert(layer)
    with pytest.warns(lti.PrecisionWarning, match="4 of 12 states"):
        converted, _ = convert(layer, unstable="reflect")
    seq = layer.seq
    poles, B = seq.discretize(seq.Lambda, seq.get_BC_tilde()[0], seq.log_step.exp())
    poles, B, C = (x.detach().numpy().astype(complex) for x in (poles, B, seq.C))
    frequencies = np.linspace(0.01, 3, 20)
    z = np.exp(1j * frequencies)[:, None]
    outside = np.abs(poles) > 1
    assert outside.sum() == 2
    moved = np.where(outside, 1 / poles.conj(), poles)
    gain = 1 / np.where(outside, np.abs(poles), 1)
    np.testing.assert_allclose(np.abs(gain / (z - moved)), np.abs(1 / (z - poles)), rtol=1e-10)
    # Re(c x) of real inputs: half of the modes and half of their conjugates.
    expected = sum(
        np.einsum("pq,fq,qm->fpm", c, g / (z - p), b) / 2
        for c, b, p, g in [(C, B, moved, gain), (C.conj(), B.conj(), moved.conj(), gain)]
    )
    found = lti.frequency_response(converted.to_lti(), frequencies) - np.diag(
        seq.D.detach().numpy()
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [RotationSSM, LRU, S4D])
def test_load_reflects(kind):
    rng = np.random.default_rng(0)
    channels = 2 if kind is S4D else 1
    A = lti.Rotation(*(np.stack([x] * channels) for x in ([1.1, 0.7], [0.4, 1.0], [-1.3, 0.2])))
    m, p = (1, 1) if kind is S4D else (2, 2)
    B, C = rng.normal(size=(channels, 6, m)), rng.normal(size=(channels, p, 6))
    sys = lti.LTI(A, B, C) if kind is S4D else lti.LTI(A, B, C)[0]
    layer = kind(2, 4).double()
    with pytest.raises(lti.UnstableSystemError, match=r"1\.3.*reflect"):
        layer.load_lti(sys)
    with pytest.warns(lti.PrecisionWarning, match=r"3 of 6 states .* 1\.3:.* changes the"):
        layer.load_lti(sys, unstable="reflect")
    scale = np.array([1 / 1.1, 1 / 1.1, 1, 1, 1 / 1.3, 1])[:, None]
    moved = lti.Rotation([1 / 1.1, 0.7], [0.4, 1.0], [-1 / 1.3, 0.2])
    found = layer.to_lti()
    for one, b, c in zip(list(found) if kind is S4D else [found], B, C, strict=True):
        expected = lti.LTI(moved, scale * b, c)
        assert lti.hinf_error(lti.LTI(one.A, one.B, one.C), expected) < 1e-9


def test_poles_on_the_circle_come_as_near_as_they_can():
    sys = lti.LTI(lti.Rotation([], [], [1.0, -1.0]), np.ones((2, 1)), np.ones((1, 2)))
    layer = RotationSSM(1, 2).double()
    with (
        pytest.warns(lti.PrecisionWarning, match="2 of 2 states"),
        pytest.warns(lti.PrecisionWarning, match="poles next to each other or to the unit circle"),
    ):
        layer.load_lti(sys, unstable="reflect")
    gaps = 1 - np.abs(layer.to_lti().A.real_poles)
    assert ((gaps > 0) & (gaps < 1e-12)).all()


def test_stable_systems_load_without_a_word():
    layer = RotationSSM(2, 4).double()
    layer.load_lti(layer.to_lti(), unstable="reflect")


# --- what cannot be converted -------------------------------------------------------------------


class Unlike(MinimalLRU):
    """γ instead of e^γ: a class of this name and these parameters exists in public."""

    def scale(self):
        return self.gamma_log


Unlike.__name__ = Unlike.__qualname__ = "LRU"


def test_another_formula_under_the_same_name_is_seen():
    model = seeded(lambda: Model(MinimalLRU(4, 3), Unlike(4, 3)))
    with pytest.raises(ConversionError) as caught:
        convert(model)
    message = str(caught.value)
    assert "1 of 2 layers cannot be converted" in message
    assert "'layers.1'" in message
    assert "differ by" in message
    assert "exclude=['layers.1'] leaves them as they are and converts layers.0" in message
    converted, report = convert(model, exclude=["layers.1"])
    assert dict(report) == {"layers.0": "LRU"}
    assert isinstance(converted.layers[1], Unlike)


def test_layers_that_are_not_linear_are_named():
    make = from_package("s5", "S5")
    for options, why in (({"liquid": True}, "liquid=True"), ({"degree": 2}, "degree=2")):
        with pytest.raises(ConversionError, match=f"S5: .*{why}.* not linear"):
            convert(make(3, 3, **options))


def test_classes_with_other_parameters_are_named():
    class LRU(nn.Linear):
        pass

    with pytest.raises(ConversionError, match=r"has no nu_log.* only bias, weight"):
        convert(nn.Sequential(LRU(2, 2)))
    layer = MinimalLRU(4, 3)
    layer.D = nn.Parameter(torch.zeros(2))
    with pytest.raises(ConversionError, match=r"D \(2,\), which do not fit B of shape \(4, 3\)"):
        convert(layer)


def test_models_without_such_layers_are_named():
    with pytest.raises(
        lti.ArgumentError, match=r"no layer to convert, only LRU, Linear; .*s4d.S4D"
    ):
        convert(nn.Sequential(nn.Linear(2, 2), LRU(2, 4)))
    with pytest.raises(lti.ArgumentError, match="is a dict"):
        convert({})
    model = model_of_lrus()
    with pytest.raises(lti.ArgumentError, match=r"exclude names \['layers.2'\], .* 'layers.1'"):
        convert(model, exclude=["layers.2"])
    with pytest.raises(lti.ArgumentError, match="no layer to convert"):
        convert(model, exclude=["layers.0", "layers.1"])
    with pytest.raises(lti.ArgumentError, match="unstable='drop'"):
        convert(model, unstable="drop")


def test_compiled_scripted_and_parallel_modules_are_refused():
    model = model_of_lrus()
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        with pytest.raises(lti.ArgumentError, match=r"'the model', a .*the module that was"):
            convert(wrapped)
    inside = nn.Sequential(nn.Linear(3, 3), torch.compile(MinimalLRU(4, 3)))
    with pytest.raises(lti.ArgumentError, match="'1', a OptimizedModule"):
        convert(inside)
    traced = torch.jit.trace(MinimalLRU(4, 3), torch.randn(2, 5, 3))
    with pytest.raises(lti.ArgumentError, match="'1' is a scripted or traced LRU"):
        convert(nn.Sequential(nn.Linear(3, 3), traced))
    # What is compiled beside the layers stays compiled.
    other = nn.Sequential(torch.compile(nn.Linear(3, 3)), MinimalLRU(4, 3))
    converted, _ = convert(other)
    u = torch.randn(1, 4, 3)
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(converted(u), other(u), rtol=1e-4, atol=1e-5)


def test_what_others_put_on_a_layer_is_not_dropped():
    layer = MinimalLRU(4, 3)
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(ConversionError, match="has hooks"):
        convert(layer)
    with pytest.raises(ConversionError, match=r"its B_re is made of.*remove_parametrizations"):
        convert(parametrizations.weight_norm(MinimalLRU(4, 3), "B_re"))
    pruned = MinimalLRU(4, 3)
    prune.l1_unstructured(pruned, "C_re", amount=0.5)
    with pytest.raises(ConversionError, match=r"its C_re is made of.*prune\.remove"):
        convert(pruned)


def test_a_parameter_of_two_layers_is_refused():
    model = model_of_lrus()
    model.layers[1].D = model.layers[0].D
    with pytest.raises(ConversionError, match=r"its D is also the D of 'layers.1'") as caught:
        convert(model)
    assert "2 of 2 layers" in str(caught.value)


@pytest.mark.parametrize("name", LAYERS)
def test_complex_inputs_are_refused(name):
    make, _, _, shape = LAYERS[name]
    converted, _ = convert(seeded(make))
    with pytest.raises(lti.DtypeError, match="complex64"):
        converted(torch.zeros(shape, dtype=torch.complex64))


@pytest.mark.parametrize("name", LAYERS)
def test_sequences_of_no_steps(name):
    """Nothing in, nothing out; what a convolution comes after refuses them."""
    make, kind, _, shape = LAYERS[name]
    converted, _ = convert(seeded(make))
    none = [n if n != 30 and n != 9 else 0 for n in shape]
    if kind == "S4D":
        with pytest.raises(lti.ShapeError, match="no steps"):
            converted(torch.zeros(none))
    else:
        y = converted(torch.zeros(none))
        assert y.shape[:-1] == torch.Size(none[:-1])
