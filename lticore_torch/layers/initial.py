"""How parameters of a layer begin, and what optimizers are told of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lticore.errors import DtypeError

from .parameters import check_plain_parameters


class InitialisedModule(nn.Module, ABC):
    """A module whose parameters have initial values.

    Parameters are made in ``dtype`` on ``device``, by default torch's; random numbers are drawn on
    the CPU, so that one seed gives one layer on every device. Those that decay would ruin, poles,
    step sizes and a diagonal D, carry the marks ``_no_weight_decay`` and ``_optim`` that training
    loops of S4 and Mamba look for; :func:`lticore_torch.parameter_groups` reads them.
    """

    D: nn.Parameter
    #: False: D is zero and stays so.
    feeds_through: bool = True

    @property
    @abstractmethod
    def pole_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that poles and step sizes are made of."""

    @abstractmethod
    def _sizes(self) -> Any:
        """What :meth:`_initial` makes parameters of these sizes from."""

    @abstractmethod
    def _initial(self, sizes: Any) -> dict[str, Tensor]:
        """Initial values of all parameters, in the order in which optimizers number them."""

    def _create(self, sizes: Any, device: torch.types.Device, dtype: torch.dtype | None) -> None:
        """Make the parameters."""
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not dtype.is_floating_point:
            raise DtypeError(f"a layer's parameters must be real floating-point, not {dtype}")
        device = torch.get_default_device() if device is None else device
        for name, value in self._drawn(sizes).items():
            setattr(self, name, nn.Parameter(value.to(device=device, dtype=dtype)))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all parameters anew, at the sizes that they have.

        Raises
        ------
        ArgumentError
            For a layer of whose parameters some are made of others.
        """
        check_plain_parameters(self)
        for name, value in self._drawn(self._sizes()).items():
            getattr(self, name).copy_(value)

    def _drawn(self, sizes: Any) -> dict[str, Tensor]:
        with torch.device("cpu"):
            values = self._initial(sizes)
        return values if self.feeds_through else {**values, "D": torch.zeros_like(values["D"])}

    # Parameters come to a layer as attributes, in copies and from pickles, and when a whole layer
    # moves; objects made on the way do not have the marks.

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        self._mark()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mark()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        applied = super()._apply(fn, recurse)
        self._mark()
        return applied

    def _mark(self) -> None:
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            if name in self.pole_parameters or (name == "D" and parameter.ndim == 1):
                parameter._no_weight_decay = True  # type: ignore[attr-defined]
                parameter._optim = {"weight_decay": 0.0}  # type: ignore[attr-defined]
