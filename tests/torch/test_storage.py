"""Models on disk: every kind, damaged files, interrupted writes, plain arrays."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from layer_kinds import ALL, TIME_INVARIANT, make
from safetensors.torch import save as to_bytes

import lticore as lti
from lticore_torch import (
    S4D,
    Bidirectional,
    ModelFileError,
    QuadraticSSM,
    SequenceClassifier,
    SequenceClassifierConfig,
    compress,
    export_arrays,
    files,
    load,
    save,
    storage,
)
from lticore_torch.layers import LAYERS

CONFIG = SequenceClassifierConfig(inputs=2, classes=3, features=4, order=6, depth=2)


def make_model(**changes):
    torch.manual_seed(0)
    return SequenceClassifier(SequenceClassifierConfig(**{**vars(CONFIG), **changes})).eval()


def compressed(model, inputs):
    small, _ = compress(model, ratio=0.5, calibration=inputs)
    return small


# --- what is saved is what is loaded ----------------------------------------------------------

FRESH = """
import sys, torch
from pathlib import Path
from lticore_torch import load
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    model, (u, y) = load(path), torch.load(path.with_suffix(".pt"))
    assert not model.training
    assert torch.equal(model(u), y), path
    print(path.stem)
"""


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_a_fresh_process_loads_every_kind(tmp_path):
    u = torch.randn(2, 9, 3, dtype=torch.float64)
    models = {kind: (make(kind), u) for kind in ALL}
    models["both ways"] = (Bidirectional(make("s5"), make("s4d")), u)
    models["half"] = (make("lru").bfloat16(), u.bfloat16())
    sequences = torch.randn(2, 9, 2)
    for layer in LAYERS:
        options = {"rank": 3} if layer == "quadratic" else {}
        models[f"model {layer}"] = (make_model(layer=layer, layer_options=options), sequences)
    models["model tokens"] = (
        make_model(vocabulary=7, bidirectional=True, norm="layer", gate="glu", dropout=0.1),
        torch.randint(7, (2, 9)),
    )
    models["model pairs"] = (make_model(documents=2), torch.randn(2, 2, 9, 2))
    models["model canonical"] = (make_model(layer_options={"canonical": True}), sequences)
    for name, (model, inputs) in list(models.items()):
        if name not in ("half", "canonical"):
            models[f"{name} small"] = (compressed(model, inputs), inputs)
    for name, (model, inputs) in models.items():
        save(model, tmp_path / f"{name}.safetensors")
        torch.save((inputs, model(inputs).detach()), tmp_path / f"{name}.pt")
    run = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(models)


def test_precision_and_frozen_parameters_come_back(tmp_path):
    model = Bidirectional(make("rotation"), make("lru"))
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    assert not again.back.D.requires_grad
    assert again.ahead.D.requires_grad
    again(torch.randn(1, 4, 3, dtype=torch.float64)).sum().backward()


def test_other_modules_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="Linear is neither"):
        save(torch.nn.Linear(2, 2), tmp_path / "model")
    model = make_model()
    model.blocks[1].ssm = make("lru", 4).float()
    with pytest.raises(ModelFileError, match="layers are not all RotationSSM"):
        save(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# --- damaged files ----------------------------------------------------------------------------


def test_every_damage_is_a_clear_error(tmp_path):
    path = tmp_path / "model"
    save(make_model(layer="s4d"), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    cases = [b"", b"\0", whole[:5], whole[:header], whole[: len(whole) // 2], whole[:-1]]
    cases += [rng.bytes(2000), whole + b"more"]
    for position in [*rng.integers(header, size=150), *rng.integers(header, len(whole), size=50)]:
        changed = bytearray(whole)
        changed[position] ^= int(rng.integers(1, 256))
        cases.append(bytes(changed))
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(ModelFileError, match=r"damaged|was not written by"):
            load(path)
    path.write_bytes(whole)
    load(path)


def signed(description, tensors):
    """A file with a right checksum, whatever is in it."""
    described = description if isinstance(description, str) else json.dumps(description)
    digest = storage._digest(described, tensors)
    return to_bytes(tensors, {"format": "lticore-1", "model": described, "sha256": digest})


LAYER = {"kind": "lru", "features": 3, "order": 5, "options": {"real_poles": 1}}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("no json", "configuration in .* cannot be read"),
        ([1, 2], "configuration in .* cannot be read"),
        ({}, "configuration in .* cannot be read: 'kind'"),
        ({**LAYER, "kind": "mamba"}, "configuration in .* cannot be read: 'mamba'"),
        ({**LAYER, "options": {"colour": 1}}, "colour"),
        ({**LAYER, "order": -1}, "at least 1"),
        ({**LAYER, "order": "x"}, "cannot be read"),
        ({**LAYER, "features": 10**14}, "cannot be read"),
        ({**LAYER, "features": 4}, "do not fit its model: .*size mismatch"),
        ({**LAYER, "kind": "rotation"}, "do not fit its model: .*Missing key"),
        ({"kind": "classifier", "config": {"smell": 1}}, r"unknown settings \['smell'\]"),
        ({"kind": "classifier", "config": {}}, "cannot be read"),
    ],
)
def test_files_that_do_not_hold_their_model(tmp_path, description, message):
    path = tmp_path / "model"
    path.write_bytes(signed(description, make("lru").state_dict()))
    with pytest.raises(ModelFileError, match=f"(?s){message}"):
        load(path)


def test_files_of_others_and_missing_ones(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(path)
    path.write_bytes(to_bytes({"x": torch.zeros(2)}))
    with pytest.raises(ModelFileError, match=r"was not written by lticore_torch\.save"):
        load(path)
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load(tmp_path)


# --- interrupted writes -----------------------------------------------------------------------

WRITER = """
import sys, torch
from lticore_torch import RotationSSM, save
models = [RotationSSM(8, order) for order in (400, 600)]
while True:
    for model in models:
        save(model, sys.argv[1])
        print("saved", flush=True)
