"""Every public function accepts CuPy arrays and returns CuPy arrays with the numbers of NumPy."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from device_systems import (
    dense,
    diagonal,
    left_of_axis,
    many_states,
    quadratic,
    right_side,
    rotation,
    signal,
)

import lticore as lti

#: Functions without arrays, and those that leave the device by their nature.
WITHOUT_ARRAYS = {"schatten", "tail", "from_statespace", "to_statespace"}
WITHOUT_ARRAYS |= {"allocate_orders", "allocate_modal_orders", "allocate_orders_by_error"}
# LAPACK only: arrays of other libraries are refused, or lists of numbers.
WITHOUT_ARRAYS |= {"from_descriptor", "from_transfer_function", "from_zpk", "from_sections"}
WITHOUT_ARRAYS |= {"to_zpk", "to_sections", "zeros"}


def pairs_only(xp):
    arrays = np.random.default_rng(6).normal(size=(2, 8, 1))
    A = lti.Rotation(xp.asarray([0.9, 0.5, 0.8, 0.3]), xp.asarray([0.1, 0.5, 1.0, 2.0]))
    return lti.LTI(A, xp.asarray(arrays[0]), xp.asarray(arrays[1].T))


def layer_arrays(xp):
    """(λ continuous, B, C) of four pairs."""
    rng = np.random.default_rng(7)
    poles = -rng.random(4) + 1j * rng.normal(size=4)
    b, c = rng.normal(size=(2, 4, 2)) + 1j * rng.normal(size=(2, 4, 2))
    return xp.asarray(poles), xp.asarray(b), xp.asarray(c.T)


def squares(factors):
    return [F @ F.conj().swapaxes(-1, -2) for F in factors]


def response(sys):
    return lti.impulse_response(sys, 9)


#: name → f(xp, sys); factors and coordinates that are not unique enter through what is.
CALLS = {
    "solve_stein": lambda xp, sys: lti.solve_stein(sys.A, right_side(xp, sys)),
    "solve_stein(horizon)": lambda xp, sys: lti.solve_stein(sys.A, right_side(xp, sys), horizon=9),
    "solve_lyapunov": lambda xp, sys: lti.solve_lyapunov(
        left_of_axis(xp, sys.A), right_side(xp, sys)
    ),
    "controllability_gramian": lambda xp, sys: lti.controllability_gramian(sys),
    "observability_gramian": lambda xp, sys: lti.observability_gramian(sys),
    "observability_gramian(horizon)": lambda xp, sys: lti.observability_gramian(sys, horizon=7),
    "weighted_gramians": lambda xp, sys: lti.weighted_gramians(
        sys,
        input_weight=lti.LTI(
            xp.asarray([[0.5]]), xp.ones((1, sys.inputs)), xp.ones((sys.inputs, 1))
        ),
    ),
    "band_gramians": lambda xp, sys: lti.band_gramians(sys, [(0.25, 1.0)]),
    "gramian_factors": lambda xp, sys: squares(lti.gramian_factors(sys)),
    "hankel_singular_values": lambda xp, sys: lti.hankel_singular_values(sys),
    "hankel_singular_values(max_rank)": lambda xp, sys: lti.hankel_singular_values(sys, max_rank=3),
    "hankel_sum": lambda xp, sys: lti.hankel_sum(sys, "log"),
    "hankel_sum_and_gradient": lambda xp, sys: _without_discrepancy(sys),
    "hankel_norm": lambda xp, sys: lti.hankel_norm(sys),
    "h2_norm": lambda xp, sys: lti.h2_norm(sys),
    "h2_error": lambda xp, sys: lti.h2_error(
        sys, lti.LTI(lti.Diagonal(xp.asarray([0.5])), sys.B[..., :1, :], sys.C[..., :1], sys.D)
    ),
    "hinf_norm": lambda xp, sys: lti.hinf_norm(sys),
    "hinf_error": lambda xp, sys: lti.hinf_error(sys, sys / 2),
    "hankel_error": lambda xp, sys: lti.hankel_error(sys, sys / 2),
    "feedback": lambda xp, sys: response(lti.feedback(sys, xp.full((3, 2), 1e-3))),
    "frequency_response": lambda xp, sys: lti.frequency_response(sys, xp.linspace(-3, 3, 7)),
    "impulse_response": lambda xp, sys: response(sys),
    "step_response": lambda xp, sys: lti.step_response(sys, 8),
    "simulate": lambda xp, sys: lti.simulate(sys, signal(xp, sys)),
    "simulate(current)": lambda xp, sys: lti.simulate(
        sys, signal(xp, sys), timing="current", initial=sys.B[..., 0]
    ),
    "linear_recurrence": lambda xp, sys: lti.linear_recurrence(sys.C[..., 0, :] / 9, sys.C),
    "time_varying_recurrence": lambda xp, sys: lti.time_varying_recurrence(sys.C / 9, sys.C),
    "balanced_truncation": lambda xp, sys: _reduction(lti.balanced_truncation(sys, order=3)),
    "balanced_truncation(energy)": lambda xp, sys: _reduction(
        lti.balanced_truncation(sys, energy=0.9)
    ),
    "diagonalize": lambda xp, sys: response(lti.diagonalize(sys)),
    "to_rotation": lambda xp, sys: response(lti.to_rotation(sys)),
    "discretize": lambda xp, sys: lti.discretize(
        sys.A, sys.B, sys.C, sys.D, step=0.1, method="bilinear"
    ),
    "discretize(zoh)": lambda xp, sys: lti.discretize(sys.A, sys.B, sys.C, sys.D, step=0.1),
    "to_continuous": lambda xp, sys: lti.to_continuous(sys, "bilinear", step=0.1),
    "observability_gramian(quadratic)": lambda xp, sys: lti.observability_gramian(
        quadratic(xp, sys)
    ),
    "h2_norm(quadratic)": lambda xp, sys: lti.h2_norm(quadratic(xp, sys)),
    "simulate(quadratic)": lambda xp, sys: lti.simulate(quadratic(xp, sys), signal(xp, sys)),
    "output_shift": lambda xp, sys: lti.output_shift(quadratic(xp, sys), sys),
    "balanced_truncation(match_dc)": lambda xp, sys: _reduction(
        lti.balanced_truncation(sys, order=3, match_dc=True)
    ),
    "balanced_truncation(gramians)": lambda xp, sys: _reduction(
        lti.balanced_truncation(sys, order=3, gramians=_pair(sys))
    ),
    "modal_truncation": lambda xp, sys: _reduction(lti.modal_truncation(sys, 4)),
    "minimal_realization": lambda xp, sys: _minimal(xp, sys),
    "h2_reduction": lambda xp, sys: lti.h2_reduction(sys, 3),
    "complex_balanced_truncation": lambda xp, sys: lti.complex_balanced_truncation(
        pairs_only(xp), order=4
    ),
    "data_gramians": lambda xp, sys: lti.data_gramians(
        sys, [(signal(xp, sys), lti.simulate(sys, signal(xp, sys)))]
    ),
    "refit_outputs": lambda xp, sys: response(
        lti.refit_outputs(sys, [(signal(xp, sys), lti.simulate(sys, signal(xp, sys)))]).system
    ),
    "eigenvector_condition": lambda xp, sys: lti.eigenvector_condition(sys),
    "well_conditioned": lambda xp, sys: response(lti.well_conditioned(sys).system),
    "from_impulse_response": lambda xp, sys: _reduction(
        lti.from_impulse_response(response(sys), order=3)
    ),
    "from_lru": lambda xp, sys: lti.from_lru(layer_arrays(xp)[0] / 9, *layer_arrays(xp)[1:]),
    "from_s5": lambda xp, sys: lti.from_s5(*layer_arrays(xp), step=0.1),
    "from_s4d": lambda xp, sys: lti.from_s4d(
        layer_arrays(xp)[0], layer_arrays(xp)[2], step=0.1, sampling="bilinear"
    ),
    "poles": lambda xp, sys: abs(xp.sort_complex(sys.poles)) if not sys.batch_shape else sys.B,
    "to_dense": lambda xp, sys: sys.to_dense(),
}

SYSTEMS = {"rotation": rotation, "diagonal": diagonal, "dense": dense}


def _reduction(reduced):
    return [
        reduced.singular_values,
        reduced.error_bound,
        reduced.h2_error,
        response(reduced.system),
    ]


def _minimal(xp, sys):
    """Of the system and one that no input reaches."""
    hidden = lti.minimal_realization(sys + lti.LTI(sys.A, 0 * sys.B, sys.C))
    return [hidden.h2_error, response(hidden.system)]


def _without_discrepancy(sys):
    """Value and gradient: the discrepancy is rounding, which differs."""
    value, gradient = lti.hankel_sum_and_gradient(sys)
    return value, gradient.A, gradient.B, gradient.C


def _pair(sys):
    """The system's own Gramians, as if they came from elsewhere."""
    return lti.controllability_gramian(sys), lti.observability_gramian(sys)


