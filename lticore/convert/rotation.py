"""Real systems as rotation blocks and real poles (Proposition 1 of the HSVR paper)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.checks import is_complex, is_single
from ..arrays.linalg import as_complex, real_part, solve_in_any_units
from ..arrays.namespaces import Array, namespace, to_numpy
from ..errors import ArgumentError, NotRealError, ShapeError
from ..systems.blocks import PairBlocks
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.modes import is_real
from ..systems.on_host import computed_on_host
from ..systems.oscillation import Oscillation
from ..systems.pairs import complex_columns, complex_rows, real_columns, real_rows
from ..systems.polar import modulus, phase
from ..systems.rotation import Rotation
from ..systems.structure import is_structured
from .change import (
    relative_difference,
    sample_frequencies,
    unit_response,
    warn_if_changed,
)
from .diagonal import (
    check_max_condition,
    diagonalize,
    eigenvectors,
    equal_norms,
    row_norms,
)

#: Relative asymmetry of H above which a system is not taken for a real one.
_REAL_TOLERANCE = 1e-8
#: Imaginary parts below this are rounding errors of a pole that is real.
_REAL_POLE_TOLERANCE = 1e-12
#: A first column of B this small in some block, relative to the largest, counts as zero.
_REACHED_TOLERANCE = 1e-12


@computed_on_host
def to_rotation(
    sys: LinearLike[Array], canonical: bool = False, *, max_condition: float | None = None
) -> LTI[Array, Rotation[Array]]:
    """The same real system with one 2×2 block per conjugate pair of poles.

        x = V z:  a pair λ = ρ e^{∓iα} becomes ρ R(α), a real pole a 1×1 block
        continuous:  a pair −δ ∓ iω becomes [[−δ, ω], [−ω, −δ]]

    Parameters
    ----------
    canonical : bool
        Proposition 1 of the source: the first column of B is (1, 0) in every block. A real pole
        is padded to a block (α = 0, or π when negative) whose second state is not reachable.
    max_condition : float ≥ 1, default 3e6, of float32 systems 1e4
        As for :func:`diagonalize`.

    Returns
    -------
    LTI with a real `Rotation`, in continuous time an `Oscillation`; its order is n, or up to 2n
    when ``canonical`` pads. Without ``canonical`` each block is scaled so that its parts of B and C
    have the same norm, and a system of this kind comes back as it is.

    Conditions: the transfer function is that of a real system. In a batch, all entries have the
    same number of real poles.

    Accuracy: as :func:`diagonalize`, 2.2e-16 · κ(V), for real systems. A real system given in
    complex dense coordinates loses 2.2e-16 · κ(V)², and a change of its response above 1e-8 is an
    error.

    Cost: as :func:`diagonalize`.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    NotRealError
        When complex coefficients remain.
    ShapeError
        When batch entries differ in their number of real poles: convert them one by one.
    ArgumentError
        With ``canonical``, where the first input does not reach a block; and as `diagonalize`.

    Source: Schwerdtner et al., HSVR, Proposition 1 and Appendix A.1.


    >>> sys = lti.from_zpk([], [0.5j, -0.5j])
    >>> A = lti.to_rotation(sys).A
    >>> A.radius.round(4), A.angle.round(4)
    (array([0.5]), array([1.5708]))

    """
    sys = as_linear(sys, continuous=True)
    single, full = is_single(sys.B), in_double(sys)
    max_condition = check_max_condition(max_condition, single)
    kind = Oscillation if sys.is_continuous else Rotation
    is_rotation = isinstance(full.A, kind) and not is_complex(full.B)
    rotation = full if is_rotation else _fold(full, max_condition, single)
    if canonical and rotation.order:
        rotation = _canonical(rotation)
    return in_single(rotation) if single else rotation


def _fold(sys: LTI[Array], max_condition: float, single: bool) -> LTI[Array]:
    """Conjugate pairs of a real system, given in any form, as rotation blocks.

    Modes with Im λ < 0 and those with Im λ > 0 describe conjugate halves of a real transfer
    function, H(z) = G(z) + conj G(conj z) + (real poles), so one half determines the other and no
    pairing is needed: y = 2 Re(c z) + …, even when poles repeat.
    """
    given_real = is_real(sys.A) and not is_complex(sys.B)
    if given_real and not is_structured(sys.A):
        return _fold_eigenvectors(sys, max_condition, single)
    if not given_real:
        _require_real_response(sys)
    modal = diagonalize(sys, max_condition=max_condition)
    xp = namespace(modal.B)
    poles, B, C = modal.A.poles, modal.B, modal.C
    side = _side(poles)
    if not given_real:
        size = xp.abs(poles) if sys.is_continuous else 1.0
        side = xp.where(xp.abs(side) > _REAL_POLE_TOLERANCE * size, side, _residue_side(B, C))
    order, q = _lower_half_first(side)
    poles = xp.take_along_axis(poles, order, axis=-1)
    B = xp.take_along_axis(B, xp.broadcast_to(order[..., :, None], B.shape), axis=-2)
    C = xp.take_along_axis(C, xp.broadcast_to(order[..., None, :], C.shape), axis=-1)
    half, real = slice(0, q), slice(q, modal.order - q)

    pairs = real_rows(B[..., half, :]), real_columns(2 * C[..., :, half])
    modes = _real_modes(B[..., real, :], C[..., :, real])
    folded = _from_blocks(sys, poles, q, *pairs, *modes)
    if not given_real:
        _require_same_response(sys, folded)
    return folded


def _fold_eigenvectors(sys: LTI, max_condition: float, single: bool) -> LTI:
    """A real dense system in the real coordinates W = (Re v, −Im v, …, w, …) of its eigenvectors.

    Solving with W leaves errors of 2.2e-16 κ(V). Solving with the complex V and keeping one of two
    conjugate halves would leave the square, since it changes B in directions that the inverse
    amplifies once more.
    """
    poles, V, condition = eigenvectors(sys)
    order, q = _lower_half_first(_side(poles))
    poles = np.take_along_axis(poles, order, axis=-1)
    V = np.take_along_axis(V, order[..., None, :], axis=-1)
    pairs, modes = real_columns(V[..., :q]), real_part(V[..., q : sys.order - q])
    W = np.concatenate([pairs, modes], axis=-1)
    B, C = solve_in_any_units(W, sys.B), sys.C @ W
    of_pairs, of_modes = (
        (B[..., : 2 * q, :], C[..., : 2 * q]),
        (B[..., 2 * q :, :], C[..., 2 * q :]),
    )
    folded = _from_blocks(sys, poles, q, *of_pairs, *of_modes)
    warn_if_changed(sys, folded, condition, max_condition, single)
    return folded


def _from_blocks(
    sys: LTI[Array],
    poles: Array,
    q: int,
    b_pair: Array,
    c_pair: Array,
    b_real: Array,
    c_real: Array,
) -> LTI[Array]:
    """Scaled blocks: q poles of the lower half plane, the real ones, and the upper half plane."""
    xp = namespace(poles)
    pole, real_poles = poles[..., :q], real_part(poles[..., q : poles.shape[-1] - q])
    b_pair, c_pair = equal_norms(b_pair, c_pair, block=2)
    b_real, c_real = equal_norms(b_real, c_real)
    return replace(
        sys,
        A=_blocks_of(pole, real_poles, sys.is_continuous),
        B=xp.concat([b_pair, b_real], axis=-2),
        C=xp.concat([c_pair, c_real], axis=-1),
        D=None if sys.D is None else real_part(sys.D),
    )


def _blocks_of(poles: Array, real_poles: Array, continuous: bool) -> Rotation | Oscillation:
    """Blocks that multiply x_1 + i x_2 by these poles."""
    if not continuous:
        return Rotation(modulus(poles), -phase(poles), real_poles)
    poles = as_complex(poles)
    xp = namespace(poles)
    return Oscillation(-xp.real(poles), -xp.imag(poles), real_poles)


def _side(poles: Array) -> Array:
    """Im λ."""
    xp = namespace(poles)
    return xp.imag(poles) if is_complex(poles) else xp.zeros_like(poles)


def _lower_half_first(side: Array) -> tuple[Array, int]:
    """Order of the modes by the sign of ``side``, −, 0, +, and the number q of negative ones."""
    xp = namespace(side)
    counts = {
        (int(below), int(above))
        for below, above in zip(
            to_numpy(xp.sum(xp.astype(side < 0, xp.int64), axis=-1)).ravel(),
            to_numpy(xp.sum(xp.astype(side > 0, xp.int64), axis=-1)).ravel(),
            strict=True,
        )
    }
    if any(below != above for below, above in counts):
        raise NotRealError(
            "the poles off the real axis do not come in conjugate pairs, although the response is "
            "real: the system has unreachable or unobservable complex modes. Reduce it first"
        )
    if len(counts) > 1:
        raise ShapeError(
            "the batch entries have different numbers of real poles and so different rotation "
            "forms: convert them one by one"
        )
    return xp.argsort(xp.sign(side), axis=-1, stable=True), counts.pop()[0] if counts else 0


def _residue_side(B: Array, C: Array) -> Array:
    """Sign of the imaginary part of each mode's residue c_i b_i, seen along one generic direction.

    Two modes of one real pole whose residues are conjugate make a block with α = 0 or π.
    """
    xp = namespace(B, C)
    B, C = equal_norms(B, C)
    size = row_norms(B)
    size = xp.where(size > 0, size, xp.ones_like(size))
    # Residues of size one: as they are, they may over- or underflow.
    B, C = B / size[..., :, None], C / size[..., None, :]
    weight_b = xp.cos(xp.arange(1, B.shape[-1] + 1, dtype=xp.float64))
    weight_c = xp.cos(xp.arange(1, C.shape[-2] + 1, dtype=xp.float64))
    seen = xp.sum(B * weight_b, axis=-1) * xp.sum(C * weight_c[:, None], axis=-2)
    size = xp.sum(xp.abs(B), axis=-1) * xp.sum(xp.abs(C), axis=-2)
    imaginary = xp.imag(seen) if is_complex(seen) else xp.zeros_like(seen)
    clear = xp.abs(imaginary) > _REAL_TOLERANCE * size
    return xp.where(clear, imaginary, xp.zeros_like(imaginary))


def real_system(
    poles: Array, b: Array, c: Array, continuous: bool = False
) -> tuple[PairBlocks[Array], Array, Array]:
    """(A, B, C) of y = Re(c z), z' = λ z + b u, or ż = λ z + b u, in the real states Re z, Im z."""
    xp = namespace(poles)
    A: Any
    if continuous:
        A = Oscillation(-xp.real(poles), -xp.imag(poles))
    else:
        A = Rotation(modulus(poles), -phase(poles))
    return A, real_rows(b), real_columns(c)


