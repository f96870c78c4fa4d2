"""To and from the objects of other libraries."""

import numpy as np
import pytest
import scipy.signal
from oracles import EPS
from strategies import build_system

import lticore as lti

SYSTEM = build_system(np.random.default_rng(0), "rotation with real poles", feedthrough=True)


def assert_same(found, expected=SYSTEM):
    h, h_expected = (lti.impulse_response(x, 12) for x in (found, expected))
    assert np.abs(h - h_expected).max() <= 100 * EPS * np.abs(h_expected).max()


@pytest.mark.parametrize("library", ["scipy", "control", "tuple"])
def test_round_trip(library):
    if library == "control":
        pytest.importorskip("control")
    assert_same(lti.from_statespace(lti.to_statespace(SYSTEM, library)))


def test_the_objects_are_those_of_the_library():
    control = pytest.importorskip("control")
    state_space = lti.to_statespace(SYSTEM, "control")
    assert isinstance(state_space, control.StateSpace)
    assert state_space.dt is True
    omega = np.linspace(0.1, 3, 7)
    response = np.moveaxis(state_space(np.exp(1j * omega)), -1, 0)
    found = lti.frequency_response(SYSTEM, omega)
    assert np.abs(found - response).max() <= 100 * EPS * np.abs(response).max()
    assert isinstance(lti.to_statespace(SYSTEM), scipy.signal.dlti)


def test_missing_feedthrough_becomes_zero():
    sys = lti.LTI(SYSTEM.A, SYSTEM.B, SYSTEM.C)
    assert np.all(lti.to_statespace(sys, "tuple")[3] == 0)
    assert_same(lti.from_statespace(lti.to_statespace(sys)), sys)


def test_transfer_functions_are_realised():
    """(z + 0.5)/(z² − 0.9 z + 0.2): 0, 1, 1.4, …"""
    numerator, denominator = [1.0, 0.5], [1.0, -0.9, 0.2]
    systems = [scipy.signal.dlti(numerator, denominator, dt=0.1)]
    try:
        import control
    except ImportError:
        pass
    else:
        systems.append(control.TransferFunction(numerator, denominator, 0.1))
    for obj in systems:
        h = lti.impulse_response(lti.from_statespace(obj), 4)[:, 0, 0]
        assert np.abs(h - [0, 1, 1.4, 1.06]).max() <= 20 * EPS


def test_tuples_with_and_without_sampling_time():
    A, B, C, D, dt = lti.to_statespace(SYSTEM, "tuple")
    assert dt is True
    assert_same(lti.from_statespace((A, B, C, D)))
    assert_same(lti.from_statespace((A, B, C, D, 0.01)))
    assert lti.from_statespace((A, B, C, None)).D is None


def test_continuous_time_is_kept():
    A, B, C, D = -np.eye(2), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1))
    objects = [scipy.signal.lti(A, B, C, D), (A, B, C, D, 0)]
    try:
        import control
    except ImportError:
        pass
    else:
        objects += [control.StateSpace(A, B, C, D), control.StateSpace(A, B, C, D, 0)]
    for obj in objects:
        sys = lti.from_statespace(obj)
        assert sys.is_continuous
        # 1/(s + 1) twice: ∫ (2 e^{−t})² dt = 2.
        assert lti.h2_norm(obj) == pytest.approx(2**0.5, rel=1e-14)
        for library in ("scipy", "tuple", *({"control"} if len(objects) > 2 else ())):
            again = lti.from_statespace(lti.to_statespace(sys, library))
            assert again.is_continuous
            assert np.array_equal(again.A, sys.A)


def test_complex_systems_are_not_cut_to_real_ones():
    sys = lti.LTI(lti.Diagonal([0.5j]), [[1j]], [[1.0]])
    assert_same(lti.from_statespace(lti.to_statespace(sys)), sys)
    pytest.importorskip("control")
    with pytest.raises(lti.DtypeError, match="python-control holds real systems"):
        lti.to_statespace(sys, "control")


def test_gains_of_other_libraries():
    B, C = np.zeros((0, 1)), np.zeros((1, 0))
    gains = [scipy.signal.dlti(3.0, 1.0), (np.zeros((0, 0)), B, C, 3)]
    gains += [(A, B, C, 3, None) for A in (np.zeros((0, 0)), lti.Diagonal([]))]
    try:
        import control
    except ImportError:
        pass
    else:
        gains += [control.ss([], [], [], 3.0), control.tf(3.0, 1.0)]  # no time base: dt is None
    for gain in gains:
        assert lti.h2_norm(gain) == 3.0


def test_arrays_of_no_shape_are_refused_before_time_that_is_left_open():
    with pytest.raises(lti.ShapeError, match="C is not a rectangular array"):
        lti.from_statespace(([[0.5]], [[1.0]], [[1.0], [1.0, 2.0]], 0, None))


def test_what_is_no_system_is_refused():
    with pytest.raises(lti.ArgumentError, match=r"obj \(dict\) is not a system"):
        lti.from_statespace({})
    with pytest.raises(lti.ArgumentError, match="a tuple of 2, which is not a system"):
        lti.from_statespace((np.eye(2), np.eye(2)))
    with pytest.raises(lti.ArgumentError, match="library='matlab'"):
        lti.to_statespace(SYSTEM, "matlab")
    with pytest.raises(lti.ShapeError, match="one by one"):
        lti.to_statespace(build_system(np.random.default_rng(0), "dense", batch=(2,)))