def arrays_in(result):
    """The arrays of a result, however deep: arrays, tuples, systems, gradients."""
    if result is None or isinstance(result, int | str) or type(result) is float:
        return []
    if isinstance(result, list | tuple):
        return [x for part in result for x in arrays_in(part)]
    if is_dataclass(result):
        return arrays_in([getattr(result, field.name) for field in fields(result)])
    return [result]


def test_every_public_function_is_called():
    functions = {
        name
        for name in lti.__all__
        if callable(getattr(lti, name)) and not isinstance(getattr(lti, name), type)
    }
    assert functions == {name.partition("(")[0] for name in CALLS} & functions | WITHOUT_ARRAYS


@pytest.mark.parametrize("name", sorted({x.partition("(")[0] for x in CALLS}))
def test_docstrings_say_what_these_arrays_get(name):
    function = getattr(lti, name, None)
    assert function is None or "CuPy: " in function.__doc__


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("kind", SYSTEMS)
def test_public_functions(cupy, kind, batch, name):
    sys = SYSTEMS[kind](cupy, batch)
    try:
        expected = arrays_in(CALLS[name](np, SYSTEMS[kind](np, batch)))
    except lti.LticoreError as error:
        with pytest.raises(type(error)):
            CALLS[name](cupy, sys)
        return
    found = arrays_in(CALLS[name](cupy, sys))
    assert len(found) == len(expected) > 0
    for x, y in zip(found, expected, strict=True):
        assert isinstance(x, cupy.ndarray)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        scale = np.max(np.abs(y), initial=0)
        np.testing.assert_allclose(x.get(), y, rtol=1e-7, atol=1e-8 * scale)


