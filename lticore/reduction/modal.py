"""Modal truncation: keep the modes that matter most on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..analysis.hinf import hinf_norm
from ..analysis.norms import h2_error
from ..arrays.checks import is_complex
from ..arrays.linalg import adjoint
from ..arrays.namespaces import Array, is_numpy, namespace, to_numpy
from ..convert.diagonal import MAX_CONDITION, condition_of, diagonalize, row_norms
from ..convert.rotation import to_rotation
from ..equations.stability import KEEP_BALANCED, offering, require_stable
from ..errors import ArgumentError, NonFiniteError, ShapeError, counted, warn_precision
from ..matrices.balance import state_units
from ..systems.blocks import PairBlocks
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.modes import is_real, to_modes
from ..systems.on_host import computed_on_host
from ..systems.pairs import split_pairs
from ..systems.signals import in_even_states, scaled, unit_signals
from ..systems.structure import is_structured
from .clusters import ParallelForm, parallel_form
from .orders import check_budget, check_not_empty, check_order
from .result import Reduction, nothing_to_reduce
from .rounding import in_precision_of
from .split import of_states

Score = Literal["hinf", "magnitude"]
SCORES = ("hinf", "magnitude")
#: Modes of a Diagonal system this close to each other's conjugates are a pair.
_PAIR_TOLERANCE = 1e-10
#: Relative accuracy of the h∞ norms of clusters, by which they are ranked and bounded.
_PEAK_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Modes:
    """The modes of one system, conjugate pairs counted as one, and so are clusters of poles.

    states : (g, w) positions of the states of each mode in the system; −1 behind the last
    scores : (g,) of each
    peaks : (g,) ‖c_i‖‖b_i‖/(1 − |λ_i|), twice that for pairs: bounds on the response of each
    """

    states: np.ndarray
    scores: np.ndarray
    peaks: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(g,) states of each mode: 1, 2, or those of a cluster."""
        return np.sum(self.states >= 0, axis=1)


@computed_on_host
@offering(KEEP_BALANCED)
def modal_truncation(
    sys: LinearLike[Array], order: int, *, score: Score = "hinf"
) -> Reduction[LTI[Array], Array]:
    """Keep the modes with the highest scores.

        "hinf":  ‖c_i‖‖b_i‖/(1 − |λ_i|),      "magnitude":  ‖c_i‖‖b_i‖
        ‖H − H_r‖_h∞ ≤ Σ_{i dropped} ‖c_i‖‖b_i‖/(1 − |λ_i|)

    with −Re λ_i in place of 1 − |λ_i| in continuous time.

    A conjugate pair of a real system is scored and kept as one, also in a complex Diagonal whose
    modes are conjugate to each other. Poles of a dense A that lie so close together that their
    eigenvectors are dependent, repeated ones as those of delays above all, are kept or dropped as
    one cluster too, which "hinf" scores by the h∞ norm of its part of the response; so are the
    other poles beside it.

    Parameters
    ----------
    order : int in 1 … n
        Where the next mode is a pair and one state is left, the best single mode takes it; without
        one the result has a state less, and a PrecisionWarning says so. The same with clusters.
    score : "hinf" or "magnitude", which clusters have none of

    Returns
    -------
    Reduction : the system in its modes (as of `to_rotation` or `diagonalize`), with D; its
        poles are poles of the full system. Where poles cluster A is dense, one triangular block
        for each pole or cluster that is kept (`to_rotation` takes it where none is). ``left`` and
        ``right`` select states, of dense systems eigenvectors or bases of clusters; no
        ``singular_values``. In a batch every entry keeps its own modes; entries of real systems
        that keep different numbers of pairs have to be reduced one by one.

    Cost: O(n (m + p)) structured; dense systems are brought to their modes first, O(n³).

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    UnstableSystemError
    ArgumentError
        Where every mode is larger than ``order``, and for the magnitude of clusters.
    ShapeError
        For an empty batch, or entries that keep different numbers of pairs.

    Source: Forgione, Mejari & Piga, CDC 2024; Gwak et al., LAST, for the h∞ score; Bavely &
    Stewart, SIAM J. Numer. Anal. 16 (1979), for clusters.


    >>> sys = lti.LTI(lti.Diagonal([0.9, 0.5]), np.ones((2, 1)), [[1.0, 4.0]])
    >>> lti.modal_truncation(sys, 1).system.poles.real  # scores 10 and 8
    array([0.9])
    >>> lti.modal_truncation(sys, 1, score="magnitude").system.poles.real
    array([0.5])

    """
    sys = as_linear(sys, continuous=True)
    reduction = keep_modes(sys, order, score)
    if reduction.order < order:
        warn_precision(
            f"order {order} was asked for, but the next modes, conjugate pairs or clusters of "
            f"poles, are larger than what is left: the reduced system has "
            f"{counted(reduction.order, 'state')}"
        )
    return reduction


