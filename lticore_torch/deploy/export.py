"""Models as programs that run where lticore is not."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError, ShapeError

from ..layers import StateSpaceLayer, state_space_layers
from ..layers.base import wide
from ..layers.wrapped import check_not_quantised, check_own_parameters
from ..models.blocks import SequenceClassifier
from .passing import TensorStates, passed
from .plain import PlainLayer, plain
from .stream import Stream, check_nothing_added

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def export_program(
    model: nn.Module, *examples: Tensor, step: bool = False, max_length: int = 2**14
) -> ExportedProgram:
    """The model as a torch.export program of core ATen operators; it runs where lticore is not.

        program = export_program(model, sequences)     # program.module()(sequences)
        torch.export.save(program, "model.pt2")        # elsewhere: torch.export.load

    What the parameters of layers make (poles, their powers, inputs and outputs) is computed here,
    in float64, and rounded to the dtype of the model. The states of all steps come by doubling:
    after round r each holds the last 2^(r+1) inputs. Batch and length are dynamic.

    Parameters
    ----------
    model : nn.Module with state-space layers, taken in evaluation mode
    *examples : tensors that the model can be called with. The batch is the first axis of each; time
        is the second to last axis of the first one, of integer tokens its last.
    step : False for whole sequences. True for one step of time, (u, states) → (y, states): u is
        (batch, inputs), states a dict of tensors by name, zeros at the beginning
        (``program.example_inputs`` shows their shapes). The answers are those of a
        :class:`Stream`, for the same models.
    max_length : the longest sequence; ⌈log2⌉ of it passes over the states are made, each O(L n) in
        time and memory. The program refuses longer ones.

    Raises
    ------
    ArgumentError
        For models without state-space layers, recurrences outside of layers, and layers with hooks
        or a forward of their own; with ``step`` for models that do not stream.
    ShapeError
        For examples that have no axis of time, or a single step of it.

    >>> layer, u = lt.RotationSSM(4, 8), torch.randn(2, 9, 4)
    >>> program = lt.export_program(layer, u, max_length=16)
    >>> torch.allclose(program.module()(u), layer(u), atol=1e-4)
    True
    """
    if step:
        return _step_program(model, *examples)
    return _sequence_program(model, examples, max_length)


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    *examples: Tensor,
    step: bool = False,
    max_length: int = 2**14,
) -> None:
    """Write :func:`export_program` of the same arguments as an ONNX file.

    Its first input is called "u" and its first output "y"; with ``step`` the states follow, by
    module name among the inputs, and as "next.…" among the outputs. A single layer's state is
    called "state".

    Raises
    ------
    As :func:`export_program`; ModuleNotFoundError without the packages onnx and onnxscript
    (``pip install 'lticore[onnx]'``).

    >>> layer, u = lt.RotationSSM(4, 8), torch.randn(2, 9, 4)
    >>> lt.export_onnx(layer, "layer.onnx", u)
    """
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "export_onnx needs onnx and onnxscript: pip install 'lticore[onnx]'"
        ) from error
    program = export_program(model, *examples, step=step, max_length=max_length)
    inputs, outputs = ["u"], ["y"]
    if step:
        names = [name or "state" for name in program.example_inputs[0][1]]
        inputs, outputs = inputs + names, outputs + [f"next.{name}" for name in names]
    with _quietly():
        torch.onnx.export(
            program,
            f=path,
            input_names=inputs,
            output_names=outputs,
            external_data=False,
            dynamo=True,
            verbose=False,
        )


# --- whole sequences ----------------------------------------------------------------------------


class _Whole(nn.Module):
    """The model, for sequences that are not too long: of longer ones the length is no index, which
    holds also where nothing checks the shapes of inputs, as in ONNX."""

    nothing: Tensor

    def __init__(self, model: nn.Module, max_length: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nothing", torch.zeros(max_length + 1, dtype=torch.int64))

    def forward(self, u: Tensor, *rest: Tensor) -> Any:
        length = torch.arange(u.shape[_time(u)] + 1, device=u.device)[-1:]
        return self.model(u + self.nothing.index_select(0, length).to(u.dtype), *rest)


def _sequence_program(
    model: nn.Module, examples: Sequence[Tensor], max_length: int
) -> ExportedProgram:
    from torch.export import Dim

    if max_length < 2:
        raise ArgumentError(f"max_length must be at least 2, but is {max_length}")
    _check_layers(model)
    u, *rest = (_two_of(x) for x in _checked_examples(examples))
    whole = _Whole(plain(model, rounds=(max_length - 1).bit_length()), max_length)
    batch, length = Dim("batch"), Dim("length", max=max_length)
    shapes = ({0: batch, _time(u): length}, *((tuple({0: batch} for _ in rest),) if rest else ()))
    return _exported(whole, (u, *rest), shapes)


def _time(u: Tensor) -> int:
    return u.ndim - (2 if u.is_floating_point() else 1)


def _checked_examples(examples: Sequence[Tensor]) -> Sequence[Tensor]:
    if not examples:
        raise ArgumentError("an example is needed, a tensor that the model can be called with")
    u = examples[0]
    if _time(u) < 1 or u.shape[_time(u)] < 2:
        raise ShapeError(
            f"the example has shape {tuple(u.shape)}, but (batch, …, L, inputs) is needed, of "
            "integer tokens (batch, …, L), with two steps or more"
        )
    return examples


def _two_of(x: Tensor) -> Tensor:
    """The example for two sequences: torch.export takes axes of one entry to stay so."""
    return x[:1].repeat(2, *[1] * (x.ndim - 1)).cpu()


# --- single steps -------------------------------------------------------------------------------


class _Cell(nn.Module):
    """One step of time of the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, u: Tensor, states: TensorStates) -> tuple[Tensor, TensorStates]:
        states = dict(states)
        y = passed(self.model, u.unsqueeze(1), states, "")
        return y.squeeze(1), states


