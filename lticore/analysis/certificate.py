"""How far the errors of reduced layers can carry through a deep model.

Numbers in, numbers out: the constants of each layer are computed from its arrays, and this module
knows neither layers nor frameworks. Norms of signals are ‖v‖ = (Σ_k ‖v_k‖₂²)^{1/2} over the
L time steps and all channels.

>>> layer = lti.certificate.LayerConstants(
...     nonlinearity=1.0, system=2.5, normalization=1.0, error=0.1
... )
>>> lti.certificate.deep_error_bound([layer, layer])  # 0.1, then 0.1 + (0.1 + 2.5 · 0.1)
array([0.1 , 0.45])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Generic, Literal

from ..arrays.checks import (
    check_array,
    check_integer,
    check_one_given,
    check_real,
    to_double,
)
from ..arrays.linalg import adjoint
from ..arrays.namespaces import Array, namespace
from ..errors import ArgumentError, NonFiniteError, ShapeError
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import in_double
from ..systems.modes import multiply
from ..systems.sequences import check_timing
from ..systems.structure import adjoint_of
from .hinf import hinf_norm

#: Largest slopes, rounded up in the fourth digit. GELU: Φ(z) + z φ(z) at z = √2, 1.128905; its tanh
#: form reaches 1.128994. SiLU: 1.099840. The logistic function: exactly ¼, at 0.
GELU_LIPSCHITZ = 1.1290
SILU_LIPSCHITZ = 1.0999
SIGMOID_LIPSCHITZ = 0.25
_HINF_RTOL = 1e-8


@dataclass(frozen=True, eq=False)
class LayerConstants(Generic[Array]):
    """Constants of one residual layer v_l = v_{l−1} + N(S(F v_{l−1})) and its reduced system Ŝ.

    nonlinearity : Lipschitz constant of N (activation, gate)
    system : Lipschitz constant of Ŝ (see `system_lipschitz`)
    normalization : Lipschitz constant of the normalisation F; 1 without one
    error : ε ≥ ‖S z − Ŝ z‖ for the input z = F v_{l−1} of the full model (see `layer_error`)
    input_size, reduced_input_size : ‖F v_{l−1}‖ in the full and ‖F v̂_{l−1}‖ in the reduced model,
        both or neither. They keep the bound finite in use where normalisations amplify; after layer
        normalisation √(L h) max|γ| bounds them without a run, where β = 0.

    Every constant is a finite number ≥ 0, or a real array of them, one per sequence.
    """

    nonlinearity: float | Array
    system: float | Array
    normalization: float | Array
    error: float | Array
    input_size: float | Array | None = None
    reduced_input_size: float | Array | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is MISSING:
                raise ArgumentError(
                    f"{field.name} is None: only the sizes of the inputs may be left out"
                )
            if value is not None:
                object.__setattr__(self, field.name, _constant(field.name, value))
        if (self.input_size is None) != (self.reduced_input_size is None):
            raise ArgumentError(
                "give input_size and reduced_input_size, or neither: the difference of two inputs "
                "is bounded by the sum of their sizes"
            )


def deep_error_bound(layers: Sequence[LayerConstants[Array]]) -> Array:
    """Bound on the error after every layer of a deep residual model whose systems were reduced.

        E_l = E_{l−1} + Lip(N_l) [ε_l + Lip(Ŝ_l) min(Lip(F_l) E_{l−1}, U_l + Û_l)],     E_0 = 0
        ‖v_l − v̂_l‖ ≤ E_l

    With z = F v_{l−1} and ẑ = F v̂_{l−1}, S z − Ŝ ẑ = (S z − Ŝ z) + (Ŝ z − Ŝ ẑ): the first term is
    ε_l, the second Lip(Ŝ_l) ‖z − ẑ‖; N_l and the residual connection do the rest.

    Parameters
    ----------
    layers : one or more LayerConstants, from the input to the output
        Arrays in them broadcast against each other.

    Returns
    -------
    (depth, ...) float64 array of E_1, …, E_depth.

    A bound that overflows is inf, and stays so in all later layers; no entry is NaN.

    Conditions: the constants hold on the signals of the two models; dropout off, batch
    normalisation in evaluation mode; the same encoder before both.

    Accuracy: a certificate, not an estimate. In 240 random models (layer or batch normalisation,
    gated units, systems cut by balanced truncation) bound/error was, in decades of the last E and
    of the logits: 0.9–2.3 and 1.5–4.2 at depth 1, 1.8–3.9 and 2.5–4.6 at depth 3, 2.3–3.5 and
    3.0–4.7 at depth 5, where the sizes of the inputs cap it; without them, medians of 7 and 13
    decades at depths 3 and 5. To rank layers, measure their errors.

    Cost: O(depth).

    Raises
    ------
    ArgumentError
        For no layers, or something else than LayerConstants among them.

    Source: Sakamoto & Sato, A Deep State-Space Model Compression Method using Upper Bound on Output
    Error (2025), arXiv:2510.14542, here for any Lipschitz layer.
    """
    layers = list(layers)
    if not layers or not all(isinstance(layer, LayerConstants) for layer in layers):
        raise ArgumentError("layers must be one or more LayerConstants, from input to output")
    constants = [getattr(layer, field.name) for layer in layers for field in fields(layer)]
    xp = namespace(*constants)
    error: float | Array = 0.0
    errors = []
    for layer in layers:
        carried = _times(layer.system, _input_difference(layer, error))
        error = error + _times(layer.nonlinearity, layer.error + carried)
        errors.append(error)
    arrays = [xp.asarray(x, dtype=xp.float64) for x in errors]
    return xp.stack(list(xp.broadcast_arrays(*arrays)), axis=0)


def _input_difference(layer: LayerConstants[Array], error: float | Array) -> float | Array:
    """min(Lip(F) E, U + Û), a bound on ‖z − ẑ‖."""
    carried = _times(layer.normalization, error)
    if layer.input_size is None or layer.reduced_input_size is None:
        return carried
    largest = layer.input_size + layer.reduced_input_size
    xp = namespace(carried, largest)
    return xp.minimum(*(xp.asarray(x, dtype=xp.float64) for x in (carried, largest)))


def _times(constant: float | Array, bound: float | Array) -> float | Array:
    """constant · bound with 0 · inf = 0: a bound that overflowed is one of a finite number."""
    if isinstance(constant, float) and isinstance(bound, float):
        return constant * bound if constant else 0.0
    xp = namespace(constant, bound)
    c, b = (xp.asarray(x, dtype=xp.float64) for x in (constant, bound))
    return c * xp.where(c == 0, 0.0, b)


def layer_error(
    input_size: float | Array,
    *,
    hinf_error: float | Array | None = None,
    discarded_values: Array | None = None,
    h2_error: float | Array | None = None,
    quadratic_h2_error: float | Array = 0.0,
    length: int | None = None,
) -> float | Array:
    """ε ≥ ‖S z − Ŝ z‖ for every input with ‖z‖ ≤ U, from one of three errors of the reduction.

        hinf_error         ε = ‖H − Ĥ‖_h∞ U
        discarded_values   ε = 2 Σ_{i>r} σ_i U                     (balanced truncation)
        h2_error           ε = √L (‖Σ − Σ̂‖_h2 U + ‖quadratic part‖_h2 U²)

    The h2 form bounds each output by Cauchy–Schwarz, ‖e_k‖ ≤ h2 ‖z‖, and sums L of them. Kernels of
    the first L lags are enough, so ``h2_error(sys, reduced, horizon=L)`` may be used.

    Parameters
    ----------
    input_size : U = ‖z‖, a number or array (...)
    hinf_error, h2_error, quadratic_h2_error : numbers or arrays (...)
        The quadratic one belongs to h2_error, for systems with quadratic outputs.
    discarded_values : (..., n − r) Hankel singular values that were cut off
    length : L, number of time steps, for h2_error

    Returns
    -------
    ε, a float or float64 array (...).

    Raises
    ------
    ArgumentError
        When not exactly one of the three is given, or ``length`` is missing or not used.

    Source: as `deep_error_bound`; Enns (1984) for 2 Σ σ_i.

    >>> lti.certificate.layer_error(3.0, hinf_error=0.5)
    1.5
    >>> lti.certificate.layer_error(3.0, h2_error=0.5, length=16)  # √16 · 0.5 · 3
    6.0
    """
    check_one_given(hinf_error=hinf_error, discarded_values=discarded_values, h2_error=h2_error)
    if (h2_error is None) != (length is None):
        raise ArgumentError("length= goes with h2_error=: the bound grows with √length")
    size = _constant("input_size", input_size)
    quadratic = _constant("quadratic_h2_error", quadratic_h2_error)
    if h2_error is not None:
        steps, linear = check_integer("length", length, minimum=1), _constant("h2_error", h2_error)
        namespace(size, linear, quadratic)  # refuses a mixture
        return math.sqrt(steps) * size * (linear + quadratic * size)
    if not (isinstance(quadratic, float) and quadratic == 0):
        raise ArgumentError("quadratic_h2_error= goes with h2_error=")
    if hinf_error is not None:
        gain = _constant("hinf_error", hinf_error)
        namespace(size, gain)
        return gain * size
    sigma = check_array("discarded_values", discarded_values, ndim=1)
    xp = namespace(size, sigma)
    return 2 * xp.sum(_constant("discarded_values", sigma), axis=-1) * size


def system_lipschitz(sys: LinearLike[Array], *, timing: Literal["delayed", "current"]) -> Array:
    """Lipschitz constant of a linear system from input to output, both of any length.

        delayed:  ‖C (zI − A)⁻¹ B + D‖_h∞
        current:  ‖z C (zI − A)⁻¹ B + D‖_h∞, the norm of (A, B, C A, D + C B)

    Where D is not zero, the two differ by up to 2 ‖D‖₂: for layers, which compute in "current"
    timing, the norm of (A, B, C, D) is not a bound.

    Parameters
    ----------
    sys : LTI
    timing : "delayed" or "current"
        As in `simulate`.

    Returns
    -------
    (...) float64 array, rounded up by the tolerance of `hinf_norm`.

    Conditions, cost and errors: as :func:`lticore.hinf_norm`.

    >>> sys = lti.LTI([[0.6]], [[1.0]], [[1.0]], 1.0)  # 1/0.4 + 1 at z = 1
    >>> print(lti.certificate.system_lipschitz(sys, timing="current").round(6))
    3.5
    """
    check_timing(timing)
    full = in_double(as_linear(sys))
    if timing == "current":
        ahead = full.C @ full.B
        CA = adjoint(multiply(adjoint_of(full.A), adjoint(full.C)))
        full = replace(full, C=CA, D=ahead if full.D is None else full.D + ahead)
    return hinf_norm(full, rtol=_HINF_RTOL) * (1 + 2 * _HINF_RTOL)


def logit_error_bound(decoder: Array, error: float | Array, length: int) -> float | Array:
    """Bound on the change of the logits W (1/L) Σ_k v_k + b of a mean-pooling classifier.

        ‖Δlogits‖₂ ≤ ‖W‖₂ E/√L

    The mean over L steps of a signal of size E is at most E/√L. The class cannot change where the
    two largest logits differ by more than √2 times this bound.

    Parameters
    ----------
    decoder : (classes, h) array W
    error : E, the last of `deep_error_bound`, a number or array (...)
    length : L, number of time steps

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, NonFiniteError

    >>> decoder = np.array([[3.0, 0.0], [0.0, 2.0]])  # ‖W‖₂ = 3
    >>> round(lti.certificate.logit_error_bound(decoder, 0.4, length=16), 12)
    0.3
    """
    steps = check_integer("length", length, minimum=1)
    return _spectral_norm("decoder", decoder) * _constant("error", error) / math.sqrt(steps)


def gated_unit_lipschitz(
    gate: Array,
    size: float | Array,
    *,
    value: Array | None = None,
    activation: float = GELU_LIPSCHITZ,
) -> float | Array:
    """Lipschitz constant of a gated unit on bounded signals.

        half:  N(z) = a ∘ σ(G a + g),               Lip = Lip(act) (1 + ¼ ‖G‖₂ sup|a|_∞)
        full:  N(z) = w ∘ σ(G a + g), w = V a + v,  Lip = Lip(act) (‖V‖₂ + ¼ ‖G‖₂ sup|w|_∞)

    with a = act(z). For two signals w∘s − ŵ∘ŝ = (w − ŵ)∘s + ŵ∘(s − ŝ), with s in (0, 1) and
    |s − ŝ| ≤ ¼ |G (a − â)| in each entry: so the supremum of one of the two signals is enough, and
    the smaller one may be taken.

    Parameters
    ----------
    gate : (h, h) array G
    size : sup |a|_∞ (half) or sup |w|_∞ (full) over all steps and channels; number or array (...)
    value : (h, h) array V of the full unit; None for the half one
    activation : Lip(act)

    Source: Smith et al., S5 (2023), for the half unit; Dauphin et al. (2017) for the full one.

    >>> round(lti.certificate.gated_unit_lipschitz(np.eye(2), 4.0, activation=1.0), 12)
    2.0
    """
    weight = 1.0 if value is None else _spectral_norm("value", value)
    size = _constant("size", size)
    return _constant("activation", activation) * (
        weight + SIGMOID_LIPSCHITZ * _spectral_norm("gate", gate) * size
    )


def layer_norm_lipschitz(scale: Array, epsilon: float, *, variance: float | Array = 0.0) -> float:
    """Lipschitz constant of layer normalisation, per time step and so for signals.

        F(v) = γ ∘ (v − mean v)/s + β,  s = √(var v + ε):      Lip = max|γ| / √(min var + ε)

    With ``variance`` left at 0 it holds for all signals: the derivative of w/s for w = v − mean v
    is (I − w wᵀ/(h s²))/s, of norm 1/s at most. With the variances over channels of *both* given
    signals, at all steps, it holds between these two, whatever lies between them: let s ≤ ŝ and
    t = s/ŝ; then s |w/s − ŵ/ŝ| = |w − t ŵ|, which grows with t from t* = ⟨w, ŵ⟩/|ŵ|² on; and
    t* ≤ |w|/|ŵ| ≤ t ≤ 1, so it is at most |w − ŵ|.

    Parameters
    ----------
    scale : (h,) array γ
    epsilon : ε > 0
    variance : number or array of any shape, whose smallest entry counts

    Raises
    ------
    ArgumentError
        For ε ≤ 0, or negative variances.
    ShapeError
        For no channel.

    >>> lti.certificate.layer_norm_lipschitz(np.array([1.0, -3.0]), 0.25)
    6.0
    """
    gamma = _per_channel("scale", scale)
    smallest = _smallest("variance", variance)
    _check_epsilon(epsilon)
    return float(namespace(gamma).max(namespace(gamma).abs(gamma))) / math.sqrt(smallest + epsilon)


def batch_norm_lipschitz(scale: Array, variance: Array, epsilon: float) -> float:
    """Lipschitz constant of batch normalisation in evaluation mode, which is linear.

        F(v) = γ ∘ (v − μ)/√(ν + ε) + β:      Lip = max_i |γ_i|/√(ν_i + ε)

    Parameters
    ----------
    scale, variance : (h,) arrays γ and ν, the running variance
    epsilon : ε > 0

    Raises
    ------
    ArgumentError
        For ε ≤ 0, or negative variances.
    ShapeError
        For no channel, or arrays of different lengths.

    >>> lti.certificate.batch_norm_lipschitz(np.array([1.0, -3.0]), np.array([1.0, 2.0]), 0.25)
    2.0
    """
    gamma, nu = _per_channel("scale", scale), _per_channel("variance", variance)
    if gamma.shape != nu.shape:
        raise ShapeError(
            f"scale {tuple(gamma.shape)} and variance {tuple(nu.shape)} hold one value per channel"
        )
    xp = namespace(gamma, nu)
    _smallest("variance", nu)
    _check_epsilon(epsilon)
    return float(xp.max(xp.abs(gamma) / xp.sqrt(nu + epsilon)))


def _constant(name: str, value: float | Array) -> float | Array:
    """A finite number ≥ 0, or a float64 array of them."""
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} is {value!r}: no bound follows from it")
        number = float(value)
    else:
        number = to_double(check_real(name, check_array(name, value, ndim=0)))
    _smallest(name, number)
    return number


def _per_channel(name: str, values: Array) -> Array:
    """A real float64 array of one value or more."""
    x = to_double(check_real(name, check_array(name, values, ndim=1)))
    if 0 in x.shape:
        raise ShapeError(f"{name} has shape {tuple(x.shape)} and so holds no channel")
    return x


def _smallest(name: str, values: float | Array) -> float:
    """The smallest of non-negative values."""
    if isinstance(values, int | float):
        least = float(values)
    else:
        x = to_double(check_real(name, check_array(name, values, ndim=0)))
        least = float(namespace(x).min(x)) if 0 not in x.shape else 0.0
    if not least >= 0:
        raise ArgumentError(f"{name} must be at least 0, but is {least!r}")
    return least


def _check_epsilon(epsilon: float) -> None:
    try:
        inside = bool(0 < epsilon < math.inf)
    except (TypeError, ValueError):  # None, strings, arrays
        inside = False
    if not inside:
        raise ArgumentError(f"epsilon must be positive and finite, but is {epsilon!r}")


def _spectral_norm(name: str, matrix: Array) -> float:
    """‖W‖₂ of one matrix."""
    W = to_double(check_array(name, matrix, ndim=2))
    if W.ndim != 2:
        raise ShapeError(f"{name} must be one matrix, but has shape {tuple(W.shape)}")
    return float(namespace(W).linalg.matrix_norm(W, ord=2))
