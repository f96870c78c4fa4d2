"""Random continuous-time systems."""

import numpy as np

import lticore as lti

KINDS = ("diagonal", "complex diagonal", "oscillation", "rotation", "dense", "complex dense")


def state_matrix(rng, kind, n=7, batch=()):
    """Poles with real parts from −3 to −0.1."""
    if kind == "diagonal":
        return lti.Diagonal(-rng.uniform(0.1, 3, (*batch, n)))
    if kind == "complex diagonal":
        return lti.Diagonal(
            -rng.uniform(0.1, 3, (*batch, n)) + 1j * rng.standard_normal((*batch, n))
        )
    q = n // 2
    real = -rng.uniform(0.1, 3, (*batch, n - 2 * q))
    decay, frequency = rng.uniform(0.1, 3, (*batch, q)), rng.uniform(0, 9, (*batch, q))
    if kind == "oscillation":
        return lti.Oscillation(decay, frequency, real)
    if kind == "rotation":
        return lti.Rotation(np.hypot(decay, frequency), np.arctan2(frequency, -decay), real)
    G = rng.standard_normal((*batch, n, n))
    if kind == "complex dense":
        G = G + 1j * rng.standard_normal(G.shape)
    growth = np.linalg.eigvals(G).real.max(axis=-1)
    return G - (growth + 0.2)[..., None, None] * np.eye(n)


def system(rng, kind, n=7, m=2, p=3, batch=(), D=None):
    B, C = rng.standard_normal((*batch, n, m)), rng.standard_normal((*batch, p, n))
    return lti.LTI(state_matrix(rng, kind, n, batch), B, C, D, dt=0)