def _real_modes(b: Array, c: Array) -> tuple[Array, Array]:
    """Rotate each mode of a real pole so that its largest input entry, hence all, are real."""
    xp = namespace(b, c)
    if not is_complex(b):
        return b, c
    largest = xp.argmax(xp.abs(b), axis=-1)[..., None]
    leading = xp.take_along_axis(b, largest, axis=-1)
    size = xp.abs(leading)
    turn = xp.where(size > 0, leading, xp.ones_like(leading)) / xp.where(
        size > 0, size, xp.ones_like(size)
    )
    return xp.real(b * xp.conj(turn)), xp.real(c * xp.matrix_transpose(turn))


def _canonical(sys: LTI[Array]) -> LTI[Array]:
    """Proposition 1: z → z/β in each block, with β the first column of B as a complex number."""
    A = sys.A
    xp = namespace(sys.B)
    b, c = scaled_by_first_input(sys.B, sys.C, A.blocks)
    # A padded real pole is a block that happens to have real coefficients.
    B, C = real_rows(b), real_columns(c)
    # Roundings of β/β must not leave a trace in the fixed column.
    unit = (xp.arange(B.shape[-2]) % 2 == 0)[:, None]
    column = xp.where(unit, xp.ones_like(B[..., :, :1]), xp.zeros_like(B[..., :, :1]))
    real = A.real_poles
    if isinstance(A, Oscillation):
        second: tuple[Array, Array] = -real, xp.zeros_like(real)
    else:
        second = xp.abs(real), phase(real)
    A = type(A)(*(xp.concat(x, axis=-1) for x in zip(A.parameters[:2], second, strict=True)))
    return replace(sys, A=A, B=xp.concat([column, B[..., :, 1:]], axis=-1), C=C)


