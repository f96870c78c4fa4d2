"""Many states with default arguments: memory grows with the numerical rank."""

import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest

import lticore as lti
from lticore.kernels import cpu_cauchy

#: Distinct modes; each comes in many copies that together are one of it.
MODES = 32
CONTINUOUS = ("real decay", "decay", "oscillation")


def small_system(structure, dtype=np.float64):
    gap = np.geomspace(1e-3, 0.3, MODES)
    turn = gap * np.linspace(0.2, 2, MODES)
    modulus, turn, gap = np.array([1 - gap, turn, gap]).astype(dtype)
    A = {
        "diagonal": lti.Diagonal(modulus * np.exp(1j * turn)),
        "rotation": lti.Rotation(modulus, turn),
        "real decay": lti.Diagonal(-gap),
        "decay": lti.Diagonal(-gap + 1j * turn),
        "oscillation": lti.Oscillation(gap, turn),
    }[structure]
    n = len(A.poles)
    b, c = np.random.default_rng(0).uniform(0.1, 1, (2, n)).astype(dtype)
    continuous = structure in CONTINUOUS
    return lti.LTI(A, b[:, None], c[None, :], dt=0 if continuous else True)


def in_copies(sys, copies):
    """The same transfer function from ``copies`` times as many states."""
    A = sys.A
    if isinstance(A, lti.Diagonal):
        return lti.LTI(
            lti.Diagonal(np.repeat(A.poles, copies)),
            np.repeat(sys.B, copies, axis=0),
            np.repeat(sys.C / copies, copies, axis=1),
            dt=sys.dt,
        )
    pairs = np.repeat(np.arange(sys.order).reshape(-1, 2), copies, axis=0).reshape(-1)
    if isinstance(A, lti.Oscillation):
        A = lti.Oscillation(np.repeat(A.decay, copies), np.repeat(A.frequency, copies))
    else:
        A = lti.Rotation(np.repeat(A.radius, copies), np.repeat(A.angle, copies))
    return lti.LTI(A, sys.B[pairs], sys.C[:, pairs] / copies, dt=sys.dt)


def peak_of(function, *arguments, **options):
    """Result, and bytes taken at the most."""
    tracemalloc.start()
    try:
        return function(*arguments, **options), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("structure", "dtype"),
    [
        ("diagonal", np.float64),
        ("rotation", np.float32),
        ("real decay", np.float64),
        pytest.param("decay", np.float32, marks=pytest.mark.slow),
        pytest.param("oscillation", np.float64, marks=pytest.mark.slow),
    ],
)
def test_values_factors_and_truncation(structure, dtype):
    small = small_system(structure, dtype)
    copies = 100_000 // small.order
    sys = in_copies(small, copies)
    sigma = lti.hankel_singular_values(small)
    eps = np.finfo(dtype).eps
    # A factor in double precision has at most as many columns as there are states in the small one.
    factor = 16 * sys.order * small.order

    found, memory = peak_of(lti.hankel_singular_values, sys)
    assert memory < 4 * factor
    assert found.dtype == dtype
    assert np.abs(found[: small.order] - sigma).max() <= 100 * eps * sigma[0]
    assert np.abs(found[small.order :]).max() <= 100 * eps * sigma[0]

    (R, S), memory = peak_of(lti.gramian_factors, sys)
    assert memory < 6 * factor
    for X, gramian in ((R, lti.controllability_gramian), (S, lti.observability_gramian)):
        expected = gramian(small)
        # The first copy of every mode, or of every pair of states.
        width = 2 if structure in ("rotation", "oscillation") else 1
        first = np.arange(sys.order).reshape(-1, copies, width)[:, 0].reshape(-1)
        product = X[first] @ X[first].conj().T * (1 if X is R else copies**2)
        assert np.abs(product - expected).max() <= 1000 * eps * np.abs(expected).max()

    reduction, memory = peak_of(lti.balanced_truncation, sys, error=1e-3 * sigma[0])
    assert memory < 12 * factor
    assert reduction.order == lti.balanced_truncation(small, error=1e-3 * sigma[0]).order
    omega = np.linspace(-np.pi, np.pi, 101)
    error = lti.frequency_response(small, omega) - lti.frequency_response(reduction.system, omega)
    assert np.abs(error).max() <= reduction.error_bound + 1e4 * eps * sigma[0]


def test_batches():
    small = small_system("diagonal")
    sys = in_copies(small, 500)
    poles = np.stack([sys.A.poles, sys.A.poles.conj()])
    batch = lti.LTI(lti.Diagonal(poles), np.stack([sys.B, 2 * sys.B]), np.stack([sys.C, sys.C]))
    found, memory = peak_of(lti.hankel_singular_values, batch)
    sigma = lti.hankel_singular_values(small)
    assert memory < 2 * 5 * 16 * sys.order * small.order
    for row, scale in zip(found, (1, 2), strict=True):
        assert np.abs(row[:MODES] - scale * sigma).max() <= 1e-13 * sigma[0]


def test_a_rank_too_large_for_the_machine(monkeypatch):
    """The error says how many columns there were, how far they go, and what helps."""
    sys = in_copies(small_system("diagonal"), 50)
    monkeypatch.setattr(cpu_cauchy, "main_memory", lambda: 4 * 16 * sys.order * 10.0)
    for function in (lti.hankel_singular_values, lti.gramian_factors):
        with pytest.raises(lti.MemoryLimitError, match=r"more than 10 columns.*max_rank="):
            function(sys)
    with pytest.raises(lti.MemoryLimitError, match="modal_truncation"):
        lti.balanced_truncation(sys, error=1e-8)
    assert lti.hankel_singular_values(sys, max_rank=10).shape == (10,)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["diagonal", "rotation", *CONTINUOUS])
def test_a_million_states(structure):
    small = small_system(structure)
    sys = in_copies(small, 1_000_000 // small.order)
    sigma = lti.hankel_singular_values(small)
    found, memory = peak_of(lti.hankel_singular_values, sys)
    assert memory < 8e9
    assert np.abs(found[: small.order] - sigma).max() <= 1e-13 * sigma[0]
    # What is asked for is met by σ; rounding may add more where poles are complex, in as few poles
    # as in the small system.
    rounds = pytest.warns(lti.PrecisionWarning, match="rounding may add more")
    with nullcontext() if structure == "real decay" else rounds:
        expected = lti.balanced_truncation(small, error=1e-8)
        reduction, memory = peak_of(lti.balanced_truncation, sys, error=1e-8)
    assert memory < 8e9
    assert reduction.order == expected.order
    assert 2 * sigma[reduction.order :].sum() <= 1e-8
    assert reduction.error_bound == pytest.approx(expected.error_bound, rel=1e-2)
    omega = np.linspace(-np.pi, np.pi, 2001)
    error = lti.frequency_response(small, omega) - lti.frequency_response(reduction.system, omega)
    assert np.abs(error).max() <= reduction.error_bound
