"""Real state matrices of 2×2 blocks, one per conjugate pair of poles, and real poles."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Self

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_real,
    common_precision,
    is_complex,
)
from ..arrays.linalg import as_complex, complex_of, diagonal_matrix
from ..arrays.namespaces import Array, namespace
from ..errors import ShapeError
from .pairs import join_pairs, same_in_pairs, split_pairs


class PairBlocks(ABC, Generic[Array]):
    """A = blkdiag([[c_1, s_1], [−s_1, c_1]], …, r_1, …, r_k): each block is multiplication of
    x_1 + i x_2 by c − i s. What :class:`Rotation` and :class:`Oscillation` have in common, whatever
    the two parameters of a block are.
    """

    real_poles: Array

    @property
    @abstractmethod
    def parameters(self) -> tuple[Array, ...]:
        """The arrays that define A: two of the blocks, and the real poles."""

    @property
    @abstractmethod
    def radii(self) -> Array:
        """(..., n) |λ| in state order."""

    @property
    @abstractmethod
    def entries(self) -> tuple[Array, Array]:
        """(c, s) of the blocks, (..., q) each."""

    @abstractmethod
    def entry_gradient(self, along: Array, across: Array, real: Array) -> tuple[Array, ...]:
        """The gradient on the parameters for one on the entries, df = along dc + across ds + real
        dr."""

    @property
    def blocks(self) -> int:
        """Number of 2×2 blocks q."""
        return self.parameters[0].shape[-1]

    @property
    def order(self) -> int:
        """Number of real states n = 2q + k."""
        return 2 * self.blocks + self.real_poles.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.real_poles.shape[:-1])

    @property
    def dtype(self) -> Any:
        return self.real_poles.dtype

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return True

    @property
    def poles(self) -> Array:
        """(..., n) complex poles in state order: λ_1, conj λ_1, λ_2, …, then the real ones."""
        c, s = self.entries
        return join_pairs(complex_of(c, -s), complex_of(c, s), self.real_poles)

    @property
    def mode_poles(self) -> Array:
        """(..., n) complex poles in the order of :mod:`lticore.systems.modes`."""
        c, s = self.entries
        above = complex_of(c, -s)
        xp = namespace(above)
        return xp.concat([above, xp.conj(above), as_complex(self.real_poles)], axis=-1)

    @property
    def block_radii(self) -> Array:
        """(..., q + k) |λ| of the blocks and of the real poles."""
        radii, q = self.radii, self.blocks
        return namespace(radii).concat([radii[..., : 2 * q : 2], radii[..., 2 * q :]], axis=-1)

    @property
    def block_decays(self) -> Array:
        """(..., q + k) −Re λ of the blocks and of the real poles."""
        c, _ = self.entries
        return -namespace(c).concat([c, self.real_poles], axis=-1)

    @property
    def decays(self) -> Array:
        """(..., n) −Re λ in state order."""
        c, _ = self.entries
        return -join_pairs(c, c, self.real_poles)

    @property
    def decay_modes(self) -> tuple[Array, Array]:
        """(δ, ω) of the poles λ = −δ + iω in the order of :mod:`lticore.systems.modes`."""
        (c, s), r = self.entries, self.real_poles
        xp = namespace(c)
        return -xp.concat([c, c, r], axis=-1), xp.concat([-s, s, xp.zeros_like(r)], axis=-1)

    def to_dense(self) -> Array:
        """A as an (..., n, n) real array."""
        c, s = self.entries
        xp = namespace(c)
        main = join_pairs(c, c, self.real_poles)
        above = join_pairs(s, xp.zeros_like(s), xp.zeros_like(self.real_poles))
        side = diagonal_matrix(above[..., : max(self.order - 1, 0)], offset=1)
        return diagonal_matrix(main) + side - xp.matrix_transpose(side)

    def multiply(self, X: Array) -> Array:
        """A X for X (..., n, k) in O(n k)."""
        first, second, rest = split_pairs(X, self.blocks, axis=-2)
        c, s = (x[..., None] for x in self.entries)
        return join_pairs(
            c * first + s * second,
            c * second - s * first,
            self.real_poles[..., None] * rest,
            axis=-2,
        )

    def to_modes(self, X: Array) -> Array:
        """Uᴴ X for A = U Λ Uᴴ, rows (x_1 ± i x_2)/√2 of the blocks."""
        xp = namespace(self.real_poles, X)
        first, second, rest = split_pairs(X, self.blocks, axis=-2)
        first, second = first / math.sqrt(2), second / math.sqrt(2)
        if is_complex(X):
            above, below = first + 1j * second, first - 1j * second
        else:
            above, below = complex_of(first, second), complex_of(first, -second)
        return xp.concat([above, below, xp.astype(rest, above.dtype)], axis=-2)

    def from_modes(self, Y: Array) -> Array:
        """U Y, the inverse of :meth:`to_modes`."""
        q = self.blocks
        above, below = Y[..., :q, :], Y[..., q : 2 * q, :]
        return join_pairs(
            (above + below) / math.sqrt(2),
            (above - below) / (1j * math.sqrt(2)),
            Y[..., 2 * q :, :],
            axis=-2,
        )

    def same_in_blocks(self, combine: Callable[[Array, Array], Array], x: Array) -> Array:
        """x (..., n) with one number, ``combine(first, second)``, for both states of a block."""
        return same_in_pairs(combine, x, self.blocks)

    def of_states(self, states: Array) -> Self:
        """The structure of the states at ascending positions (..., r), both of a block or none; the
        entries of a batch keep as many blocks each."""
        xp, ends = namespace(states), 2 * self.blocks
        pairs = int(xp.max(xp.sum(states < ends, axis=-1))) // 2
        first, _, rest = split_pairs(states, pairs)
        *of_blocks, real_poles = self.parameters
        chosen = [xp.take_along_axis(x, first // 2, axis=-1) for x in of_blocks]
        kind: Any = type(self)
        return kind(*chosen, xp.take_along_axis(real_poles, rest - ends, axis=-1))


def checked_parameters(*names: str, first: Any, second: Any, real_poles: Any) -> list[Array]:
    """The arrays of a structure, of one precision and batch shape."""
    named = dict(zip(names, (first, second), strict=True))
    named = {name: check_real(name, check_array(name, x, ndim=1)) for name, x in named.items()}
    first, second = named.values()
    if first.shape[-1] != second.shape[-1]:
        raise ShapeError(
            f"{names[0]} {tuple(first.shape)} and {names[1]} {tuple(second.shape)} must hold one "
            "value per block each"
        )
    if real_poles is None:
        real_poles = namespace(first, second).zeros_like(first[..., :0])
    else:
        real_poles = check_real("real_poles", check_array("real_poles", real_poles, ndim=1))
    named["real_poles"] = real_poles
    xp = namespace(*named.values())
    batch = broadcast_batches(**{name: tuple(x.shape[:-1]) for name, x in named.items()})
    return [xp.broadcast_to(x, (*batch, x.shape[-1])) for x in common_precision(*named.values())]
