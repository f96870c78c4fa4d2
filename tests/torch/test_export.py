"""Programs and ONNX files are the models, where neither lticore nor torch is."""

import copy
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from layer_kinds import ALL, make, published, selective_with_pairs
from torch import nn

from lticore import balanced_truncation
from lticore.errors import ArgumentError, ShapeError
from lticore_torch import (
    Bidirectional,
    RotationSSM,
    SequenceBlock,
    SequenceClassifier,
    SequenceClassifierConfig,
    export_onnx,
    export_program,
    linear_recurrence,
    save,
)
from lticore_torch.deploy.plain import plain_layer

ROOT = Path(__file__).parents[2]
EPS64, EPS32 = np.finfo(np.float64).eps, np.finfo(np.float32).eps


def inputs(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def classifier(**options):
    torch.manual_seed(0)
    sizes = {"inputs": 2, "classes": 3, "features": 4, "order": 5, "depth": 2}
    model = SequenceClassifier(SequenceClassifierConfig(**{**sizes, **options})).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.copy_(torch.linspace(-1, 1, 4))
            module.running_var.copy_(torch.linspace(0.5, 2, 4))
    return model


def assert_close(y, wanted, tolerance):
    """Each number adds up some ten terms of the size of the largest."""
    y, wanted = y.detach(), wanted.detach()
    assert y.shape == wanted.shape
    assert float((y - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def operators(program):
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


def stepped(program, u):
    """All answers (batch, L, …), from states of zero."""
    module, (_, like) = program.module(), program.example_inputs[0]
    states = {key: x.new_zeros(len(u), *x.shape[1:]) for key, x in like.items()}
    answers = []
    for k in range(u.shape[1]):
        y, states = module(u[:, k], states)
        answers.append(y)
    return torch.stack(answers, dim=1)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("reverse", [False, True])
def test_plain_layers_are_the_published_formula(kind, reverse):
    """All at once, and in chunks of one step."""
    layer, u = make(kind), inputs(2, 17, 3)
    whole, cell = plain_layer(layer, 5), plain_layer(layer, 0)
    order = (lambda x: x.flip(1)) if reverse else (lambda x: x)
    wanted = order(torch.from_numpy(np.stack([published(layer, x.numpy()) for x in order(u)])))
    assert_close(whole(u, reverse=reverse), wanted, 1e4 * EPS64)
    state, answers = None, []
    for k in range(17):
        y, state = cell(order(u)[:, k : k + 1], state=state, return_state=True)
        answers.append(y)
    assert_close(order(torch.cat(answers, dim=1)), wanted, 1e4 * EPS64)


def test_selective_layers_with_pairs():
    layer, u = selective_with_pairs(), inputs(2, 17, 3)
    wanted = torch.from_numpy(np.stack([published(layer, x.numpy()) for x in u]))
    assert_close(plain_layer(layer, 5)(u), wanted, 1e4 * EPS64)


@pytest.mark.parametrize("kind", ["rotation", "s4d", "quadratic", "selective"])
def test_programs_of_layers_are_the_published_formula(kind):
    """For other batches and lengths than that of the example, in operators of ATen only."""
    layer = make(kind)
    program = export_program(layer, inputs(2, 9, 3), max_length=40)
    for u in (inputs(1, 40, 3), inputs(3, 1, 3), inputs(2, 17, 3)):
        wanted = np.stack([published(layer, x.numpy()) for x in u])
        assert_close(program.module()(u), torch.from_numpy(wanted), 1e4 * EPS64)
    named = {str(x) for x in operators(program)}
    assert all(x.startswith(("aten.", "<built-in function")) for x in named), named


@pytest.mark.parametrize("kind", ["rotation", "s4d", "quadratic", "selective"])
def test_programs_of_steps_are_the_published_formula(kind):
    layer, u = make(kind), inputs(3, 12, 3)
    wanted = np.stack([published(layer, x.numpy()) for x in u])
    y = stepped(export_program(layer, u[:1], step=True), u)
    assert_close(y, torch.from_numpy(wanted), 1e4 * EPS64)


MODELS = {
    "lengths": {"gate": "glu", "norm": "layer", "layer": "s5"},
    "bidirectional": {"bidirectional": True, "layer": "lru"},
    "tokens": {"vocabulary": 7, "gate": "gelu"},
    "pairs": {"documents": 2, "layer": "selective"},
    "dropout": {"dropout": 0.5, "layer": "s4d"},
}


def arguments(name, batch, length):
    options = MODELS[name]
    pair = (2,) if options.get("documents") == 2 else ()
    if "vocabulary" in options:
        return (torch.arange(batch * length).reshape(batch, length) ** 2 % 7,)
    u = inputs(batch, *pair, length, 2)
    if name == "lengths":
        return u, torch.arange(batch) % length + 1
    return (u,)


@pytest.mark.parametrize("name", MODELS)
def test_programs_of_classifiers(name):
    model = classifier(**MODELS[name])
    program = export_program(model, *arguments(name, 2, 6), max_length=32)
    for given in (arguments(name, 5, 23), arguments(name, 1, 32)):
        assert_close(program.module()(*given), model(*given), 1e4 * EPS64)


@pytest.mark.parametrize("kind", ["rotation", "lru", "s5"])
def test_more_outputs_than_inputs(kind):
    layer, u = make(kind, outputs=4), inputs(2, 17, 3)
    assert_close(plain_layer(layer, 5)(u), layer(u), 1e4 * EPS64)


def test_a_step_of_a_classifier_is_that_of_all_steps_before():
    model, u = classifier(), inputs(2, 10, 2)
    y = stepped(export_program(model, u, step=True), u)
    wanted = torch.stack([model(u[:, : k + 1]) for k in range(10)], dim=1)
    assert_close(y, wanted.detach(), 1e4 * EPS64)


def test_channels_of_different_orders():
    layer, u = make("s4d", order=6), inputs(2, 20, 3)
    systems = layer.to_lti()
    layer.load_channels([balanced_truncation(x, order=2 + c).system for c, x in enumerate(systems)])
    assert layer._states_of_channels().tolist() == [2, 3, 4]
    wanted = np.stack([published(layer, x.numpy()) for x in u])
    assert_close(plain_layer(layer, 5)(u), torch.from_numpy(wanted), 1e4 * EPS64)


def test_a_layer_at_two_places_and_a_model_that_is_left_as_it_was():
    layer, u = make("rotation"), inputs(2, 8, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer).train()
    before = copy.deepcopy(model.state_dict())
    program = export_program(model, u, max_length=8)
    assert_close(program.module()(u), model(u), 1e4 * EPS64)
    assert model.training
    assert model[0] is layer
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_ten_thousand_steps_in_single_precision():
    """Positive poles, inputs and outputs: nothing cancels. Each of 14 rounds multiplies by a power
    of the pole, which is rounded once, and rounds the product and the sum: 42 units, as many for
    sums over eight states, and as many of the layer itself."""
    torch.manual_seed(0)
    layer = RotationSSM(1, 8, real_poles=8)
    with torch.no_grad():
        for p in layer.parameters():
            p.abs_()
        layer.real_atanh.copy_(torch.atanh(1 - torch.logspace(-5, -1, 8)))
    u = inputs(1, 10_000, 1, dtype=torch.float32).abs()
    wanted = copy.deepcopy(layer).double()(u.double()).detach()
    y = export_program(layer, u[:, :5]).module()(u).double()
    assert float(((y - wanted) / wanted).abs().max()) <= 60 * EPS32


def test_longer_sequences_are_refused():
    layer = make("rotation")
    program = export_program(layer, inputs(2, 9, 3), max_length=10).module()
    assert program(inputs(1, 10, 3)).shape == (1, 10, 3)
    with pytest.raises(AssertionError, match="<= 10"):
        program(inputs(1, 11, 3))


ELSEWHERE = """
import sys
for name in ("lticore", "lticore_torch", "numba", "scipy"):
    sys.modules[name] = None
import torch
program = torch.export.load(sys.argv[1] + "/model.pt2").module()
u, wanted = torch.load(sys.argv[1] + "/signals.pt")
difference = float((program(u) - wanted).abs().max())
print("difference", difference)
sys.exit(not difference <= 1e-12)
"""


def test_programs_run_in_a_process_without_lticore(tmp_path):
    model, u = classifier(), inputs(3, 50, 2)
    torch.export.save(export_program(model, u), tmp_path / "model.pt2")
    torch.save((u, model(u).detach()), tmp_path / "signals.pt")
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + run.stdout


def onnx_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("options", [{}, {"layer": "s4d"}, {"layer": "selective", "vocabulary": 7}])
def test_onnx_files_of_whole_sequences(options, tmp_path):
    """In single precision, with some hundred roundings of numbers up to the largest logit's."""
    model = classifier(**options).float()

    def example(batch, length):
        if "vocabulary" in options:
            return torch.arange(batch * length).reshape(batch, length) % 7
        return inputs(batch, length, 2, dtype=torch.float32)

    export_onnx(model, tmp_path / "model.onnx", example(1, 5), max_length=64)
    session = onnx_of(tmp_path / "model.onnx")
    for u in (example(4, 33), example(1, 64), example(2, 1)):
        (y,) = session.run(["y"], {"u": u.numpy()})
        assert_close(torch.from_numpy(y), model(u), 300 * EPS32)
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(["y"], {"u": example(1, 65).numpy()})


def test_onnx_files_of_steps(tmp_path, monkeypatch):
    said = []
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    monkeypatch.setattr(log, "handle", said.append)
    model, u = classifier().float(), inputs(2, 12, 2, dtype=torch.float32)
    export_onnx(model, tmp_path / "step.onnx", u, step=True)
    assert said == []
    session = onnx_of(tmp_path / "step.onnx")
    given, *states = session.get_inputs()
    y, *following = session.get_outputs()
    assert (given.name, y.name) == ("u", "y")
    assert [x.name for x in following] == [f"next.{x.name}" for x in states]
    now = {x.name: np.zeros((2, *x.shape[1:]), np.float32) for x in states}
    for k in range(12):
        answer, *after = session.run(None, {"u": u[:, k].numpy(), **now})
        now = {x.name: value for x, value in zip(states, after, strict=True)}
        assert_close(torch.from_numpy(answer), model(u[:, : k + 1]).detach(), 300 * EPS32)


def test_saved_models_run_with_numpy_alone(tmp_path):
    """Compressed or not, and with real poles."""
    model, u = classifier(layer_options={"real_poles": 1}), inputs(3, 20, 2)
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/numpy_classifier.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    save(model, tmp_path / "model.safetensors")
    np.save(tmp_path / "sequences.npy", u.numpy())
    y = example.logits(example.load_file(tmp_path / "model.safetensors"), u.numpy())
    assert_close(torch.from_numpy(y), model(u).detach(), 1e4 * EPS64)
    command = [sys.executable, ROOT / "examples/numpy_classifier.py", "model.safetensors"]
    run = subprocess.run(
        [*command, "sequences.npy"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert run.stdout.strip() == str(model(u).argmax(dim=1).numpy())


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = make("rotation")

    def forward(self, u):
        return linear_recurrence(u.new_full((3,), 0.5), self.layer(u))


def test_refused():
    u = inputs(2, 5, 3)
    with pytest.raises(ArgumentError, match="without state-space layers"):
        export_program(nn.Linear(3, 3), u)
    with pytest.raises(ArgumentError, match=r"lticore.recurrence.* outside of layers"):
        export_program(Loop(), u)
    with pytest.raises(ArgumentError, match="an example is needed"):
        export_program(make("rotation"))
    with pytest.raises(ShapeError, match="two steps or more"):
        export_program(make("rotation"), u[:, :1])
    with pytest.raises(ShapeError, match="two steps or more"):
        export_program(make("rotation"), u[0])
    with pytest.raises(ArgumentError, match="max_length must be at least 2"):
        export_program(make("rotation"), u, max_length=1)
    with pytest.raises(ArgumentError, match="bidirectional"):
        export_program(Bidirectional(make("rotation"), make("rotation")), u, step=True)
    hooked = make("rotation")
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(ArgumentError, match="hooks, which the program would not call"):
        export_program(hooked, u)


def test_onnx_without_its_packages(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lticore\[onnx\]'"):
        export_onnx(make("rotation"), tmp_path / "x.onnx", inputs(2, 5, 3))


def test_blocks_with_gates_of_other_modules():
    """The gate is called as what it is."""
    block = SequenceBlock(make("rotation")).double().eval()
    block.gate = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)).double()
    u = inputs(2, 7, 3)
    assert_close(export_program(block, u, max_length=8).module()(u), block(u), 1e4 * EPS64)
