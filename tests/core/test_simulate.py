"""Simulation: both timings, every structure, against the defining recurrence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import STRUCTURES, build_system, systems

import lticore as lti

TIMINGS = ("delayed", "current")


def by_steps(sys, u, initial, timing):
    dense = sys.to_dense()
    A, B, C = dense.A, dense.B, dense.C
    D = np.zeros((*sys.batch_shape, sys.outputs, sys.inputs)) if dense.D is None else dense.D
    x, outputs = initial[..., None], []
    for k in range(u.shape[-2]):
        now = u[..., k, :, None]
        if timing == "current":
            x = A @ x + B @ now
        outputs.append((C @ x + D @ now)[..., 0])
        if timing == "delayed":
            x = A @ x + B @ now
    return np.stack(outputs, axis=-2)


@given(sys=systems(dtypes=("float32", "float64")), timing=st.sampled_from(TIMINGS))
def test_simulation_is_the_recurrence(sys, timing):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((*sys.batch_shape, 12, sys.inputs)).astype(np.float32)
    initial = rng.standard_normal((*sys.batch_shape, sys.order)).astype(np.float32)
    found = lti.simulate(sys, u, initial=initial, timing=timing)
    expected = by_steps(lti.systems.lti.in_double(sys), u.astype(float), initial, timing)
    assert np.isrealobj(found) == np.isrealobj(sys.B)
    assert found.dtype == sys.dtype
    size = np.abs(expected).max(initial=0) + np.abs(sys.C).max(initial=0)
    assert np.abs(found - expected).max(initial=0) <= 1000 * np.finfo(sys.dtype).eps * size


@pytest.mark.parametrize("structure", STRUCTURES)
def test_impulse_gives_the_markov_parameters(structure):
    sys = build_system(np.random.default_rng(1), structure, feedthrough=True)
    u = np.zeros((sys.inputs, 9, sys.inputs))
    u[np.arange(sys.inputs), 0, np.arange(sys.inputs)] = 1
    single = lti.simulate(sys, u)
    np.testing.assert_allclose(
        np.moveaxis(single, 0, -1), lti.impulse_response(sys, 9), rtol=0, atol=1e-13
    )
    current = np.moveaxis(lti.simulate(sys, u, timing="current"), 0, -1)
    strictly_proper = lti.impulse_response(lti.LTI(sys.A, sys.B, sys.C), 10)[1:]
    strictly_proper[0] = strictly_proper[0] + sys.D
    np.testing.assert_allclose(current, strictly_proper, rtol=0, atol=1e-13)


def test_inputs_broadcast_against_systems():
    sys = lti.LTI(lti.Diagonal([[0.5], [0.9]]), [[1.0]], [[1.0]])
    u = np.ones((3, 1, 4, 1))
    y = lti.simulate(sys, u)
    assert y.shape == (3, 2, 4, 1)
    np.testing.assert_allclose(y[0, 0, :, 0], [0, 1, 1.5, 1.75])


def test_no_time_at_all():
    for A in (lti.Diagonal([0.5]), [[0.5]]):
        sys = lti.LTI(A, [[1.0]], [[1.0]])
        assert lti.simulate(sys, np.zeros((0, 1))).shape == (0, 1)


def test_bad_arguments():
    sys = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]])
    with pytest.raises(lti.ArgumentError, match="timing='late'"):
        lti.simulate(sys, np.zeros((3, 1)), timing="late")
    with pytest.raises(lti.ShapeError, match="the system has 1 input:"):
        lti.simulate(sys, np.zeros((3, 2)))
    with pytest.raises(lti.ShapeError, match="initial has 2 states"):
        lti.simulate(sys, np.zeros((3, 1)), initial=[0.0, 0.0])
    with pytest.raises(lti.NonFiniteError, match="inputs contains NaN"):
        lti.simulate(sys, [[np.nan]])
