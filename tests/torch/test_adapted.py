"""Models whose modules other tools have changed: adapters, quantisation, weight norms, hooks."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import lticore as lti
from lticore_torch import (
    LRU,
    HankelRegularizer,
    InTrainingCompressor,
    ModelFileError,
    RotationSSM,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
    Stream,
    analyze,
    compress,
    export_program,
    hankel_sum,
    save,
)
from lticore_torch.layers import LAYERS, ssm_layers

# Of torch, of its own quantised tensors and of the old weight norm.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*quantize:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
]


class Shifted(nn.Linear):
    def forward(self, a):
        return super().forward(a) + 1


def adapted(model, **options):
    """By PEFT's LoRA, in place."""
    peft = pytest.importorskip("peft")
    options = {"target_modules": "all-linear", "init_lora_weights": False, **options}
    return peft.inject_adapter_in_model(peft.LoraConfig(r=2, **options), model).eval()


def quantised(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


def every_linear(change):
    def changed(model):
        for module in [x for x in model.modules() if type(x) is nn.Linear]:
            change(module)
        return model

    return changed


def normed(linear):
    parametrizations.weight_norm(linear)
    with torch.no_grad():
        linear.parametrizations.weight.original0.mul_(2)


def normed_as_before(linear):
    nn.utils.weight_norm(linear)
    with torch.no_grad():
        linear.weight_g.mul_(2)


def hooked(linear):
    linear.register_forward_hook(lambda module, args, output: output + 1)


def shifted(model):
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Linear:
                new = Shifted(module.in_features, module.out_features)
                new.load_state_dict(module.state_dict())
                setattr(parent, name, new)
    return model


CHANGES = {
    "LoRA": adapted,
    "quantised": quantised,
    "weight norm": every_linear(normed),
    "old weight norm": every_linear(normed_as_before),
    "hook": every_linear(hooked),
    "subclass": shifted,
}
#: Options of a classifier of each layer kind, each gate, norm and head.
BLOCKS = {
    **{layer: {"layer": layer} for layer in LAYERS},
    "glu": {"gate": "glu", "norm": "layer"},
    "gelu": {"gate": "gelu", "norm": "batch-plain"},
    "bidirectional": {"bidirectional": True},
    "pairs": {"documents": 2},
    "tokens": {"vocabulary": 7},
}


def classifier(**options):
    torch.manual_seed(0)
    return SequenceClassifier(SequenceClassifierConfig(2, 3, 4, 6, 2, **options)).eval()


def inputs(vocabulary=None, documents=1, **_):
    torch.manual_seed(1)
    shape = (3, 20) if documents == 1 else (3, documents, 20)
    return torch.randn(*shape, 2) if vocabulary is None else torch.randint(vocabulary, shape)


def composed(model, u):
    """The classifier by its published formulas, every module called as it is."""
    v = model.encoder(u.flatten(0, model.config.documents - 1))
    for block in model.blocks:
        z = block.norm(v.flatten(0, -2)).reshape(v.shape)
        a = functional.gelu(block.ssm(z))
        w = a if block.gate is None else block.gate(a)
        if block.gate is None:
            v = v + a
        elif w.shape == a.shape:
            v = v + a * torch.sigmoid(w)
        else:
            value, gate = w.chunk(2, dim=-1)
            v = v + value * torch.sigmoid(gate)
    return model.decoder(v.mean(dim=-2).reshape(len(u), -1))


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_module_is_called_as_it_is(change, blocks):
    options = BLOCKS[blocks]
    u, plain = inputs(**options), classifier(**options)
    model = CHANGES[change](classifier(**options))
    found = model(u)
    torch.testing.assert_close(found, composed(model, u), rtol=1e-4, atol=1e-5)
    assert (found - plain(u)).abs().max() > 1e-4


@pytest.mark.parametrize("change", CHANGES)
def test_blocks_alone(change):
    torch.manual_seed(0)
    block = SequenceBlock(LRU(4, 6)).eval()
    v = torch.randn(2, 5, 4)
    before = block(v)
    model = CHANGES[change](nn.Sequential(block))
    a = functional.gelu(model[0].ssm(model[0].norm(v.flatten(0, -2)).reshape(v.shape)))
    expected = v + a * torch.sigmoid(model[0].gate(a))
    torch.testing.assert_close(model(v), expected)
    assert (model(v) - before).abs().max() > 1e-4


@pytest.mark.parametrize("change", CHANGES)
def test_states_are_cut_beside_changed_modules(change):
    model, u = CHANGES[change](classifier()).requires_grad_(False), inputs()
    whole, _ = compress(model, ratio=0.0)
    torch.testing.assert_close(whole(u), model(u), rtol=1e-4, atol=1e-5)
    small, report = compress(model, ratio=0.5)
    assert report.orders == [3, 3]
    torch.testing.assert_close(small(u), composed(small, u), rtol=1e-4, atol=1e-5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    compressor = InTrainingCompressor(model, optimizer, fraction=0.5, steps=[1])
    assert set(compressor.step().orders.values()) == {3}
    torch.testing.assert_close(model(u), composed(model, u), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["LoRA", "weight norm", "old weight norm", "hook", "subclass"])
def test_data_judge_states_through_changed_modules(change):
    model, u = CHANGES[change](classifier()), inputs()
    assert "blocks.1.ssm" in str(analyze(model, calibration=u))
    with torch.no_grad():
        expected = model(u)
    whole, _ = compress(model, ratio=0.0, method="data", calibration=u)
    torch.testing.assert_close(whole(u), expected, rtol=1e-3, atol=1e-4)


def test_no_gradient_passes_quantised_modules():
    model, u = quantised(classifier()), inputs()
    for asked in (
        lambda: analyze(model, calibration=u),
        lambda: compress(model, ratio=0.5, method="data", calibration=u),
        lambda: InTrainingCompressor(
            model,
            torch.optim.SGD(model.parameters(), lr=1e-3),
            fraction=0.5,
            steps=[1],
            criterion="data",
        ),
    ):
        with pytest.raises(lti.ArgumentError, match=r"'encoder', a Linear of torch\.ao.*quantise"):
            asked()
    small, _ = compress(classifier(), ratio=0.5, method="data", calibration=u)
    found = quantised(small)
    torch.testing.assert_close(found(u), composed(found, u), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"vocabulary": 7}])
