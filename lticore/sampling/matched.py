"""Poles and zeros, sampled one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.namespaces import is_numpy
from ..equations.zeros import poles_zeros_gain
from ..errors import ArgumentError, ArrayLibraryError, ShapeError
from ..systems.lti import LTI
from ..systems.modes import is_real
from ..systems.rational import of_poles_and_zeros
from .modes import held_inputs


def matched(sys: LTI[Any], delta: Any) -> LTI[Any]:
    """k' Π(z − e^{zΔ})/Π(z − e^{pΔ}), with the response of k Π(s − z)/Π(s − p) at rest.

    At s → 0 and z → 1 each factor (s − p) stands beside (1 − e^{pΔ}), or s beside (z − 1)/Δ:
    k' = k Π_p Δφ_1(pΔ)/Π_z Δφ_1(zΔ), with poles and zeros at 0 as well.
    """
    zeros, poles, gain = _poles_zeros_gain(sys, delta)
    (of_zeros, held_zeros), (of_poles, held_poles) = (held_inputs(x, delta) for x in (zeros, poles))
    return _system(sys, of_zeros, of_poles, gain, held_poles, held_zeros)


def unmatched(sys: LTI[Any], delta: Any) -> LTI[Any]:
    """The inverse of :func:`matched`: poles log(p)/Δ, zeros log(z)/Δ and the response at rest."""
    zeros, poles, gain = _poles_zeros_gain(sys, delta)
    for x in (zeros, poles):
        if np.any((x.imag == 0) & (x.real <= 0)):
            raise ArgumentError(
                f"{'a zero' if x is zeros else 'a pole'} sits at {float(x.real.min()):.6g}, and no "
                "real system in continuous time is sampled to it: e^{sΔ} is never 0, and negative "
                "only of complex s. method='bilinear' takes it where it is not −1"
            )
    of_zeros, of_poles = np.log(zeros) / delta, np.log(poles) / delta
    held_zeros, held_poles = (held_inputs(x, delta)[1] for x in (of_zeros, of_poles))
    return _system(sys, of_zeros, of_poles, gain, held_zeros, held_poles)


def _poles_zeros_gain(sys: LTI[Any], delta: Any) -> tuple[np.ndarray, np.ndarray, complex]:
    if sys.batch_shape or delta.ndim or (sys.inputs, sys.outputs) != (1, 1):
        raise ShapeError(
            "method='matched' is for one system of one input and one output: sample the entries of "
            "a batch, and each way through a system, one by one"
        )
    if not is_numpy(sys.B):
        raise ArrayLibraryError("zeros need LAPACK and so NumPy arrays")
    return poles_zeros_gain(sys)


def _system(
    sys: LTI[Any],
    zeros: np.ndarray,
    poles: np.ndarray,
    gain: complex,
    over: np.ndarray,
    under: np.ndarray,
) -> LTI[Any]:
    """That of these zeros and poles with the gain times Π over/Π under, real where ``sys`` is."""
    gain = gain * complex(np.exp(np.sum(np.log(over)) - np.sum(np.log(under))))
    real = is_real(sys.A) and not np.iscomplexobj(sys.B)
    return LTI(*of_poles_and_zeros(zeros, poles, gain.real if real else gain))
