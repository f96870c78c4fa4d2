"""Systems without states that no input reaches or no output sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from ..analysis.norms import h2_error
from ..arrays.checks import check_rtol, is_complex, is_single
from ..arrays.groups import connected_states
from ..arrays.linalg import EPSILON, adjoint, log2
from ..arrays.namespaces import Array, is_numpy
from ..equations.stability import is_stable
from ..errors import ArrayLibraryError, ShapeError, warn_precision
from ..matrices.balance import radius_exponent, refined, rescaled, state_units
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.modes import signals_in_modes, warn_of_lost_radii
from ..systems.on_host import computed_on_host
from ..systems.pairs import (
    complex_columns,
    complex_rows,
    real_columns,
    real_rows,
)
from ..systems.rotation import Rotation
from ..systems.signals import in_even_states, scaled
from ..systems.structure import is_structured, parameters
from .orders import check_not_empty
from .result import Reduction, nothing_to_reduce
from .rounding import in_precision_of

#: Couplings of this many roundings, times n, are taken for rounding.
_ROUNDING = 16
#: Turns in which units of states and of signals are found at most.
_TURNS = 40
#: Units that change by no more than this are even enough: further turns need not end.
_EVEN = 2.0**8
_EPSILON_SINGLE = float(np.finfo(np.float32).eps)


@computed_on_host
def minimal_realization(
    sys: LinearLike[Array], *, rtol: float | None = None
) -> Reduction[LTI[Array], Array]:
    """The same transfer function with as few states as it needs, stable or not.

        C (zI − A)⁻¹ B + D = C_r (zI − A_r)⁻¹ B_r + D,    (A_r, B_r, C_r) reached and observed

    Dense: states that no chain of entries of A leads to from B, or from which none leads to C, are
    left out first. The others are taken apart by orthogonal transformations, in the best units of
    states, inputs and outputs: modes of which the left eigenvector w has ‖wᴴ B‖ ≤ rtol ‖B‖_F |wᴴ v|
    are not reached. Then B spans the first states, A carries these into the next, and so on, until
    all that is left of A is a coupling of rtol ‖A‖_F or less; then the same with Aᴴ and Cᴴ.
    So the result is that of an A, B and C at most some rtol away, each input and output in a unit
    of its own: couplings above are kept, however little they do to the response (balanced
    truncation with ``error`` asks for that).

    Structured: a choice of modes. Those with a row of zeros in B or a column of zeros in C go;
    equal poles keep as many modes as their residue Σ_i c_i b_i has rank, and poles that are not
    equal stay, however close. A remains structured.

    Parameters
    ----------
    rtol : float in [0, 1), default 16 n eps of the precision of the system
        Size of couplings that count as rounding: of A to ‖A‖_F, of B and C to ‖B‖_F and ‖C‖_F with
        inputs and outputs in units in which their largest entries are about 1. Of modes: of
        ‖c_i‖‖b_i‖ to the largest, default 0. Larger for systems whose states were changed by
        ill-conditioned matrices: their couplings are uncertain by eps times the condition.

    Returns
    -------
    Reduction : ``system`` is sys itself where all states are needed. ``left`` and ``right`` are W
        and V with A_r = Wᴴ A V of dense systems that lost states. ``h2_error`` is computed; None
        for unstable systems. There are no ``singular_values`` and no ``error_bound``. Entries of a
        batch must have the same minimal order.

    Cost: O(n³) and some n products for each step of the staircase; O(n log n) structured.

    A PrecisionWarning says so where the response away from the poles changed by more than √rtol.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ShapeError
        For an empty batch, and for one with several minimal orders.
    ArgumentError

    Source: Rosenbrock, State-Space and Multivariable Theory (1970); Van Dooren, IEEE TAC 26 (1981).

    >>> A, B, C = np.diag([2.0, 0.5]), np.ones((2, 1)), np.array([[3.0, 0.0]])
    >>> lti.minimal_realization((A, B, C)).system.A
    array([[2.]])
    """
    sys = as_linear(sys, continuous=True)
    if rtol is not None:
        check_rtol(rtol)
    check_not_empty(sys.batch_shape)
    if sys.order == 0:
        return nothing_to_reduce(sys)
    if not is_numpy(sys.B):
        raise ArrayLibraryError("minimal realizations need LAPACK and NumPy arrays")
    full = in_double(sys)
    if is_structured(full.A):
        reduced, left, right = _stacked_modes(full, rtol), None, None
    else:
        eps = _EPSILON_SINGLE if is_single(sys.B) else EPSILON
        reduced, left, right = _stacked_states(full, rtol or _ROUNDING * sys.order * eps)
    if reduced.order == sys.order:
        zero = np.zeros(sys.batch_shape, np.float32 if is_single(sys.B) else np.float64)
        return Reduction(sys, sys.order, None, None, zero)
    error = h2_error(full, reduced) if is_stable(full.A, sys.is_continuous) else None
    reduction = Reduction(reduced, reduced.order, None, None, error, left, right)
    return in_precision_of(sys, reduction)


# --- dense ------------------------------------------------------------------------------------


def _stacked_states(sys: LTI, rtol: float) -> tuple[LTI, np.ndarray | None, np.ndarray | None]:
    """(the minimal system, W, V), or sys itself"""
    even, d = in_even_states(sys)
    parts = [_minimal_states(even[index], rtol) for index in np.ndindex(sys.batch_shape)]
    orders = [len(A) for A, *_ in parts]
    _check_same(sys, orders)
    if orders[0] == sys.order:
        return sys, None, None
    A, B, C, left, right = (
        np.stack(X).reshape(*sys.batch_shape, *X[0].shape) for X in zip(*parts, strict=True)
    )
    return LTI(A, B, C, sys.D, dt=sys.dt), left / d, right * d


def _minimal_states(sys: LTI, rtol: float) -> tuple[np.ndarray, ...]:
    """(A_r, B_r, C_r, W, V) with Wᴴ V = I onto the states that are reached and observed."""
    there = connected_states(sys.A, sys.B, sys.C)
    A, B, C = sys.A[np.ix_(there, there)], sys.B[there], sys.C[:, there]
    inputs, outputs = _columns_of_size_one(B), _columns_of_size_one(C.T)
    d = _jointly_even_units(A, inputs, outputs)
    with np.errstate(over="ignore"):  # of a system that is minimal nothing is taken
        A, B, C = rescaled(A, d.T, d), B / d, C * d.T
    least = rtol * float(np.linalg.norm(A))
    from_inputs, to_outputs = _columns_of_size_one(inputs / d), _columns_of_size_one(outputs * d)
    to_outputs = to_outputs.conj()
    Q, before = np.eye(len(A), dtype=A.dtype), len(A) + 1
    while Q.shape[1] < before:  # what is left alone is known better
        before = Q.shape[1]
        for X, Y in ((A, from_inputs), (adjoint(A), to_outputs)):
            floor = rtol * float(np.linalg.norm(Y))
            for reached in (_reached_modes, _reached):
                Q = Q @ reached(adjoint(Q) @ X @ Q, adjoint(Q) @ Y, floor, least)
    if Q.shape[1] < len(A):
        _warn_of_change(A, from_inputs, adjoint(to_outputs), Q, rtol)
    W, V = (np.zeros((sys.order, Q.shape[1]), Q.dtype) for _ in range(2))
    W[there], V[there] = Q / d, Q * d
    with np.errstate(invalid="ignore"):
        return adjoint(Q) @ A @ Q, adjoint(Q) @ B, C @ Q, W, V


def _jointly_even_units(A: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Powers of two (n, 1) as units of the states in which A, B and C are even beside each other.

    A ring of edges, of which the product is given, has edges of its mean size: far from those of A
    where signals or time are in units of their own. Signals have a size when the states are even,
    and the other way round: in turns, from the units that suit A.
    """
    A = scaled(A, -radius_exponent(A)[None, None])
    d = state_units(A, inputs, outputs.T)[:, None]
    for _ in range(_TURNS):
        even = _columns_of_size_one(inputs / d), _columns_of_size_one(outputs * d).T
        by = _units_in_a_ring(rescaled(A, d.T, d), *even)
        d = refined(d, by)
        if len(A) == 0 or by.max() <= _EVEN * by.min():
            break
    return d


