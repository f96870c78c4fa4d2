"""The same systems on arrays of any library, and what goes with them."""

import numpy as np

import lticore as lti


def rotation(xp, batch=()):
    rng = np.random.default_rng(0)
    q, k, m, p = 5, 2, 3, 2
    n = 2 * q + k
    arrays = (
        rng.uniform(0.3, 0.99, (*batch, q)),
        rng.uniform(0, np.pi, (*batch, q)),
        rng.uniform(-0.9, 0.9, (*batch, k)),
        rng.normal(size=(*batch, n, m)),
        rng.normal(size=(*batch, p, n)),
        rng.normal(size=(*batch, p, m)),
    )
    radius, angle, real_poles, B, C, D = map(xp.asarray, arrays)
    return lti.LTI(lti.Rotation(radius, angle, real_poles), B, C, D)


def diagonal(xp, batch=()):
    sys = lti.diagonalize(rotation(np, batch))
    return lti.LTI(lti.Diagonal(xp.asarray(sys.A.poles)), *map(xp.asarray, (sys.B, sys.C, sys.D)))


def dense(xp, batch=()):
    sys = rotation(np, batch).to_dense()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(sys.order, sys.order)))[0]
    arrays = (turn @ sys.A @ turn.T, turn @ sys.B, sys.C @ turn.T, sys.D)
    return lti.LTI(*map(xp.asarray, arrays))


def many_states(xp, batch=()):
    """Enough of them for the factors without Gramians."""
    rng = np.random.default_rng(2)
    n = 1100
    poles = rng.uniform(0.3, 0.99, (*batch, n)) * np.exp(1j * rng.uniform(-3, 3, (*batch, n)))
    B, C = rng.normal(size=(*batch, n, 2)), rng.normal(size=(*batch, 1, n))
    return lti.LTI(lti.Diagonal(xp.asarray(poles)), xp.asarray(B), xp.asarray(C))


def quadratic(xp, sys):
    """The system with a form of rank 2 in each output, and without feedthrough."""
    rng = np.random.default_rng(5)
    V = rng.normal(size=(sys.outputs, sys.order, 2))
    s = rng.normal(size=(sys.outputs, 2))
    return lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, (xp.asarray(V), xp.asarray(s)))


def right_side(xp, sys):
    shape = (*sys.batch_shape, sys.order, sys.order)
    return xp.asarray(np.random.default_rng(3).normal(size=shape))


def signal(xp, sys):
    shape = (*sys.batch_shape, 40, sys.inputs)
    return xp.asarray(np.random.default_rng(4).normal(size=shape))


def left_of_axis(xp, A):
    """A − 2 I, of the same kind."""
    if isinstance(A, lti.Diagonal):
        return lti.Diagonal(A.poles - 2)
    if isinstance(A, lti.Rotation):
        c, s = A.entries
        return lti.Oscillation(2 - c, s, A.real_poles - 2)
    return A - 2 * xp.eye(A.shape[-1], dtype=A.dtype)
