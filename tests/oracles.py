"""Slow and obvious references, and the measures by which results are compared with them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import scipy.linalg

import lticore as lti

EPS = np.finfo(np.float64).eps
EPS_SINGLE = float(np.finfo(np.float32).eps)


# --- measures ---------------------------------------------------------------------------------


def adjoint(X):
    return X.conj().swapaxes(-1, -2)


def dense(A):
    """The matrix of a state matrix, in double precision (exactly the poles that are given)."""
    if isinstance(A, lti.Diagonal):
        return lti.Diagonal(double(A.poles)).to_dense()
    if isinstance(A, lti.Rotation):
        return lti.Rotation(double(A.radius), double(A.angle), double(A.real_poles)).to_dense()
    if isinstance(A, lti.Oscillation):
        return lti.Oscillation(*map(double, (A.decay, A.frequency, A.real_poles))).to_dense()
    return double(np.asarray(A))


def double(x):
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def size(X):
    """Largest Frobenius norm over a batch."""
    return float(np.max(np.linalg.norm(X, axis=(-2, -1))))


def stein_condition(A, B=None):
    """‖L⁻¹‖(1 + ‖A‖‖B‖) of L X = X − A X Bᴴ, for one pair of dense matrices.

    A backward stable solution has a residual of eps (1 + ‖A‖‖B‖)‖X‖ and is off by eps ‖X‖ times
    this: eps stands for n eps in the worst case, where all roundings have one sign.
    """
    B = A if B is None else B
    L = np.eye(len(A) * len(B)) - np.kron(A, B.conj())
    smallest = np.linalg.svd(L, compute_uv=False)[-1]
    return (1 + np.linalg.norm(A, 2) * np.linalg.norm(B, 2)) / smallest


def squared_norm_rounding(sys):
    """(…) what backward stable Gramians P leave uncertain in tr(C P Cᴴ)."""
    P = np.linalg.norm(lti.controllability_gramian(sys), axis=(-2, -1))
    condition = np.zeros(sys.batch_shape)
    for index, (A, *_) in zip(np.ndindex(sys.batch_shape), entries(sys), strict=True):
        condition[index] = stein_condition(A)
    return sys.order * EPS * condition * P * np.linalg.norm(sys.C, 2, axis=(-2, -1)) ** 2


def unit_roundoff(x):
    return EPS_SINGLE if np.asarray(x).dtype in (np.float32, np.complex64) else EPS


def entries(sys):
    """The systems of a batch, as tuples (A, B, C, D) of matrices in double precision."""
    A, B, C = dense(sys.A), double(sys.B), double(sys.C)
    for index in np.ndindex(sys.batch_shape):
        D = np.zeros((sys.outputs, sys.inputs)) if sys.D is None else double(sys.D)[index]
        yield A[index], B[index], C[index], D


def difference(sys, reduced):
    """The system Σ − Σ̂, dense."""
    A, B, C = dense(sys.A), double(sys.B), double(sys.C)
    A_r, B_r, C_r = dense(reduced.A), double(reduced.B), double(reduced.C)
    zeros = np.zeros((*sys.batch_shape, sys.order, reduced.order))
    top = np.concatenate([A, zeros], axis=-1)
    bottom = np.concatenate([zeros.swapaxes(-1, -2), A_r], axis=-1)
    D = None
    if sys.D is not None or reduced.D is not None:
        D = (0 if sys.D is None else sys.D) - (0 if reduced.D is None else reduced.D)
    return lti.LTI(
        np.concatenate([top, bottom], axis=-2),
        np.concatenate([B, B_r], axis=-2),
        np.concatenate([C, -C_r], axis=-1),
        D,
    )


# --- equations --------------------------------------------------------------------------------


def stein_residual(A, X, B, Q):
    """‖A X Bᴴ − X + Q‖ relative to ‖X‖ max(1, ‖A‖‖B‖), in double precision."""
    A, B, X, Q = dense(A), dense(B), double(X), double(Q)
    scale = max(1.0, np.linalg.norm(A, 2, axis=(-2, -1)).max()) * max(
        1.0, np.linalg.norm(B, 2, axis=(-2, -1)).max()
    )
    return size(A @ X @ adjoint(B) - X + Q) / max(size(X) * scale, np.finfo(np.float64).tiny)


def stein_by_kronecker(A, Q, B):
    """X from the linear system (I − A ⊗ conj B) vec X = vec Q."""
    K = np.eye(Q.size) - np.kron(A, B.conj())
    return np.linalg.solve(K, Q.reshape(-1)).reshape(Q.shape)


def stein_by_summation(A, Q, B, horizon):
    """Σ_{k<T} A^k Q (Bᴴ)^k, term by term."""
    term, total = Q, np.zeros_like(Q)
    for _ in range(horizon):
        total = total + term
        term = A @ term @ adjoint(B)
    return total


def gramians_by_scipy(A, B, C):
    P = scipy.linalg.solve_discrete_lyapunov(A, B @ adjoint(B))
    Q = scipy.linalg.solve_discrete_lyapunov(adjoint(A), adjoint(C) @ C)
    return P, Q


# --- Hankel singular values -------------------------------------------------------------------


def hankel_values_by_eigenvalues(A, B, C):
    """√eig(P Q); right to about √eps relative to the largest."""
    P, Q = gramians_by_scipy(A, B, C)
    squares = np.linalg.eigvals(P @ Q)
    return np.sqrt(np.sort(np.maximum(squares.real, 0))[::-1])


def hankel_values_by_mpmath(A, B, C, digits=60, exact=False):
    """√eig(P Q) in ``digits`` digits, the Gramians summed by squaring; ``exact`` keeps them all."""
    with mpmath.workdps(digits):
        A, B, C = (mpmath.matrix(X.tolist() if isinstance(X, np.ndarray) else X) for X in (A, B, C))

        def gramian(A, Q):
            while True:
                step = A * Q * A.H
                Q, A = Q + step, A * A
                if mpmath.mnorm(step, 1) <= mpmath.mpf(10) ** -digits * mpmath.mnorm(Q, 1):
                    return Q

        P, Q = gramian(A, B * B.H), gramian(A.H, C.H * C)
        squares = mpmath.eig(P * Q, left=False, right=False)
        sigma = sorted((mpmath.sqrt(abs(x)) for x in squares), reverse=True)
        return sigma if exact else np.array([float(x) for x in sigma])


def gramian_by_mpmath(A, B, digits=60, steps=200):
    """Σ A^k B Bᵀ (A^k)ᵀ of a real system, term by term in ``digits`` digits."""
    with mpmath.workdps(digits):
        A, B = (np.vectorize(mpmath.mpf, otypes=[object])(X) for X in (A, B))
        terms = [B]
        for _ in range(steps):
            terms.append(A @ terms[-1])
        states = np.hstack(terms)
        return (states @ states.T).astype(float)


def gramian_rounding(A, steps=400):
    """eps ‖A‖² Σ_k ‖A^k‖²: what rounding of A by eps ‖A‖ changes a Gramian by, relative to its
    norm, to first order."""
    powers = np.stack([np.linalg.matrix_power(A, k) for k in range(steps)])
    return EPS * np.linalg.norm(A) ** 2 * np.sum(np.linalg.norm(powers, 2, axis=(-2, -1)) ** 2)


def repeated_pairs(q):
    """The companion form of (z² + 1/8)^q, whose coefficients are exact: poles ±i/√8 of which each
    one is the q-th copy, where |A| has a spectral radius beyond 1."""
    A = np.eye(2 * q, k=-1)
    A[0] = np.ravel([(0, -math.comb(q, k) / 8**k) for k in range(1, q + 1)])
    return A


# --- responses --------------------------------------------------------------------------------


def markov_parameters(A, B, C, D, steps):
    terms, X = [D], B
    for _ in range(steps - 1):
        terms.append(C @ X)
        X = A @ X
    return np.stack(terms)


def response_by_inversion(A, B, C, D, frequencies):
    identity = np.eye(len(A))
    return np.stack([C @ np.linalg.inv(np.exp(1j * w) * identity - A) @ B + D for w in frequencies])


def fine_grid(poles, points=400):
    """Frequencies everywhere, and ever denser towards the phase of every pole."""
    offsets = np.geomspace(1e-12, np.pi, points // 2)
    phases = np.angle(poles).ravel()
    close = (phases[:, None] + np.concatenate([-offsets, [0], offsets])).ravel()
    return np.concatenate([np.linspace(-np.pi, np.pi, points), close])


def peak_gain_on_grid(sys, frequencies):
    """Largest σ_max(H) per batch entry over the grid: never above the h∞ norm."""
    gains = np.linalg.norm(lti.frequency_response(sys, frequencies), 2, axis=(-2, -1))
    return gains.max(axis=-1)


# --- derivatives ------------------------------------------------------------------------------


def central_difference(function, x, direction, step=1e-6):
    """Directional derivative of a scalar function of an array, to about step² and eps/step."""
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def inner(g, dx):
    """Re⟨g, dx⟩."""
    return float(np.sum(np.conj(g) * dx).real)
