"""Sums of Hankel singular values and their gradients on tensors, where products of matrices are
fast: the text of lticore, whose iteration torch's products run. No other library is needed, the
host waits once at the end, and never while a CUDA graph is captured."""

from __future__ import annotations

import torch
from torch import Tensor

from lticore import Diagonal, Rotation
from lticore.internal import (
    as_spectral_function,
    asking,
    kernels,
    sum_and_gradient,
    unchecked,
    unchecked_structure,
)

#: Devices on which products of matrices are fast, and decompositions slow.
DEVICES = {"cuda"}
#: State matrices of tensors by name, as in :mod:`lticore_torch.ops.spectral`.
STRUCTURES = {"diagonal": Diagonal, "rotation": Rotation}


class _Questions:
    """What was taken for granted of tensors: that a condition holds, or numbers are finite."""

    def __init__(self) -> None:
        self.conditions: list[Tensor] = []
        self.sums: list[Tensor] = []

    def asks(self, x: Tensor) -> bool:
        if x.dtype == torch.bool:
            self.conditions.append(x.all())
        else:
            # Finite where all numbers are, but for numbers near the largest there is.
            self.sums.append(torch.view_as_real(x).sum() if x.is_complex() else x.sum())
        return True

    def all_hold(self) -> bool:
        """The host waits here for the device."""
        finite = torch.stack(self.sums).isfinite()
        return bool(torch.cat([torch.stack(self.conditions), finite]).all())


def nuclear_sum(
    structure: str, B: Tensor, C: Tensor, parameters: list[Tensor]
) -> list[Tensor] | None:
    """[Σ σ_i, g_B, g_C, *g_parameters] in double precision; None where the systems are unstable or
    the iteration does not converge.

    Taken for granted while a CUDA graph is captured: the calls before have seen.

    Cost: 53 products of n × n matrices for each system; a batch is computed at once.
    """
    B, C, *parameters = (_double(x) for x in (B, C, *parameters))
    if any(x.is_complex() for x in (B, C, *parameters)):
        B, C = (x.to(torch.complex128) for x in (B, C))
    A = unchecked_structure(STRUCTURES[structure], tuple(parameters))
    questions = _Questions()
    with asking(questions):
        value, g_A, g_B, g_C, (*_, accurate) = sum_and_gradient(
            unchecked(A, B, C), as_spectral_function("nuclear")
        )
    questions.asks(accurate)
    if not (is_capturing(B) or questions.all_hold()):
        return None
    return [value, g_B, g_C, *g_A]


def _double(x: Tensor) -> Tensor:
    return x.detach().to(torch.complex128 if x.is_complex() else torch.float64)


def is_capturing(x: Tensor) -> bool:
    """Whether what is done with ``x`` is captured in a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def polar_steps(
    P: Tensor,
    Q: Tensor,
    K: Tensor,
    scale: Tensor,
    squares: tuple[tuple[float, float, float], ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """See lticore/matrices/geometric_mean.py; four calls a step."""
    n, scale = P.shape[-1], scale.reshape(-1, 1, 1)
    P_0, Q_0, K_0 = (x.reshape(-1, n, n) for x in (P, Q, K))
    eye = torch.eye(n, dtype=P.dtype, device=P.device)
    # X, H and Y one after the other: (H, Y) times (X, H) is one batch of products.
    work = P.new_empty(3, len(P_0), n, n)
    X, H, Y = work
    torch.div(P_0, scale, out=X)
    torch.div(Q_0, scale, out=Y)
    targets = work[::2]
    for step, (s, c, d) in enumerate(squares):
        if step == 0:
            L = torch.add(K_0 / scale / scale, eye, alpha=s)
        else:
            L = torch.baddbmm(eye, X, Y, beta=s)
        torch.baddbmm(eye, L, L, beta=d, alpha=c, out=H)
        Z = torch.baddbmm(eye, work[1:].flatten(0, 1), work[:2].flatten(0, 1), beta=0, alpha=0.5)
        if step == len(squares) - 1:
            targets = torch.empty_like(work[:2])
        # The Hermitian parts of both, in one call.
        halves = Z.view(2, *X.shape)
        torch.add(halves, halves.mH, out=targets)
    return targets[0].view(P.shape), targets[1].view(P.shape), X.view(P.shape)


def scaled(X: Tensor, *exponents: Tensor) -> Tensor:
    """See lticore/systems/signals.py."""
    for exponent in exponents:
        X = torch.ldexp(X, exponent)
    return X


def rotation_stein(
    radius_a: Tensor, phase_a: Tensor, radius_b: Tensor, phase_b: Tensor, Q: Tensor
) -> Tensor:
    """See lticore/equations/modal.py; on half the numbers, by operations that do two things."""
    # With rows w = q_1 + i q_2 of the columns of a block, that is conj Γ = w_1 − i w_2 and
    # Ω = w_1 + i w_2. Real states have no second row or column, and come back in the first.
    (n, l), modes_a, modes_b = Q.shape[-2:], radius_a.shape[-1], radius_b.shape[-1]
    pairs_a, pairs_b = n - modes_a, l - modes_b
    W = torch.complex(Q[..., : 2 * pairs_b : 2], Q[..., 1 : 2 * pairs_b : 2])
    if pairs_b < modes_b:
        W = torch.cat([W, Q[..., 2 * pairs_b :].to(W.dtype)], dim=-1)
    first, second = W[..., : 2 * pairs_a : 2, :], W[..., 1 : 2 * pairs_a : 2, :]
    if pairs_a < modes_a:
        rest = W[..., 2 * pairs_a :, :]
        first, second = torch.cat([first, rest], -2), torch.cat([second, 0 * rest], -2)
    rho, sigma, theta, eta = (
        radius_a[..., None],
        radius_b[..., None, :],
        phase_a[..., None] / 2,
        phase_b[..., None, :] / 2,
    )
    gap, modulus = torch.addcmul(1 - rho, rho, 1 - sigma), rho * sigma
    # 1/(1 − conj λ μ) and 1/(1 − λ μ).
    G = torch.add(first, second, alpha=-1j) / _one_minus(gap, modulus, eta - theta)
    H = torch.add(first, second, alpha=1j) / _one_minus(gap, modulus, theta + eta)
    first, second = (H + G) * 0.5, (H - G) * -0.5j
    X = torch.stack([first[..., :pairs_a, :], second[..., :pairs_a, :]], dim=-2).flatten(-3, -2)
    if pairs_a < modes_a:
        X = torch.cat([X, first[..., pairs_a:, :]], dim=-2)
    columns = torch.view_as_real(X[..., :pairs_b]).flatten(-2)
    return columns if pairs_b == modes_b else torch.cat([columns, X[..., pairs_b:].real], dim=-1)


def _one_minus(gap: Tensor, modulus: Tensor, half: Tensor) -> Tensor:
    """1 − w for |w| = modulus = 1 − gap and arg w = 2 half, as in lticore/arrays/linalg.py."""
    sine = half.sin()
    share = 2 * modulus * sine
    return torch.complex(torch.addcmul(gap, share, sine), -share * half.cos())


kernels.OF_TENSORS.update(polar_steps=polar_steps, rotation_stein=rotation_stein, scaled=scaled)