@pytest.mark.parametrize("change", CHANGES)
def test_streams_of_changed_modules(change, options):
    """Quantised ones scale their inputs by the largest of what comes at once: half a unit of 8 bits
    for each of the modules that follow one another, of outputs around 1."""
    model, u = CHANGES[change](classifier(**options)), inputs(**options)
    with torch.no_grad():
        expected = model(u)
    tolerance = 0.05 if change == "quantised" else 1e-5
    stream, parallel = Stream(model), Stream(model)
    for k in range(20):
        y = stream.step(u[:, k])
    torch.testing.assert_close(y, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(parallel.run(u)[:, -1], expected, rtol=0, atol=tolerance)


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # the old weight norm's
@pytest.mark.parametrize("change", ["LoRA", "weight norm", "old weight norm", "hook", "subclass"])
def test_programs_of_changed_modules(change):
    model, u = CHANGES[change](classifier()), inputs()
    with torch.no_grad():
        expected = model(u)
    found = export_program(model, u).module()(u)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_no_program_of_quantised_modules():
    with pytest.raises(lti.ArgumentError, match=r"is quantised, and torch\.export knows"):
        export_program(quantised(classifier()), inputs())


@pytest.mark.parametrize("change", [x for x in CHANGES if x != "hook"])
def test_files_hold_no_changed_modules(change, tmp_path):
    """They would be plain ones after loading."""
    with pytest.raises(ModelFileError, match=r"configuration does not describe.*state_dict\(\)"):
        save(CHANGES[change](classifier()), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_what_the_old_weight_norm_computed_is_copied_as_values():
    """torch.deepcopy refuses tensors with graphs; the next call computes them anew."""
    model, u = CHANGES["old weight norm"](classifier()), inputs()
    expected = model(u)
    assert not model.decoder.weight.is_leaf
    whole, _ = compress(model, ratio=0.0)
    torch.testing.assert_close(whole(u), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Stream(model).run(u)[:, -1], expected, rtol=0, atol=1e-5)
    found = export_program(model, u).module()(u)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        whole.decoder.weight_g.zero_()
    torch.testing.assert_close(whole(u), whole.decoder.bias.expand(3, 3))


@pytest.mark.parametrize("norm", ["weight", "spectral"])
def test_old_norms_of_a_layers_own_parameters_are_named(norm):
    layer = LRU(3, 4)
    getattr(nn.utils, f"{norm}_norm")(layer, "B")
    for asked in (
        lambda: compress(layer, ratio=0.5),
        lambda: layer.load_lti(LRU(3, 4).to_lti()),
        lambda: Stream(layer),
    ):
        with pytest.raises(lti.ArgumentError, match=rf"remove_{norm}_norm\(layer, 'B'\)"):
            asked()
    getattr(nn.utils, f"remove_{norm}_norm")(layer, "B")
    assert compress(layer, ratio=0.5)[0].order == 2


def test_adapters_of_a_layers_own_parameters_are_named():
    """Penalties and compression would see the layer without them."""
    model, u = classifier(), inputs()
    before = model(u)
    adapted(model, target_modules=[], target_parameters=["ssm.B"])
    assert (model(u) - before).abs().max() > 1e-3
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for asked in (
        lambda: hankel_sum(model),
        lambda: HankelRegularizer(1.0)(model),
        lambda: compress(model, ratio=0.5),
        lambda: InTrainingCompressor(model, optimizer, fraction=0.5, steps=[1]),
        lambda: Stream(model),
        lambda: export_program(model, u),
    ):
        with pytest.raises(lti.ArgumentError, match=r"'blocks.0.ssm', a ParamWrapper.*merge the"):
            asked()


def test_merged_adapters_leave_plain_modules(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=2,
        target_modules=["gate"],
        target_parameters=["ssm.B"],
        init_lora_weights=False,
    )
    model, u = peft.get_peft_model(classifier(), config).eval(), inputs()
    expected = model(u)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(u), expected, rtol=1e-4, atol=1e-5)
    assert all(isinstance(x, RotationSSM) for x in ssm_layers(merged).values())
    save(merged, tmp_path / "model")
    assert compress(merged, ratio=0.5)[1].orders == [3, 3]
