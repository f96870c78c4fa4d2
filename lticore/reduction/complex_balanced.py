"""Balanced truncation of the complex half of a real system, for comparison."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

from ..analysis.norms import h2_error
from ..arrays.checks import is_complex
from ..arrays.namespaces import Array
from ..convert.diagonal import diagonalize
from ..convert.rotation import real_system
from ..equations.stability import NOTHING, offering
from ..errors import ArgumentError, counted, warn_precision
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.modes import mode_poles
from ..systems.on_host import computed_on_host
from ..systems.pairs import complex_columns, complex_rows
from .balanced import truncate, whole_bound
from .orders import check_order
from .result import Reduction
from .rounding import in_precision_of


@offering(NOTHING)
@computed_on_host
def complex_balanced_truncation(
    sys: LinearLike[Array],
    order: int | None = None,
    *,
    energy: float | None = None,
    error: float | None = None,
) -> Reduction[LTI[Array], Array]:
    """Reduce z' = λ z + b u, or ż = λ z + b u, y = Re(c z) by balancing the complex system
    (Λ, b, c).

        ‖H − H_r‖_h∞ ≤ 2 Σ_{i>r} σ_i,    σ the Hankel singular values of (Λ, b, c)

    The real part is ignored when states are weighed, so this is worse than balanced truncation of
    the real system at equal size in general; the bound carries over since H(z) is the mean of
    G(z) and conj G(conj z).

    Parameters
    ----------
    sys : LTI with a `Rotation` or `Oscillation` without real poles and real B, C
    order : even int in 2 … n
        Real states kept: two for each complex one.
    energy, error : as for :func:`lticore.balanced_truncation`, with the complex σ

    Returns
    -------
    Reduction : a system of the same structure, with the D of ``sys``; ``singular_values``
        (..., n/2) are those of the complex system; no projections.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError, ShapeError, UnstableSystemError

    Source: Chahine et al., CompreSSM, as its authors' code does it.


    >>> A = lti.Rotation([0.9, 0.5], [0.3, 2.0])
    >>> sys = lti.LTI(A, np.ones((4, 1)), np.ones((1, 4)))
    >>> reduced = lti.complex_balanced_truncation(sys, 2)
    >>> reduced.system, reduced.singular_values.shape
    (LTI(Rotation, order 2, 1 inputs, 1 outputs, float64), (2,))

    """
    sys = as_linear(sys, continuous=True)
    full = in_double(sys)
    whole = complex_half(full)
    half = None if order is None else _half_order(order, full.order)
    found = truncate(whole, order=half, energy=energy, error=error)
    reduction = found.reduction
    if found.clear < found.wanted:
        warn_precision(
            f"order {2 * found.wanted} was asked for, but only "
            f"{counted(found.clear, 'complex Hankel singular value')} stood clear of rounding: the "
            f"reduced system has {2 * reduction.order} states"
        )
    modal = diagonalize(reduction.system)
    A, B, C = real_system(modal.A.poles, modal.B, modal.C, sys.is_continuous)
    reduced = replace(full, A=A, B=B, C=C)
    return in_precision_of(
        sys,
        replace(
            reduction,
            system=reduced,
            order=reduced.order,
            error_bound=whole_bound(found),
            h2_error=h2_error(full, reduced),
            left=None,
            right=None,
        ),
    )


def _half_order(order: int, states: int) -> int:
    """Complex states for ``order`` real ones."""
    try:
        number = operator.index(order)
    except TypeError:
        number = 0
    if number % 2 or number < min(2, states):
        raise ArgumentError(
            f"order must be an even integer, two real states for each complex one, but is {order!r}"
        )
    return check_order(number, states) // 2


def complex_half(sys: LTI) -> LTI:
    """(Λ, b, c) with y = Re(c z): z = x_1 + i x_2 of each block.

    Raises
    ------
    ArgumentError
        When A is not of blocks only, or the system is not real.
    """
    if not isinstance(sys.A, PairBlocks) or sys.A.real_poles.shape[-1] or is_complex(sys.B):
        raise ArgumentError(
            "the complex half exists for a real system whose A is a Rotation or Oscillation "
            "without real poles"
        )
    A: Any = sys.A
    b, c = complex_rows(sys.B, A.blocks), complex_columns(sys.C, A.blocks)
    poles = mode_poles(A)[..., : A.blocks]
    return LTI(Diagonal(poles), b, c, dt=sys.dt)
