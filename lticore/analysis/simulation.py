"""Outputs for given inputs."""

from __future__ import annotations

from typing import Any, Literal, overload

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import (
    real_part,
)
from ..arrays.namespaces import Array, asked_together, namespace, zeros_like_shape
from ..equations.recurrence import state_recurrence
from ..errors import ArgumentError, ShapeError, counted
from ..sampling.discretize import check_step
from ..sampling.holds import held_states, rising_states
from ..systems.doors import SystemLike, as_system
from ..systems.lti import in_double
from ..systems.modes import is_real
from ..systems.quadratic import (
    QuadraticOutputLTI,
    System,
    forms_of,
    linear_part,
    quadratic_arrays,
    values_of,
)
from ..systems.sequences import check_timing
from ..systems.signals import product_of
from ..systems.structure import (
    StateMatrix,
    map_parameters,
)


@overload
def simulate(
    sys: SystemLike[Array],
    inputs: Array,
    *,
    initial: Array | None = None,
    timing: Literal["delayed", "current"] = "delayed",
    step: float | Array | None = None,
    hold: Literal["zoh", "foh"] = "zoh",
    return_states: Literal[False] = False,
) -> Array: ...
@overload
def simulate(
    sys: SystemLike[Array],
    inputs: Array,
    *,
    initial: Array | None = None,
    timing: Literal["delayed", "current"] = "delayed",
    step: float | Array | None = None,
    hold: Literal["zoh", "foh"] = "zoh",
    return_states: Literal[True],
) -> tuple[Array, Array]: ...
@asked_together
def simulate(
    sys: SystemLike[Array],
    inputs: Array,
    *,
    initial: Array | None = None,
    timing: Literal["delayed", "current"] = "delayed",
    step: float | Array | None = None,
    hold: Literal["zoh", "foh"] = "zoh",
    return_states: bool = False,
) -> Array | tuple[Array, Array]:
    """Outputs for given inputs.

        delayed:  x_{k+1} = A x_k + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_0
        current:  x_k = A x_{k−1} + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_{−1}

    "delayed" is the standard form, "current" what sequence layers compute: the strictly proper part
    one step earlier. Quadratic outputs add x_kᴴ M_i x_k to the i-th output.

    In continuous time samples y_k = y(kΔ) for u_k = u(kΔ), exact for inputs that are constant from
    one sample to the next ("zoh"), or straight ("foh"):

        x_{k+1} = e^{AΔ} x_k + Δ φ_1(AΔ) B u_k  (+ Δ φ_2(AΔ) B (u_{k+1} − u_k)),
        φ_1(X) = Σ X^k/(k + 1)!,  φ_2(X) = Σ X^k/(k + 2)!

    Parameters
    ----------
    sys : LTI or QuadraticOutputLTI
    inputs : (..., L, m) array
    initial : (..., n) array, optional, default zero
    timing : "delayed" or "current"; continuous time has the first only
    step : Δ > 0, the time between samples, or a (...) array of them; continuous time needs it
    hold : "zoh" or "foh", for continuous time
    return_states : bool

    Returns
    -------
    (..., L, p) array, computed in float64, in the common precision of system and inputs; real when
    all are. With ``return_states`` also the (..., L, n) states x_k of these outputs. Conditions:
    none; unstable systems grow.

    Cost: O(L n (m + p)) structured, O(L n²) dense, in continuous time O(n³) before that; quadratic
    outputs O(L p n²), or O(L p n c) for factors of rank c.

    CuPy: on the device; one launch for the recurrence of structured A, and one wait. Dense systems
    in continuous time need NumPy arrays.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError, ArrayLibraryError

    >>> sys = lti.LTI([[-1.0]], [[1.0]], [[1.0]], dt=0)
    >>> lti.simulate(sys, np.ones((3, 1)), step=0.5).ravel().round(4)
    array([0.    , 0.3935, 0.6321])
    """
    sys = as_system(sys, continuous=True)
    check_timing(timing)
    _check_time(sys, timing, step, hold)
    inputs = check_array("inputs", inputs, ndim=2)
    if inputs.shape[-1] != sys.inputs:
        raise ShapeError(
            f"inputs has shape {tuple(inputs.shape)}, but the system has "
            f"{counted(sys.inputs, 'input')}: pass (..., L, {sys.inputs})"
        )
    given: list[Any] = [sys.B, inputs, *quadratic_arrays(sys)]
    batches = {"system": sys.batch_shape, "inputs": tuple(inputs.shape[:-2])}
    if initial is not None:
        initial = check_array("initial", initial, ndim=1)
        if initial.shape[-1] != sys.order:
            raise ShapeError(
                f"initial has {counted(initial.shape[-1], 'state')}, but the system has {sys.order}"
            )
        given.append(initial)
        batches["initial"] = tuple(initial.shape[:-1])
    xp = namespace(*given)
    delta = None if step is None else check_step(step, to_double(sys.B))
    if delta is not None:
        batches["step"] = tuple(delta.shape)
    batch = broadcast_batches(**batches)
    real = is_real(sys.A) and not any(is_complex(x) for x in given)
    single = all(is_single(x) for x in given)

    A, B, C = map_parameters(to_double, sys.A), to_double(sys.B), to_double(sys.C)
    u = driving = to_double(inputs)
    if delta is not None:
        A, B, driving = _between_samples(sys, u, delta, hold)
    start = zeros_like_shape(B[..., 0], (sys.order,)) if initial is None else to_double(initial)
    states = state_recurrence(A, driving @ xp.matrix_transpose(B), start)
    if timing == "delayed" and inputs.shape[-2]:
        first = xp.broadcast_to(xp.astype(start, states.dtype), (*batch, sys.order))
        states = xp.concat([first[..., None, :], states[..., :-1, :]], axis=-2)
    outputs = product_of(states, xp.matrix_transpose(C))
    if isinstance(sys, QuadraticOutputLTI):
        outputs = outputs + values_of(forms_of(sys), states)
    elif sys.D is not None:
        outputs = outputs + u @ xp.matrix_transpose(to_double(sys.D))
    found = (
        like_precision(real_part(x) if real else x, single)
        for x in ((outputs, states) if return_states else (outputs,))
    )
    return (next(found), next(found)) if return_states else next(found)


