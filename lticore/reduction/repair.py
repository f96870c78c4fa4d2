"""Reduced systems made stable again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.linalg import EPSILON, adjoint, as_complex, eigenvalues
from ..arrays.namespaces import Array, holds, is_numpy, namespace
from ..equations.lyapunov import solve_lyapunov
from ..equations.stability import is_stable, stable_poles
from ..equations.stein import solve_stein
from ..errors import ArrayLibraryError
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI
from ..systems.quadratic import (
    QuadraticOutputLTI,
    System,
    entry_of,
    forms_of,
    linear_part,
    transformed,
)
from ..systems.structure import to_dense
from .h2.modes import Candidate, candidate_from, region_of, system_of
from .h2.objective import inverse_where_clear

#: Errors of eigenvalues, in units of √n eps ‖A‖₂.
_EIGENVALUES = 4


def repair(sys: System, reduced: System, horizon: float | None) -> tuple[System, int]:
    """``reduced`` with unstable poles reflected, λ → 1/conj λ or −conj λ, and outputs fitted to
    those of ``sys`` over the horizon, or all time, again; dense, as it came. And how many these
    were.

    Entries of a batch that are unstable themselves stay as they are: growth over the horizon is
    theirs, and nothing that decays can stand for it.
    """
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the reduced system is not stable, and making it so needs LAPACK and NumPy arrays"
        )
    batch, count, parts = sys.batch_shape, 0, []
    for index in np.ndindex(batch):
        one, small = entry_of(sys, index), entry_of(reduced, index)
        outside = int(np.sum(~stable_poles(small.A, sys.is_continuous)[1]))
        if outside == 0 or not is_stable(one.A, sys.is_continuous):
            parts.append(small)
            continue
        count += outside
        linear = linear_part(small)
        real = not any(map(np.iscomplexobj, _arrays(small)))
        candidate = candidate_from(linear.A, linear.B, real, region_of(sys))
        parts.append(_dense(system_of(one, candidate, *_best_outputs(one, candidate, horizon))))
    return _stacked(parts, batch), count


def _best_outputs(sys: System, candidate: Candidate, horizon: float | None) -> tuple[Any, Any]:
    """(Ĉ, M̂) = (C Π, Πᴴ M Π) with Π = X P̂⁻¹, as in :func:`lticore.reduction.h2.objective.project`,
    but in the states of the system: its A need not have eigenvectors."""
    own, b = Diagonal(candidate.poles), candidate.b
    solve: Any = solve_lyapunov if sys.is_continuous else solve_stein
    X = solve(linear_part(sys).A, sys.B @ adjoint(b), own, horizon=horizon)
    fit = X @ inverse_where_clear(solve(own, b @ adjoint(b), horizon=horizon))
    return sys.C @ fit, transformed(forms_of(sys), fit)


def off_circle(A: Array) -> tuple[Array, Array, bool]:
    """A dense A that only rounding can have made unstable with its poles inside the circle, which
    entries of the batch (...) were changed for that, and whether no pole was further out than
    eigenvalues are accurate.

    A is scaled down from where its largest modulus is 1 to the accuracy of eigenvalues, or more: a
    change as that of the rounding that put the pole there.
    """
    xp = namespace(A)
    n = A.shape[-1]
    # In balanced states A is close to a contraction, and its eigenvalues are well conditioned.
    error = _EIGENVALUES * n**0.5 * EPSILON
    radius = xp.max(xp.abs(eigenvalues(A)), axis=-1)
    near = radius >= 1 - error
    factor = xp.where(near, (1 - 2 * error) / xp.where(near, radius, 1.0), 1.0)
    return A * factor[..., None, None], near, holds(radius <= 1 + error)


def off_axis(A: Array) -> tuple[Array, Array, bool]:
    """The same in continuous time: A less a multiple of the identity, as small as the rounding of A
    is beside ‖A‖."""
    xp = namespace(A)
    n = A.shape[-1]
    error = _EIGENVALUES * n**0.5 * EPSILON * xp.linalg.matrix_norm(A)
    growth = xp.max(xp.real(as_complex(eigenvalues(A))), axis=-1)
    near = growth >= -error
    shift = xp.where(near, growth + 2 * error, 0.0)
    identity = xp.eye(n, dtype=A.dtype)
    return A - shift[..., None, None] * identity, near, holds(growth <= error)


def _dense(sys: System) -> System:
    return replace(sys, A=to_dense(sys.A))


def _stacked(parts: list[System], batch: tuple[int, ...]) -> System:
    """A batch of dense systems, given one by one."""
    arrays = [_arrays(part) for part in parts]
    stacked = [np.stack(x).reshape(*batch, *x[0].shape) for x in zip(*arrays, strict=True)]
    A, B, C, *rest = stacked
    dt = parts[0].dt
    if isinstance(parts[0], LTI):
        return LTI(A, B, C, *rest, dt=dt)
    M = tuple(rest) if isinstance(parts[0].M, tuple) else rest[0]
    return QuadraticOutputLTI(A, B, C, M, dt=dt)


def _arrays(sys: System) -> list[np.ndarray]:
    if isinstance(sys, LTI):
        return [sys.A, sys.B, sys.C, *([] if sys.D is None else [sys.D])]
    return [sys.A, sys.B, sys.C, *(sys.M if isinstance(sys.M, tuple) else [sys.M])]