def _units_in_a_ring(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Powers of two (n, 1) as units of the states in which what leads into a state is about as
    large as what leads out of it: those that make rows and columns even of A, B and C in a ring,
    every output being led to every input.

    Source: Parlett & Reinsch, Numer. Math. 13 (1969); xGEBAL.
    """
    (n, m), p = B.shape, len(C)
    ring = np.zeros((n + m + p, n + m + p))
    ring[:n, :n], ring[:n, n : n + m], ring[n + m :, :n] = np.abs(A), np.abs(B), np.abs(C)
    ring[n : n + m, n + m :] = 1
    # What stays leads nowhere, and LAPACK's sizes of rows and columns would see nothing else.
    np.fill_diagonal(ring, 0)
    (gebal,) = scipy.linalg.get_lapack_funcs(("gebal",), (ring,))
    return gebal(ring, scale=1, permute=0)[3][:n, None]


def _columns_of_size_one(B: np.ndarray) -> np.ndarray:
    """The columns in units, powers of two, in which their largest entries are about 1."""
    largest = np.abs(B).max(axis=0, initial=0)
    return scaled(B, -np.where(largest > 0, np.frexp(largest)[1], 0).astype(float))


def _reached(A: np.ndarray, B: np.ndarray, floor: float, least: float) -> np.ndarray:
    """(n, r) orthonormal basis of span(B, A B, A² B, …), where directions of at most ``floor`` in B
    and couplings of at most ``least`` in A are none."""
    n = len(A)
    Q, known, coupling = np.eye(n, dtype=np.result_type(A, B)), 0, B
    while known < n:
        # What leads from the states of the last step into those not reached so far.
        U, sigma, _ = np.linalg.svd(coupling)
        new = int(np.sum(sigma > floor))
        if new == 0:
            break
        Q[:, known:] = Q[:, known:] @ U
        last, known, floor = Q[:, known : known + new], known + new, least
        coupling = adjoint(Q[:, known:]) @ (A @ last)
    return Q[:, :known]


def _reached_modes(A: np.ndarray, B: np.ndarray, floor: float, least: float) -> np.ndarray:
    """(n, r) orthonormal basis of what is left without the modes that B does not drive.

    Where many steps lead from B each coupling may be large, and none tells that all of them end in
    a subspace (Van Dooren); a left eigenvector w of unit norm tells it by |wᴴ B|, beside the
    cosine wᴴ v of its angle to the right one, which is how well it is known.
    """
    identity = np.eye(len(A), dtype=A.dtype)
    if len(A) == 0:
        return identity
    _, left, right = scipy.linalg.eig(A, left=True, check_finite=False)
    cosine = np.abs(np.sum(left.conj() * right, axis=0))
    faint = left[:, np.linalg.norm(adjoint(left) @ B, axis=1) <= floor * cosine]
    if not is_complex(A):
        faint = np.hstack([faint.real, faint.imag])
    U, sigma, _ = np.linalg.svd(faint)
    # Pairs bring their vectors twice.
    known = int(np.sum(sigma > len(A) * EPSILON * sigma.max(initial=0)))
    gone, kept = U[:, :known], U[:, known:]
    driven = np.linalg.norm(adjoint(gone) @ B) > floor
    return identity if driven or np.linalg.norm(adjoint(gone) @ A @ kept) > least else kept


def _warn_of_change(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, Q: np.ndarray, rtol: float
) -> None:
    """Where the response away from the poles is another one: directions that are reached by faint
    couplings only may carry all of it."""
    radius = 2 * float(np.abs(np.linalg.eigvals(A)).max(initial=0)) or 1.0
    if np.linalg.cond(radius * np.eye(len(A)) - A) > 1 / EPSILON:
        # Poles that are far smaller than A: z − A is singular to working precision beside them.
        radius = 2 * float(np.linalg.norm(A))
    for z in radius * np.exp(1j * np.array([0.0, 1.0, 2.0])):
        states = np.linalg.solve(z * np.eye(len(A)) - A, B)
        small = z * np.eye(Q.shape[1]) - adjoint(Q) @ A @ Q
        response = C @ states
        change = np.linalg.norm(response - C @ (Q @ np.linalg.solve(small, adjoint(Q) @ B)))
        noise = rtol * float(np.linalg.norm(C) * np.linalg.norm(states))
        if change > max(rtol**0.5 * float(np.linalg.norm(response)), noise):
            warn_precision(
                f"without couplings of {rtol:.1e} ‖A‖ and less the response is another one, by "
                f"{change / np.linalg.norm(response):.1e} of itself: lower rtol"
            )
            return


def _check_same(sys: LTI, orders: list[int]) -> None:
    if len(set(orders)) > 1:
        raise ShapeError(
            f"the entries of the batch {sys.batch_shape} have minimal realizations of "
            f"{min(orders)} to {max(orders)} states, or of different numbers of pairs: take them "
            "one by one"
        )


# --- structured -------------------------------------------------------------------------------


def _stacked_modes(sys: LTI, rtol: float | None) -> LTI:
    if isinstance(sys.A, PairBlocks) and is_complex(sys.B):
        # The modes of a pair are independent: one of them may go.
        b, c = signals_in_modes(sys.A, sys.B, sys.C)
        modes = LTI(Diagonal(sys.A.mode_poles), b, c, sys.D, dt=sys.dt)
        reduced = _stacked_modes(modes, rtol)
        if reduced.order == sys.order:
            return sys
        warn_of_lost_radii(sys.A, modes.A, sys.is_continuous)
        return reduced
    of_kind = _minimal_pairs if isinstance(sys.A, PairBlocks) else _minimal_diagonal
    parts = [of_kind(sys[index], rtol or 0.0) for index in np.ndindex(sys.batch_shape)]
    if all(part.order == sys.order for part in parts):
        return sys
    kind: Any = type(sys.A)
    arrays = [[*parameters(part.A), part.B, part.C] for part in parts]
    shapes = {tuple(x.shape for x in group) for group in arrays}
    _check_same(sys, [part.order for part in parts] if len(shapes) == 1 else [0, sys.order])
    *of_A, B, C = (
        np.stack(group).reshape(*sys.batch_shape, *group[0].shape)
        for group in zip(*arrays, strict=True)
    )
    return LTI(kind(*of_A), B, C, sys.D, dt=sys.dt)


def _minimal_diagonal(sys: LTI, rtol: float) -> LTI:
    kept, b, c = _merged(sys.A.poles, sys.B, sys.C, rtol)
    return LTI(sys.A.of_states(kept), b, c, sys.D, dt=sys.dt)


def _minimal_pairs(sys: LTI, rtol: float) -> LTI:
    """In the complex modes z = x_1 + i x_2 of the blocks, y = Re(c z), and the real ones."""
    given, sys = sys, _with_real_poles_alone(sys)
    first, second, real_poles = parameters(sys.A)
    q = len(first)
    b, c = complex_rows(sys.B, q), complex_columns(sys.C, q)
    # Blocks that turn the other way have the conjugate modes.
    back = np.concatenate([second < 0, np.zeros(len(real_poles), dtype=bool)])
    b, c = np.where(back[:, None], b.conj(), b), np.where(back, c.conj(), c)
    # Parameters stand for poles: equal ones are equal.
    labels = np.concatenate([first + 1j * np.abs(second), real_poles])
    blocks, in_blocks, from_blocks = _merged(labels[:q], b[:q], c[:, :q], rtol)
    alone, to_alone, from_alone = _merged(labels[q:], b[q:].real, c[:, q:].real, rtol)
    if 2 * len(blocks) + len(alone) == given.order:
        return given
    turned = back[blocks]
    in_blocks = np.where(turned[:, None], in_blocks.conj(), in_blocks)
    from_blocks = np.where(turned, from_blocks.conj(), from_blocks)
    B = np.concatenate([real_rows(in_blocks), to_alone])
    C = np.concatenate([real_columns(from_blocks), from_alone], axis=1)
    kind: Any = type(sys.A)
    A = kind(first[blocks], second[blocks], real_poles[alone])
    return LTI(A, B, C, sys.D, dt=sys.dt)


def _with_real_poles_alone(sys: LTI) -> LTI:
    """With two real poles in place of each block that is a multiple of the identity: its states
    need not stay together."""
    first, second, real_poles = parameters(sys.A)
    rotation = isinstance(sys.A, Rotation)
    half_turn = rotation & (np.abs(second) == np.pi)
    alone = (second == 0) | half_turn | (rotation & (first == 0))
    if not alone.any():
        return sys
    double = np.where(half_turn, -first, first)[alone] if rotation else -first[alone]
    states = np.repeat(alone, 2)
    rest = len(states) + np.arange(len(real_poles))
    order = np.concatenate([np.flatnonzero(~states), np.flatnonzero(states), rest])
    kind: Any = type(sys.A)
    A = kind(first[~alone], second[~alone], np.concatenate([np.repeat(double, 2), real_poles]))
    return LTI(A, sys.B[order], sys.C[:, order], sys.D, dt=sys.dt)


def _merged(
    poles: np.ndarray, b: np.ndarray, c: np.ndarray, rtol: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(positions of the modes that stay, ascending, their rows of b, their columns of c)."""
    there = np.any(b != 0, axis=1) & np.any(c != 0, axis=0)
    _, label, count = np.unique(poles, return_inverse=True, return_counts=True)
    if rtol == 0 and np.all(count == 1):
        kept = np.flatnonzero(there)
        return kept, b[kept], c[:, kept]
    (inputs, outputs), t = _even_modes(b, c)
    strength = np.linalg.norm(inputs, axis=1) * np.linalg.norm(outputs, axis=0)
    there &= strength >= rtol * strength.max(initial=0)
    b, c = b.copy(), c.copy()
    for group in np.flatnonzero(count > 1):
        equal = np.flatnonzero((label == group) & there)
        if len(equal) < 2:
            continue
        B, C = inputs[equal], outputs[:, equal]
        U, sigma, Vh = np.linalg.svd(C @ B, full_matrices=False)
        least = max(rtol, _ROUNDING * len(equal) * EPSILON)
        rank = int(np.sum(sigma > least * np.linalg.norm(B) * np.linalg.norm(C)))
        if rank == len(equal):
            continue
        # C B = (C R)(L B) with L R = 1, from C B = U Σ Vᴴ.
        root = np.sqrt(sigma[:rank])
        L = adjoint(U[:, :rank]) @ C / root[:, None] / t[equal]
        R = t[equal][:, None] * (B @ adjoint(Vh[:rank])) / root
        b[equal[:rank]], c[:, equal[:rank]] = L @ b[equal], c[:, equal] @ R
        there[equal[rank:]] = False
    kept = np.flatnonzero(there)
    return kept, b[kept], c[:, kept]


def _even_modes(b: np.ndarray, c: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((b/t, c t), t) in units, powers of two, of the signals and the modes in which no mode has
    larger rows than columns; b and c in those of the modes only are b/t and c t.

    Modes have a size when the signals have one, and the other way round: together they are those of
    the ring of :func:`_units_in_a_ring`, found node after node without its matrix.
    """
    # log2 of edges: b_ij 2^(u_j − x_i), c_ki 2^(x_i − y_k), and back from outputs 2^(y_k − u_j).
    log_b, log_c = log2(np.abs(b)), log2(np.abs(c))
    x, u, y = np.zeros(len(b)), np.zeros(b.shape[1]), np.zeros((len(c), 1))
    for _ in range(_TURNS):
        before = x
        x = x + _half_way(_log_sum(log_b + u, 1) - x, _log_sum(log_c - y, 0) + x)
        back = y[:, 0] + _log_sum(-u, 0)
        y = y + _half_way(_log_sum(log_c + x, 1) - y[:, 0], back)[:, None]
        back = _log_sum(y[:, 0], 0) - u
        u = u + _half_way(back, _log_sum(log_b - x[:, None], 0) + u)
        if np.abs(x - before).max(initial=0) < 1:
            break
    x = np.clip(np.rint(x), -1000, 1000)
    inputs, outputs = scaled(b, -x[:, None]), scaled(c.T, x[:, None])
    return (_columns_of_size_one(inputs), _columns_of_size_one(outputs).T), np.exp2(x)


def _half_way(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """By which power of two a node's unit grows for edges that lead in and out to be even."""
    led = np.isfinite(inside) & np.isfinite(outside)
    return np.where(led, (np.where(led, inside, 0) - np.where(led, outside, 0)) / 2, 0)


def _log_sum(logs: np.ndarray, axis: int) -> np.ndarray:
    """log2 Σ 2^logs."""
    top = logs.max(axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    return log2(np.exp2(logs - top).sum(axis=axis)) + np.squeeze(top, axis)
