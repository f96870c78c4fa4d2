"""Poles and factors of the inputs by the rules of sampling, against exact values."""

import math

import held
import torch

from lticore_torch.layers.base import LOG_LIMIT, SMALLEST_GAP
from lticore_torch.layers.sampled import sampled_zoh


def test_held_inputs_and_their_slopes():
    held.assert_exact(sampled_zoh, curvature=True)


def test_inputs_of_the_slowest_poles():
    """Their radius stays below 1; their input is that of an integrator, Δ."""
    step = torch.tensor([1e-6, 1e-3, 1.0], dtype=torch.float64)
    radius, _, s = sampled_zoh(1e-4 * SMALLEST_GAP / step, torch.zeros_like(step), step)
    assert (radius < 1).all()
    torch.testing.assert_close(s, step.to(s.dtype), rtol=2 * SMALLEST_GAP, atol=0)


def test_the_slowest_and_the_fastest_poles_have_finite_slopes():
    limits = torch.tensor([1e-200, math.exp(-LOG_LIMIT), math.exp(LOG_LIMIT)], dtype=torch.float64)
    decay, frequency, step = torch.meshgrid(limits, limits, limits[1:], indexing="ij")
    arguments = [x.clone().requires_grad_() for x in (decay, frequency, step)]
    radius, angle, s = sampled_zoh(*arguments)
    for part in (radius, angle, s.real, s.imag):
        slopes = torch.autograd.grad(
            part.sum(), arguments, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        assert all(torch.isfinite(x).all() for x in slopes)
