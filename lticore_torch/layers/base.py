"""What every state-space layer offers to the rest of the library."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

import lticore
from lticore.errors import ShapeError, UnstableSystemError


class SSMLayer(nn.Module, ABC):
    """A layer  x_k = A x_{k−1} + B u_k,  y_k = C x_k + D u_k  with x_{−1} = 0 and diagonal D.

    What A, B and C are made of is the layer's own business; regulariser and compression see it
    through the methods below. The feedthrough is a parameter named D, of one entry per feature.

    Attributes
    ----------
    features : int
        Width of inputs and outputs.
    D : (features,) parameter
    """

    features: int
    D: nn.Parameter

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of stored real states n: 2 per conjugate pair, 1 per real pole."""

    @abstractmethod
    def system_tensors(self) -> tuple[str, tuple[Tensor, ...], Tensor, Tensor]:
        """(structure, parameters of A, B, C) of the real input-output map, differentiable, as
        :func:`lticore_torch.functions.spectral_sum` takes them; A in float64."""

    @abstractmethod
    def to_lti(self) -> lticore.LTI:
        """The layer's (A, B, C, D) as a system over NumPy (CPU) or CuPy (CUDA) arrays, float64."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step (..., features) → (y, state): streaming inference in constant memory."""

    def load_lti(self, sys: lticore.LTI) -> None:
        """Take over the map of a real stable system with this layer's width, of any order.

        The parameters are replaced (an optimizer must be given the new ones), keeping dtype,
        device and ``requires_grad``.

        Raises
        ------
        ShapeError
            For a batch of systems, or another number of inputs or outputs.
        ArgumentError
            When D is not diagonal.
        UnstableSystemError
        """
        if sys.batch_shape or (sys.inputs, sys.outputs) != (self.features, self.features):
            raise ShapeError(
                f"a layer of {self.features} features cannot hold {sys!r}: it needs one system "
                f"with {self.features} inputs and outputs"
            )
        if not sys.spectral_radius < 1:
            raise UnstableSystemError(
                f"a layer is stable, but the system has spectral radius {sys.spectral_radius:.17g}"
            )
        self._load(sys)

    @abstractmethod
    def _load(self, sys: lticore.LTI) -> None:
        """:meth:`load_lti` after the checks common to all layers."""

    def system_parameters(self) -> list[nn.Parameter]:
        """The parameters that A, B and C are made of: those a Hankel penalty acts on."""
        return [p for name, p in self.named_parameters() if name != "D"]


def ssm_layers(model: nn.Module) -> dict[str, SSMLayer]:
    """The state-space layers inside ``model`` (or ``model`` itself), by module name, in order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SSMLayer)}
