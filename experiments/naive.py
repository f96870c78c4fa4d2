"""The Hankel penalty as it is written without structure: what HSVR's Table 4 calls naive.

Each Stein equation P = A P Aᵀ + B Bᵀ becomes one dense system of n² unknowns,

    (I − A ⊗ A) vec P = vec(B Bᵀ),

O(n⁶) operations and O(n⁴) memory for each layer. It is here to be timed against
:func:`lticore_torch.hankel_sum`, which it equals where no Hankel singular value is close to zero.

Source: Schwerdtner et al., HSVR, Section 4 and Table 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lticore_torch import ssm_layers


def naive_hankel_sum(module: nn.Module) -> Tensor:
    """Σ over all rotation layers of Σ √λ(P Q), in float32 as the authors compute."""
    sums = []
    for layer in ssm_layers(module).values():
        structure, (radius, angle, real_poles), B, C = layer.system_tensors()
        assert structure == "rotation"
        A, B, C = (X.float() for X in (_dense(radius, angle, real_poles), B, C))
        P = _solve_stein(A, B @ B.mT)
        Q = _solve_stein(A.mT, C.mT @ C)
        sums.append(torch.linalg.eigvals(P @ Q).abs().sqrt().sum())
    return torch.stack(sums).sum()


def naive_bytes(module: nn.Module) -> float:
    """Memory of the matrices that the gradient of :func:`naive_hankel_sum` needs: two factorised
    ones of n² × n² float32 per layer."""
    return sum(2 * 4 * float(layer.order) ** 4 for layer in ssm_layers(module).values())


def _dense(radius: Tensor, angle: Tensor, real_poles: Tensor) -> Tensor:
    """A: blocks ρ [[cos α, sin α], [−sin α, cos α]], then real poles."""
    cos, sin = radius * angle.cos(), radius * angle.sin()
    blocks = torch.stack([cos, sin, -sin, cos], dim=-1).reshape(-1, 2, 2)
    return torch.block_diag(*blocks, *real_poles.reshape(-1, 1, 1))


def _solve_stein(A: Tensor, right: Tensor) -> Tensor:
    n = len(A)
    matrix = torch.eye(n * n, dtype=A.dtype, device=A.device) - torch.kron(A, A)
    return torch.linalg.solve(matrix, right.reshape(-1)).reshape(n, n)
