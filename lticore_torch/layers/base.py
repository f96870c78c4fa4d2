"""What every state-space layer offers to the rest of the library."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

import lticore


class SSMLayer(nn.Module, ABC):
    """A layer  x_k = A x_{k−1} + B u_k,  y_k = C x_k + D u_k  with x_{−1} = 0 and diagonal D.

    Attributes
    ----------
    features : int
        Width of inputs and outputs.
    B : (n, features), C : (features, n), D : (features,) parameters
    """

    features: int
    B: nn.Parameter
    C: nn.Parameter
    D: nn.Parameter

    @property
    def order(self) -> int:
        """Number of stored real states n."""
        return self.B.shape[-2]

    @abstractmethod
    def state_matrix(self) -> tuple[str, tuple[Tensor, ...]]:
        """(structure, parameters of A) as :func:`lticore_torch.functions.spectral_sum` takes them,
        differentiable, in float64."""

    @abstractmethod
    def to_lti(self) -> lticore.LTI:
        """The layer's (A, B, C, D) as a system over NumPy (CPU) or CuPy (CUDA) arrays, float64."""

    @abstractmethod
    def load_lti(self, sys: lticore.LTI) -> None:
        """Take over the map of ``sys``, of any order; parameters are replaced by new ones."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step (batch, features) → (y, state): streaming inference in constant memory."""


def ssm_layers(model: nn.Module) -> dict[str, SSMLayer]:
    """The state-space layers inside ``model`` (or ``model`` itself), by module name, in order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SSMLayer)}
