"""Inputs held over a step: what they weigh in the sampled system, exactly."""

from __future__ import annotations

import mpmath
import torch
from oracles import EPS

#: (decay Δ, frequency Δ): next to 0, around |λΔ| = 1 where the formula changes, beyond the half
#: turn, next to a whole turn, and fast decays. Enough of them to fill vector registers.
EXPONENTS = [
    *((x, y) for x in (1e-12, 3e-9, 1e-4, 0.0034, 0.2) for y in (0.0, 1e-12, 1e-5, 0.011, 0.3)),
    *((0.999, 0.0), (1.001, 0.0), (0.6, 0.799), (0.6, 0.801), (1e-3, 0.999), (1e-3, 1.001)),
    *((1e-3, 2.0), (0.1, 3.1), (1e-6, 5.0), (0.01, 6.2), (0.3, 40.0), (7.0, 2.0), (40.0, 0.5)),
]


def modes():
    """(decay, frequency, step) in float64; steps are powers of two, so that products with them are
    exact."""
    x, y = torch.tensor(EXPONENTS, dtype=torch.float64).unbind(1)
    step = 2.0 ** -(torch.arange(len(x)) % 12).double()
    return x / step, y / step, step


def assert_exact(run, curvature=False):
    """s, its slopes and, if that is asked for, its curvature over the decay."""
    decay, frequency, step = (x.requires_grad_() for x in modes())
    s = run(decay, frequency, step)[2]
    slopes = _by((decay, frequency, step), s, create_graph=curvature)
    found = {"s": s, **dict(zip(("decay", "frequency", "step"), slopes, strict=True))}
    if curvature:
        (found["curvature"],) = _by((decay,), slopes[0])
    rows = zip(decay.tolist(), frequency.tolist(), step.tolist(), strict=True)
    for mode, exact in enumerate(_exact(*row) for row in rows):
        for name, x in found.items():
            value, condition = exact[name]
            error = abs(mpmath.mpc(x[mode].item()) - value) / abs(value)
            # Of some ten operations the last ones count in full, the others by small factors.
            assert error <= 4 * EPS * condition, f"{name} of {EXPONENTS[mode]}: {float(error)}"


def _by(variables, value, **options):
    """Complex derivatives; each entry of ``value`` depends on one entry of each variable."""
    real, imag = (
        torch.autograd.grad(part.sum(), variables, retain_graph=True, **options)
        for part in (value.real, value.imag)
    )
    return [torch.complex(*parts) for parts in zip(real, imag, strict=True)]


def _exact(decay, frequency, step):
    """Name → (value, condition). The condition of a formula that subtracts is the sum of the sizes
    of its terms over that of their sum; next to λΔ = 0, and where nothing is subtracted, 1."""
    with mpmath.workdps(60):
        rate = mpmath.mpc(-decay, -frequency)
        z = rate * step
        e = mpmath.exp(z)

        def entry(*terms):
            total = mpmath.fsum(terms)
            return total, 1 if abs(z) < 1 else mpmath.fsum(map(abs, terms)) / abs(total)

        s, s_condition = entry(e, -1)
        slope, slope_condition = entry(z * e, -e, 1)
        curvature, curvature_condition = entry(z**2 * e, -2 * z * e, 2 * e, -2)
        return {
            "s": (s / rate, s_condition),
            "decay": (-slope / rate**2, slope_condition),
            "frequency": (-1j * slope / rate**2, slope_condition),
            "step": (e, 1),
            "curvature": (curvature / rate**3, curvature_condition),
        }
