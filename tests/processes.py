"""What the processes of test_processes.py compute: right, or how wrong it is."""

import hashlib
import os

import numpy as np

import lticore as lti
from lticore.internal import one_thread

__all__ = ["LARGE", "SMALL", "call", "difference", "digest", "large_recurrence", "np", "os"]


def _verdict(found, expected):
    error = np.abs(found - expected).max() / np.abs(expected).max()
    return "right" if error <= 1e-13 else f"wrong by {error}"


def _decoupled(n):
    """Diagonal A and B = C = I: P = Q = (I − A²)⁻¹."""
    poles = np.linspace(-0.9, 0.8, n)
    sigma = lti.hankel_singular_values(lti.LTI(lti.Diagonal(poles), np.eye(n), np.eye(n)))
    return _verdict(sigma, np.sort(1 / (1 - poles**2))[::-1])


def _repeated(n):
    """n/3 copies of each of three states that together are one system of three states."""
    poles = np.array([0.9, 0.5, -0.7])
    many, c = np.repeat(poles, n // 3), np.full((1, n), np.sqrt(3 / n))
    found = lti.hankel_singular_values(lti.LTI(lti.Diagonal(many), c.T, c))
    P = 1 / (1 - np.outer(poles, poles))  # symmetric and positive definite, and equal to Q
    expected = np.zeros(n)
    expected[:3] = np.linalg.eigvalsh(P)[::-1]
    return _verdict(found, expected)


def _recurrence(length, n):
    """x_k = x_{k−1}/2 + 1 from zero is 2 − 2^{−k}."""
    found = lti.linear_recurrence(np.full(n, 0.5), np.ones((length, n)))
    return _verdict(found, np.tile(2 - 0.5 ** np.arange(length)[:, None], n))


def small_values():
    return _decoupled(60)


def small_elimination():
    return _repeated(1200)


def small_recurrence():
    return _recurrence(100, 16)


def large_values():
    return _decoupled(300)


def large_elimination():
    return _repeated(24_000)


def large_recurrence():
    return _recurrence(1000, 300)


SMALL = (small_values, small_elimination, small_recurrence)
LARGE = (large_values, large_elimination, large_recurrence)


def call(work):
    return work()


def _of_random_systems():
    """What parallel kernels give for random numbers."""
    rng = np.random.default_rng(0)
    q, n = 150, 20_000
    A = lti.Rotation(rng.uniform(0.5, 0.99, q), rng.uniform(0, 3, q), rng.uniform(-0.9, 0.9, 10))
    sys = lti.LTI(A, rng.standard_normal((310, 2)), rng.standard_normal((3, 310)))
    value, gradient = lti.hankel_sum_and_gradient(sys)
    many = lti.Diagonal(rng.uniform(0.9, 0.99, n) * np.exp(1j * rng.uniform(0, 3, n)))
    R, S = lti.gramian_factors(
        lti.LTI(many, rng.standard_normal((n, 2)), rng.standard_normal((1, n))), max_rank=20
    )
    states = lti.linear_recurrence(
        many.poles[:300], rng.standard_normal((500, 300)) + 0j, reverse=True
    )
    return np.asarray(value), *gradient.A, gradient.B, gradient.C, R, S, states


def digest():
    """Of all their bits."""
    found = hashlib.sha256()
    for x in _of_random_systems():
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def difference():
    """Between one thread and many, relative to the largest entry."""
    with one_thread():
        alone = _of_random_systems()
    together = _of_random_systems()
    return max(np.abs(x - y).max() / np.abs(x).max() for x, y in zip(alone, together, strict=True))
