"""How far a reduced system is from the full one, in norms of their difference."""

from __future__ import annotations

from ..arrays.checks import is_single, like_precision
from ..arrays.namespaces import Array
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.on_host import computed_on_host
from .hinf import peak_gains
from .norms import hankel_norm_of_difference


@computed_on_host
def hinf_error(sys: LinearLike[Array], reduced: LinearLike[Array]) -> Array:
    """(...) ‖H − Ĥ‖_h∞ = max_ω σ_max(H(e^{iω}) − Ĥ(e^{iω})): the largest amplification of any
    input in the difference of the outputs. D counts.

        lticore.hinf_norm(sys - reduced)

    Cost, conditions and errors are those of :func:`lticore.hinf_norm` for the difference; so is the
    accuracy, but warnings of rounding compare with the gains of both systems, not of the
    difference, which may be as small as rounding.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ShapeError
        When inputs or outputs differ in number.
    ArgumentError
        When sampling times differ.


    >>> sys = lti.LTI([[0.6]], [[1.0]], [[1.0]])
    >>> delay = lti.LTI([[0.0]], [[1.0]], [[1.0]])
    >>> print(lti.hinf_error(sys, delay).round(4))  # at z = 1: 1/0.4 − 1
    1.5

    """
    first, second, single = _pair(sys, reduced)
    gains, _ = peak_gains(first - second, parts=(first, second))
    return like_precision(gains, single)


@computed_on_host
def hankel_error(sys: LinearLike[Array], reduced: LinearLike[Array]) -> Array:
    """(...) Hankel norm of the difference, at least σ_{r+1} of the full system for every reduced
    one of order r. D does not count.

        lticore.hankel_norm(sys - reduced)

    Accuracy: some 1e-15 of ‖R‖‖S‖ of both, balanced; for dense systems, which both become where
    one of them is, of matrices within 1e-15 ‖A‖ of theirs. Cost, conditions and errors are those of
    :func:`lticore.hankel_norm`.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ShapeError
        When inputs or outputs differ in number.
    ArgumentError
        When sampling times differ.

    Source: Glover, Int. J. Control 39 (1984), Theorem 6.1.


    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> sys = lti.LTI(A, B, np.diag([3, 1]) @ B)  # σ = 3, 1
    >>> reduced = lti.balanced_truncation(sys, 1).system
    >>> print(lti.hankel_error(sys, reduced).round(4))
    1.0

    """
    first, second, single = _pair(sys, reduced)
    return like_precision(hankel_norm_of_difference(first, second), single)


def _pair(
    sys: LinearLike[Array], reduced: LinearLike[Array]
) -> tuple[LTI[Array], LTI[Array], bool]:
    """(Σ, Σ̂, whether both are in single precision) in float64: where their structures differ, A of
    the difference is dense, whose rounding both would share."""
    given = as_linear(sys, continuous=True), as_linear(reduced, "reduced", continuous=True)
    first, second = map(in_double, given)
    return first, second, all(is_single(x.B) for x in given)