def scaled_by_first_input(B: Array, C: Array, blocks: int) -> tuple[Array, Array]:
    """Complex (b, c) of the blocks and real poles, (..., q + k, m) and (..., p, q + k), with ones
    in the first column of b.

    Raises
    ------
    ArgumentError
        Where the first input does not reach a block or a real pole.
    """
    b, c = complex_rows(B, blocks), complex_columns(C, blocks)
    if 0 in b.shape:
        return b, c
    xp, first = namespace(b), b[..., :, :1]
    weak = xp.abs(first[..., 0]) <= _REACHED_TOLERANCE * xp.max(xp.abs(b))
    if bool(xp.any(weak)):
        flat = int(xp.argmax(xp.astype(xp.reshape(weak, (-1,)), xp.int64)))
        raise ArgumentError(
            f"block {flat % weak.shape[-1]} is not reached by the first input (its first row pair "
            "of B is zero), so its first column cannot be scaled to (1, 0): the canonical form "
            "does not exist. Permute the inputs, or use canonical=False"
        )
    return b / first, c * xp.matrix_transpose(first)


def _require_real_response(sys: LTI) -> None:
    omega = sample_frequencies(sys)
    H, mirrored = unit_response(sys, omega), unit_response(sys, -omega)
    asymmetry = relative_difference(H, namespace(H).conj(mirrored))
    if sys.D is not None:
        D = sys.D[..., None, :, :]
        asymmetry = max(asymmetry, relative_difference(D, namespace(H).conj(D)))
    if asymmetry > _REAL_TOLERANCE:
        raise NotRealError(
            "the system is not real: its frequency response differs from its mirror image by "
            f"{asymmetry:.1e} (relative), so no real rotation form exists. For a layer that "
            "computes Re(C x), build the real system of order 2q instead"
        )


def _require_same_response(sys: LTI, folded: LTI) -> None:
    omega = sample_frequencies(sys)
    change = relative_difference(unit_response(sys, omega), unit_response(folded, omega, sys))
    if change > _REAL_TOLERANCE:
        raise NotRealError(
            f"folding conjugate pairs changed the response by {change:.1e} (relative): complex "
            "modes share a real pole, or the eigenvectors of A are nearly dependent. Pass the "
            "system in real coordinates instead"
        )
