"""Systems from the arrays of published state-space layers, whatever framework they come from."""

from __future__ import annotations

from typing import Literal

from ..arrays.checks import check_array, to_double
from ..arrays.linalg import as_complex, real_part
from ..arrays.namespaces import Array, namespace
from ..errors import ArgumentError, ShapeError
from ..sampling.discretize import check_step
from ..sampling.modes import held_inputs
from ..systems.lti import LTI
from .rotation import real_system


def from_lru(
    poles: Array, B: Array, C: Array, D: Array | None = None, *, gamma: Array | None = None
) -> LTI[Array]:
    """The real system of a linear recurrent unit.

        z_k = λ z_{k−1} + γ b u_k,   y_k = Re(c z_k) + D u_k

    Parameters
    ----------
    poles : (q,) complex λ; from the published parameters exp(−exp(nu_log) + 1j·exp(theta_log))
    B : (q, m) complex,  C : (p, q) complex
    D : (h,) of the diagonal, or (p, m), optional
    gamma : (q,) real, optional; exp(gamma_log)

    Returns
    -------
    LTI with a `Rotation` of 2q real states, in the convention of :class:`lticore.LTI`; the layer
    answers as ``simulate(sys, u, timing="current")``.

    CuPy: on the device; the host waits for each check.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError

    Source: Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences (2023), §3.


    >>> one = np.array([[1.0 + 0j]])
    >>> sys = lti.from_lru(np.array([0.3 + 0.4j]), one, one)
    >>> y = lti.simulate(sys, np.eye(3, 1), timing="current")  # Re λ^k
    >>> y.ravel().round(4)
    array([ 1.  ,  0.3 , -0.07])

    """
    poles, B, C = _checked_arrays(poles, B, C)
    if gamma is not None:
        B = _in_shape("gamma", gamma, poles)[..., None] * B
    return _system_of_pairs(poles, B, C, D)


def from_s5(
    poles: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    *,
    step: Array | float | None = None,
    sampling: Literal["zoh", "bilinear"] = "zoh",
    conjugate_symmetric: bool = True,
) -> LTI[Array]:
    """The real system of an S5 layer.

        zoh        λ̄ = e^{λΔ},                      b̄ = (λ̄ − 1)/λ · b
        bilinear   λ̄ = (1 + λΔ/2)/(1 − λΔ/2),       b̄ = Δ/(1 − λΔ/2) · b
        y_k = 2 Re(c z_k) + D u_k,  or Re(c z_k) without conjugate symmetry

    Parameters
    ----------
    poles : (q,) complex λ, continuous; discrete ones where ``step`` is None
    B : (q, m) complex,  C : (p, q) complex
    D : (h,) of the diagonal, or (p, m), optional
    step : Δ > 0, a number or (q,) array, such as exp(log_step); None for sampled poles and B
    sampling : the layer's own rule, which changes B only (unlike `lticore.discretize`)
    conjugate_symmetric : whether half of the spectrum is stored (the default of S5)

    Returns
    -------
    LTI with a `Rotation` of 2q real states, as for :func:`from_lru`.

    CuPy: on the device; the host waits for each check.

    Raises
    ------
    ArgumentError
        For another rule, or steps that are not positive.
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError

    Source: Smith, Warrington & Linderman, S5 (2023), eq. (6) and Appendix A.


    >>> one = np.array([[1.0 + 0j]])
    >>> sys = lti.from_s5(np.array([-1.0 + 0j]), one, one, step=np.log(2))
    >>> y = lti.simulate(sys, np.eye(3, 1), timing="current")  # λ̄ = b̄ = 1/2
    >>> y.ravel().round(4)
    array([1.  , 0.5 , 0.25])

    """
    poles, B, C = _checked_arrays(poles, B, C)
    if step is not None:
        poles, scale = _sampled(poles, step, sampling)
        B = scale[..., None] * B
    return _system_of_pairs(poles, B, 2 * C if conjugate_symmetric else C, D)


