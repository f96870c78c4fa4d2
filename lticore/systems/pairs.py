"""Where the states of a real system stand: two neighbours for each of q blocks, then one for each
real pole. Compiled kernels apart, nothing else knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from ..arrays.checks import is_complex
from ..arrays.linalg import as_complex, complex_of
from ..arrays.namespaces import Array, is_numpy, namespace


def split_pairs(X: Array, blocks: int, axis: int = -1) -> tuple[Array, Array, Array]:
    """First states of the blocks, second states, and real states along an axis < 0."""
    end = 2 * blocks
    # The standard leaves open what lies beyond the end, as 1 does where there is no state.
    parts = slice(0, end, 2), slice(min(1, end), end, 2), slice(end, None)
    after = (slice(None),) * (-axis - 1)
    first, second, rest = (X[(..., part, *after)] for part in parts)
    return first, second, rest


def join_pairs(first: Array, second: Array, rest: Array, axis: int = -1) -> Array:
    """The inverse of :func:`split_pairs`."""
    xp = namespace(first, second, rest)
    shape = list(first.shape)
    shape[axis] *= 2
    pairs = xp.reshape(xp.stack([first, second], axis=axis), tuple(shape))
    return xp.concat([pairs, xp.astype(rest, pairs.dtype, copy=False)], axis=axis)


def same_in_pairs(combine: Callable[[Array, Array], Array], x: Array, blocks: int) -> Array:
    """x (..., n) with one number, ``combine(first, second)``, for both states of each block."""
    first, second, rest = split_pairs(x, blocks)
    both = combine(first, second)
    return join_pairs(both, both, rest)


def as_numbers(x: Array, blocks: int) -> Array:
    """(..., q + k) numbers z = x_1 + i x_2 of the blocks, then the real states, of real states x:
    the same memory where it can be."""
    if is_numpy(x) and x.shape[-1] == 2 * blocks > 0 and x.flags.c_contiguous:
        return cast(Array, x.view(np.result_type(x.dtype, np.complex64)))
    first, second, rest = split_pairs(x, blocks)
    pairs = complex_of(first, second)
    if not rest.shape[-1]:
        return pairs
    return namespace(pairs).concat([pairs, as_complex(rest)], axis=-1)


def as_states(z: Array, blocks: int) -> Array:
    """The inverse of :func:`as_numbers`."""
    xp = namespace(z)
    if is_numpy(z) and z.shape[-1] == blocks > 0 and z.flags.c_contiguous:
        return cast(Array, z.view(z.real.dtype))
    pairs = z[..., :blocks]
    return join_pairs(xp.real(pairs), xp.imag(pairs), xp.real(z[..., blocks:]))


def complex_rows(B: Array, blocks: int) -> Array:
    """(..., q + k, m): rows b with which u enters z = x_1 + i x_2 of each block, and real ones."""
    first, second, rest = split_pairs(B, blocks, axis=-2)
    b = complex_of(first, second)
    return namespace(b).concat([b, namespace(b).astype(rest, b.dtype)], axis=-2)


def complex_columns(C: Array, blocks: int) -> Array:
    """(..., p, q + k): columns c with y = Re(c z) of each block, and real ones."""
    first, second, rest = split_pairs(C, blocks)
    c = complex_of(first, -second)
    return namespace(c).concat([c, namespace(c).astype(rest, c.dtype)], axis=-1)


def real_rows(b: Array) -> Array:
    """Rows (Re b, Im b), the inverse of :func:`complex_rows` of blocks only."""
    xp = namespace(b)
    if not is_complex(b):
        # No complex poles: an empty set of pairs.
        return b
    return join_pairs(xp.real(b), xp.imag(b), xp.real(b[..., :0, :]), axis=-2)


def real_columns(c: Array) -> Array:
    """Columns (Re c, −Im c), the inverse of :func:`complex_columns` of blocks only."""
    xp = namespace(c)
    if not is_complex(c):
        return c
    return join_pairs(xp.real(c), -xp.imag(c), xp.real(c[..., :0]))