@pytest.mark.parametrize(
    "name",
    ["gramian_factors", "hankel_singular_values(max_rank)", "hankel_norm", "h2_norm", "simulate"],
)
def test_many_states(cupy, name):
    assert_many_states(cupy, name, many_states)


@pytest.mark.parametrize("name", ["gramian_factors", "hankel_singular_values(max_rank)", "h2_norm"])
def test_many_states_in_continuous_time(cupy, name):
    """Poles log λ, by the kernel of their own."""

    def sampled(xp):
        sys = many_states(xp)
        return lti.LTI(lti.Diagonal(xp.log(sys.A.poles)), sys.B, sys.C, dt=0)

    assert_many_states(cupy, name, sampled)


def assert_many_states(cupy, name, system):
    found, expected = (arrays_in(CALLS[name](xp, system(xp))) for xp in (cupy, np))
    for x, y in zip(found, expected, strict=True):
        assert isinstance(x, cupy.ndarray)
        np.testing.assert_allclose(x.get(), y, rtol=1e-7, atol=1e-8 * np.max(np.abs(y)))


def test_single_precision_stays(cupy):
    sys = rotation(cupy)
    single = lti.LTI(
        lti.systems.structure.map_parameters(lambda x: x.astype(cupy.float32), sys.A),
        sys.B.astype(cupy.float32),
        sys.C.astype(cupy.float32),
    )
    assert lti.hankel_singular_values(single).dtype == cupy.float32
    assert lti.hankel_sum_and_gradient(single)[1].B.dtype == cupy.float32
    assert lti.simulate(single, signal(cupy, sys).astype(cupy.float32)).dtype == cupy.float32


def test_allocation_and_statespace(cupy):
    """These read their arrays on the host."""
    layers = [cupy.asarray([3.0, 2.0, 1.0]), cupy.asarray([1.0, 0.5])]
    assert lti.allocate_orders(layers, budget=4) == lti.allocate_orders(
        [x.get() for x in layers], budget=4
    )
    A, B, C, *_ = lti.to_statespace(rotation(cupy), "tuple")
    assert all(isinstance(x, cupy.ndarray) for x in (A, B, C))


def test_mixing_host_and_device_is_refused(cupy):
    with pytest.raises(lti.ArrayLibraryError, match="mix array types"):
        lti.LTI(lti.Diagonal(cupy.asarray([0.5])), np.ones((1, 1)), np.ones((1, 1)))


def test_gradients_of_many_systems(cupy):
    """Value and gradient of many systems at once beside NumPy's eigendecompositions."""
    rng = np.random.default_rng(0)
    q, n, m = 64, 128, 96
    arrays = (
        rng.uniform(0.5, 0.999, (6, q)),
        rng.uniform(0, np.pi, (6, q)),
        rng.standard_normal((6, n, m)),
        rng.standard_normal((6, m, n)),
    )
    results = []
    for xp in (np, cupy):
        radius, angle, B, C = map(xp.asarray, arrays)
        results.append(lti.hankel_sum_and_gradient(lti.LTI(lti.Rotation(radius, angle), B, C)))
    (expected, g_expected), (value, gradient) = results
    np.testing.assert_allclose(value.get(), expected, rtol=1e-8)
    assert float(gradient.discrepancy.max()) <= 1e-8
    for x, y in zip((*gradient.A, gradient.B), (*g_expected.A, g_expected.B), strict=True):
        np.testing.assert_allclose(x.get(), y, rtol=0, atol=1e-6 * np.abs(y).max(initial=0))
