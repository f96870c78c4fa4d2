"""What every reduction returns."""

from __future__ import annotations

from dataclasses import dataclass

from .._arrays import Array
from ..systems import LTI


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced system and what is known of it.

    system : the reduced LTI, dense
    order : its number of states r
    singular_values : (..., n) Hankel singular values of the full system, descending
    error_bound : (...) bound on the h∞ norm of the error, 2 Σ_{i>r} σ_i
    h2_error : (...) h2 norm of the error, computed (accurate to about 1e-8 of the full norm)
    left, right : (..., n, r) projections W, V with Wᴴ V = I; A_r = Wᴴ A V
    """

    system: LTI
    order: int
    singular_values: Array
    error_bound: Array
    h2_error: Array
    left: Array
    right: Array