def _check_time(sys: System, timing: str, step: Any, hold: str) -> None:
    if hold not in ("zoh", "foh"):
        raise ArgumentError(f"hold={hold!r} is not 'zoh' or 'foh'")
    if not sys.is_continuous:
        if step is not None or hold != "zoh":
            raise ArgumentError(
                f"step= and hold= are for continuous time, and sys is sampled (dt = {sys.dt}): "
                "leave them out, or resample it by lticore.to_continuous"
            )
        return
    if timing != "delayed":
        raise ArgumentError("timing='current' is for discrete time, and sys is in continuous time")
    if step is None:
        raise ArgumentError(
            "sys is a continuous-time system: pass step=, the time between samples of the inputs, "
            "and hold='zoh' or 'foh' for what they do between them"
        )


def _between_samples(
    sys: System[Array], u: Array, delta: Array, hold: str
) -> tuple[StateMatrix[Array], Array, Array]:
    """(A, B, v) with x_{k+1} = A x_k + B v_k; v_k is u_k, or (u_k, u_{k+1} − u_k), the last of
    which reaches no output."""
    linear = in_double(linear_part(sys))
    A, B = held_states(linear, delta)
    if hold == "zoh":
        return A, B, u
    xp = namespace(u)
    rise = xp.concat([u[..., 1:, :] - u[..., :-1, :], 0 * u[..., -1:, :]], axis=-2)
    B = xp.concat([B, rising_states(linear, delta)], axis=-1)
    return A, B, xp.concat([u, rise], axis=-1)
