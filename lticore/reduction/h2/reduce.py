"""h2-optimal reduction: the best of several local minima."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, overload

import numpy as np

from ...analysis.norms import h2_error
from ...arrays.checks import check_horizon, check_integer, to_double
from ...arrays.namespaces import Array, is_numpy
from ...equations.stability import HORIZON, offering, require_stable
from ...errors import ArgumentError, ArrayLibraryError, NonFiniteError, ShapeError, warn_precision
from ...systems.doors import LinearLike, SystemLike, as_system
from ...systems.lti import LTI, replaced
from ...systems.on_host import computed_on_host
from ...systems.quadratic import QuadraticOutputLTI, System, diagonals, linear_part, mapped
from ...systems.signals import in_even_states, in_signals, scaled, unit_outputs
from ...systems.structure import is_structured
from ..balanced import truncate, warn_if_lowered
from ..orders import check_order
from ..result import Convergence, Reduction, nothing_to_reduce
from ..rounding import in_precision_of
from .armijo import armijo
from .descent import STATIONARY, Descent, lbfgs
from .fixed_point import accelerated_tsia, tsia
from .gauss_newton import levenberg_marquardt
from .modes import (
    Candidate,
    Target,
    candidate_from,
    make_target,
    system_of,
    unit_rows,
)
from .region import width

#: Squared errors that differ by less than this share, or this share of ‖Σ‖², do not differ.
_CLOSE, _ROUNDING = 1e-5, 1e-12
#: How far poles of repeated modes are moved for a start, in units of the hyperbolic metric: no
#: further than to the boundary.
_SHIFT = 0.3
#: Signals of sizes between 2 to minus this and 2 to this have squares that are numbers.
_PLAIN = 100
#: Squared norms beyond this, of systems that grow over a horizon, have squares that are no numbers.
_LARGEST = 1e150

#: Of runs that fall by less than this share in ten steps only the lowest goes on.
_GAIN = 1e-3

METHODS: dict[str, Callable[[Target, Candidate], Descent]] = {
    "tsia": partial(tsia, gain=_GAIN),
    "lbfgs": lbfgs,
    "lm": levenberg_marquardt,
    "armijo": armijo,
}


@overload
def h2_reduction(
    sys: LinearLike[Array],
    order: int,
    *,
    method: Literal["tsia", "lbfgs", "lm", "armijo"] = "tsia",
    starts: int = 10,
    horizon: float | None = None,
    seed: int = 0,
) -> Reduction[LTI[Array], Array]: ...
@overload
def h2_reduction(
    sys: QuadraticOutputLTI[Array],
    order: int,
    *,
    method: Literal["tsia", "lbfgs", "lm", "armijo"] = "tsia",
    starts: int = 10,
    horizon: float | None = None,
    seed: int = 0,
) -> Reduction[QuadraticOutputLTI[Array], Array]: ...
@offering(HORIZON)
@computed_on_host
def h2_reduction(
    sys: SystemLike,
    order: int,
    *,
    method: Literal["tsia", "lbfgs", "lm", "armijo"] = "tsia",
    starts: int = 10,
    horizon: float | None = None,
    seed: int = 0,
) -> Reduction:
    """A reduced system whose h2 error is a local minimum, the lowest found.

        minimise J = ‖Σ − Σ̂‖²_h2 over λ̂, B̂, Ĉ (and M̂),     Ĉ = C Π, M̂ = Πᴴ M Π, Π = X P̂⁻¹

    in discrete or continuous time.

    Local minima matter more than the way to reach one: every method begins at balanced truncation
    and at ``starts`` random choices of modes, and the best iterate of all counts. It is never worse
    than balanced truncation, but where that has poles so close together that their outputs cancel.

    Parameters
    ----------
    order : int in 1 … n
    method : "tsia", the two-sided fixed point (fastest; of the runs that hardly fall any more only
        the lowest goes on, accelerated, and by "lbfgs" where it passes by its lowest iterate);
        "lbfgs", quasi-Newton on the projected J; "lm", damped Gauss-Newton (linear outputs,
        infinite horizon); "armijo", the gradient descent of the source, slow
    starts : int ≥ 0
    horizon : int ≥ 1, in continuous time seconds > 0, optional
        Minimise the error of the first T lags, or seconds, instead (TLH2). The minimum may then lie
        on or beyond the unit circle: the poles stay inside, and ``convergence`` need not be
        reached. For an unstable system they stay inside 1 + 1/T times its spectral radius instead,
        in continuous time left of its fastest growth plus 1/T.
    seed : int

    Returns
    -------
    Reduction : ``system`` is a Rotation (continuous: Oscillation) for real systems, else a complex
        Diagonal, and keeps D;
        ``h2_error``, ``history`` (relative squared errors of the accepted iterates of the best run)
        and ``convergence``; no ``error_bound`` and no projections. Conditions: one system, stable
        unless a horizon is given, diagonalisable (dense ones are diagonalised).

    Cost: O(n r (m + p)) per evaluation plus O(r³); O(p n c r) with quadratic outputs of rank c. A
    run of "tsia" takes some tens of evaluations.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    UnstableSystemError, ArgumentError, ShapeError, ArrayLibraryError
    NonFiniteError
        Where an unstable system grows too far over the horizon.

    Warns
    -----
    PrecisionWarning
        When the best run stopped before it converged, the result is worse than balanced
        truncation, or the system has fewer states than ``order`` that are both reached and
        observed.

    Source: Sakamoto & Sato, arXiv:2510.14542 (problem, "armijo"); Xu & Zeng, IEEE TAC 56 (2011)
    ("tsia"); Golub & Pereyra (1973) for the projection.


    >>> sys = lti.LTI(lti.Diagonal([0.8, 0.5]), np.ones((2, 1)), [[1.0, -2.0]])
    >>> print(lti.balanced_truncation(sys, 1).h2_error.round(3))
    1.198
    >>> print(lti.h2_reduction(sys, 1).h2_error.round(3))
    0.645

    """
    sys = as_system(sys, continuous=True)
    order = _check_arguments(sys, order, method, starts, horizon, seed)
    if horizon is None:
        require_stable(linear_part(sys), what="the h2 norm")
    if sys.order == 0:
        return nothing_to_reduce(sys)
    full = mapped(to_double, sys)
    if isinstance(full, LTI):
        full, _ = in_even_states(full)
    unit, b, e = unit_outputs(full)
    if max(abs(b), abs(e)) <= _PLAIN:
        # Steps of gradient descent depend on the units, which are left as they are where they can.
        unit, b, e = full, 0 * b, 0 * e
    found = _reduced(unit, order, method, starts, horizon, seed)
    system = in_signals(found.system, b, e)
    if isinstance(sys, LTI) and isinstance(system, LTI) and sys.D is not None:
        system = replaced(system, D=to_double(sys.D))
    reduction = replace(
        found,
        system=system,
        singular_values=scaled(found.singular_values, e),
        h2_error=scaled(found.h2_error, e),
    )
    return in_precision_of(sys, reduction, horizon)


def _reduced(
    sys: System,
    order: int,
    method: str,
    starts: int,
    horizon: float | None,
    seed: int,
) -> Reduction:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        target = make_target(sys, horizon)
    if horizon is not None and not target.energy <= _LARGEST:
        raise NonFiniteError(
            "the system grows beyond numbers whose squares are numbers over the horizon: take a "
            "shorter one"
        )
    balanced = truncate(sys, order=order, horizon=horizon)
    # A start that had to be made stable is as good as another, one of lower order is not.
    warn_if_lowered(balanced)
    begin = balanced.reduction
    small = linear_part(begin.system)
    rng = np.random.default_rng(seed)
    candidates = [candidate_from(small.A, small.B, target.real, target.region)]
    candidates += [_modal_start(target, small.order, rng) for _ in range(starts)]
    runs = [METHODS[method](target, candidate) for candidate in candidates]
    best = min(runs, key=lambda run: run.best.certain)
    if method == "tsia" and not best.converged:
        best = _continued(accelerated_tsia, target, best)
    if method == "tsia" and best.residual > STATIONARY:
        # The fixed point may pass by its lowest iterate: from there downhill.
        best = _continued(lbfgs, target, best)
    if horizon is None and not best.converged and best.residual > STATIONARY:
        warn_precision(
            f"method '{method}' stopped after {len(best.history) - 1} steps before it converged "
            f"(residual {best.residual:.0e}); the best iterate is returned"
        )
    reduced = system_of(sys, best.best.candidate, best.best.c, best.best.M)
    error = h2_error(sys, reduced, horizon=horizon)
    _warn_if_worse(error, h2_error(sys, begin.system, horizon=horizon), target)
    return Reduction(
        system=reduced,
        order=reduced.order,
        singular_values=begin.singular_values,
        error_bound=None,
        h2_error=error,
        history=best.history,
        convergence=Convergence(
            steps=len(best.history) - 1,
            evaluations=best.evaluations,
            residual=best.residual,
            converged=best.converged,
            starts=tuple(run.best.error for run in runs),
        ),
    )


def _warn_if_worse(error: Array, begun: Array, target: Target) -> None:
    """The modes of balanced truncation, where the search begins, may cancel."""
    if error**2 > (1 + _CLOSE) * begun**2 + _ROUNDING * target.energy:
        warn_precision(
            f"the error is {float(error):.1e}, but that of balanced truncation "
            f"{float(begun):.1e}: its poles lie so close together that their outputs "
            "cancel, and do not survive in modes"
        )


def _continued(
    method: Callable[[Target, Candidate], Descent], target: Target, run: Descent
) -> Descent:
    """The run, and then another method from its lowest iterate on."""
    end = method(target, run.best.candidate)
    return replace(
        end, history=run.history + end.history, evaluations=run.evaluations + end.evaluations
    )


def _check_arguments(
    sys: System, order: int, method: str, starts: int, horizon: float | None, seed: int
) -> int:
    if method not in METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(METHODS)}")
    if not is_numpy(sys.B):
        raise ArrayLibraryError("h2_reduction needs LAPACK and so NumPy arrays")
    if sys.batch_shape:
        raise ShapeError(
            f"a batch of shape {sys.batch_shape} is not one system: reduce its entries one by one"
        )
    if method == "lm" and (horizon is not None or isinstance(sys, QuadraticOutputLTI)):
        raise ArgumentError("method='lm' is for linear outputs and the infinite horizon")
    check_horizon(horizon, sys.is_continuous)
    check_integer("starts", starts, minimum=0)
    check_integer("seed", seed, minimum=0)
    return check_order(order, sys.order)


def _modal_start(target: Target, order: int, rng: np.random.Generator) -> Candidate:
    """Modes drawn without replacement, those with a large share of the output more often.

    A real system gives whole pairs; a state that is left over becomes a real pole as fast as one of
    the modes.
    """
    kept = target.region.inside(target.poles)
    if not is_structured(target.A):
        # Equal poles, as of delays, would be one start only, and may be a stationary point.
        shift = rng.uniform(-1, 1, len(kept)) + 1j * rng.uniform(-1, 1, len(kept)) * (
            kept.imag != 0
        )
        kept = kept + _SHIFT * shift * width(target.region, kept)
    size = np.linalg.norm(target.b, axis=1) * np.sqrt(_output_sizes(target))
    weight = size * target.region.duration(kept)
    # Drawing by the keys u^{1/w} is drawing without replacement with probabilities as w.
    keys = np.log(rng.uniform(size=len(weight))) / np.maximum(weight, 1e-300)
    chosen = np.argsort(-keys)
    if not target.real:
        chosen = chosen[:order]
        return Candidate(kept[chosen], unit_rows(target.b[chosen]), None)
    taken_pairs, taken_reals, left = [], [], order
    for i in chosen:
        if target.poles[i].imag == 0 and left >= 1:
            taken_reals.append((kept[i].real, target.b[i].real))
            left -= 1
        elif target.poles[i].imag > 0 and left >= 2:
            taken_pairs.append(i)
            left -= 2
    while left:
        i = int(rng.choice(chosen))
        row = target.b[i].real if np.any(target.b[i].real) else target.b[i].imag
        taken_reals.append((target.region.real_pole(kept[i], rng.uniform(0.5, 1)), row))
        left -= 1
    poles, b = kept[taken_pairs], target.b[taken_pairs]
    real_poles = np.array([pole for pole, _ in taken_reals], dtype=complex)
    real_rows = np.array([row for _, row in taken_reals], dtype=complex).reshape(-1, b.shape[1])
    return Candidate(
        np.concatenate([poles, poles.conj(), real_poles]),
        unit_rows(np.concatenate([b, b.conj(), real_rows])),
        len(poles),
    )


def _output_sizes(target: Target) -> np.ndarray:
    """‖c_i‖² + Σ_k |(M_k)_ii| of each mode."""
    own = np.abs(diagonals(target.M)).sum(axis=0)
    return np.sum(np.abs(target.c) ** 2, axis=0) + own
