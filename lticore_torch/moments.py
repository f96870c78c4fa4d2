"""What an optimizer knows of a layer's parameters, carried over to the layer's new states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lticore
from lticore._arrays import to_numpy
from lticore.quadratic import linear_part, mapped

from .layers import S4D, QuadraticSSM
from .layers.modal import ModalSSM
from .methods import channels

#: Directions of a Gramian below this share of its largest are not inverted.
_RTOL = 1e-10


def change_of_states(old: Any, new: Any) -> tuple[np.ndarray, np.ndarray]:
    """Maps that take gradients in B and C from a system's states to those of its reduction.

        g_B̂ = T_B g_B,  T_B = Yᵀ Q⁺,      Aᵀ Y Â − Y + Cᵀ Ĉ = 0,   Q observability Gramian
        g_Ĉ = g_C T_C,  T_C = P⁺ X,       A X Âᵀ − X + B B̂ᵀ = 0,   P controllability Gramian

    g_C collects y-cotangents times states, and T_Cᵀ x = Xᵀ P⁺ x is the best linear estimate of the
    reduced states from the full ones under white inputs; T_B is the same for the adjoint system.
    For x = T x̂, a mere change of coordinates, they are exact: T_B = Tᵀ, T_C = T⁻ᵀ.

    Parameters
    ----------
    old, new : systems of n and r states over NumPy arrays

    Returns
    -------
    T_B (r, n), T_C (n, r)
    """
    old, new = linear_part(old), linear_part(new)
    X = lticore.solve_stein(old.A, old.B @ new.B.T, new.A)
    adjoint = [sys.A.T if isinstance(sys.A, np.ndarray) else sys.A.H for sys in (old, new)]
    Y = lticore.solve_stein(adjoint[0], old.C.T @ new.C, adjoint[1])
    P, Q = lticore.controllability_gramian(old), lticore.observability_gramian(old)
    invert = [np.linalg.pinv(G, rcond=_RTOL, hermitian=True) for G in (P, Q)]
    return Y.T @ invert[1], invert[0] @ X


def transferred(
    old: Any, new: Any, values: Mapping[str, np.ndarray], power: int
) -> dict[str, np.ndarray]:
    """Moments of the parameters of a layer, by name, for the layer that replaced it.

    First moments (``power`` 1) are averaged gradients and follow :func:`change_of_states`; second
    ones (``power`` 2) follow the squared entries of the same maps, as variances of uncorrelated
    entries do. Gradients in the radii and in the angles of poles, which parameters are divided into
    by their derivatives, are averaged by participation factors

        w_ij ∝ |tr (T_B)_ji (T_C)_ij|,  Σ_i w_ij = 1,  over the states of new mode j, old mode i

    pairs among pairs and real poles among real poles. Parameters that do not belong to states stay
    as they are.
    """
    move = _of_channels if isinstance(old, S4D) else _of_modal
    return move(old, new, values, power)


def _of_modal(
    old: ModalSSM, new: ModalSSM, values: Mapping[str, np.ndarray], power: int
) -> dict[str, np.ndarray]:
    T_B, T_C = change_of_states(*(mapped(to_numpy, x.to_lti()) for x in (old, new)))
    pairs, reals = _participation(T_B, T_C, _sizes(old), _sizes(new), power)
    slopes = [_slopes(x, x.PAIR_PARAMETERS, *x._radius_and_angle()) for x in (old, new)]
    if power == 2:
        T_B, T_C = T_B**2, T_C**2
    moved = {}
    for name, value in values.items():
        if name == "B":
            # The gradient of B is conj(s) times that of s B.
            inward = _scaled(value, 1 / _conjugate_scale(old, power), power)
            moved[name] = _scaled(T_B @ inward, _conjugate_scale(new, power), power)
        elif name == "C":
            moved[name] = value @ T_C
        elif name == "V" and isinstance(old, QuadraticSSM):
            moved[name] = np.einsum("pnc,nr->prc", value, T_C)
        elif name == "real_atanh":
            moved[name] = reals @ value
        elif name in old.PAIR_PARAMETERS:
            moved[name] = _through(value, slopes[0][name], pairs, slopes[1][name], power)
        else:
            moved[name] = value
    return moved


def _of_channels(
    old: S4D, new: S4D, values: Mapping[str, np.ndarray], power: int
) -> dict[str, np.ndarray]:
    moved: dict[str, list[np.ndarray]] = {name: [] for name in values}
    of_pairs = [x.pair_channel.cpu().numpy() for x in (old, new)]
    of_reals = [x.real_channel.cpu().numpy() for x in (old, new)]
    systems = [channels(mapped(to_numpy, x.to_lti())) for x in (old, new)]
    coordinates = {"decay_log": "radius", "frequency": "angle"}
    slopes = [_slopes(x, coordinates, *x._pairs()[:2]) for x in (old, new)]
    for channel, (before, after) in enumerate(zip(*systems, strict=True)):
        pair, real = of_pairs[0] == channel, of_reals[0] == channel
        sizes = [
            (int((p == channel).sum()), int((r == channel).sum()))
            for p, r in zip(of_pairs, of_reals, strict=True)
        ]
        T_B, T_C = change_of_states(before, after)
        T_B, T_C = T_B[: 2 * sizes[1][0] + sizes[1][1]], T_C[:, : 2 * sizes[1][0] + sizes[1][1]]
        n = 2 * sizes[0][0] + sizes[0][1]
        T_B, T_C = T_B[:, :n], T_C[:n]
        pairs, reals = _participation(T_B, T_C, sizes[0], sizes[1], power)
        if "C" in values and "real_C" in values:
            C = np.concatenate([values["C"][pair].ravel(), values["real_C"][real]])
            C = C @ (T_C**2 if power == 2 else T_C)
            moved["C"].append(C[: 2 * sizes[1][0]].reshape(-1, 2))
            moved["real_C"].append(C[2 * sizes[1][0] :])
        pair_new = of_pairs[1] == channel
        for name in coordinates:
            if name in values:
                inner, outer = slopes[0][name][pair], slopes[1][name][pair_new]
                moved[name].append(_through(values[name][pair], inner, pairs, outer, power))
        if "real_atanh" in values:
            moved["real_atanh"].append(reals @ values["real_atanh"][real])
    return {name: np.concatenate(parts) if parts else values[name] for name, parts in moved.items()}


def _slopes(
    layer: Any, coordinates: Mapping[str, str | None], radius: Tensor, angle: Tensor
) -> dict[str, np.ndarray]:
    """Derivatives of ρ or of α folded into [0, π] in each pair parameter; ones for others."""
    with torch.no_grad():
        fold = torch.where(torch.remainder(angle, 2 * torch.pi) > torch.pi, -1.0, 1.0)
    sums = {"radius": radius.sum(), "angle": (fold * angle).sum()}
    slopes = {}
    for name, coordinate in coordinates.items():
        p = getattr(layer, name)
        if coordinate is None or not p.requires_grad:
            slopes[name] = np.ones(len(p))
        else:
            (slope,) = torch.autograd.grad(sums[coordinate], p, retain_graph=True)
            slopes[name] = slope.double().cpu().numpy()
    return slopes


def _through(
    value: np.ndarray, inner: np.ndarray, weights: np.ndarray, outer: np.ndarray, power: int
) -> np.ndarray:
    """Averages of gradients in a coordinate, from and to a parameter with these slopes."""
    with np.errstate(divide="ignore"):
        inverse = np.where(np.abs(inner) > np.finfo(np.float32).tiny, 1 / inner, 0.0)
    return (weights @ (value * inverse**power)) * outer**power


def _sizes(layer: ModalSSM) -> tuple[int, int]:
    real = len(layer.real_atanh)
    return (layer.order - real) // 2, real


def _participation(
    T_B: np.ndarray,
    T_C: np.ndarray,
    old: tuple[int, int],
    new: tuple[int, int],
    power: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(w of the pairs (q̂, q), w of the real poles (k̂, k)), normalised rows; zero rows where
    nothing of the kind was there."""
    q, q_new = 2 * old[0], 2 * new[0]
    products = T_B[:q_new, :q] * T_C[:q, :q_new].T
    blocks = products.reshape(new[0], 2, old[0], 2)
    pairs = blocks[:, 0, :, 0] + blocks[:, 1, :, 1]
    reals = T_B[q_new:, q:] * T_C[q:, q_new:].T
    return _normalised(pairs, power), _normalised(reals, power)


def _normalised(weights: np.ndarray, power: int) -> np.ndarray:
    # Signs of small weights carry no meaning once some modes are gone: all are counted positive.
    weights = np.abs(weights)
    total = weights.sum(axis=1, keepdims=True)
    shares = weights / np.where(total > 0, total, 1)
    return shares**power


def _conjugate_scale(layer: ModalSSM, power: int) -> np.ndarray:
    scale = layer._scale()
    if scale is None:
        return np.ones(0)
    s = scale.detach().cpu().numpy()
    return np.abs(s) ** 2 if power == 2 else s.conj()


def _scaled(rows: np.ndarray, scale: np.ndarray, power: int) -> np.ndarray:
    """Rows of the pairs, as complex numbers, times ``scale``; variances of both parts add."""
    q = len(scale)
    if q == 0:
        return rows
    first, second = rows[0 : 2 * q : 2], rows[1 : 2 * q : 2]
    out = rows.copy()
    if power == 2:
        out[0 : 2 * q : 2] = out[1 : 2 * q : 2] = scale[:, None] * (first + second) / 2
    else:
        z = scale[:, None] * (first + 1j * second)
        out[0 : 2 * q : 2], out[1 : 2 * q : 2] = z.real, z.imag
    return out