def keep_modes(sys: LTI, order: int, score: Score = "hinf") -> Reduction:
    """:func:`modal_truncation`, which does not warn of a state less than was asked for."""
    check_not_empty(sys.batch_shape)
    order = check_order(order, sys.order)
    if order == 0:
        return nothing_to_reduce(sys)
    full, left, right, parts = _in_modes(in_double(sys), score)
    masks = [_best(modes, order) for modes in parts]
    pairs = {int(np.sum(modes.sizes[mask] == 2)) for modes, mask in zip(parts, masks, strict=True)}
    kept = [np.sort(modes.states[mask].ravel()) for modes, mask in zip(parts, masks, strict=True)]
    kept = [states[states >= 0] for states in kept]
    if len({len(states) for states in kept}) > 1 or (is_structured(full.A) and len(pairs) > 1):
        raise ShapeError(
            "the batch entries keep different numbers of pairs and so differ in form: reduce them "
            "one by one"
        )
    xp = namespace(full.B)
    states = xp.asarray(np.stack(kept).reshape(*sys.batch_shape, -1))
    reduced = of_states(full, states)
    dropped = [modes.peaks[~mask].sum() for modes, mask in zip(parts, masks, strict=True)]
    selection = xp.astype(states[..., None, :] == xp.arange(full.order)[:, None], full.B.dtype)
    reduction = Reduction(
        system=reduced,
        order=reduced.order,
        singular_values=None,
        error_bound=xp.asarray(np.reshape(dropped, sys.batch_shape)),
        h2_error=h2_error(full, reduced),
        left=selection if left is None else left @ selection,
        right=selection if right is None else right @ selection,
    )
    return in_precision_of(sys, reduction)


def random_modes(sys: LTI[Array], order: int, random: np.random.Generator) -> LTI[Array]:
    """Modes of one system drawn at random, pairs as one, as many as ``order`` states hold; one at
    least. An ablation of CompreSSM."""
    require_stable(sys, what="modal truncation")
    full = _modal_form(in_double(sys))
    modes = _modes_of_entries(full, "hinf")[0]
    drawn = replace(modes, scores=random.permutation(len(modes.scores)))
    mask = _best(drawn, max(order, int(modes.sizes.min())))
    states = np.sort(modes.states[mask].ravel())
    xp = namespace(full.B)
    return of_states(full, xp.asarray(states[states >= 0]))


def allocate_modal_orders(
    systems: Sequence[LTI],
    *,
    budget: int | None = None,
    ratio: float | None = None,
    rule: Literal["last", "global", "uniform"] = "last",
) -> list[int]:
    """Orders of modal truncation for several layers, by the h∞ scores s_i of their modes.

        "last":     s_i² / Σ_{j: s_j ≥ s_i} s_j² within the layer; the highest over all layers
        "global":   s_i², the highest over all layers
        "uniform":  the same share of states in every layer, as near as whole modes allow; what is
                    left over goes to the layers furthest below it, one mode each

    Parameters
    ----------
    systems : one stable system per layer, or a batch of systems with the order in common: their
        scores, sorted in each, are added in squares
    budget, ratio : as for :func:`lticore.allocate_orders`

    Returns
    -------
    list of int, at least one per layer with states (two where it has pairs only and the budget
    allows it), together never above the budget. A pair counts as two states and is never split.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError, UnstableSystemError

    Source: Gwak, Moon, Ko & Park, Layer-Adaptive STate pruning (LAST), NeurIPS 2024.


    >>> B, C = np.ones((2, 1)), np.ones((1, 2))
    >>> fast, slow = lti.Diagonal([0.1, 0.2]), lti.Diagonal([0.9, 0.95])
    >>> systems = [lti.LTI(A, B, C) for A in (fast, slow)]
    >>> lti.allocate_modal_orders(systems, budget=3, rule="global")
    [1, 2]

    """
    if rule not in ("last", "global", "uniform"):
        raise ArgumentError(f"rule={rule!r} is not 'last', 'global' or 'uniform'")
    systems = [as_linear(sys, f"systems[{i}]", continuous=True) for i, sys in enumerate(systems)]
    sizes = [sys.order for sys in systems]
    budget = check_budget(sizes, budget, ratio)
    layers = [_modes_of_layer(sys) for sys in systems]
    # Every layer keeps a mode: its smallest is paid in advance, towards the first one it takes.
    smallest = [int(min(modes.sizes, default=0)) for modes in layers]
    prepaid = smallest if sum(smallest) <= budget else [min(1, n) for n in sizes]
    if rule == "uniform":
        return _even_orders(sizes, smallest, prepaid, budget)
    return _orders_by_score(layers, prepaid, budget, rule)


