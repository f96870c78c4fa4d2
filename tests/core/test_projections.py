"""What ``left`` and ``right`` of a reduction promise: (Wᴴ A V, Wᴴ B, C V, D), Wᴴ V = I."""

import warnings

import numpy as np
import pytest
from oracles import EPS, adjoint, dense
from strategies import STRUCTURES, build_system

import lticore as lti

METHODS = {
    "balanced": lambda sys: lti.balanced_truncation(sys, order=4),
    "balanced over a horizon": lambda sys: lti.balanced_truncation(sys, order=4, horizon=30),
    "modal": lambda sys: lti.modal_truncation(sys, 4),
    "modal by magnitude": lambda sys: lti.modal_truncation(sys, 4, score="magnitude"),
}


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("method", METHODS)
def test_the_reduced_system_is_the_projection(method, structure, batch):
    rng = np.random.default_rng(2)
    sys = build_system(rng, structure, batch=batch, n=6, feedthrough=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        reduction = METHODS[method](sys)
    W, V, reduced = adjoint(reduction.left), reduction.right, reduction.system
    A, A_r = dense(sys.A), dense(reduced.A)
    # The condition of the projection, and that of the eigenvectors for the modal forms.
    scale = np.linalg.norm(W, axis=(-2, -1)).max() * np.linalg.norm(V, axis=(-2, -1)).max()
    tolerance = 100 * EPS * scale * max(1, np.linalg.norm(A, axis=(-2, -1)).max())
    assert np.abs(W @ V - np.eye(reduction.order)).max() <= tolerance
    assert np.abs(W @ A @ V - A_r).max() <= tolerance
    assert np.abs(W @ sys.B - reduced.B).max() <= tolerance * np.abs(sys.B).max()
    assert np.abs(sys.C @ V - reduced.C).max() <= tolerance * np.abs(sys.C).max()
    assert np.array_equal(reduced.D, sys.D)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda sys: lti.balanced_truncation(sys, order=4, match_dc=True),
        lambda sys: lti.balanced_truncation(sys, order=4, unstable="keep"),
        lambda sys: lti.h2_reduction(sys, 4, starts=0),
        lambda sys: lti.complex_balanced_truncation(sys, order=4),
    ],
    ids=["match_dc", "keep", "h2", "complex"],
)
def test_what_is_no_projection_of_the_states_promises_none(reduce):
    """``keep`` of a stable system is plain truncation."""
    sys = build_system(np.random.default_rng(5), "rotation", n=6)
    reduction = reduce(sys)
    if reduction.left is not None:
        W, V = adjoint(reduction.left), reduction.right
        assert np.abs(W @ dense(sys.A) @ V - dense(reduction.system.A)).max() <= 1e-13
    assert (reduction.left is None) == (reduction.right is None)


def test_the_adjoint_equation_of_arrays():
    """As the documentation of ``solve_stein`` has it."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 3, 3)) / 4 + 1j * rng.standard_normal((2, 3, 3)) / 4
    G = rng.standard_normal((3, 3))
    Y = lti.solve_stein(A.conj().mT, G, B.conj().mT)
    assert np.abs(A.conj().T @ Y @ B - Y + G).max() <= 1e-14 * np.abs(Y).max()
