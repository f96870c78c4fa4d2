"""Gramians on data of a selective layer's states, and which of the states they say to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lticore.errors import ArgumentError
from lticore.internal import leading_directions, pad_values


@dataclass(frozen=True, eq=False)
class StateGramians:
    """Gramians P, Q (n, n) of a selective layer's states and costates on data."""

    P: np.ndarray
    Q: np.ndarray

    @property
    def order(self) -> int:
        return len(self.P)

    @cached_property
    def _directions(self) -> tuple[np.ndarray, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
        return leading_directions(self.P, self.Q)

    @property
    def singular_values(self) -> np.ndarray:
        """√ of the eigenvalues of P Q, descending."""
        return pad_values(self._directions[0], self.order)

    def projections(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """(W, V) of balanced truncation, Wᵀ V = I.

        Raises
        ------
        ArgumentError
        """
        sigma = self.singular_values
        clear = int((sigma > np.finfo(float).eps * len(sigma) * sigma[0]).sum())
        check_order_on_data(order, max(clear, 1))
        scale = 1 / np.sqrt(np.maximum(sigma[:order], np.finfo(float).tiny))
        left, right = (pad_values(X, order) for X in self._directions[1](order))
        return left * scale, right * scale


@dataclass(frozen=True, eq=False)
class ModeGramians(StateGramians):
    """P of the states and Q = Σ (c g)(c g)ᵀ of what reads them, of a layer whose channels have
    poles of their own: no change of states is one of all channels, so they are kept or left out.

    Those left out are estimated from those kept, S: x ≈ V x_S with V = P_{:S} P_{SS}⁻¹, which takes
    c to Vᵀ c and leaves tr(Q (P − P_{:S} P_{SS}⁻¹ P_{S:})) of the loss's square, to first order. S
    grows by the state that takes most of it.
    """

    @cached_property
    def _choice(self) -> tuple[list[int], np.ndarray]:
        """(states in the order of their choice, what each takes of the loss's square)."""
        left = self.P.copy()
        chosen: list[int] = []
        taken: list[float] = []
        floor = np.finfo(float).eps * len(left) * np.diag(left)
        for _ in range(self.order):
            pivots = np.diag(left)
            known = pivots <= floor  # by what was chosen
            known[chosen] = True
            gains = np.einsum("ij,ik,kj->j", left, self.Q, left) / np.where(known, 1, pivots)
            best = int(np.argmax(np.where(known, -1, gains)))
            if known[best]:
                break
            chosen.append(best)
            taken.append(max(gains[best], 0))
            left = left - np.outer(left[:, best], left[best]) / pivots[best]
        return chosen, np.array(taken)

    @property
    def singular_values(self) -> np.ndarray:
        """√ of what each state takes of the loss's square, descending."""
        return pad_values(np.sqrt(np.sort(self._choice[1])[::-1]), self.order)

    def kept(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """(S, V).

        Raises
        ------
        ArgumentError
        """
        chosen = self._choice[0]
        check_order_on_data(order, max(len(chosen), 1))
        S = np.sort(chosen[:order] if chosen else [0])
        return S, self.P[:, S] @ np.linalg.pinv(self.P[np.ix_(S, S)], hermitian=True)


def check_order_on_data(order: int, clear: int) -> None:
    if not 1 <= order <= clear:
        raise ArgumentError(
            f"order must lie in 1 … {clear}, the number of states that do something on the data, "
            f"but is {order}"
        )