def _even_orders(
    sizes: Sequence[int], steps: Sequence[int], prepaid: Sequence[int], budget: int
) -> list[int]:
    """States given one mode at a time to the layer that is furthest below the common share."""
    total = sum(sizes)
    budget = min(budget, total)
    orders, left = list(prepaid), budget - sum(prepaid)
    while True:
        # In integers, so that equal layers tie exactly: (budget · n_l / total − r_l) · total.
        below = [
            (budget * size - order * total, -layer)
            for layer, (size, order) in enumerate(zip(sizes, orders, strict=True))
            if order < size and steps[layer] - order % steps[layer] <= left
        ]
        if not below:
            return orders
        layer = -max(below)[1]
        # A layer of pairs that had one state only completes its pair first.
        step = steps[layer] - orders[layer] % steps[layer]
        orders[layer] += step
        left -= step


def _orders_by_score(
    layers: Sequence[Modes], prepaid: Sequence[int], budget: int, rule: Literal["last", "global"]
) -> list[int]:
    """States given to the modes of the highest scores."""
    wanted = []
    for layer, modes in enumerate(layers):
        down = np.argsort(-modes.scores, kind="stable")
        values = modes.scores[down]
        if rule == "last":
            # Of the largest, whose square may be too large, or too small, for a number.
            squares = (values / (values[:1] if np.any(values) else 1)) ** 2
            values = squares / np.maximum(np.cumsum(squares), np.finfo(np.float64).tiny)
        wanted += [
            (-value, position, layer, int(size))
            for position, (value, size) in enumerate(zip(values, modes.sizes[down], strict=True))
        ]
    orders, left, open_ = list(prepaid), budget - sum(prepaid), [True] * len(layers)
    for _, _, layer, size in sorted(wanted):
        price = size - prepaid[layer] if open_[layer] else size
        if price <= left:
            orders[layer] += price
            left -= price
            open_[layer] = False
    return orders


def _modes_of_layer(sys: LTI) -> Modes:
    """The modes of one system, or those that the systems of a batch keep together."""
    if sys.order == 0:
        return Modes(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0))
    full = in_double(sys)
    if not full.batch_shape:
        return _in_modes(full, "hinf")[-1][0]
    check_not_empty(full.batch_shape)
    # Entries of a dense batch may differ in their number of pairs.
    entries = [full[index] for index in np.ndindex(full.batch_shape)]
    found = [_in_modes(sys, "hinf")[-1][0] for sys in entries]
    pairs = all(np.all(modes.sizes == 2) for modes in found)
    # With real poles among them, the states are counted one by one.
    ranked = [np.repeat(modes.scores, 1 if pairs else modes.sizes) for modes in found]
    scores = row_norms(np.stack([np.sort(x)[::-1] for x in ranked], axis=-1))
    states = np.tile([0, 1 if pairs else -1], (len(scores), 1))
    return Modes(states, scores, scores)


def _in_modes(sys: LTI, score: str) -> tuple[LTI, Any, Any, list[Modes]]:
    """The system in its modes, (Wᴴ A V, Wᴴ B, C V, D) with Wᴴ V = I, and W, V; None for I. And the
    modes of each batch entry."""
    if score not in SCORES:
        raise ArgumentError(f"score={score!r} is not one of {SCORES}")
    require_stable(sys, what="modal truncation")
    if is_structured(sys.A):
        return sys, None, None, _modes_of_entries(sys, score)
    if score == "hinf" and is_numpy(sys.B) and np.any(condition_of(sys) > MAX_CONDITION):
        return _in_clusters(sys)
    xp = namespace(sys.B)
    identity = xp.broadcast_to(xp.eye(sys.order, dtype=sys.B.dtype), sys.A.shape)
    best = xp.ones(sys.A.shape[:-1])
    if is_numpy(sys.B):
        best = state_units(sys.A, sys.B, sys.C, sys.is_continuous)
    column, row = best[..., :, None], best[..., None, :]
    # The states driven and read one by one, in their best units: inputs and outputs of the modes
    # are W and V.
    modes = _modal_form(LTI(sys.A, identity * column, identity / row, dt=sys.dt))
    left, right = modes.B / row, modes.C * column
    full = replace(sys, A=modes.A, B=left @ sys.B, C=sys.C @ right)
    return full, adjoint(left), right, _modes_of_entries(full, score)


