"""Two layers that read a sequence from both ends."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError

from .base import SSMLayer

Layer = TypeVar("Layer", bound=nn.Module)


class Bidirectional(nn.Module):
    """y = S_1 u + (S_2 applied from the last step to the first) u.

    Both systems stay layers of their own: penalties and compression treat each. The feedthrough is
    that of the first; the second's is zero and not trained.

    Parameters
    ----------
    ahead, back : two layers of the same width

    Shapes: forward (..., L, features) → (..., L, outputs).

    Raises
    ------
    ArgumentError
        For layers of different widths.

    >>> layer = lt.Bidirectional(lt.LRU(1, 4), lt.LRU(1, 4))
    >>> u = torch.zeros(5, 1)
    >>> u[2] = 1.0
    >>> bool((layer(u) != 0).all())  # what comes at one step reaches all
    True
    """

    def __init__(self, ahead: Any, back: Any) -> None:
        super().__init__()
        for width in ("features", "outputs"):
            one, other = getattr(ahead, width), getattr(back, width)
            if one != other:
                raise ArgumentError(
                    f"the two directions have {one} and {other} {width}: make them the same"
                )
        self.ahead, self.back = ahead, back
        back.feeds_through = False
        with torch.no_grad():
            back.D.zero_().requires_grad_(False)

    @property
    def features(self) -> int:
        return self.ahead.features

    @property
    def outputs(self) -> int:
        return self.ahead.outputs

    def forward(
        self, u: Tensor, *, state: Tensor | None = None, return_state: bool = False
    ) -> Tensor:
        """Whole sequences only.

        Raises
        ------
        ArgumentError
            With ``state`` or ``return_state``: the second direction has no past.
        """
        if state is not None or return_state:
            raise ArgumentError(
                "a bidirectional layer takes and returns no state: its second direction starts at "
                "the end of the sequence. Call it on whole sequences, or its .ahead alone"
            )
        return self.ahead(u) + self.back(u, reverse=True)

    def to_lti(self, *, continuous: bool = False) -> tuple[lticore.LTI, lticore.LTI]:
        """The systems of the two directions, the one that runs ahead first; ``continuous`` as for
        each of them."""
        for layer in (self.ahead, self.back):
            if not isinstance(layer, SSMLayer):
                raise ArgumentError(
                    f"{type(layer).__name__} is not time-invariant: it has no to_lti()"
                )
        return self.ahead.to_lti(continuous=continuous), self.back.to_lti(continuous=continuous)

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Refused: the second direction starts at the end of the sequence.

        Raises
        ------
        ArgumentError
        """
        raise ArgumentError(
            "a bidirectional layer cannot stream: its second direction needs the end of the "
            "sequence first. Call the layer on whole sequences, or train a unidirectional one"
        )
