"""Gramians of what layers meet while a model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lticore.errors import ArgumentError

from ..layers import SSMLayer, capture
from ..layers.on_data import OnData
from .sensitivity import Sums, check_rest, in_time


class RunningGramians:
    """Sums of P and Q over the forward and backward passes of training steps.

        P = Σ_k x_k x_kᵀ,   Q = Σ_k λ_k λ_kᵀ,   g_k = ∂ℓ/∂y_k           over all sequences that pass

    of the layers as they stand at each step. Between :meth:`start` and :meth:`stop` every call in
    training mode whose output gets a gradient counts; what a penalty on the parameters adds to the
    loss does not pass through outputs, and does not count.

    Parameters
    ----------
    layers : by name
    """

    def __init__(self, layers: Mapping[str, SSMLayer]) -> None:
        self.layers = dict(layers)
        self.sums = {name: Sums() for name in self.layers}
        self._handles: list[RemovableHandle] = []

    @property
    def looking(self) -> bool:
        return bool(self._handles)

    def start(self) -> None:
        """Forget what there was, and look."""
        self.stop()
        self.sums = {name: Sums() for name in self.layers}
        self._look()

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        return {
            "looking": self.looking,
            "sums": {
                name: (torch.as_tensor(x.P), torch.as_tensor(x.Q), x.noticed)
                for name, x in self.sums.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stop()
        self.sums = {
            name: Sums(P.numpy(), Q.numpy(), noticed)
            for name, (P, Q, noticed) in state["sums"].items()
        }
        if state["looking"]:
            self._look()

    def _look(self) -> None:
        self._handles = [
            layer.register_forward_hook(self._hook(name), with_kwargs=True)
            for name, layer in self.layers.items()
        ]

    def judged(self) -> dict[str, OnData]:
        """What compression judges the layers by; batches of all processes count.

        Raises
        ------
        ArgumentError
            For a layer of which no training step was seen, or whose output no loss noticed.
        """
        everywhere = _of_all_processes(self.sums)
        for name, one in everywhere.items():
            if not one.noticed:
                raise ArgumentError(
                    f"layer '{name}': no gradient came through its output in the training steps "
                    "before the reduction; criterion='data' needs forward and backward passes in "
                    "training mode, of a model that is not compiled then: see "
                    "torch.compiler.set_stance"
                )
        return {
            name: layer.judged_by(everywhere[name].P, everywhere[name].Q)
            for name, layer in self.layers.items()
        }

    def _hook(self, name: str) -> Any:
        def seen(module: nn.Module, args: Any, options: dict[str, Any], output: Any) -> None:
            y = capture.without_state(output)
            if not (module.training and y.requires_grad):
                return
            check_rest(options)
            u = args[0].detach()
            y.register_hook(lambda g: self._add(name, u, g, options))

        return seen

    def _add(self, name: str, u: Tensor, g: Tensor, options: dict[str, Any]) -> None:
        if bool(torch.isfinite(g).all()):  # else the step is lost, or a scaler skips it
            self.sums[name].add(self.layers[name].sums_on(*in_time(u, g, options)), g)


def _of_all_processes(sums: dict[str, Sums]) -> dict[str, Sums]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, sums)
    return {
        name: Sums(
            sum(x[name].P for x in gathered),
            sum(x[name].Q for x in gathered),
            any(x[name].noticed for x in gathered),
        )
        for name in sums
    }
