"""Systems at the doors: every public function of systems, and every kind of system."""

import re
from types import SimpleNamespace

import array_api_strict
import control
import numpy as np
import pytest
import scipy.signal
import scipy.sparse
from doors import (
    DISCRETE,
    OMEGA,
    OTHER,
    QUADRATIC,
    SYSTEM_ROWS,
    U,
    Y,
    arrays_of,
    assert_same,
    name_in,
    outcome,
)

import lticore as lti

RNG = np.random.default_rng(0)
ROTATION = lti.Rotation([0.9, 0.5], [0.4, 2.0])
A = ROTATION.to_dense()
B, C, D = (RNG.standard_normal(shape) for shape in ((4, 2), (2, 4), (2, 2)))
#: Objects of other libraries hold copies of the arrays: the same numbers, which may lie differently
#: and so meet other paths of BLAS.
RTOL = 1e-12


# --- what is taken ----------------------------------------------------------------------------

SYSTEMS = {
    "tuple": (A, B, C, D),
    "list": [A, B, C, D],
    "tuple of lists": (A.tolist(), B.tolist(), C.tolist(), D.tolist()),
    "discrete tuple": (A, B, C, D, True),
    "sampled tuple": (A, B, C, D, 0.1),
    "tuple of NumPy's True": (A, B, C, D, np.True_),
    "control, discrete": control.ss(A, B, C, D, True),
    "control, sampled": control.ss(A, B, C, D, 0.1),
    "scipy, discrete": scipy.signal.dlti(A, B, C, D),
    "scipy, sampled": scipy.signal.StateSpace(A, B, C, D, dt=0.1),
    "object": SimpleNamespace(A=A, B=B, C=C, D=D, dt=np.float32(0.5)),
}


@pytest.fixture(scope="module")
def expected():
    """What the rows give for the system itself."""
    return {name: outcome(row, lti.LTI(A, B, C, D), 2) for name, row in SYSTEM_ROWS.items()}


@pytest.mark.parametrize("kind", SYSTEMS)
@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_systems_of_all_kinds_give_the_same(row, kind, expected):
    assert_same(outcome(SYSTEM_ROWS[row], SYSTEMS[kind], 2), expected[row], RTOL)


@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_tuples_without_feedthrough_and_with_structure(row):
    sys = lti.LTI(ROTATION, B, C)
    found = arrays_of(SYSTEM_ROWS[row](sys, 2))
    for given in ((ROTATION, B, C), (ROTATION, B, C, None), [ROTATION, B, C, 0, 1]):
        assert_same(arrays_of(SYSTEM_ROWS[row](given, 2)), found, 0)


@pytest.mark.parametrize("kind", ["control", "scipy", "scipy zpk"])
@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_transfer_functions_are_realised(row, kind):
    num, den = [1.0, 0.5], [1.0, -0.9, 0.2]
    transfer_function = {
        "control": lambda: control.tf(num, den, True),
        "scipy": lambda: scipy.signal.TransferFunction(num, den, dt=True),
        "scipy zpk": lambda: scipy.signal.dlti(num, den).to_zpk(),
    }[kind]()
    expected = outcome(SYSTEM_ROWS[row], lti.from_statespace(transfer_function), 1)
    assert_same(outcome(SYSTEM_ROWS[row], transfer_function, 1), expected, RTOL)


# --- quadratic outputs ------------------------------------------------------------------------


@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_quadratic_outputs(row):
    """Taken, with forms of zero as the linear system they are, or refused by name."""
    quadratic = lti.QuadraticOutputLTI(A, B, C, np.zeros((2, 4, 4)))
    if row not in QUADRATIC:
        with pytest.raises(lti.ArgumentError, match=r"QuadraticOutputLTI .*\.linear"):
            SYSTEM_ROWS[row](quadratic, 2)
        return
    found, linear = (arrays_of(SYSTEM_ROWS[row](sys, 2)) for sys in (quadratic, lti.LTI(A, B, C)))
    if row.endswith(("truncation", "reduction")):
        # Other methods, to other states of the same system: singular values and the error remain.
        found, linear = found[-2:], linear[-2:]
    assert_same(found, linear, 1e-8)


# --- what is refused --------------------------------------------------------------------------


class Layer:
    def to_lti(self):
        return OTHER


