"""From cotangents of the Gramians to gradients of A, B and C."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..arrays.checks import is_complex
from ..arrays.linalg import adjoint, conjugate, real_part
from ..arrays.namespaces import Array, namespace
from ..equations.dense import sum_by_doubling_gradient
from ..equations.integrals import integral_by_doubling_gradient
from ..equations.lyapunov import lyapunov_slopes
from ..equations.modal import series_slopes
from ..equations.two_sided import SteinSolver
from ..matrices.factors import weighted_gram
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI
from ..systems.modes import mode_poles, multiply, to_modes
from ..systems.pairs import split_pairs
from ..systems.rotation import Rotation
from ..systems.structure import StateMatrix, is_structured, unchecked_structure


def pull_back(
    sys: LTI[Array],
    P: Array,
    Q: Array,
    G_P: Array,
    G_Q: Array,
    solve: SteinSolver,
    horizon: Any = None,
) -> tuple[tuple[Array, ...], Array, Array]:
    """(g_A, g_B, g_C) with ½ Re⟨G_P, dP⟩ + ½ Re⟨G_Q, dQ⟩ = Σ Re⟨g, dx⟩, g_A on the parameters of A.

        Aᴴ Y A − Y + G_P = 0,   A Z Aᴴ − Z + G_Q = 0
        g_A = Y A P + Q A Z,   g_B = Y B,   g_C = C Z

    and in continuous time Aᴴ Y + Y A + G_P = 0, A Z + Z Aᴴ + G_Q = 0, g_A = Y P + Q Z.
    ``solve`` is the solver of A over the horizon, which of dense A in continuous time is (...), of
    each batch entry. With a horizon g_A is the derivative of the finite sums or integrals instead;
    g_B and g_C are as above.

    Cost: O(n² (m + p)) structured, O(n³) dense.
    """
    # P solves a Stein equation, so ⟨G_P, dP⟩ = ⟨Y, dA P Aᴴ + A P dAᴴ + dB Bᴴ + B dBᴴ⟩ with Y
    # the solution of the adjoint equation: Hermitian Y gives 2 Re⟨Y A P, dA⟩ + 2 Re⟨Y B, dB⟩. Of
    # A P + P Aᴴ + B Bᴴ = 0 it is ⟨Y, dA P + P dAᴴ + dB Bᴴ + B dBᴴ⟩.
    A, B, C = sys.A, sys.B, sys.C
    Y, Z = solve(G_P, adjoint=True), solve(G_Q)
    if horizon is None:
        g_A = _parameter_gradient(A, (Y, Q), (P, Z), sys.is_continuous)
    elif is_structured(A):
        g_A = _modal_gradient(sys, G_P, G_Q, horizon)
    else:
        W_P, W_Q = weighted_gram(B), weighted_gram(adjoint(C))
        gradient: Any = sum_by_doubling_gradient
        if sys.is_continuous:
            gradient = integral_by_doubling_gradient
        of_P = gradient(A, W_P, G_P, horizon)
        of_Q = adjoint(gradient(adjoint(A), W_Q, G_Q, horizon))
        g_A = (_like(A, of_P + of_Q) / 2,)
    return g_A, Y @ B, C @ Z


def _parameter_gradient(
    A: StateMatrix[Array],
    left: tuple[Array, Array],
    right: tuple[Array, Array],
    continuous: bool,
) -> tuple[Array, ...]:
    """The gradient Σ X A Y of a dense A, or Σ X Y in continuous time, on the parameters of A's
    structure; Hermitian X and Y."""
    if isinstance(A, Rotation) and not continuous and not is_complex(left[0]):
        gradient = kernels.find(rotation_gradient_reference, left[0])
        return gradient(A.radius, A.angle, A.real_poles, left, right)
    parts = (_one_gradient(A, X, Y, continuous) for X, Y in zip(left, right, strict=True))
    return tuple(first + second for first, second in zip(*parts, strict=True))


def _one_gradient(A: StateMatrix[Array], X: Array, Y: Array, continuous: bool) -> tuple[Array, ...]:
    if isinstance(A, Diagonal):
        poles = 1.0 if continuous else A.poles[..., None, :]
        products = namespace(X, Y).vecdot(conjugate(X), poles * conjugate(Y))
        return (_like(A.poles, products),)
    if isinstance(A, PairBlocks):
        return A.entry_gradient(*_entry_products(X, Y if continuous else multiply(A, Y), A.blocks))
    return (_like(A, X @ Y if continuous else X @ A @ Y),)


def _entry_products(X: Array, Y: Array, blocks: int) -> tuple[Array, Array, Array]:
    """Of G = X Y the derivatives by the entries of blocks [[c, s], [−s, c]] and by real poles:
    G_11 + G_22, G_12 − G_21 and G_ii, real parts."""
    X_1, X_2, X_r = split_pairs(X, blocks, axis=-2)
    Y_1, Y_2, Y_r = split_pairs(adjoint(Y), blocks, axis=-2)

    def entries(X: Array, Y: Array) -> Array:
        """G_ij for i, j running together through two sets of rows."""
        return real_part(namespace(X).sum(X * conjugate(Y), axis=-1))

    along = entries(X_1, Y_1) + entries(X_2, Y_2)
    return along, entries(X_1, Y_2) - entries(X_2, Y_1), entries(X_r, Y_r)


def _like(x: Array, gradient: Array) -> Array:
    """The gradient of a real array is the real part."""
    return gradient if is_complex(x) else real_part(gradient)


def rotation_gradient_reference(
    radius: Array,
    angle: Array,
    real_poles: Array,
    left: tuple[Array, Array],
    right: tuple[Array, Array],
) -> tuple[Array, ...]:
    """Derivatives in ρ, α and the real poles for the gradient G = Σ X A P of a dense A, for real
    symmetric matrices X on the left and P on the right.

    A block ρ R(α) of A has ⟨G, dA⟩ = ⟨G, R⟩ dρ + ρ ⟨G, R'⟩ dα with R = [[cos, sin], [−sin, cos]];
    a real pole G_ii. Reference text of the kernels of this name.
    """
    A: Any = unchecked_structure(Rotation, (radius, angle, real_poles))
    parts = (_one_gradient(A, X, P, False) for X, P in zip(left, right, strict=True))
    return tuple(first + second for first, second in zip(*parts, strict=True))


def _modal_gradient(sys: LTI[Array], G_P: Array, G_Q: Array, horizon: Any) -> tuple[Array, ...]:
    # In the modes P_ij = F_ij φ(w_ij), Q_ij = E_ij φ(conj w_ij) with F = b bᴴ, E = c cᴴ and
    # w = λ λᴴ. Moving λ_i changes row i and column i of both, conjugate to each other, so
    #   g_i = Σ_j conj φ'(w_ij) (G_P ∘ conj F + conj G_Q ∘ E)_ij λ_j   for twice the cotangents.
    # In continuous time w_ij = λ_i + conj λ_j, of which nothing stands for the λ_j.
    A = sys.A
    xp = namespace(sys.B)
    b, c = to_modes(A, sys.B), to_modes(A, adjoint(sys.C))
    G_P, G_Q = (to_modes(A, adjoint(to_modes(A, G))) for G in (G_P, G_Q))
    together = G_P * conjugate(weighted_gram(b)) + conjugate(G_Q) * weighted_gram(c)
    if sys.is_continuous:
        slopes, poles = lyapunov_slopes(A, A, horizon), xp.ones_like(mode_poles(A))
    else:
        slopes, poles = series_slopes(A, A, horizon), mode_poles(A)
    g = xp.sum(conjugate(slopes) * together * poles[..., None, :], axis=-1)
    return A.pole_gradient(g)
