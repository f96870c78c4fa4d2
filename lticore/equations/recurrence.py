"""Linear recurrences of decoupled states over long sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from ..arrays.checks import broadcast_batches, check_array, is_complex, is_single
from ..arrays.linalg import conjugate
from ..arrays.namespaces import Array, asked_together, namespace, zeros_like_shape
from ..errors import ShapeError, counted
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.pairs import as_numbers, as_states
from ..systems.structure import StateMatrix


@overload
def linear_recurrence(
    poles: ArrayLike, inputs: ArrayLike, *, initial: ArrayLike | None = None, reverse: bool = False
) -> np.ndarray: ...
@overload
def linear_recurrence(
    poles: Array, inputs: Array, *, initial: Array | None = None, reverse: bool = False
) -> Array: ...
@asked_together
def linear_recurrence(
    poles: Any, inputs: Any, *, initial: Any = None, reverse: bool = False
) -> Any:
    """States of n decoupled recurrences with constant coefficients.

        x_k = λ x_{k−1} + u_k,   k = 0 … L−1;      reverse:  x_k = λ x_{k+1} + u_k,   k = L−1 … 0

    Parameters
    ----------
    poles : (..., n) real or complex array, of any modulus
    inputs : (..., L, n) array
    initial : (..., n) array, optional
        The state before the first step processed: x_{−1}, or x_L when reversed. Default zero.
    reverse : bool
        Run backwards in time; poles are not conjugated.

    Returns
    -------
    (..., L, n) array of the common dtype; batch axes broadcast.

    Accuracy: step by step, on NumPy and CuPy with states carried in float64; else the relative
    error grows like 1e-7 · √min(L, 1/(1 − |λ|)) in float32.

    Cost: O(L n), one pass over memory on NumPy, parallel over batch entries and blocks of states.

    CuPy: one launch and one wait, besides launches that convert, copy and check the arrays.

    Differentiability: the adjoint is the recurrence run the other way with conj λ.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError


    >>> pole, u = np.array([0.5]), np.ones((4, 1))
    >>> lti.linear_recurrence(pole, u).ravel()
    array([1.   , 1.5  , 1.75 , 1.875])
    >>> lti.linear_recurrence(pole, u, reverse=True).ravel()
    array([1.875, 1.75 , 1.5  , 1.   ])

    """
    poles = check_array("poles", poles, ndim=1)
    inputs = check_array("inputs", inputs, ndim=2)
    return _run_kernel(linear_recurrence_reference, poles, inputs, initial, reverse, tail=1)


@overload
def time_varying_recurrence(
    poles: ArrayLike, inputs: ArrayLike, *, initial: ArrayLike | None = None, reverse: bool = False
) -> np.ndarray: ...
@overload
def time_varying_recurrence(
    poles: Array, inputs: Array, *, initial: Array | None = None, reverse: bool = False
) -> Array: ...
@asked_together
def time_varying_recurrence(
    poles: Any, inputs: Any, *, initial: Any = None, reverse: bool = False
) -> Any:
    """States of n decoupled recurrences whose coefficients change with time.

        x_k = λ_k x_{k−1} + u_k,   k = 0 … L−1;      reverse:  x_k = λ_k x_{k+1} + u_k

    Parameters
    ----------
    poles : (..., L, n) real or complex array

    All else as for :func:`linear_recurrence`. The adjoint runs the other way with conj λ shifted by
    one step: v_k = conj λ_{k+1} v_{k+1} + g_k.

    CuPy: one launch, as there.


    >>> poles = np.array([[0.0], [0.5], [2.0]])
    >>> lti.time_varying_recurrence(poles, np.ones((3, 1))).ravel()
    array([1. , 1.5, 4. ])

    """
    poles = check_array("poles", poles, ndim=2)
    inputs = check_array("inputs", inputs, ndim=2)
    if poles.shape[-2] != inputs.shape[-2]:
        raise ShapeError(
            f"poles has {poles.shape[-2]} time steps, but inputs has {inputs.shape[-2]}"
        )
    return _run_kernel(time_varying_recurrence_reference, poles, inputs, initial, reverse, tail=2)


def _run_kernel(
    reference: Callable[..., Array],
    poles: Array,
    inputs: Array,
    initial: Array | None,
    reverse: bool,
    tail: int,
) -> Array:
    """Bring everything to one dtype and batch shape, then run the kernel."""
    n = inputs.shape[-1]
    given: list[Any] = [poles, inputs]
    batches = {"poles": tuple(poles.shape[:-tail]), "inputs": tuple(inputs.shape[:-2])}
    if initial is not None:
        initial = check_array("initial", initial, ndim=1)
        given.append(initial)
        batches["initial"] = tuple(initial.shape[:-1])
    for name, x in zip(("poles", "initial"), (poles, initial), strict=True):
        if x is not None and x.shape[-1] != n:
            raise ShapeError(f"{name} has {counted(x.shape[-1], 'state')}, but inputs has {n}")
    xp = namespace(*given)
    batch = broadcast_batches(**batches)
    single = all(is_single(x) for x in given)
    complex_ = any(is_complex(x) for x in given)
    real_dtype, complex_dtype = (
        (xp.float32, xp.complex64) if single else (xp.float64, xp.complex128)
    )
    dtype = complex_dtype if complex_ else real_dtype
    if initial is None:
        initial = zeros_like_shape(inputs, (n,))
    poles, inputs, initial = (
        xp.broadcast_to(xp.astype(x, dtype, copy=False), (*batch, *x.shape[-axes:]))
        for x, axes in ((poles, tail), (inputs, 2), (initial, 1))
    )
    return kernels.find(reference, inputs)(poles, inputs, initial, reverse)


def linear_recurrence_reference(
    poles: Array, inputs: Array, initial: Array, reverse: bool
) -> Array:
    """Reference text of :func:`linear_recurrence` for any array library: one step at a time."""
    return time_varying_recurrence_reference(poles[..., None, :], inputs, initial, reverse)


def time_varying_recurrence_reference(
    poles: Array, inputs: Array, initial: Array, reverse: bool
) -> Array:
    """Reference text of :func:`time_varying_recurrence`; one pole may serve all steps."""
    xp = namespace(poles, inputs, initial)
    length, changes = inputs.shape[-2], poles.shape[-2] != 1
    if length == 0:
        return inputs
    state, states = initial, []
    for k in range(length - 1, -1, -1) if reverse else range(length):
        state = poles[..., k if changes else 0, :] * state + inputs[..., k, :]
        states.append(state)
    return xp.stack(states[::-1] if reverse else states, axis=-2)


def recurrence_adjoint_reference(
    poles: Array, cotangents: Array, states: Array, initial: Array, reverse: bool
) -> tuple[Array, Array]:
    """Cotangents of the inputs, (..., L, n), and of the poles of a linear recurrence.

        v_k = g_k + conj(λ_{k+1}) v_{k+1},     g_λ_k = v_k conj(x_{k−1})

    for cotangents g_k of the states x_k; ``reverse`` as in the recurrence itself. Poles are
    (..., L, n), or (..., 1, n) where one serves all steps: its cotangent is the sum over k. That of
    the initial state is conj(λ_0) v_0. Reference text of the kernels of this name.
    """
    xp = namespace(poles, cotangents, states)
    conj, first = conjugate(poles), initial[..., None, :]
    changes = poles.shape[-2] != 1
    if changes:  # the last step has none after it: it starts from zero, with any pole
        conj = xp.roll(conj, 1 if reverse else -1, axis=-2)
    run = kernels.find(time_varying_recurrence_reference, cotangents)
    back = run(conj, cotangents, zeros_like_shape(cotangents, initial.shape), not reverse)
    previous = (states[..., 1:, :], first) if reverse else (first, states[..., :-1, :])
    products = back * conjugate(xp.concat(previous, axis=-2))
    if changes:
        return back, products
    wide = xp.complex128 if is_complex(products) else xp.float64
    return back, xp.sum(products, axis=-2, keepdims=True, dtype=wide)


def recur_into_reference(
    states: Array, poles: Array, inputs: Array, initial: Array, reverse: bool
) -> None:
    """The states of a time-varying recurrence into ``states``, contiguous, which may be the memory
    of the inputs, (..., L, n). Reference text of the kernels of this name."""
    run = kernels.find(time_varying_recurrence_reference, inputs)
    states[...] = run(poles, inputs, initial, reverse)


def adjoint_into_reference(
    back: Array, poles: Array, cotangents: Array, states: Array, initial: Array, reverse: bool
) -> Array:
    """The cotangents of the inputs into ``back``, contiguous, which may be the memory of those of
    the states; returns those of the poles, as :func:`recurrence_adjoint_reference`. Reference text
    of the kernels of this name."""
    run = kernels.find(recurrence_adjoint_reference, cotangents)
    back[...], g_poles = run(poles, cotangents, states, initial, reverse)
    return g_poles


def state_recurrence(
    A: StateMatrix[Array], inputs: Array, initial: Array, reverse: bool = False
) -> Array:
    """States (..., L, n) of x_k = A x_{k−1} + u_k, reversed of x_k = A x_{k+1} + u_k."""
    if isinstance(A, Diagonal):
        return linear_recurrence(A.poles, inputs, initial=initial, reverse=reverse)
    if not isinstance(A, PairBlocks):
        return dense_recurrence(A, inputs, initial, reverse)
    if not (is_complex(inputs) or is_complex(initial)):
        return _block_recurrence(A, inputs, initial, reverse)
    transpose = namespace(inputs).matrix_transpose
    drive, start = transpose(A.to_modes(transpose(inputs))), A.to_modes(initial[..., None])
    states = linear_recurrence(A.mode_poles, drive, initial=start[..., 0], reverse=reverse)
    return transpose(A.from_modes(transpose(states)))


def _block_recurrence(A: PairBlocks[Array], inputs: Array, initial: Array, reverse: bool) -> Array:
    """Of real inputs and states, as those of the numbers x_1 + i x_2 that the blocks multiply: half
    of the modes."""
    xp, q = namespace(inputs), A.blocks
    poles = A.mode_poles
    poles = xp.concat([poles[..., :q], poles[..., 2 * q :]], axis=-1)
    drive, start = as_numbers(inputs, q), as_numbers(initial, q)
    return as_states(linear_recurrence(poles, drive, initial=start, reverse=reverse), q)


def dense_recurrence(A: Array, inputs: Array, initial: Array, reverse: bool = False) -> Array:
    """States (..., L, n) of x_k = A x_{k−1} + u_k, reversed of x_k = A x_{k+1} + u_k, one step at a
    time for all sequences together."""
    xp = namespace(A, inputs, initial)
    length, transposed = inputs.shape[-2], xp.matrix_transpose(A)
    state, states = initial[..., None, :], []
    for k in range(length - 1, -1, -1) if reverse else range(length):
        state = state @ transposed + inputs[..., k : k + 1, :]
        states.append(state)
    if not states:
        return inputs
    return xp.concat(states[::-1] if reverse else states, axis=-2)