CONTINUOUS = r"is a continuous-time system(: sample it first, .* lticore\.discretize| already)"
REFUSED = {
    "layer": (Layer(), r" \(Layer\) is a layer .*layer\.to_lti\(\)"),
    "torch module": (
        type("Linear", (), {"__module__": "torch.nn.modules.linear"})(),
        r" \(Linear\) is a torch module .*layer\.to_lti\(\)",
    ),
    "array": (A, r" \(ndarray\) is an array .*LTI\(A, B, C\)"),
    "array of another library": (array_api_strict.asarray(A), r" \(Array\) is an array"),
    "number": (np.float64(0.5), r" \(float64\) is an array"),
    "state matrix": (ROTATION, r" \(Rotation\) is a state matrix"),
    "reduction": (
        lti.Reduction(OTHER, 2, None, None, None),
        r" \(Reduction\) holds a system: pass its \.system",
    ),
    "sparse": (scipy.sparse.csr_array(A), r" \(csr_array\) is not a system"),
    "None": (None, r" \(NoneType\) is not a system: pass an LTI, a tuple \(A, B, C\)"),
    "text": ("sys", r" \(str\) is not a system"),
    "no time": (
        SimpleNamespace(A=A, B=B, C=C, D=D),
        r" \(SimpleNamespace\) has no dt",
    ),
    "two arrays": ((A, B), " is a tuple of 2, which is not a system"),
    "three systems": ([OTHER, OTHER, OTHER], " is a list of systems"),
    "open, control": (control.ss(A, B, C, D, None), r" \(StateSpace\) leaves open .*dt=True"),
    "open, tuple": ((A, B, C, D, None), r" \(tuple\) leaves open whether its time is discrete"),
    "negative step": ((A, B, C, D, -0.1), r" \(tuple\) has dt = -0\.1, which is neither"),
    "step that is no number": ((A, B, C, D, "s"), r" \(tuple\) has dt = 's', which is neither"),
    "step that is NaN": ((A, B, C, D, np.nan), r" \(tuple\) has dt = nan, which is neither"),
    "data": (control.frd([1, 2], [1, 2]), r" \(FrequencyResponseData\) has no state space: Can't"),
    "improper": (
        scipy.signal.dlti([1, 2, 3], [1, 2]),
        r" \(TransferFunctionDiscrete\) has no state space: a numerator of degree 2 .* not proper$",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_what_is_no_system_is_refused(row, kind):
    obj, message = REFUSED[kind]
    with pytest.raises(lti.ArgumentError, match=f"^{re.escape(name_in(row))}{message}"):
        SYSTEM_ROWS[row](obj, 2)


#: Continuous-time systems of other libraries, and tuples.
STABLE = A - np.eye(4)
CONTINUOUS_SYSTEMS = {
    "control": control.ss(STABLE, B, C, 0 * D),
    "scipy": scipy.signal.lti(STABLE, B, C, 0 * D),
    "tuple": (STABLE, B, C, 0 * D, 0),
}


@pytest.mark.parametrize("kind", CONTINUOUS_SYSTEMS)
@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_continuous_time_is_taken_or_refused_by_name(row, kind):
    obj = CONTINUOUS_SYSTEMS[kind]
    if row in DISCRETE:
        message = rf"^{re.escape(name_in(row))} \(\w+\) {CONTINUOUS}"
        with pytest.raises(lti.ArgumentError, match=message):
            SYSTEM_ROWS[row](obj, 2)
    elif "OTHER" in row or "error" in row or row.startswith("output_shift"):
        with pytest.raises(lti.ArgumentError, match=r"dt = (True|0\.0) and dt = (True|0\.0)"):
            SYSTEM_ROWS[row](obj, 2)
    else:
        found = outcome(SYSTEM_ROWS[row], obj, 2)
        assert_same(found, outcome(SYSTEM_ROWS[row], lti.LTI(STABLE, B, C, 0 * D, dt=0), 2), RTOL)


@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_arrays_in_tuples_are_checked_as_those_of_systems(row):
    with pytest.raises(lti.NonFiniteError, match=r"^A contains NaN"):
        SYSTEM_ROWS[row]((A + np.nan, B, C), 2)
    with pytest.raises(lti.ShapeError, match=r"^B has shape \(4,\), but A has 4 states"):
        SYSTEM_ROWS[row]((A, B[:, 0], C), 2)


# --- no states --------------------------------------------------------------------------------

GAIN = np.array([[3.0, 0.0], [0.0, 4.0]])
_GAPS = 1 - np.outer(OTHER.A.poles, OTHER.A.poles)
_P, _Q = (OTHER.B @ OTHER.B.T) / _GAPS, (OTHER.C.T @ OTHER.C) / _GAPS
#: ‖H‖²_h2 of OTHER: Σ_ij (b_i·b_j)(c_i·c_j)/(1 − λ_i λ_j) over its two modes.
_OTHER_SQUARED = np.sum(_P * (OTHER.C.T @ OTHER.C))
_OTHER_HANKEL = np.sqrt(np.linalg.eigvals(_P @ _Q).max())
#: The gain of GAIN − H is largest at z = −1.
_OTHER_PEAK = np.linalg.norm(GAIN + OTHER.C / (1 + OTHER.A.poles) @ OTHER.B, 2)


def none(*shape):
    return np.zeros(shape)


def gain_values(A):
    """What the rows give for y = D u, with the state matrix A of order 0 that it has."""
    states = [*lti.systems.structure.parameters(A), none(0, 2), none(2, 0)]
    system = [*states, GAIN]
    error = np.sqrt(25 + _OTHER_SQUARED)
    fit = np.linalg.norm(Y - U @ GAIN) / np.linalg.norm(Y)
    itself = [*system, none(0), none()]
    rotation = [none(0)] * 3
    dense = [none(0, 0), *system[-3:]]
    return {
        "controllability_gramian": [none(0, 0)],
        "observability_gramian": [none(0, 0)],
        "gramian_factors": [none(0, 0)] * 2,
        "data_gramians": [none(0, 0)] * 2,
        "weighted_gramians": [none(0, 0)] * 2,
        "band_gramians": [none(0, 0)] * 2,
        "hankel_singular_values": [none(0)],
        "hankel_sum": [none()],
        "hankel_sum_and_gradient": [none(), *states],
        "hankel_norm": [none()],
        "h2_norm": [5.0],
        "h2_error": [error],
        "h2_error, reduced": [error],
        "hinf_norm": [4.0],
        "hinf_error": [_OTHER_PEAK],
        "hinf_error, reduced": [_OTHER_PEAK],
        "hankel_error": [_OTHER_HANKEL],
        "hankel_error, reduced": [_OTHER_HANKEL],
        "feedback": [none(0, 0), none(0, 2), none(2, 0), np.diag([24 / 11, 8 / 3])],
        "output_shift": [none(2)],
        "output_shift, reduced": [none(2)],
        "frequency_response": [np.stack([GAIN] * len(OMEGA)).astype(complex)],
        "impulse_response": [np.stack([GAIN, *[none(2, 2)] * 3])],
        "step_response": [np.stack([GAIN] * 4)],
        "simulate": [U @ GAIN],
        "balanced_truncation": itself,
        "complex_balanced_truncation": [*rotation, *system[-3:], 0, none(0), none(), none(), ()],
        "modal_truncation": [*system, 0, none(0), none(), none(), none(0, 0), none(0, 0)],
        "h2_reduction": itself,
        "minimal_realization": [*system, 0, none(0), none(), none(), none(0, 0), none(0, 0)],
        "refit_outputs": [*system, fit, fit, 0, 0.0, len(U)],
        "allocate_modal_orders": [0],
        "diagonalize": [none(0), *system[-3:]],
        "to_rotation": [*rotation, *system[-3:]],
        "eigenvector_condition": [1.0],
        "well_conditioned": [*system, 1.0, 0.0, 0.0],
        "to_continuous": system,
        "from_statespace": system,
        "to_statespace": dense,
        "certificate.system_lipschitz": [4 * (1 + 2e-8)],
    }


@pytest.mark.parametrize("row", SYSTEM_ROWS)
@pytest.mark.parametrize(
    "A",
    [np.zeros((0, 0)), lti.Diagonal([]), lti.Rotation([], [])],
    ids=["dense", "diagonal", "rotation"],
)
def test_gains_are_systems(row, A):
    sys = lti.LTI(A, none(0, 2), none(2, 0), GAIN)
    if row.startswith("complex") and not isinstance(A, lti.Rotation):
        with pytest.raises(lti.ArgumentError, match="the complex half exists for"):
            SYSTEM_ROWS[row](sys, 0)
        return
    found, expected = arrays_of(SYSTEM_ROWS[row](sys, 0)), arrays_of(gain_values(A)[row])
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


CONTINUOUS_GAINS = [np.zeros((0, 0)), lti.Diagonal([]), lti.Oscillation([], [])]
#: Of these an impulse passes D as it is, and has no square; the impulse itself is left out.
OTHERWISE = {"h2_norm": lti.ArgumentError, "impulse_response": [none(4, 2, 2)]}


@pytest.mark.parametrize("row", sorted(set(SYSTEM_ROWS) - DISCRETE))
@pytest.mark.parametrize("A", CONTINUOUS_GAINS, ids=["dense", "diagonal", "oscillation"])
def test_gains_are_systems_in_continuous_time(row, A):
    sys = lti.LTI(A, none(0, 2), none(2, 0), GAIN, dt=0)
    found = outcome(SYSTEM_ROWS[row], sys, 0)
    half = row.startswith("complex") and not isinstance(A, lti.Oscillation)
    if "error" in row or "shift" in row or half:
        # OTHER is in discrete time, and these have no complex half.
        assert found[0] is lti.ArgumentError
        return
    expected = OTHERWISE.get(row, gain_values(A).get(row))
    if isinstance(expected, type):
        assert found[0] is expected
        return
    found, expected = arrays_of(found), arrays_of(expected)
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


# --- no systems -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 4])
@pytest.mark.parametrize("row", SYSTEM_ROWS)
def test_batches_of_no_systems(row, order):
    """Quantities of no systems are no quantities; what needs a system says so."""
    rotation = lti.Rotation(none(0, order // 2), np.ones(order // 2))
    for A in (rotation,) if row.startswith("complex") else (rotation, rotation.to_dense()):
        found = outcome(SYSTEM_ROWS[row], lti.LTI(A, B[:order], C[:, :order], D), order // 2)
        if isinstance(found, tuple):
            assert found[0] is lti.ShapeError
            assert "batch" in found[1]
        else:
            assert all(x.shape[0] == 0 for x in found if x.ndim)
