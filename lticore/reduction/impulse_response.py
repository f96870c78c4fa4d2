"""Systems from impulse responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.checks import (
    check_array,
    check_dt,
    check_integer,
    check_one_given,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import adjoint, pad_values
from ..arrays.namespaces import Array, as_array, is_numpy
from ..equations.stability import is_stable
from ..equations.stein import solve_stein
from ..errors import ArgumentError, ArrayLibraryError, ShapeError, counted, warn_precision
from ..matrices.block_hankel import BlockHankel
from ..matrices.lanczos import leading_triples
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI, in_double
from ..systems.on_host import computed_on_host
from ..systems.quadratic import forms_of
from ..systems.signals import scaled, size_exponent
from ..systems.structure import to_dense
from .h2.modes import candidate_from, system_of
from .h2.objective import inverse_where_clear
from .orders import check_not_empty, order_for_energy, order_for_error
from .result import Reduction, nothing_to_reduce

#: Singular values below this many roundings of h are not told from them.
_ROUNDING = 16
#: Up to so many rows or columns a Hankel matrix is formed and decomposed as a whole …
_SMALL = 400
#: … and beyond where the order is more than this part of them.
_PART = 8
#: Dimensions in which singular values of long responses are looked for, and more for each state.
_DIMENSIONS = 800
#: A response whose second half holds this many times the energy of its first grows.
_GROWTH = 2.0
#: Shares of the energy that the end of the data, and what follows, may hold without a word.
_FAINT_SHARE = 0.01
#: Data that are met to this, relatively, by less states than they have room for show what follows.
_EXACT = 1e-6
#: What may be missing of the directions of singular values, relative to the smallest.
_UNCERTAIN = 1e-3


@computed_on_host
def from_impulse_response(
    h: Array,
    *,
    order: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    dt: bool | float = True,
) -> Reduction[LTI[Array], Array]:
    """A system with a given impulse response, or near it: recurrent form of a long convolution.

        H = [h_{1+a+b}] = U Σ Vᴴ,  H↑ = [h_{2+a+b}]:    A = Σ^{−½} Uᴴ H↑ V Σ^{−½},
        C = first block row of U Σ^{½},  B = first block column of Σ^{½} Vᴴ,  D = h_0

    with the r largest singular values. H holds half of the L − 1 steps in its rows and half in its
    columns, and the response is taken to go on as it began: the data of a system of order r are met
    exactly. The response is taken to end, h_k = 0 for k ≥ L, in H of L − 1 rows and columns, where
    the halves have no room for r states or all their singular values count, and where the system
    would answer with new power after the data. That is balanced truncation of the FIR filter. To
    say that a filter ends, append as many zeros as it has steps.

    Parameters
    ----------
    h : (..., L, p, m) real or complex array
        h[..., 0, :, :] is D. In a batch all entries are read, and reduced, in the same way.
    order : int ≥ 1
        r itself, at most (L − 1) min(p, m).
    energy : float in (0, 1]
        Smallest r with Σ_{i≤r} σ_i ≥ energy · Σ σ_i.
    error : float ≥ 0
        Smallest r with 2 Σ_{i>r} σ_i ≤ error.
    dt : True or a sampling time > 0

    Returns
    -------
    Reduction : the system is dense and real for real h. ``singular_values`` (..., k) are those that
        were computed, to about eps σ_1: smaller ones are hidden by the rounding of h itself, and
        r is lowered, with a PrecisionWarning, to the number of those above 16 eps ‖H‖_F, eps of
        the precision of h. ``h2_error`` is (Σ_k ‖h_k − ĥ_k‖_F²)^½ over the L steps, computed;
        there is no ``error_bound``, and no ``left`` and ``right``. Unstable poles are reflected,
        λ → 1/conj λ, and C is fitted again, with a PrecisionWarning, but for responses that grow,
        whose unstable system is returned with a PrecisionWarning. Others say that h has not decayed
        at its end, where that makes a difference.

    Cost: one SVD up to 400 rows or columns, and for orders above an eighth of them. Longer
    responses: O(K L log L) time for products by FFT and O(K² L) for orthogonal bases, O(K L)
    memory, K being some dozens more than r, or than the singular values that stand out.
    100 000 steps of one input and output that 63 states describe: 0.3 GB and some seconds on one
    core. White noise of that length has no small order; 20 states of it take 1 GB and a minute.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        When not exactly one criterion is given, one is out of range, the response is too short for
        the order, dt = 0, or ``energy`` and ``error`` would need more than 800 singular values of a
        long response.
    ShapeError, NonFiniteError, DtypeError

    Source: Ho & Kalman, Regelungstechnik 14 (1966); Kung, Asilomar Conf. (1978); Juang & Pappa,
    J. Guidance 8 (1985).

    >>> h = np.array([0.5, 0.25, 0.125, 0.0625, 0.03125])
    >>> found = lti.from_impulse_response(h[:, None, None], order=1)
    >>> found.system.A.round(12), found.system.D
    (array([[0.5]]), array([[0.5]]))
    """
    given = _check_response(h)
    check_one_given(order=order, energy=energy, error=error)
    check_not_empty(given.shape[:-3])
    if check_dt(dt, "from_impulse_response") is not True and float(dt) == 0:
        raise ArgumentError(
            "dt is 0, but samples of a response belong to discrete time: give the time between "
            "them, dt=0.01 for example, and take lticore.to_continuous of the system"
        )
    criterion = _Criterion(order, energy, error, *given.shape[-3:])
    if criterion.length == 1:
        return _feedthrough_alone(given, criterion, dt)
    e = _exponent(given)
    unit = scaled(to_double(given), -e[..., None, None, None])
    batch = given.shape[:-3]
    entries = [unit[index] for index in np.ndindex(batch)]
    level = _ROUNDING * float(np.finfo(given.dtype).eps)
    fits = _fits(entries, criterion, e.reshape(-1, 1), level)
    return _reduction(given, e, fits, dt)


@dataclass(frozen=True)
class _Criterion:
    """The criterion for the order, and the sizes L, p, m of the response."""

    order: int | None
    energy: float | None
    error: float | None
    length: int
    outputs: int
    inputs: int

    def __post_init__(self) -> None:
        if self.order is None:
            return
        most = (self.length - 1) * min(self.outputs, self.inputs)
        if check_integer("order", self.order, minimum=min(1, most)) > most:
            raise ArgumentError(
                f"order is {self.order}, but a response of {counted(self.length, 'step')} from "
                f"{counted(self.inputs, 'input')} to {counted(self.outputs, 'output')}, of which "
                f"the first step is D, is that of at most {counted(most, 'state')}: give a longer "
                "one"
            )

    @property
    def room(self) -> int:
        """Rows or columns of a Hankel matrix of half the steps."""
        steps = self.length - 1
        return min((steps - steps // 2) * self.outputs, steps // 2 * self.inputs)

    def choose(self, sigma: np.ndarray) -> int:
        if self.energy is not None:
            return order_for_energy(sigma, self.energy)
        if self.error is not None:
            return order_for_error(sigma, self.error)
        return int(self.order or 0)


@dataclass(frozen=True, eq=False)
class _Factors:
    """H ≈ U diag(σ) Vᴴ of one entry, and how many of the σ are clear of rounding."""

    H: BlockHankel
    following: BlockHankel
    U: np.ndarray
    sigma: np.ndarray
    V: np.ndarray
    clear: int


@dataclass(frozen=True, eq=False)
class _Fit:
    """A system of r states for one entry.

    size, missed, after : energies of the response, of what the system misses of it, and of what it
        answers in as many steps after it
    reflected : unstable poles that were made stable,   unstable : whether it is
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    size: float
    missed: float
    after: float
    reflected: int
    unstable: bool

    @property
    def exact(self) -> bool:
        return self.missed <= _EXACT**2 * self.size