"""


def test_killing_a_writer_loses_nothing(tmp_path):
    path, rng = tmp_path / "model", np.random.default_rng(0)
    orders = set()
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            for _ in range(20):  # a reader beside the writer
                orders.add(load(path).order)
            time.sleep(rng.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
        assert load(path).order in (400, 600)
    assert orders <= {400, 600}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    save(make("lru"), path)
    before = path.read_bytes()

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        save(make("s5"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "runs" / "first" / "model.safetensors"
    save(make("lru"), path)
    assert isinstance(load(path), LAYERS["lru"])


# --- plain arrays -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TIME_INVARIANT)
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_exported_arrays_are_the_layer(kind, small):
    layer = make(kind, order=9)
    if small:
        layer, _ = compress(layer, orders=[4])
    arrays = export_arrays(layer)
    assert all(type(x) is np.ndarray and x.dtype == np.float64 for x in arrays.values())
    u = np.random.default_rng(0).normal(size=(12, 3))
    A, B, C, D = (arrays[name] for name in "ABCD")
    expected = layer(torch.tensor(u)).detach().numpy()
    if isinstance(layer, S4D):
        for h in range(3):
            x = np.zeros(A.shape[-1])
            for step, y in zip(u[:, h : h + 1], expected[:, h], strict=True):
                x = A[h] @ x + B[h] @ step
                np.testing.assert_allclose(C[h] @ x + D[h] @ step, y, rtol=1e-10, atol=1e-11)
        return
    x = np.zeros(len(A))
    for step, y in zip(u, expected, strict=True):
        x = A @ x + B @ step
        out = C @ x + D @ step
        if isinstance(layer, QuadraticSSM):
            V, s = arrays["V"], arrays["s"]
            out = out + ((x @ V) ** 2 * s).sum(axis=-1)
        np.testing.assert_allclose(out, y, rtol=1e-10, atol=1e-11)


def test_only_single_systems_are_exported():
    for layer in (Bidirectional(make("lru"), make("s5")), make("selective")):
        with pytest.raises(lti.ArgumentError, match="is not one time-invariant system"):
            export_arrays(layer)