def _step_program(model: nn.Module, *examples: Tensor) -> ExportedProgram:
    from torch.export import Dim

    Stream(model)  # which refuses what has no steps
    _check_layers(model)
    u = _two_of(_checked_examples(examples)[0])
    cell = _Cell(plain(model, rounds=0))
    states = _zero_states(cell.model, len(u))
    batch = Dim("batch")
    shapes = ({0: batch}, {name: {0: batch} for name in states})
    return _exported(cell, (u.select(_time(u), 0), states), shapes)


def _zero_states(model: nn.Module, batch: int) -> TensorStates:
    states = {
        name: torch.zeros(batch, *layer.state_shape, dtype=layer.D.dtype)
        for name, layer in model.named_modules()
        if isinstance(layer, PlainLayer)
    }
    if isinstance(model, SequenceClassifier):
        dtype = wide(next(model.decoder.parameters()).dtype)
        states["sum"] = torch.zeros(batch, model.config.features, dtype=dtype)
        states["steps"] = torch.zeros(batch, 1, dtype=dtype)
    return states


# --- both ---------------------------------------------------------------------------------------


def _check_layers(model: nn.Module) -> None:
    if not state_space_layers(model):
        raise ArgumentError(
            f"a {type(model).__name__} without state-space layers: torch.export.export serves it"
        )
    check_nothing_added(model, (StateSpaceLayer,), "the program")
    check_own_parameters(model)
    check_not_quantised(
        model,
        "and torch.export knows no such modules: export it as it was before, and quantise "
        "what was exported",
    )


def _exported(module: nn.Module, arguments: tuple[Any, ...], shapes: Any) -> ExportedProgram:
    with _quietly():
        program = torch.export.export(module, arguments, dynamic_shapes=shapes).run_decompositions()
    own = {str(node.target) for node in program.graph.nodes if "lticore" in str(node.target)}
    if own:
        raise ArgumentError(
            f"the model calls {', '.join(sorted(own))} outside of layers of lticore_torch, which "
            "are all that has a form of plain operators: make it a layer, or a loop over time"
        )
    return program


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch 2.13 warns of in copies that it makes itself, and logs of operators that
    torchvision would add."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.`", FutureWarning)
            yield
    finally:
        log.setLevel(level)
