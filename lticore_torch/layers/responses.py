"""Frequency responses of layers: how large they are, and what a layer's own form changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import lticore
from lticore.internal import in_double, mapped, namespace, to_numpy

#: Frequencies of each kind at which responses are looked at.
_SAMPLES = 16
#: Matrices wider than this have their norms from Krylov spaces of so many vectors and steps.
_NARROW, _BLOCK, _STEPS = 32, 4, 4


def size_of_response(judged: Any) -> float | None:
    """Largest response max_ω ‖H(ω)‖₂ of a linear layer over the frequencies of its slowest poles
    and evenly spread ones, of its channels the largest: its h∞ norm from below. None of others."""
    sys = getattr(judged, "sys", judged)
    if not isinstance(sys, lticore.LTI):
        return None
    return _largest_norm(to_numpy(lticore.frequency_response(sys, _sampled_frequencies(sys))))


def change_of_response(given: Sequence[Any], held: Sequence[Any]) -> tuple[float, float]:
    """(change between the systems given to a layer and those that it holds, size of its response),
    each the largest over its channels, one system each or a batch, and over the frequencies of
    :func:`size_of_response`; of quadratic outputs h2 error and norm."""
    changes = [_change(x, y) for x, y in zip(given, held, strict=True)]
    return max(x for x, _ in changes), max(x for _, x in changes)


def _change(given: Any, held: Any) -> tuple[float, float]:
    if isinstance(given, lticore.QuadraticOutputLTI):
        given = mapped(namespace(held.B).asarray, given)
        return float(lticore.h2_error(held, given)), float(lticore.h2_norm(held))
    frequencies = _sampled_frequencies(held)
    response = to_numpy(lticore.frequency_response(held, frequencies))
    difference = response - to_numpy(lticore.frequency_response(in_double(given), frequencies))
    return _largest_norm(difference), _largest_norm(response)


def _sampled_frequencies(sys: Any) -> Any:
    """(..., L), where responses are looked at: at the slowest poles, and evenly spread."""
    poles = to_numpy(sys.poles)
    slowest = np.argsort(-np.abs(poles), axis=-1, kind="stable")[..., :_SAMPLES]
    angles = np.angle(np.take_along_axis(poles, slowest, axis=-1))
    even = np.broadcast_to(np.linspace(0, np.pi, _SAMPLES), (*poles.shape[:-1], _SAMPLES))
    return namespace(sys.B).asarray(np.concatenate([angles, even], axis=-1))


def _largest_norm(matrices: np.ndarray) -> float:
    """Largest 2-norm of matrices (..., p, m): of wide ones from a Krylov space of Xᴴ X that starts
    with a few random vectors, which is below by 2 % at most in all that was tried."""
    if min(matrices.shape[-2:]) > _NARROW:
        start = np.random.default_rng(0).standard_normal((matrices.shape[-1], _BLOCK))
        blocks = [np.broadcast_to(start, (*matrices.shape[:-2], *start.shape))]
        for _ in range(_STEPS):
            turned = matrices.conj().mT @ (matrices @ blocks[-1])
            blocks.append(np.linalg.qr(turned)[0])
        matrices = matrices @ np.linalg.qr(np.concatenate(blocks, axis=-1))[0]
    return float(np.linalg.norm(matrices, 2, axis=(-2, -1)).max())
