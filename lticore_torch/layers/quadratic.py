"""A rotation layer whose outputs are quadratic in the states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError
from lticore.internal import (
    dense_forms,
    in_double,
    mapped,
    to_numpy,
)

from .base import system_array
from .modal import ModalSizes
from .parameters import replace_parameters
from .rotation import RotationSSM


class QuadraticSSM(RotationSSM):
    """Rotation layer with linear and quadratic outputs.

        y_i = (C x)_i + xᵀ M_i x + (D u)_i,    M_i = V_i diag(s_i) V_iᵀ

    with V (features, n, c) and s (features, c). A Hankel penalty sees the linear part (A, B, C);
    compression and :meth:`to_lti` see all of it.

    Parameters
    ----------
    features, order, real_poles : as for :class:`RotationSSM`
    rank : int
        c, of each quadratic form.

    Initialisation: V ~ N(0, 1/n), s ~ N(0, 1/c)/10, all else as for :class:`RotationSSM`.

    Source: Sakamoto & Sato, A Deep State-Space Model Compression Method using Upper Bound on Output
    Error (2025); Benner, Goyal & Pontes Duff, IEEE TAC 67 (2022).

    >>> layer = lt.QuadraticSSM(4, 8)
    >>> layer(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 4])
    >>> V, s = layer.to_lti().M
    >>> V.shape, s.shape
    ((4, 8, 2), (4, 2))
    """

    SYSTEMS = (lticore.LTI, lticore.QuadraticOutputLTI)

    V: nn.Parameter
    s: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        rank: int = 2,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if rank < 1:
            raise ArgumentError(f"rank must be at least 1, but is {rank}")
        self.rank = rank
        super().__init__(features, order, real_poles=real_poles, device=device, dtype=dtype)

    def _initial(self, sizes: ModalSizes) -> dict[str, Tensor]:
        h, n, rank = sizes.features, sizes.order, self.rank
        return {
            **super()._initial(sizes),
            "V": torch.randn(h, n, rank) / math.sqrt(n),
            "s": torch.randn(h, rank) / (10 * math.sqrt(rank)),
        }

    def options(self) -> dict[str, Any]:
        return {"real_poles": len(self.real_atanh), "rank": self.rank}

    def to_lti(  # type: ignore[override]
        self, *, continuous: bool = False
    ) -> lticore.QuadraticOutputLTI:
        """(A, B, C, M) in float64, M as factors. D is no part of it."""
        linear = super().to_lti(continuous=continuous)
        M = system_array(self.V), system_array(self.s)
        return lticore.QuadraticOutputLTI(linear.A, linear.B, linear.C, M)

    def _load(self, systems: Sequence[Any]) -> None:
        (sys,) = systems
        if isinstance(sys, lticore.LTI):
            super()._load([sys])
            h, rank = self.s.shape
            zeros = {"V": np.zeros((h, self.order, rank)), "s": np.zeros((h, rank))}
            replace_parameters(self, zeros)
            return
        # The rows of all V_i are outputs like those of C: x = T z takes C to C T and V_i to Tᵀ V_i.
        linear, (V, s) = mapped(to_numpy, in_double(sys.linear)), self._factors(sys)
        h, n, rank = V.shape
        forms = V.transpose(0, 2, 1).reshape(h * rank, n)
        outputs = np.concatenate([linear.C, forms])
        values = self._values_of(lticore.LTI(linear.A, linear.B, outputs))
        C, rows = values["C"][:h], values["C"][h:]
        V = rows.reshape(h, rank, -1).transpose(0, 2, 1)
        replace_parameters(self, {**values, "C": C, "V": V, "s": s})

    def _factors(self, sys: Any) -> tuple[np.ndarray, np.ndarray]:
        """(V, s) of at most this layer's rank, which reductions of its systems never exceed."""
        if isinstance(sys.M, tuple):
            V, s = (to_numpy(x).astype(np.float64) for x in sys.M)
        else:
            s, V = np.linalg.eigh(to_numpy(dense_forms(sys.M)).astype(np.float64))
        rank = self.s.shape[1]
        if s.shape[1] == rank:
            return V, s
        kept = np.argsort(-np.abs(s), axis=1, kind="stable")[:, :rank]
        lost = np.take_along_axis(np.abs(s), np.argsort(np.abs(s), axis=1), axis=1)[:, :-rank]
        if lost.size and lost.max() > 1e-10 * np.abs(s).max():
            raise ArgumentError(
                f"a layer of rank {rank} cannot hold quadratic forms of higher rank: make one with "
                "rank= of the system's"
            )
        return np.take_along_axis(V, kept[:, None], axis=2), np.take_along_axis(s, kept, axis=1)

    def moments_after(
        self,
        new: Any,
        states: Sequence[tuple[np.ndarray, np.ndarray]],
        values: Mapping[str, np.ndarray],
        power: int,
    ) -> dict[str, np.ndarray]:
        """Of B, C and V."""
        moved = super().moments_after(new, states, values, power)
        if "V" in values:
            ((_, T_C),) = states
            moved["V"] = np.einsum("pnc,nr->prc", values["V"], T_C**power)
        return moved

    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        shapes, rank = super()._shapes_of(stored), self.s.shape[1]
        h, n = shapes["C"]
        return {**shapes, "V": (h, n, rank), "s": (h, rank)}

    def _rows(self) -> Tensor:
        h, n, rank = self.V.shape
        return torch.cat([self._outputs(), self.V.mT.reshape(h * rank, n)])

    def _combined(self, z: Tensor) -> Tensor:
        h, rank = self.s.shape
        squares = z[..., h:].square().unflatten(-1, (h, rank))
        return z[..., :h] + (squares * self.s.to(z.dtype)).sum(dim=-1)

    def flops_per_step(self) -> int:
        h, n, rank = self.V.shape
        return super().flops_per_step() + h * rank * (2 * n + 3)
