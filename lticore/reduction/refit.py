"""Outputs of a reduced system fitted to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal

import numpy as np

from ..analysis.simulation import simulate
from ..arrays.checks import (
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import adjoint, log2, pad_values, real_part
from ..arrays.namespaces import (
    Array,
    as_array,
    holds,
    is_finite,
    is_numpy,
    namespace,
    zeros_like_shape,
)
from ..convert.diagonal import row_norms
from ..errors import ArgumentError, NonFiniteError
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.on_host import computed_on_host
from ..systems.sequences import by_system, check_pair, check_signals
from ..systems.signals import scaled


@dataclass(frozen=True, eq=False)
class Refit(Generic[Array]):
    """A system with refitted outputs, and what the data say of it.

    system : LTI with new C, and new D or diagonal of D where asked for
    residual_before, residual_after : (...) ‖Y − Ŷ‖/‖Y‖, weighted, over all steps of all
        sequences, with the given and with the new outputs (absolute where Y = 0); after ≤ before;
        of Ŷ as `simulate` rounds it
    rank : (...) number of directions of (x̂, u), or of x̂ where D stays or is diagonal, that the
        data excite; what lies outside stays as it was
    ridge : (...) the μ that was chosen, 0 without ``held_out``
    samples : number of time steps seen, per system of a batch


    >>> reduced = lti.LTI([[0.5]], [[1.0]], [[1.0]])
    >>> inputs, outputs = np.eye(3, 1), np.array([[0.0], [2.0], [1.0]])
    >>> refit = lti.refit_outputs(reduced, [(inputs, outputs)])
    >>> print(refit.residual_before.round(4), refit.residual_after.round(4))
    0.5 0.0

    """

    system: LTI
    residual_before: Array
    residual_after: Array
    rank: Array
    ridge: Array
    samples: int


_NAMES = ("inputs", "outputs", "weights")
#: What ``held_out`` chooses the ridge from; the last leaves outputs nearly as they were.
RIDGES = (0.0, *(10.0**k for k in range(-12, 3)))


@computed_on_host
def refit_outputs(
    reduced: LinearLike[Array],
    batches: Iterable[tuple[Array, Array] | tuple[Array, Array, Array]],
    *,
    feedthrough: bool | Literal["diagonal"] = False,
    timing: Literal["delayed", "current"] = "delayed",
    rtol: float = 1e-12,
    held_out: float = 0.0,
) -> Refit[Array]:
    """The C (and D) with which a reduced system answers given inputs best, A and B unchanged.

        min_{Ĉ, D̂} Σ_k w_k² ‖y_k − Ĉ x̂_k − D̂ u_k‖²,     x̂ the states of the reduced system under u

    Solved for the correction of the given outputs, of minimum norm in units in which every state
    and input has the same size over the data: the residual cannot grow, and what the data do not
    determine stays as it was; so do outputs of states or inputs so faint that their correction is
    too large for a number. Batches are folded into the triangular factor of the regressors, so no
    normal equations are formed, and memory is that of one batch.

    Parameters
    ----------
    reduced : LTI of r states, m inputs, p outputs
    batches : iterable of pairs (inputs (..., L, m), outputs (..., L, p)), read once; or of triples,
        with weights w ≥ 0 (..., L) of the steps, which are 1 otherwise
        Outputs of the full system, or measured ones, under these inputs. Each sequence starts from
        x̂ = 0. L and the batch axes may differ from pair to pair; their last axes are those of the
        system's batch, if it has one, and axes before them count as further data.
    feedthrough : bool or "diagonal"
        Fit D too, or only its diagonal where there are as many outputs as inputs. A layer whose
        error bounds are to hold for its timing keeps D.
    timing : "delayed" or "current"
        As in `simulate`.
    rtol : float in [0, 1)
        Singular values of the regressors, columns scaled to norm 1, below rtol times the largest
        count as zero.
    held_out : float in [0, 1)
        Share of the sequences on which a ridge μ is chosen: the correction W of the outputs then
        minimises, of 0, 1e-12 … 100, for the μ that leaves least on sequences it was not fitted to,

            ‖Y − Ŷ − X W‖² + μ ‖W‖²      in the units in which x̂ and u have norm 1 over the data

        and is fitted to all of them in the end. Every ⌊1/held_out⌋-th sequence is held out.

    Returns
    -------
    Refit; its system is in the precision of ``reduced``, real when it and the data are. The error
    bounds of the reduction do not hold for it: ask `hinf_norm` or `h2_error` again.

    Conditions: none on stability, as long as the states stay finite.

    Accuracy: the fit of a QR factorisation, 2.2e-16 times the condition of the scaled regressors.

    Cost: O(L r² + L (r + m)(r + m + p)) per sequence. States of a dense system are computed step by
    step in the interpreter: convert it by `to_rotation` or `diagonalize` first for long sequences.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        For no batches or no samples, something else than pairs, rtol or held_out outside [0, 1),
        fewer sequences than it takes to hold one out; for feedthrough="diagonal" where inputs and
        outputs are not as many, or D is not diagonal.
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError

    Source: Golub & Van Loan, Matrix Computations, §5.3, §6.1.4 and §6.5; Demmel, Grigori, Hoemmen &
    Langou, SIAM J. Sci. Comput. 34 (2012), for the factor of stacked blocks.


    >>> reduced = lti.LTI([[0.5]], [[1.0]], [[1.0]])
    >>> inputs, outputs = np.eye(3, 1), np.array([[0.0], [2.0], [1.0]])
    >>> lti.refit_outputs(reduced, [(inputs, outputs)]).system.C.round(12)
    array([[2.]])

    """
    if not 0 <= rtol < 1:
        raise ArgumentError(f"rtol must lie in [0, 1), but is {rtol!r}")
    if not 0 <= held_out < 1:
        raise ArgumentError(f"held_out must lie in [0, 1), but is {held_out!r}")
    reduced = as_linear(reduced, "reduced")
    sys = in_double(reduced)
    diagonal = _asks_for_diagonal(sys, feedthrough)
    every = math.floor(1 / held_out) if held_out else 0
    factors: list[Any] = [None, None]  # of the sequences to fit, of those held out
    sequences = samples = 0
    size: Array | float = 0.0
    for number, batch in enumerate(batches):
        inputs, outputs, weights = _check_batch(sys, number, batch)
        rows = _rows(sys, inputs, outputs, weights, bool(feedthrough), timing)
        norm = _require_finite_size(
            _frobenius_norm(by_system(sys, outputs if weights is None else outputs * weights))
        )
        size = _require_finite_size(namespace(norm).hypot(norm, size + 0 * norm))
        samples += rows.shape[-2]
        for side, part in enumerate(_divided(rows, inputs.shape[-2], sequences, every)):
            if part.shape[-2]:
                factors[side] = _fold_in(factors[side], part)
        sequences += rows.shape[-2] // max(inputs.shape[-2], 1)
    if samples == 0:
        raise ArgumentError("batches holds no samples: pass pairs (inputs, outputs) with L ≥ 1")
    if every and any(factor is None for factor in factors):
        raise ArgumentError(
            f"held_out={held_out} of {sequences} sequences leaves none on one side: give more of "
            "them, or leave held_out= out"
        )

    columns = sys.order + (sys.inputs if feedthrough else 0)
    least_change = partial(_least_change_by_output, order=sys.order) if diagonal else _least_change
    whole = factors[0]
    ridge = zeros_like_shape(real_part(sys.B), sys.batch_shape)
    if every:
        fitted, held = (_regressors_and_errors(x, columns) for x in factors)
        ridge = _best_ridge(least_change, fitted, held, rtol)
        whole = _fold_in(*factors)
    fitted = _regressors_and_errors(whole, columns)
    change, rank = least_change(*fitted, rtol, ridge)
    system, before, after = _refitted(reduced, sys, fitted, change)
    xp = namespace(before)
    size = xp.where(size > 0, size, xp.ones_like(size))
    single = is_single(reduced.B)
    before, after = (like_precision(x / size, single) for x in (before, after))
    return Refit(system, before, after, rank, ridge, samples)


def _asks_for_diagonal(sys: LTI[Array], feedthrough: bool | str) -> bool:
    """Whether only the diagonal of D is asked for."""
    if isinstance(feedthrough, bool):
        return False
    if feedthrough != "diagonal":
        raise ArgumentError(f"feedthrough={feedthrough!r} is not True, False or 'diagonal'")
    if sys.inputs != sys.outputs:
        raise ArgumentError(
            f"feedthrough='diagonal' needs as many outputs as inputs, but there are {sys.outputs} "
            f"and {sys.inputs}"
        )
    if sys.D is not None:
        xp = namespace(sys.D)
        off = sys.D * (1 - xp.eye(sys.inputs, dtype=sys.D.dtype))
        if not holds(off == 0):
            raise ArgumentError("feedthrough='diagonal' needs a system whose D is diagonal")
    return True


def _check_batch(sys: LTI[Array], number: int, batch: Any) -> list[Any]:
    """(inputs, outputs, weights or None) in float64 with the common batch shape, which ends with
    the system's; weights (..., L, 1)."""
    widths = [sys.inputs, sys.outputs, 1]
    if isinstance(batch, tuple | list) and len(batch) == len(_NAMES):
        parts = [*batch[:2], as_array(f"weights of batch {number}", batch[2])[..., None]]
    else:
        parts = [*check_pair(number, batch, _NAMES[:2]), None]
    names = [f"{name} of batch {number}" for name in _NAMES]
    inputs, outputs, weights = (
        None if x is None else to_double(x) for x in check_signals(sys, names, widths, parts)
    )
    if weights is not None and (is_complex(weights) or not holds(weights >= 0)):
        raise ArgumentError(f"weights of batch {number} must be real and not negative")
    return [inputs, outputs, weights]


