"""The table of launches and waits in docs/cupy.md is what the stand-in counts."""

from functools import partial
from pathlib import Path

import cupy_standin
import pytest
from device_systems import (
    dense,
    diagonal,
    left_of_axis,
    quadratic,
    right_side,
    rotation,
    signal,
)

import lticore as lti

PAGE = Path(__file__).parents[2] / "docs" / "cupy.md"
KINDS = (rotation, diagonal, dense)


def weight(xp, sys):
    """A filter of all inputs."""
    m = sys.inputs
    return lti.LTI(xp.asarray([[0.5]]), xp.ones((1, m)), xp.ones((m, 1)))


def half(xp, sys):
    return lti.LTI(sys.A, sys.B / 2, sys.C, sys.D)


def record(xp, sys):
    """Inputs and cotangents of outputs."""
    u = signal(xp, sys)
    return [(u, lti.simulate(sys, u))]


#: Function → what of xp and a system it is called with, options last.
DISCRETE = {
    "solve_stein": lambda xp, sys: (sys.A, right_side(xp, sys)),
    "controllability_gramian": lambda xp, sys: (sys,),
    "weighted_gramians": lambda xp, sys: (sys, {"input_weight": weight(xp, sys)}),
    "band_gramians": lambda xp, sys: (sys, [(0.25, 1.0)]),
    "gramian_factors": lambda xp, sys: (sys,),
    "hankel_singular_values": lambda xp, sys: (sys,),
    "hankel_sum_and_gradient": lambda xp, sys: (sys,),
    "hankel_norm": lambda xp, sys: (sys,),
    "h2_norm": lambda xp, sys: (sys,),
    "h2_error": lambda xp, sys: (sys, half(xp, sys)),
    "hinf_norm": lambda xp, sys: (sys,),
    "output_shift": lambda xp, sys: (quadratic(xp, sys), sys),
    "feedback": lambda xp, sys: (sys, xp.full((3, 2), 1e-3)),
    "frequency_response": lambda xp, sys: (sys, xp.linspace(-3, 3, 7)),
    "impulse_response": lambda xp, sys: (sys, 9),
    "simulate": lambda xp, sys: (sys, signal(xp, sys)),
    "balanced_truncation": lambda xp, sys: (sys, {"order": 3}),
    "modal_truncation": lambda xp, sys: (sys, 4),
    "h2_reduction": lambda xp, sys: (sys, 3),
    "minimal_realization": lambda xp, sys: (sys,),
    "from_impulse_response": lambda xp, sys: (lti.impulse_response(sys, 9), {"order": 3}),
    "to_continuous": lambda xp, sys: (sys, "bilinear", {"step": 0.1}),
    "data_gramians": lambda xp, sys: (sys, record(xp, sys)),
    "refit_outputs": lambda xp, sys: (sys, record(xp, sys)),
}
CONTINUOUS = {
    "solve_lyapunov": lambda xp, sys: (sys.A, right_side(xp, sys)),
    "discretize": lambda xp, sys: (sys, {"step": 0.1}),
    **{
        name: DISCRETE[name]
        for name in (
            "controllability_gramian",
            "hankel_singular_values",
            "hankel_sum_and_gradient",
            "h2_norm",
            "frequency_response",
            "balanced_truncation",
        )
    },
}


def counted(name, make, continuous):
    """Launches / waits."""
    xp, device = cupy_standin.cupy, cupy_standin.DEVICE
    sys = make(xp)
    if continuous:
        D = sys.D if name == "discretize" else None
        sys = lti.LTI(left_of_axis(xp, sys.A), sys.B, sys.C, D, dt=0)
    arguments = (CONTINUOUS if continuous else DISCRETE)[name](xp, sys)
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    call = partial(getattr(lti, name), *arguments[: len(arguments) - bool(options)], **options)
    call()  # compiles, and fills what is kept
    device.reset()
    call()
    return f"{device.launches.total()} / {device.waits.total()}"


def line(name, continuous):
    time = ", `dt=0`" if continuous and name in DISCRETE else ""
    cells = " | ".join(counted(name, make, continuous) for make in KINDS)
    return f"| `{name}`{time} | {cells} |"


ROWS = [(x, False) for x in DISCRETE] + [(x, True) for x in CONTINUOUS]


@pytest.mark.parametrize(("name", "continuous"), ROWS)
def test_the_page_says_what_is_counted(standin, name, continuous):
    assert line(name, continuous) in PAGE.read_text("utf-8").splitlines()