@dataclass(frozen=True, eq=False)
class _Fits:
    """Of all entries, with the order that was wanted and how many of these states are clear."""

    each: list[_Fit]
    sigma: np.ndarray
    wanted: int
    clear: int
    ended: bool


def _fits(entries: list[np.ndarray], criterion: _Criterion, e: np.ndarray, level: float) -> _Fits:
    """By halves of the response if they can tell, else as one that ends."""
    if (criterion.order or 1) <= criterion.room:
        fits = _fits_of(entries, criterion, e, level, ended=False)
        known = criterion.order is not None or fits.wanted < criterion.room
        if known and not any(map(_rises_again, entries, fits.each)):
            return fits
    return _fits_of(entries, criterion, e, level, ended=True)


def _fits_of(
    entries: list[np.ndarray], criterion: _Criterion, e: np.ndarray, level: float, ended: bool
) -> _Fits:
    factors = [_factorised(h[1:], ended, criterion, level) for h in entries]
    sigma = _in_one_array([f.sigma for f in factors])
    wanted = criterion.choose(scaled(sigma, e))
    clear = min(wanted, max(f.clear for f in factors))
    each = [_fit(h[1:], f, clear, ended) for h, f in zip(entries, factors, strict=True)]
    return _Fits(each, sigma, wanted, clear, ended)