def _rows(
    sys: LTI[Array], u: Array, y: Array, weights: Array | None, feedthrough: bool, timing: Any
) -> Array:
    """(batch of the system, samples, columns): states, inputs if asked for, errors of outputs, all
    times the weights."""
    xp = namespace(sys.B, u, y)
    states = u[..., :0]
    if sys.order:
        identity = replace(sys, C=xp.eye(sys.order, dtype=sys.dtype), D=None)
        states = simulate(identity, u, timing=timing)
    errors = y - states @ xp.matrix_transpose(sys.C)
    if sys.D is not None:
        errors = errors - u @ xp.matrix_transpose(sys.D)
    dtype = errors.dtype
    parts = [states, *([u] if feedthrough else []), errors]
    whole = xp.concat([xp.astype(x, dtype) for x in parts], axis=-1)
    rows = by_system(sys, whole if weights is None else whole * weights)
    if not bool(xp.all(xp.isfinite(rows))):
        raise NonFiniteError("the states or outputs of the reduced system overflow: it is unstable")
    return rows


def _fold_in(factor: Any, rows: Any) -> Any:
    """The triangular factor of all rows so far: [R; rows] = Q R'."""
    xp = namespace(rows)
    stacked = rows if factor is None else xp.concat([factor, rows], axis=-2)
    if is_numpy(stacked):
        return np.linalg.qr(stacked, mode="r")
    return xp.linalg.qr(stacked, mode="reduced")[1]


