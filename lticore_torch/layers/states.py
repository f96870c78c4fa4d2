"""States of conjugate pairs, stored as neighbours, followed by those of real poles."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: 1 − |tanh s| stays above 2e-13.
_ATANH_LIMIT = 15.0


def as_complex(pairs: Tensor) -> Tensor:
    """z_j = x_{2j} + i x_{2j+1}: (..., 2q) → (..., q)."""
    # No view: one state among others may start at an odd offset, which complex views refuse.
    return torch.complex(pairs[..., 0::2], pairs[..., 1::2])


def as_neighbours(z: Tensor) -> Tensor:
    """The inverse of :func:`as_complex`."""
    return torch.view_as_real(z).flatten(-2)


def last_state(states: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """The state after the last step processed of (..., L, n); of no steps the ``initial`` one."""
    if states.shape[-2] == 0:
        return initial
    return states[..., 0 if reverse else -1, :]


def next_states(
    pair_poles: Tensor, real_poles: Tensor, state: Tensor | None, drive: Tensor
) -> Tensor:
    """x_k = A x_{k−1} + drive, all (..., n), for A of q complex ``pair_poles`` and n − 2q
    ``real_poles``; x_{−1} = 0 where ``state`` is None."""
    if state is None:
        return drive
    q = 2 * pair_poles.shape[-1]
    z = as_complex(state[..., :q])
    x = state[..., q:] * real_poles.to(state.dtype)
    return torch.cat([as_neighbours(z * pair_poles.to(z.dtype)), x], dim=-1) + drive


def signed_poles(atanh: Tensor) -> Tensor:
    """Real poles tanh(s) in float64, inside the unit circle whatever s is."""
    return torch.tanh(atanh.double().clamp(-_ATANH_LIMIT, _ATANH_LIMIT))


def atanh_of_poles(poles: np.ndarray) -> np.ndarray:
    """The inverse of :func:`signed_poles`, of poles next to the circle as near as it comes."""
    limit = np.tanh(_ATANH_LIMIT)
    return np.arctanh(poles.clip(-limit, limit))