def _factorised(h: np.ndarray, ended: bool, criterion: _Criterion, level: float) -> _Factors:
    """Of the Hankel matrix of h_1, h_2, … (N, p, m)."""
    steps = len(h)
    columns = steps if ended else steps // 2
    rows = steps if ended else steps - columns
    if ended:
        h = np.concatenate([h, np.zeros_like(h)])
    last = rows + columns - 1
    H, following = (BlockHankel(x, rows, columns) for x in (h[:last], h[1 : 1 + last]))
    smallest, wanted = min(H.shape), criterion.order
    level = level * H.frobenius()
    if smallest <= _SMALL or (wanted is not None and wanted * _PART > smallest):
        U, sigma, Vh = np.linalg.svd(H.dense(), full_matrices=False)
        V = adjoint(Vh)
    else:
        found = leading_triples(H, wanted, level, _DIMENSIONS + 4 * (wanted or 0))
        U, sigma, V = found.U, found.sigma, found.V
        if wanted is None and not found.whole:
            raise ArgumentError(
                f"the {len(sigma)} largest Hankel singular values of the response fall to "
                f"{sigma[-1] / sigma[0]:.1e} of the first only: energy= and error= need all of "
                "them. Give order="
            )
        if wanted is not None and not found.whole:
            U, sigma, V = U[:, :wanted], sigma[:wanted], V[:, :wanted]
            lost = float(np.max(found.residual[:wanted]))
            if lost > _UNCERTAIN * sigma[-1]:
                warn_precision(
                    f"the {wanted} largest Hankel singular values of the response lie so close to "
                    f"the others that their directions were not found: {lost:.1e} is missing, "
                    f"beside σ = {sigma[-1]:.1e}"
                )
    return _Factors(H, following, U, sigma, V, int(np.sum(sigma > level)))


def _fit(h: np.ndarray, factors: _Factors, order: int, ended: bool) -> _Fit:
    """Entries with fewer clear values have states without inputs and outputs."""
    _, p, m = h.shape
    r = min(order, factors.clear)
    U, V, root = factors.U[:, :r], factors.V[:, :r], np.sqrt(factors.sigma[:r])
    A = adjoint(U) @ (factors.following @ V) / root[:, None] / root
    B, C = root[:, None] * adjoint(V[:m]), U[:p] * root
    reflected, unstable = 0, not is_stable(A)
    if unstable and not (_grows(h) and not ended):
        before = np.abs(np.linalg.eigvals(A))
        A, B, C = _reflected(A, B, C, h)
        reflected, unstable = max(1, int(np.sum(before > 1))), False
    with np.errstate(over="ignore", invalid="ignore"):  # of what grows
        response = _response(A, B, C, 2 * len(h))
        missed, after = _squared(h - response[: len(h)]), _squared(response[len(h) :])
    A, B, C = (
        np.pad(X, [(0, (order - r) * axis) for axis in axes])
        for X, axes in ((A, (1, 1)), (B, (1, 0)), (C, (0, 1)))
    )
    return _Fit(A, B, C, _squared(h), missed, after, reflected, unstable)


