"""Zeros of systems."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.namespaces import is_numpy
from ..equations.system_pencil import zeros_of_pencil
from ..equations.zeros import poles_zeros_gain
from ..errors import ArrayLibraryError, ShapeError
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double


def zeros(sys: LinearLike) -> np.ndarray:
    """Invariant zeros: the s, in discrete time z, at which the rank of the system pencil falls

        P(s) = [[A − s I, B], [C, D]]

    below the rank that it has elsewhere. Those of a minimal system are its transmission zeros, at
    which H(s) = C (s I − A)⁻¹ B + D loses rank; the others are poles that no input reaches or no
    output sees (:func:`lticore.minimal_realization` takes them out). Most systems with more inputs
    than outputs, or fewer, have none. Of one input and one output as :func:`lticore.to_zpk`.

    Parameters
    ----------
    sys : one system, no batch, of any number of inputs and outputs and any rank of H

    Returns
    -------
    (k,) complex array of finite zeros, each as often as it counts, in conjugate pairs for real
    systems.

    Accuracy: those of a system whose matrices differ in the last digits, in the best units of time,
    states, inputs and outputs. A singular value of a matrix in these units that is below 16 (n + m
    + p) eps times its norm counts as zero: of D, of C, and of what stands for them on the way.

    Cost: O((n + m + p)³) for each of a few steps, n at most.

    Raises
    ------
    ShapeError
        For batches.
    ArrayLibraryError
        For arrays that are not NumPy's.

    Source: Emami-Naeini & Van Dooren, Automatica 18 (1982).

    >>> sys = lti.LTI([[-2.0]], [[1.0, -4 / 3]], [[-3.0], [4.5]], [[1.0, 0.0], [0.0, 2.0]], dt=0)
    >>> lti.zeros(sys).real.round(12)  # of [[s − 1, 4], [4.5, 2 (s − 1)]]/(s + 2)
    array([4.])
    """
    one = one_system(sys)
    if (one.inputs, one.outputs) == (1, 1):
        return poles_zeros_gain(one)[0]
    return zeros_of_pencil(one)


def one_system(sys: LinearLike[Any]) -> LTI[np.ndarray]:
    """``sys`` in float64, where it is one system of NumPy arrays."""
    one = in_double(as_linear(sys, continuous=True))
    if one.batch_shape:
        raise ShapeError(
            f"zeros are those of one system, but this is a batch {one.batch_shape}: take its "
            "entries, sys[0], one by one"
        )
    if not is_numpy(one.B):
        raise ArrayLibraryError("zeros need LAPACK and so NumPy arrays")
    return one
