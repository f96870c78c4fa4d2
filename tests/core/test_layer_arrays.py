"""Systems from the arrays of published layers against their recurrences in complex arithmetic."""

import numpy as np
import pytest

import lticore as lti

RNG = np.random.default_rng(0)
U = RNG.normal(size=(25, 2))


def cnormal(*shape):
    return RNG.normal(size=shape) + 1j * RNG.normal(size=shape)


DISCRETE = np.array([0.9, 0.5, 0.0, 0.99, 0.7]) * np.exp(1j * np.array([0.3, -2.0, 0, 3.1, np.pi]))
CONTINUOUS = -np.array([0.5, 1.0, 0.2, 2.0, 0.1]) + 1j * np.array([3.0, -1.0, 0.0, 40.0, 7.0])
B, C, D = cnormal(5, 2), cnormal(2, 5), RNG.normal(size=2)
STEP = np.array([0.1, 0.5, 0.3, 0.01, 0.2])


def answer(poles, b, c, D, u, gain=1.0):
    z, outputs = np.zeros(len(poles), dtype=complex), []
    for step in u:
        z = poles * z + b @ step
        outputs.append(gain * (c @ z).real + D * step)
    return np.array(outputs)


def sampled(poles, step, sampling):
    if sampling == "zoh":
        return np.exp(poles * step), (np.exp(poles * step) - 1) / poles
    gap = 1 - poles * step / 2
    return (1 + poles * step / 2) / gap, step / gap


def check(sys, expected, u=U):
    assert isinstance(sys.A, lti.Rotation)
    assert sys.B.dtype == sys.C.dtype == np.float64
    np.testing.assert_allclose(
        lti.simulate(sys, u, timing="current"), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("gamma", [None, np.array([0.1, 0.5, 1.0, 0.2, 3.0])])
def test_lru(gamma):
    b = B if gamma is None else gamma[:, None] * B
    expected = answer(DISCRETE, b, C, D, U)
    check(lti.from_lru(DISCRETE, B, C, D, gamma=gamma), expected)
    check(lti.from_lru(DISCRETE, B, C, np.diag(D), gamma=gamma), expected)
    check(lti.from_lru(DISCRETE, B, C, gamma=gamma), expected - U * D)


@pytest.mark.parametrize("sampling", ["zoh", "bilinear"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("step", [STEP, 0.05])
def test_s5(sampling, symmetric, step):
    poles, scale = sampled(CONTINUOUS, step, sampling)
    gain = 2.0 if symmetric else 1.0
    expected = answer(poles, scale[:, None] * B, C, D, U, gain)
    options = {"sampling": sampling, "conjugate_symmetric": symmetric}
    check(lti.from_s5(CONTINUOUS, B, C, D, step=step, **options), expected)
    # Sampled arrays, where no step is given.
    check(lti.from_s5(poles, scale[:, None] * B, C, D, **options), expected)


@pytest.mark.parametrize("sampling", ["zoh", "bilinear"])
@pytest.mark.parametrize("shared", [True, False])
def test_s4d(sampling, shared):
    h = 3
    poles = CONTINUOUS if shared else CONTINUOUS * np.array([[1.0], [0.5], [2.0]])
    c, b, D, step = cnormal(h, 5), cnormal(h, 5), RNG.normal(size=h), np.array([0.1, 0.02, 0.3])
    sys = lti.from_s4d(poles, c, D, B=b, step=step, sampling=sampling)
    assert sys.batch_shape == (h,)
    ones = lti.from_s4d(poles, c, step=0.1, sampling=sampling)
    for i, own in enumerate(np.broadcast_to(poles, (h, 5))):
        u = RNG.normal(size=(25, 1))
        z, scale = sampled(own, step[i], sampling)
        expected = answer(z, (scale * b[i])[:, None], c[i][None], D[i], u, 2.0)
        check(sys[i], expected, u)
        z, scale = sampled(own, 0.1, sampling)
        expected = answer(z, scale[:, None], c[i][None], 0.0, u, 2.0)
        check(ones[i], expected, u)


def test_integrators_are_held():
    """λ = 0: b̄ = Δ b."""
    sys = lti.from_s5([0.0 + 0j], [[1.0]], [[1.0]], step=0.25)
    assert sys.B.tolist() == [[0.25], [0.0]]
    assert sys.A.radius.tolist() == [1.0]


def test_reduction_of_a_foreign_layer_obeys_its_bound():
    sys = lti.from_lru(DISCRETE, B, C, D)
    reduction = lti.balanced_truncation(sys, order=4)
    error = lti.frequency_response(sys, np.linspace(0, np.pi, 200)) - lti.frequency_response(
        reduction.system, np.linspace(0, np.pi, 200)
    )
    assert np.linalg.norm(error, 2, axis=(-2, -1)).max() <= reduction.error_bound * (1 + 1e-9)


S4 = (CONTINUOUS, C)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: lti.from_lru(DISCRETE, B[:4], C), lti.ShapeError, "5 poles need B"),
        (lambda: lti.from_lru(DISCRETE, B, C[:, :4]), lti.ShapeError, "5 poles need B"),
        (lambda: lti.from_lru(DISCRETE, B, C, D[:1]), lti.ShapeError, "D"),
        (lambda: lti.from_lru(DISCRETE, B, C, gamma=np.ones(4)), lti.ShapeError, "gamma"),
        (lambda: lti.from_lru(DISCRETE * np.nan, B, C), lti.NonFiniteError, "poles"),
        (lambda: lti.from_s5(CONTINUOUS, B, C, step=STEP[:3]), lti.ShapeError, "step has shape"),
        (lambda: lti.from_s5(CONTINUOUS, B, C, step=np.log(STEP)), lti.ArgumentError, "exp"),
        (lambda: lti.from_s5(CONTINUOUS, B, C, step=1.0, sampling="x"), lti.ArgumentError, "'x'"),
        (lambda: lti.from_s4d(*S4, step=np.ones(3)), lti.ShapeError, "step has shape"),
        (lambda: lti.from_s4d(*S4, step=np.ones((1, 2))), lti.ShapeError, "step has shape"),
        (lambda: lti.from_s4d(*S4, step=-1.0), lti.ArgumentError, "positive"),
        (lambda: lti.from_s4d(*S4, B=np.ones(4)), lti.ShapeError, "B has shape"),
        (lambda: lti.from_s4d(CONTINUOUS[:4], C), lti.ShapeError, "poles has shape"),
        (lambda: lti.from_s4d(CONTINUOUS, C[0]), lti.ShapeError, "C"),
        (lambda: lti.from_s4d(*S4, np.ones(3)), lti.ShapeError, "D"),
    ],
)
def test_bad_arrays(build, error, message):
    with pytest.raises(error, match=message):
        build()