def _reflected(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The system with unstable poles reflected at the circle, and the outputs that are best for h:

    Ĉ = (Σ_k h_k x_kᴴ) P̂⁻¹,  x_k = Â^{k−1} B̂,  P̂ = Σ_k x_k x_kᴴ
    """
    candidate = candidate_from(A, B, not np.iscomplexobj(A))
    poles, b = candidate.poles, candidate.b
    powers = poles ** np.arange(len(h))[:, None]
    crossed = np.einsum("kpm,ki,im->pi", h, powers.conj(), b.conj(), optimize=True)
    P = solve_stein(Diagonal(poles), b @ adjoint(b), horizon=len(h))
    fitted = crossed @ inverse_where_clear(P)
    like = LTI(A, B, C)
    stable = system_of(like, candidate, fitted, forms_of(like))
    return to_dense(stable.A), stable.B, stable.C


def _grows(h: np.ndarray) -> bool:
    half = len(h) // 2
    return bool(_squared(h[half:]) > _GROWTH * _squared(h[:half]))


def _rises_again(h: np.ndarray, fit: _Fit) -> bool:
    """Whether a system goes on, after the data that do not show it, with more power than these end
    with."""
    end = _end_of(h[1:])
    if _grows(h[1:]) or fit.exact:
        return False
    return fit.after > fit.missed and fit.after / (len(h) - 1) > _squared(end) / len(end)


def _end_of(h: np.ndarray) -> np.ndarray:
    """The last tenth."""
    return h[-max(1, len(h) // 10) :]


def _squared(h: np.ndarray) -> float:
    return float(np.sum(np.abs(h) ** 2))


def _response(A: np.ndarray, B: np.ndarray, C: np.ndarray, steps: int) -> np.ndarray:
    """(steps, p, m) C A^k B as products of C A^{s a} and A^b B for k = s a + b, b < s ≈ √steps."""
    p, m = len(C), B.shape[1]
    s = max(1, round(steps**0.5))
    inputs = _powers(A, B, s)
    leap = np.linalg.matrix_power(A, s)
    outputs = _powers(adjoint(leap), adjoint(C), -(-steps // s)).conj()
    return np.einsum("arp,brm->abpm", outputs, inputs, optimize=True).reshape(-1, p, m)[:steps]


def _powers(A: np.ndarray, B: np.ndarray, count: int) -> np.ndarray:
    """(count, r, m) A^k B"""
    terms = [B]
    for _ in range(count - 1):
        terms.append(A @ terms[-1])
    return np.stack(terms)


def _reduction(h: np.ndarray, e: np.ndarray, fits: _Fits, dt: bool | float) -> Reduction:
    """In the units and the precision of the response, after the warnings that it calls for."""
    _warn_of_data(h, fits)
    batch, single = h.shape[:-3], is_single(h)
    A, B, C = (
        np.stack(parts).reshape(*batch, *parts[0].shape)
        for parts in zip(*((fit.A, fit.B, fit.C) for fit in fits.each), strict=True)
    )
    half = np.floor(e / 2)
    arrays = A, scaled(B, half[..., None, None]), scaled(C, (e - half)[..., None, None])
    A, B, C = (like_precision(X, single) for X in arrays)
    system = LTI(A, B, C, h[..., 0, :, :], dt=dt)
    unstable = any(fit.unstable for fit in fits.each)
    if single and not unstable and not is_stable(to_double(system.A)):
        warn_precision(
            "the system is stable, but not in float32, which rounds its poles onto the unit circle "
            "or beyond: give the response in float64"
        )
    sigma = scaled(fits.sigma.reshape(*batch, -1), e[..., None])
    return Reduction(
        system=system,
        order=system.order,
        singular_values=like_precision(sigma, single),
        error_bound=None,
        h2_error=like_precision(_missed(h, e, system, fits), single),
    )


def _missed(h: np.ndarray, e: np.ndarray, system: LTI, fits: _Fits) -> np.ndarray:
    """(...) ‖h − ĥ‖ of the system as it was rounded."""
    found = np.array([fit.missed for fit in fits.each]).reshape(h.shape[:-3])
    if is_single(h):
        for index in np.ndindex(found.shape):
            one = in_double(system[index])
            steps = to_double(h[index][1:])
            change = steps - _response(one.A, one.B, one.C, len(steps))
            found[index] = _squared(scaled(change, -e[index]))
    return scaled(np.sqrt(found), e)


def _warn_of_data(h: np.ndarray, fits: _Fits) -> None:
    unstable = sum(fit.unstable for fit in fits.each)
    reflected = sum(fit.reflected for fit in fits.each)
    if fits.clear < fits.wanted and any(fit.size for fit in fits.each):
        warn_precision(
            f"order {fits.wanted} was asked for, but only "
            f"{counted(fits.clear, 'Hankel singular value')} of the response stood clear of "
            f"rounding: the system has {counted(fits.clear, 'state')}"
        )
    if unstable:
        warn_precision(
            "the response grows, and the system is unstable with it. If a filter ends there, "
            "append as many zeros as it has steps"
        )
    if reflected:
        warn_precision(
            f"the response led to {reflected} unstable poles: they were reflected at the unit "
            "circle and C was fitted again; h2_error says how well"
        )
    if fits.ended:
        _warn_of_end(h)
    seen = [fit for fit in fits.each if not (fit.exact or fit.unstable or fits.ended)]
    share = max((fit.after / fit.size for fit in seen), default=0.0)
    if share > _FAINT_SHARE:
        warn_precision(
            "the response has not decayed at its end: the system goes on with "
            f"{share:.0%} of its energy in as many steps after it, which the data do not show. "
            "Give more steps, or append as many zeros if a filter ends there"
        )


def _warn_of_end(h: np.ndarray) -> None:
    shares = []
    for index in np.ndindex(h.shape[:-3]):
        steps = to_double(h[index][1:])
        size = float(np.abs(steps).max()) or 1.0
        steps = steps / size
        shares.append(_squared(_end_of(steps)) / (_squared(steps) or 1.0))
    if max(shares) > _FAINT_SHARE:
        warn_precision(
            f"the response was taken to end after its {h.shape[-3]} steps, but has not decayed "
            f"there: its last tenth holds {max(shares):.0%} of its energy. Append zeros if it "
            "ends, give more steps or ask for a lower order if it goes on"
        )


def _check_response(h: Any) -> np.ndarray:
    array = as_array("h", h)
    if array.ndim < 3:
        raise ShapeError(
            f"h has shape {tuple(array.shape)}: an impulse response is (..., steps, outputs, "
            "inputs), h[:, None, None] for one input and output"
        )
    array = check_array("h", array, ndim=3)
    if 0 in array.shape[-3:]:
        raise ShapeError(
            f"h has shape {tuple(array.shape)}: it holds no steps, or no inputs or outputs"
        )
    if not is_numpy(array):
        raise ArrayLibraryError("singular values of a response need LAPACK and NumPy arrays")
    return array


def _feedthrough_alone(h: np.ndarray, criterion: _Criterion, dt: bool | float) -> Reduction:
    """Of D alone."""
    criterion.choose(np.zeros((1, 0)))
    batch, (_, p, m) = h.shape[:-3], h.shape[-3:]
    A, B, C = (np.zeros((*batch, *shape), h.dtype) for shape in ((0, 0), (0, m), (p, 0)))
    return nothing_to_reduce(LTI(A, B, C, h[..., 0, :, :], dt=dt))


def _exponent(h: np.ndarray) -> np.ndarray:
    """(...) log2 of the largest entry after D, rounded."""
    _, p, m = h.shape[-3:]
    return size_exponent(to_double(h[..., 1:, :, :]).reshape(*h.shape[:-3], -1, p * m))


def _in_one_array(sigma: list[np.ndarray]) -> np.ndarray:
    longest = max(map(len, sigma))
    return np.stack([pad_values(x, longest) for x in sigma])
