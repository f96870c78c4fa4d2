"""Powers of two times NumPy arrays, without the detour over the array standard: small systems are
scaled so often that it would cost them a sixth of their time."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Exponents of one factor: 2 to this is a number, and so is 2 to minus this.
_RANGE = 1000.0


def scaled(X: np.ndarray, *exponents: Any) -> np.ndarray:
    """See :func:`lticore.systems.signals.scaled_reference`."""
    exponent = sum(exponents[1:], start=exponents[0])
    half = _limited(np.floor(exponent / 2))
    return X * np.ldexp(1.0, half) * np.ldexp(1.0, _limited(exponent - half))


def _limited(exponent: Any) -> Any:
    return np.minimum(np.maximum(exponent, -_RANGE), _RANGE).astype(np.intc)
