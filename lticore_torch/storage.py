"""Models on disk: one safetensors file with the configuration in its header."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError, LticoreError
from lticore.internal import (
    mapped,
    to_numpy,
)

from .files import write_atomically
from .layers import (
    LAYERS,
    Bidirectional,
    SSMLayer,
    StateSpaceLayer,
    state_space_layers,
)
from .models.blocks import SequenceClassifier, SequenceClassifierConfig

_FORMAT = "lticore-1"


class ModelFileError(LticoreError, ValueError):
    """A file that holds no model, or not the one its header describes; a model that no header can.

    Files are damaged, or of other programs. Models of other modules, or with adapters or quantised
    layers in them, are saved by their ``state_dict()``.
    """


def save(model: nn.Module, path: str | Path) -> None:
    """Write a :class:`SequenceClassifier` or a single layer, compressed or not, to one file.

    Tensors as safetensors, the configuration as JSON in the header. The file is written beside its
    place and then moved there: whatever interrupts it, ``path`` is the old file or the new one.
    Missing folders are made.

    Raises
    ------
    ModelFileError
        For other modules, and classifiers in which some were replaced, by adapters or quantised
        ones: save their ``state_dict()``, which layers of this library load whatever order they
        were compressed to. Hooks are not saved.

    >>> layer = lt.LRU(4, 8)
    >>> lt.save(layer, "layer.safetensors")
    >>> torch.equal(lt.load("layer.safetensors").B, layer.B)
    True
    """
    described = json.dumps(_description(model))
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    header = {"format": _FORMAT, "model": described, "sha256": _digest(described, tensors)}
    write_atomically(Path(path), to_bytes(tensors, header))


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """The model that :func:`save` wrote, in evaluation mode.

    Raises
    ------
    FileNotFoundError
    ModelFileError
        For corrupt files, files of something else, and tensors that do not fit the configuration.

    >>> lt.save(lt.LRU(4, 8), "layer.safetensors")
    >>> lt.load("layer.safetensors")
    LRU(features=4, order=8, real_poles=0)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        # Read at once: a writer may put another file in its place meanwhile.
        data = path.read_bytes()
        tensors = from_bytes(data)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or no safetensors file ({error}): it cannot be loaded"
        ) from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    if header.get("format") != _FORMAT:
        raise ModelFileError(
            f"{path} was not written by lticore_torch.save: its header says "
            f"{header.get('format')!r} where {_FORMAT!r} is expected"
        )
    described = header.get("model", "")
    if header.get("sha256") != _digest(described, tensors):
        raise ModelFileError(f"{path} is damaged: it is not as it was written. Save it again")
    try:
        model = _from_description(json.loads(described))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"the configuration in {path} cannot be read: {error}") from error
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelFileError(f"the tensors in {path} do not fit its model: {error}") from error
    return model.to(device).eval()


def export_arrays(layer: SSMLayer) -> dict[str, np.ndarray]:
    """The layer's system as plain NumPy arrays, for use without this library.

        x_k = A x_{k−1} + B u_k,   y_k = C x_k + D u_k,   all real, A block-diagonal

    Returns
    -------
    A, B, C, D (and V, s of quadratic outputs), float64; of S4D with the channels in front.

    Raises
    ------
    ArgumentError
        For other layers; of a bidirectional one, export both directions.

    >>> arrays = lt.export_arrays(lt.LRU(4, 8))
    >>> {name: array.shape for name, array in arrays.items()}
    {'A': (8, 8), 'B': (8, 4), 'C': (4, 8), 'D': (4, 4)}
    """
    if not isinstance(layer, SSMLayer):
        raise ArgumentError(f"{type(layer).__name__} is not one time-invariant system")
    sys = mapped(to_numpy, layer.to_lti())
    A = sys.A.to_dense() if isinstance(sys.A, lticore.Rotation) else sys.A
    arrays: dict[str, Any] = {"A": A, "B": sys.B, "C": sys.C}
    if isinstance(sys, lticore.LTI):
        arrays["D"] = sys.D
        return arrays
    D = layer.D.detach().double().cpu().numpy()
    return {**arrays, "D": np.diag(D), "V": sys.M[0], "s": sys.M[1]}


def _description(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, SequenceClassifier):
        config = asdict(model.config)
        config["layer_options"] = _stored_options(model)
        _check_modules(model, SequenceClassifierConfig(**config))
        return {"kind": "classifier", "config": config}
    if isinstance(model, Bidirectional):
        return {
            "kind": "bidirectional",
            "ahead": _description(model.ahead),
            "back": _description(model.back),
        }
    kinds = {make: name for name, make in LAYERS.items()}
    if isinstance(model, StateSpaceLayer) and type(model) in kinds:
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


def _check_modules(model: SequenceClassifier, config: SequenceClassifierConfig) -> None:
    """Refuse a classifier with other modules than its configuration makes."""
    with torch.device("meta"):
        fresh = SequenceClassifier(config)
    made = dict(fresh.named_modules())
    for name, module in model.named_modules():
        kind = type(made.get(name))
        if name and type(module) is not kind:
            raise ModelFileError(
                f"'{name}' is a {type(module).__name__} of {type(module).__module__}, which the "
                "classifier's configuration does not describe: save its state_dict() instead, or "
                "what it was before it was adapted, parametrised or quantised"
            )
    others = sorted(set(model.state_dict()) - set(fresh.state_dict()))
    if others:
        raise ModelFileError(
            f"the classifier has {', '.join(others)}, which its configuration does not describe, "
            "as pruning and weight normalisation leave them: make them plain parameters before "
            "(torch.nn.utils.prune.remove, remove_weight_norm), or save its state_dict() instead"
        )


def _stored_options(model: SequenceClassifier) -> dict[str, Any]:
    """Options that shape the layers; initialisations have done their part.

    Raises
    ------
    ModelFileError
        Where the layers are not those of the configuration, which one set of options describes.
    """
    layers = list(state_space_layers(model).values())
    options = [{k: v for k, v in x.options().items() if k != "real_poles"} for x in layers]
    kind = LAYERS[model.config.layer]
    if {type(x) for x in layers} != {kind} or any(own != options[0] for own in options):
        raise ModelFileError(
            f"the classifier's layers are not all {kind.__name__} of the same options, so its "
            "configuration does not describe them: save its state_dict() instead"
        )
    return options[0]


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


def _digest(described: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the configuration and of all tensors, which safetensors does not check."""
    digest = hashlib.sha256(described.encode())
    for name, x in sorted(tensors.items()):
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        if x.numel() > 0:
            digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