def _regressors_and_errors(factor: Any, columns: int) -> tuple[Any, Any]:
    """Regressors and errors."""
    return factor[..., :columns], factor[..., columns:]


def _divided(rows: Array, length: int, before: int, every: int) -> tuple[Array, Array]:
    """Rows of the sequences to fit and of those held out, each ``every``-th of all."""
    xp = namespace(rows)
    if every == 0:
        return rows, rows[..., :0, :]
    *batch, count, width = rows.shape
    apart = xp.reshape(rows, (*batch, count // max(length, 1), length, width))
    held = (before + np.arange(apart.shape[-3])) % every == every - 1
    fitted, out = (
        xp.take(apart, xp.asarray(np.flatnonzero(x)), axis=len(batch)) for x in (~held, held)
    )
    samples = [xp.reshape(x, (*batch, x.shape[-3] * length, width)) for x in (fitted, out)]
    return samples[0], samples[1]


def _best_ridge(
    least_change: Callable[..., tuple[Any, Any]],
    fitted: tuple[Any, Any],
    held: tuple[Any, Any],
    rtol: float,
) -> Any:
    """(...) The μ whose correction, fitted to the one part, leaves least in the other."""
    X, E = held
    xp = namespace(X)
    candidates = zeros_like_shape(real_part(X), (*X.shape[:-2], len(RIDGES))) + xp.asarray(RIDGES)
    left = [
        _frobenius_norm(E - X @ least_change(*fitted, rtol, candidates[..., i])[0])
        for i in range(len(RIDGES))
    ]
    best = xp.argmin(xp.stack(left, axis=-1), axis=-1, keepdims=True)
    return xp.take_along_axis(candidates, best, axis=-1)[..., 0]


def _least_change(
    regressors: Array, errors: Array, rtol: float, ridge: Array
) -> tuple[Array, Array]:
    """(W, rank): the smallest W, in units of the regressors' norms, that minimises
    ‖E − X W‖² + μ ‖W‖²."""
    X, norms = _unit_columns(regressors)
    W, rank = _ridge_solution(X, errors, rtol, ridge)
    return _per_unit(W, norms[..., None]), rank


def _least_change_by_output(
    regressors: Array, errors: Array, rtol: float, ridge: Array, order: int
) -> tuple[Array, Array]:
    """(W over a diagonal, rank of the states): output i sees the states and its own input u.

        min over w, d of  ‖e − X w − u d‖² + μ (‖w‖² + |d|²)

    For given d the best w is K (e − u d), K = (XᴴX + μ)⁻¹ Xᴴ. What is left is a parabola in d: with
    P = 1 − X K = Pᴴ, and uᴴ P u = ‖P u‖² + μ ‖K u‖², which has no cancellation,

        d = (P u)ᴴ e / (uᴴ P u + μ)
    """
    (X, norms), (U, sizes) = (
        _unit_columns(x) for x in (regressors[..., :order], regressors[..., order:])
    )
    xp = namespace(X)
    KU, rank = _ridge_solution(X, U, rtol, ridge)
    PU = U - X @ KU
    mu = ridge[..., None]
    left = _column_squares(PU) + mu * _column_squares(KU)
    # An input that the states tell already is left to them.
    kept = left > rtol**2
    d = xp.sum(xp.conj(PU) * errors, axis=-2) / xp.where(kept, left + mu, 1.0)
    d = xp.where(kept, d, 0.0)
    W, _ = _ridge_solution(X, errors - U * d[..., None, :], rtol, ridge)
    diagonal = xp.eye(d.shape[-1], dtype=d.dtype) * _per_unit(d, sizes)[..., None, :]
    return xp.concat([_per_unit(W, norms[..., None]), diagonal], axis=-2), rank


def _column_squares(X: Array) -> Array:
    """Of the norms of the columns."""
    return namespace(X).sum(real_part(namespace(X).conj(X) * X), axis=-2)


def _unit_columns(X: Array) -> tuple[Array, Array]:
    """(X with columns of norm 1, their norms; 1 where a column is zero)."""
    xp = namespace(X)
    norms = row_norms(xp.matrix_transpose(X))
    norms = xp.where(norms > 0, norms, xp.ones_like(norms))
    return _over_norms(X, norms[..., None, :]), norms


def _over_norms(X: Array, norms: Array) -> Array:
    """X / norms: a complex number divided by a denormal one would be infinite."""
    size = namespace(norms).round(log2(norms))
    return scaled(X, -size) / scaled(norms, -size)


def _per_unit(W: Array, norms: Array) -> Array:
    """W / norms, 0 where that is too large for a number: the outputs of states or inputs so faint,
    which the data tell nothing of, stay as they are."""
    xp = namespace(W)
    with np.errstate(over="ignore", invalid="ignore"):
        change = _over_norms(W, norms)
    return xp.where(xp.isfinite(change), change, xp.zeros_like(change))


def _ridge_solution(X: Array, E: Array, rtol: float, ridge: Array) -> tuple[Array, Array]:
    """((XᴴX + μ)⁻¹ Xᴴ E on the singular values of X above rtol of the largest, their number)."""
    xp = namespace(X)
    U, sigma, Vh = xp.linalg.svd(X, full_matrices=False)
    kept = (sigma > rtol * pad_values(sigma, 1)) & (sigma > 0)
    sigma = xp.where(kept, sigma, xp.ones_like(sigma))
    inverse = xp.where(kept, 1 / (sigma + ridge[..., None] / sigma), 0.0)
    rank = xp.sum(xp.astype(kept, xp.int64), axis=-1)
    return adjoint(Vh) @ (inverse[..., None] * (adjoint(U) @ E)), rank


def _refitted(
    reduced: LTI[Array], sys: LTI[Array], factor: tuple[Array, Array], change: Array
) -> tuple[LTI[Array], Array, Array]:
    """(system, ‖E‖, ‖E − X W‖) with W as rounded to the precision of the system.

    Where rounding ate up what the fit had gained, the given outputs stay.
    """
    X, E = factor
    xp = namespace(X, E)
    given = xp.matrix_transpose(sys.C)
    if change.shape[-2] > sys.order:
        D = zeros_like_shape(sys.B, (*sys.batch_shape, sys.outputs, sys.inputs))
        D = D if sys.D is None else sys.D
        given = xp.concat([given, xp.matrix_transpose(D)], axis=-2)
    single = is_single(reduced.B)
    fitted = given + change
    top = float(np.finfo(np.float32 if single else np.float64).max)
    fitted = xp.where(xp.abs(fitted) <= top, fitted, given)
    fitted = to_double(like_precision(fitted, single))
    before, after = (_frobenius_norm(e) for e in (E, E - X @ (fitted - given)))
    gained = after <= _require_finite_size(before)
    outputs = xp.matrix_transpose(xp.where(gained[..., None, None], fitted, given))
    C, D = outputs[..., : sys.order], outputs[..., sys.order :]
    new = replace(sys, C=C, D=D if D.shape[-1] else sys.D)
    return in_single(new) if single else new, before, xp.where(gained, after, before)


def _require_finite_size(norm: Array) -> Array:
    if not is_finite(norm):
        raise NonFiniteError(
            "the norm of all outputs, or of their errors, overflows: scale them and the C and D of "
            "reduced down"
        )
    return norm


def _frobenius_norm(X: Array) -> Array:
    """‖X‖_F over the last two axes, whose square may over- or underflow."""
    if 0 in X.shape:
        return zeros_like_shape(real_part(X), X.shape[:-2])
    with np.errstate(over="ignore"):
        return row_norms(namespace(X).reshape(X, (*X.shape[:-2], 1, -1)))[..., 0]