def from_s4d(
    poles: Array,
    C: Array,
    D: Array | None = None,
    *,
    B: Array | None = None,
    step: Array | float | None = None,
    sampling: Literal["zoh", "bilinear"] = "zoh",
) -> LTI[Array]:
    """The real systems of the channels of an S4D layer, one batch.

        y_k = 2 Re(c z_k) + D u_k   per channel, sampled as in :func:`from_s5`

    Parameters
    ----------
    poles : (h, q) complex λ, or (q,) for all channels; continuous, or discrete without ``step``
    C : (h, q) complex
    D : (h,), optional
    B : (h, q) or (q,) complex, optional; ones without
    step : Δ > 0, a number or (h,) array, such as exp(log_dt); None for sampled poles and B

    Returns
    -------
    LTI of batch shape (h,) with one input and one output and `Rotation` matrices.

    CuPy: on the device; the host waits for each check.

    Raises
    ------
    As for :func:`from_s5`.

    Source: Gu, Gupta, Goel & Ré, S4D (2022).


    >>> poles, C = np.array([-1.0 + 0j]), np.array([[1.0 + 0j], [3.0 + 0j]])
    >>> sys = lti.from_s4d(poles, C, step=np.log(2))  # two channels of one pair
    >>> lti.impulse_response(sys, 4)[:, 1:].reshape(2, 3).round(4)
    array([[1.  , 0.5 , 0.25],
           [3.  , 1.5 , 0.75]])

    """
    C = as_complex(to_double(check_array("C", C, ndim=2)))
    xp = namespace(C)
    if C.ndim != 2:
        raise ShapeError(f"C has shape {tuple(C.shape)}: give (channels, pairs)")
    poles = _for_each_channel("poles", poles, C)
    weights = xp.ones_like(C) if B is None else _for_each_channel("B", B, C)
    if step is not None:
        delta = check_step(step, C)
        if delta.ndim and tuple(delta.shape) != tuple(C.shape[:1]):
            raise ShapeError(
                f"step has shape {tuple(delta.shape)}, but C {tuple(C.shape)}: give one step or "
                "one per channel"
            )
        delta = delta[:, None] if delta.ndim else delta
        poles, scale = _sampled(poles, xp.broadcast_to(delta, poles.shape), sampling)
        weights = scale * weights
    if D is not None:
        D = to_double(check_array("D", D, ndim=0))[..., None, None]
    return _system_of_pairs(poles, weights[..., None], 2 * C[:, None, :], D)


def _checked_arrays(poles: Array, B: Array, C: Array) -> tuple[Array, Array, Array]:
    poles = as_complex(to_double(check_array("poles", poles, ndim=1)))
    B = as_complex(to_double(check_array("B", B, ndim=2)))
    C = as_complex(to_double(check_array("C", C, ndim=2)))
    if B.shape[-2] != poles.shape[-1] or C.shape[-1] != poles.shape[-1]:
        raise ShapeError(
            f"{poles.shape[-1]} poles need B ({poles.shape[-1]}, inputs) and C (outputs, "
            f"{poles.shape[-1]}), but they are {tuple(B.shape)} and {tuple(C.shape)}"
        )
    namespace(poles, B, C)  # refuses a mixture
    return poles, B, C


def _in_shape(name: str, x: Array, poles: Array) -> Array:
    x = to_double(check_array(name, x, ndim=1))
    if tuple(x.shape) != tuple(poles.shape):
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but poles {tuple(poles.shape)}")
    namespace(x, poles)
    return x


def _for_each_channel(name: str, x: Array, C: Array) -> Array:
    x = as_complex(to_double(check_array(name, x, ndim=1)))
    if x.shape[-1] != C.shape[-1] or x.ndim > 2 or (x.ndim == 2 and x.shape[0] != C.shape[0]):
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but C {tuple(C.shape)}")
    return namespace(x, C).broadcast_to(x, C.shape)


def _sampled(poles: Array, step: Array | float, sampling: str) -> tuple[Array, Array]:
    """(λ̄, b̄/b)."""
    delta = check_step(step, poles)
    if delta.ndim and tuple(delta.shape) != tuple(poles.shape):
        raise ShapeError(f"step has shape {tuple(delta.shape)}, but poles {tuple(poles.shape)}")
    if sampling == "bilinear":
        gap = 1 - poles * delta / 2
        return (1 + poles * delta / 2) / gap, delta / gap
    if sampling != "zoh":
        raise ArgumentError(f"sampling={sampling!r} is not 'zoh' or 'bilinear'")
    return held_inputs(poles, delta)


def _system_of_pairs(poles: Array, b: Array, c: Array, D: Array | None) -> LTI[Array]:
    """y = Re(c z) in the real states Re z, Im z."""
    if D is not None:
        D = real_part(to_double(check_array("D", D, ndim=0)))
        if D.ndim == 1:
            D = D[:, None] * namespace(D).eye(D.shape[0], dtype=D.dtype)
    return LTI(*real_system(poles, b, c), D)