def _in_clusters(sys: LTI) -> tuple[LTI, Any, Any, list[Modes]]:
    """:func:`_in_modes` of a dense system without a basis of eigenvectors."""
    forms = [parallel_form(sys[index]) for index in np.ndindex(sys.batch_shape)]

    def together(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack(arrays).reshape(*sys.batch_shape, *arrays[0].shape)

    A, B, C = (together([getattr(form.system, name) for form in forms]) for name in "ABC")
    W, V = together([form.left for form in forms]), together([form.right for form in forms])
    return replace(sys, A=A, B=B, C=C), W, V, [_modes_of_clusters(form) for form in forms]


def _modes_of_clusters(form: ParallelForm) -> Modes:
    """Each part of the response is scored by its h∞ norm, which of a single pole is
    ‖c_i‖‖b_i‖/(1 − |λ_i|)."""
    sizes, sys = form.sizes, replace(form.system, D=None)
    states = (np.cumsum(sizes) - sizes)[:, None] + np.arange(sizes.max())
    parts = [of_states(sys, x[:size]) for x, size in zip(states, sizes, strict=True)]
    peaks = np.array([hinf_norm(part, rtol=_PEAK_TOLERANCE) for part in parts])
    states[np.arange(sizes.max()) >= sizes[:, None]] = -1
    return Modes(states, peaks, peaks * (1 + _PEAK_TOLERANCE))


def _modal_form(sys: LTI[Array]) -> LTI[Array]:
    if is_structured(sys.A):
        return sys
    real = is_real(sys.A) and not is_complex(sys.B)
    return to_rotation(sys) if real else diagonalize(sys)


def _modes_of_entries(sys: LTI, score: str) -> list[Modes]:
    """The modes of each batch entry of a structured system."""
    A, (unit, inputs, outputs) = sys.A, unit_signals(in_even_states(sys)[0])
    b, c = (to_modes(A, X) for X in (unit.B, adjoint(unit.C)))
    gaps = A.decay_modes[0] if sys.is_continuous else 1 - A.polar_modes[0]
    b, c, gaps, poles, size = (
        to_numpy(x).reshape(-1, *x.shape[len(sys.batch_shape) :])
        for x in (b, c, gaps, A.mode_poles, (inputs + outputs)[..., None])
    )
    strength = row_norms(b) * row_norms(c)
    with np.errstate(over="ignore"):
        # Of fast poles strengths may be no numbers where peaks are.
        peak, strength = (scaled(x, size) for x in (strength / gaps, strength))
    scored = peak if score == "hinf" else strength
    if not np.all(np.isfinite(peak) & np.isfinite(scored)):
        raise NonFiniteError("the scores of the modes overflow: scale B or C down")
    found = []
    for index in range(len(gaps)):
        if isinstance(A, PairBlocks):
            states, mode = _rotation_states(A)
        else:
            states = _conjugate_states(poles[index], b[index], c[index])
            mode = states[:, 0]
        scores = scored[index, mode]
        twice = 1 + (states[:, 1] >= 0)
        found.append(Modes(states, scores, twice * peak[index, mode]))
    return found


def _rotation_states(A: PairBlocks) -> tuple[np.ndarray, np.ndarray]:
    """States of the blocks and real poles, and where they stand in mode order."""
    first, second, rest = split_pairs(np.arange(A.order), A.blocks)
    alone = np.full_like(rest, -1)
    states = np.concatenate([first, rest]), np.concatenate([second, alone])
    return np.stack(states, axis=-1), np.concatenate([np.arange(A.blocks), rest])


def _conjugate_states(poles: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(g, 2) modes and their conjugate partners, −1 where there is none: a partner has the
    conjugate pole and the conjugate residue c_i b_iᴴ."""
    size = row_norms(b) * row_norms(c)
    close = np.abs(poles[:, None] - poles.conj()) <= _PAIR_TOLERANCE
    close &= np.abs(poles.imag)[:, None] > _PAIR_TOLERANCE
    free, states = np.ones(len(poles), dtype=bool), []
    for i in range(len(poles)):
        if not free[i]:
            continue
        free[i] = False
        residue, partner = np.outer(c[i].conj(), b[i]), -1
        for j in np.flatnonzero(close[i] & free):
            change = np.outer(c[j].conj(), b[j]) - residue.conj()
            if np.linalg.norm(change) <= _PAIR_TOLERANCE * size[i]:
                partner = int(j)
                free[j] = False
                break
        states.append((i, partner))
    return np.array(states, dtype=np.int64).reshape(-1, 2)


def _best(modes: Modes, order: int) -> np.ndarray:
    """Mask of the modes with the highest scores that fit into ``order`` states."""
    mask, left = np.zeros(len(modes.scores), dtype=bool), order
    for i in np.argsort(-modes.scores, kind="stable"):
        if modes.sizes[i] <= left:
            mask[i] = True
            left -= modes.sizes[i]
    if not mask.any():
        raise ArgumentError(
            f"order is {order}, but all modes are conjugate pairs or clusters of poles, of "
            f"{modes.sizes.min()} states and more: ask for {modes.sizes.min()} at least"
        )
    return mask
