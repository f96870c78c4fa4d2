"""Models that answer step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError, DtypeError, ShapeError

from ..layers import StateSpaceLayer, state_space_layers
from ..layers.parameters import check_plain_parameters
from ..layers.wrapped import check_own_parameters, copied
from ..models.blocks import SequenceBlock, SequenceClassifier
from .passing import passed
from .steps import NORMS, States, in_double, part_of

#: Modules whose insides a step computes itself.
_TAKEN_APART = (StateSpaceLayer, SequenceBlock, SequenceClassifier, nn.Sequential, *NORMS)

#: A tensor or a NumPy array; what comes in goes out.
Signal = TypeVar("Signal", Tensor, np.ndarray)


class Stream:
    """A trained model that answers one time step after the other, in constant memory.

    >>> model, u = lt.LRU(4, 8), torch.ones(2, 50, 4)
    >>> stream = lt.Stream(model)
    >>> prefix = stream.run(u[:, :49])  # (batch, L, inputs): all steps at once
    >>> y = stream.step(u[:, 49])  # (batch, inputs): the next step
    >>> torch.allclose(y, model(u)[:, 49], atol=1e-4)
    True

    The answers are those of the model in evaluation mode on the whole sequence, up to the rounding
    of its dtype: poles, inputs and outputs of layers are made once from the parameters, and all is
    computed in float64 on the CPU. What is quantised dynamically stays so, and scales its inputs
    by the largest that comes at once, of one step or of many. A :class:`SequenceClassifier` gives
    after each step the logits of the sequence so far.

    Parameters
    ----------
    model : a state-space layer, a :class:`SequenceBlock`, a :class:`SequenceClassifier` without
        pairs of documents, or an nn.Sequential of these, linear maps, embeddings, layer norms and
        activations. It is copied: what becomes of it later does not matter.

    Attributes
    ----------
    state : dict of tensors by name, (batch, …), float64: the states of the layers by module name,
        of a classifier also "sum" and "steps" of its mean over time. Empty before the first step.
        May be set to what another stream of the model had, for example after torch.save.

    Cost: of a step O(n (p + m)) per layer and sequence, beside some ten microseconds; of more than
    a few sequences products of matrices.

    Raises
    ------
    ArgumentError
        For bidirectional models, which need the end of the sequence first, modules that are not
        known, and layers, norms and blocks with hooks or a forward of their own, which no step
        would call.
    """

    def __init__(self, model: nn.Module) -> None:
        for layer in state_space_layers(model).values():
            check_plain_parameters(layer)
        check_own_parameters(model)
        check_nothing_added(model, _TAKEN_APART, "a stream")
        self._dtype = next((p.dtype for p in model.parameters()), torch.float32)
        # NumPy has no bfloat16.
        self._array_dtype = np.float64 if self._dtype == torch.float64 else np.float32
        # In float64 and not to be trained.
        self._model = in_double(copied(model).cpu().eval().requires_grad_(False))
        self._part = part_of(self._model, "")
        self._tokens = _takes_tokens(self._model)
        self._inputs = () if self._tokens else (_input_width(self._model),)
        self._batch: tuple[int, ...] | None = None
        self._states: States = {}

    def reset(self) -> None:
        """Forget the sequence so far; the next may have another batch."""
        self._batch, self._states = None, {}

    def step(self, u: Signal) -> Signal:
        """The answer to the next step.

        Parameters
        ----------
        u : (inputs,) or (batch, inputs), of tokens () or (batch,); a tensor or a NumPy array. The
            first call says how many sequences there are.

        Returns
        -------
        (outputs,) or (batch, outputs), as u came, in the dtype of the model.

        Raises
        ------
        ShapeError, DtypeError
        """
        x, batch = self._taken(u, steps=0)
        y = self._part.step(x, self._states_of(batch))
        return self._given(y.reshape(*batch, y.shape[-1]), u)

    @torch.no_grad()
    def run(self, u: Signal) -> Signal:
        """The answers to all of the next steps, computed in parallel; the stream goes on from the
        last. (L, inputs) or (batch, L, inputs) → the same with outputs.

        Raises
        ------
        ShapeError, DtypeError
        """
        x, batch = self._taken(u, steps=1)
        before = self._states_of(batch)
        states = {name: torch.from_numpy(state) for name, state in before.items()}
        y = passed(self._model, torch.from_numpy(x), states, "").numpy()
        for name, state in states.items():
            before[name][:] = state.numpy()
        return self._given(y.reshape(*batch, *y.shape[1:]), u)

    @property
    def state(self) -> dict[str, Tensor]:
        if self._batch is None:
            return {}
        return {
            name: torch.tensor(x).reshape(*self._batch, *x.shape[1:])
            for name, x in self._states.items()
        }

    @state.setter
    def state(self, values: Mapping[str, Tensor]) -> None:
        shapes = self._part.shapes
        if set(values) != set(shapes):
            raise ArgumentError(
                f"state has the entries {sorted(values)}, but this model needs {sorted(shapes)}"
            )
        batches = set()
        for name, x in values.items():
            own = shapes[name]
            if tuple(x.shape[x.ndim - len(own) :]) != own or x.ndim < len(own):
                raise ShapeError(
                    f"state['{name}'] has shape {tuple(x.shape)}, but (batch, "
                    f"{', '.join(map(str, own))}) is needed"
                )
            batches.add(tuple(x.shape[: x.ndim - len(own)]))
        if len(batches) != 1:
            raise ShapeError(f"the entries of state are of different batches: {sorted(batches)}")
        (self._batch,) = batches
        self._states = {
            name: x.detach().cpu().double().numpy().reshape(-1, *shapes[name]).copy()
            for name, x in values.items()
        }

    def _states_of(self, batch: tuple[int, ...]) -> States:
        if self._batch is None:
            self._batch, count = batch, math.prod(batch)
            self._states = {x: np.zeros((count, *own)) for x, own in self._part.shapes.items()}
        elif batch != self._batch:
            raise ShapeError(
                f"the stream is in the middle of sequences of batch {self._batch}, but the input "
                f"has batch {batch}: call reset() before other ones"
            )
        return self._states

    def _taken(self, u: Any, *, steps: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """(u as a contiguous array with all sequences in front, shape of the batch)."""
        if isinstance(u, Tensor):
            u = u.detach().cpu()
            u = u.float() if u.dtype == torch.bfloat16 else u  # which NumPy does not have
        x = u.numpy() if isinstance(u, Tensor) else np.asarray(u)
        if x.dtype.kind not in ("iu" if self._tokens else "fiub"):
            wanted = "integer tokens" if self._tokens else "real numbers"
            raise DtypeError(f"u is of {x.dtype}, but the model takes {wanted}")
        own = (None,) * steps + self._inputs
        batch = x.shape[: x.ndim - len(own)]
        if x.ndim < len(own) or (self._inputs and x.shape[-1] != self._inputs[0]):
            expected = ", ".join(["batch", *(["L"] if steps else []), *map(str, self._inputs)])
            raise ShapeError(f"u has shape {x.shape}, but ({expected}) is expected")
        shape = (math.prod(batch), *x.shape[len(batch) :])
        dtype = np.int64 if self._tokens else np.float64
        return np.ascontiguousarray(x, dtype).reshape(shape), batch

    def _given(self, y: np.ndarray, like: Any) -> Any:
        if not isinstance(like, Tensor):
            return y.astype(self._array_dtype)
        given = torch.from_numpy(y).to(self._dtype)
        return given if like.device.type == "cpu" else given.to(like.device)


def check_nothing_added(
    model: nn.Module, taken_apart: tuple[type[nn.Module], ...], by: str
) -> None:
    """Refuse modules of these types that do more than their type says.

    Raises
    ------
    ArgumentError
    """
    for name, module in model.named_modules():
        if not isinstance(module, taken_apart):
            continue
        if module._forward_hooks or module._forward_pre_hooks:
            raise ArgumentError(
                f"'{name or 'the model'}', a {type(module).__name__}, has hooks, which {by} "
                "would not call: remove them first"
            )
        home = type(module).forward.__module__
        if "forward" in vars(module) or not home.startswith(("lticore_torch.", "torch.nn.")):
            raise ArgumentError(
                f"'{name or 'the model'}', a {type(module).__name__}, has a forward of its own, "
                f"which {by} would not call: use the modules inside it"
            )


def _takes_tokens(model: Any) -> bool:
    if isinstance(model, SequenceClassifier):  # whose embedding an adapter may hold
        return model.config.vocabulary is not None
    return isinstance(_first(model), nn.Embedding)


def _first(model: Any) -> Any:
    if isinstance(model, SequenceClassifier):
        return model.encoder
    return _first(model[0]) if isinstance(model, nn.Sequential) and len(model) else model


def _input_width(model: Any) -> int:
    """Features of the inputs."""
    first = _first(model)
    first = getattr(first, "ssm", first)
    if isinstance(first, nn.LayerNorm):
        return int(first.normalized_shape[-1])
    width = getattr(first, "in_features", getattr(first, "features", None))
    if width is None:
        raise ArgumentError(
            f"a model that begins with a {type(first).__name__} does not say how many inputs it "
            "has: begin with a linear map, an embedding, a norm or a layer"
        )
    return int(width)
