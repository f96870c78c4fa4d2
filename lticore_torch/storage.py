"""Models on disk: one safetensors file with the configuration in its header."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

import lticore
from lticore._arrays import to_numpy
from lticore.errors import LticoreError
from lticore.quadratic import mapped

from .blocks import SequenceClassifier, SequenceClassifierConfig
from .layers import LAYERS, Bidirectional, SelectiveSSM, SSMLayer

_FORMAT = "lticore-1"


class ModelFileError(LticoreError, ValueError):
    """A file that holds no model, or not the one its header describes."""


def save(model: nn.Module, path: str | Path) -> None:
    """Write a :class:`SequenceClassifier` or a single layer, compressed or not, to one file.

    Tensors as safetensors, the configuration as JSON in the header. The file is written beside its
    place and then moved there: whatever interrupts it, ``path`` is the old file or the new one.

    Raises
    ------
    ModelFileError
        For other modules: save their ``state_dict()``, which layers of this library load whatever
        order they were compressed to.
    """
    header = {"format": _FORMAT, "model": json.dumps(_description(model))}
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    _write(Path(path), to_bytes(tensors, header))


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """The model that :func:`save` wrote, in evaluation mode.

    Raises
    ------
    FileNotFoundError
    ModelFileError
        For corrupt files, files of something else, and tensors that do not fit the configuration.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or no safetensors file ({error}): it cannot be loaded"
        ) from error
    if header.get("format") != _FORMAT:
        raise ModelFileError(
            f"{path} was not written by lticore_torch.save: its header says "
            f"{header.get('format')!r} where {_FORMAT!r} is expected"
        )
    try:
        model = _from_description(json.loads(header["model"])).to(device)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"the configuration in {path} cannot be read: {error}") from error
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelFileError(f"the tensors in {path} do not fit its model: {error}") from error
    return model.eval()


def export_arrays(layer: SSMLayer) -> dict[str, np.ndarray]:
    """The layer's system as plain NumPy arrays, for use without this library.

        x_k = A x_{k−1} + B u_k,   y_k = C x_k + D u_k,   all real, A block-diagonal

    Returns
    -------
    A, B, C, D (and V, s of quadratic outputs), float64; of S4D with the channels in front.
    """
    sys = mapped(to_numpy, layer.to_lti())
    A = sys.A.to_dense() if isinstance(sys.A, lticore.Rotation) else sys.A
    arrays = {"A": A, "B": sys.B, "C": sys.C}
    if isinstance(sys, lticore.LTI):
        return {**arrays, "D": sys.D}
    D = layer.D.detach().double().cpu().numpy()
    return {**arrays, "D": np.diag(D), "V": sys.M[0], "s": sys.M[1]}


def _description(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, SequenceClassifier):
        config = asdict(model.config)
        config["layer_options"] = _stored_options(model)
        return {"kind": "classifier", "config": config}
    if isinstance(model, Bidirectional):
        return {
            "kind": "bidirectional",
            "ahead": _description(model.ahead),
            "back": _description(model.back),
        }
    kinds = {make: name for name, make in LAYERS.items()}
    if isinstance(model, SSMLayer | SelectiveSSM) and type(model) in kinds:
        return {
            "kind": kinds[type(model)],
            "features": model.features,
            "order": model.order,
            "options": model.options(),
        }
    raise ModelFileError(
        f"{type(model).__name__} is neither a SequenceClassifier nor a layer of lticore_torch: "
        "save its state_dict() instead"
    )


def _stored_options(model: SequenceClassifier) -> dict[str, Any]:
    """Options that shape the layers; initialisations have done their part."""
    layer = next(m for m in model.modules() if isinstance(m, SSMLayer | SelectiveSSM))
    return {k: v for k, v in layer.options().items() if k != "real_poles"}


def _from_description(found: dict[str, Any]) -> nn.Module:
    if found["kind"] == "classifier":
        known = {field.name for field in fields(SequenceClassifierConfig)}
        unknown = set(found["config"]) - known
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}")
        return SequenceClassifier(SequenceClassifierConfig(**found["config"]))
    if found["kind"] == "bidirectional":
        return Bidirectional(_from_description(found["ahead"]), _from_description(found["back"]))
    return LAYERS[found["kind"]](found["features"], found["order"], **found["options"])


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
