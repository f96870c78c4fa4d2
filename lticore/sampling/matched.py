"""Poles and zeros, sampled one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.namespaces import is_numpy
from ..equations.zeros import poles_zeros_gain
from ..errors import ArrayLibraryError, ShapeError
from ..systems.lti import LTI
from ..systems.modes import is_real
from ..systems.rational import of_poles_and_zeros
from .modes import held_inputs


def matched(sys: LTI[Any], delta: Any) -> LTI[Any]:
    """k' Π(z − e^{zΔ})/Π(z − e^{pΔ}), with the response of k Π(s − z)/Π(s − p) at rest.

    At s → 0 and z → 1 each factor (s − p) stands beside (1 − e^{pΔ}), or s beside (z − 1)/Δ:
    k' = k Π_p Δφ_1(pΔ)/Π_z Δφ_1(zΔ), with poles and zeros at 0 as well.
    """
    if sys.batch_shape or delta.ndim or (sys.inputs, sys.outputs) != (1, 1):
        raise ShapeError(
            "method='matched' is for one system of one input and one output: sample the entries of "
            "a batch, and each way through a system, one by one"
        )
    if not is_numpy(sys.B):
        raise ArrayLibraryError("zeros need LAPACK and so NumPy arrays")
    zeros, poles, gain = poles_zeros_gain(sys)
    (of_zeros, held_zeros), (of_poles, held_poles) = (held_inputs(x, delta) for x in (zeros, poles))
    gain = gain * complex(np.exp(np.sum(np.log(held_poles)) - np.sum(np.log(held_zeros))))
    real = is_real(sys.A) and not np.iscomplexobj(sys.B)
    return LTI(*of_poles_and_zeros(of_zeros, of_poles, gain.real if real else gain))
