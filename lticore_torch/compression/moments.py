"""What an optimizer knows of a layer's parameters, carried over to the layer's new states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import lticore
from lticore.internal import (
    linear_part,
    mapped,
    to_numpy,
)

from ..layers import SSMLayer
from ..layers.base import Modes, channels

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


@dataclass(frozen=True, eq=False)
class LayerChange:
    """How gradients in a layer's parameters become those in the parameters of its successor.

    old, new : the layers
    states : (T_B, T_C) of each channel
    modes : by parameter with one entry per pair or per real pole, a matrix for each channel
    """

    old: SSMLayer
    new: SSMLayer
    states: list[tuple[np.ndarray, np.ndarray]]
    modes: dict[str, list[np.ndarray]]


def change_of_layer(old: SSMLayer, new: SSMLayer) -> LayerChange:
    """From a layer to the one that replaced it: :func:`change_of_states` for the states.

    Gradients in the radii and in the angles of poles, which parameters are divided into by their
    derivatives, are averaged by participation factors

        w_ij ∝ |tr (T_B)_ji (T_C)_ij|,  Σ_i w_ij = 1,  over the states of new mode j, old mode i

    pairs among pairs and real poles among real poles.
    """
    systems = [channels(mapped(to_numpy, x.to_lti())) for x in (old, new)]
    places = old.modes_of_channels(), new.modes_of_channels()
    slopes = _slopes(old), _slopes(new)
    states = []
    modes: dict[str, list[np.ndarray]] = {name: [] for name in (*slopes[0], "real_atanh")}
    for before, after, here, there in zip(*systems, *places, strict=True):
        T_B, T_C = change_of_states(before, after)
        n, r = _stored_states(before, here), _stored_states(after, there)
        T_B, T_C = T_B[np.ix_(r, n)], T_C[np.ix_(n, r)]
        states.append((T_B, T_C))
        pairs, reals = _participation(T_B, T_C, here, there)
        for name, inner in slopes[0].items():
            outer = slopes[1][name][there.pairs]
            modes[name].append(outer[:, None] * pairs * _inverse(inner[here.pairs]))
        modes["real_atanh"].append(reals)
    return LayerChange(old, new, states, modes)


def transferred(
    change: LayerChange, values: Mapping[str, np.ndarray], power: int
) -> dict[str, np.ndarray]:
    """Moments of the parameters of a layer, by name, for the layer that replaced it.

    First moments (``power`` 1) are averaged gradients and follow the maps of
    :func:`change_of_layer`; second ones (``power`` 2) follow their squared entries, as variances of
    uncorrelated entries do. Parameters that do not belong to states stay as they are.
    """
    places = change.old.modes_of_channels()
    moved = dict(values)
    for name, maps in change.modes.items():
        if name in values:
            of_modes = [x.reals if name == "real_atanh" else x.pairs for x in places]
            parts = [W**power @ values[name][i] for W, i in zip(maps, of_modes, strict=True)]
            moved[name] = np.concatenate(parts)
    return {**moved, **change.old.moments_after(change.new, change.states, values, power)}


def _stored_states(sys: Any, places: Modes) -> np.ndarray:
    """The states of a channel's system that are no filling: those of its pairs and real poles."""
    q, k = len(places.pairs), len(places.reals)
    # Blocks that fill up stand between the two kinds, states that do in dense systems at the end.
    first = 2 * (sys.A.blocks if isinstance(sys.A, lticore.Rotation) else q)
    return np.concatenate([np.arange(2 * q), np.arange(first, first + k)])


def _slopes(layer: SSMLayer) -> dict[str, np.ndarray]:
    """Derivatives of ρ or of α folded into [0, π] in each pair parameter; ones for others."""
    radius, angle, coordinates = layer.pole_coordinates()
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


def _inverse(slopes: np.ndarray) -> np.ndarray:
    """1/x, and 0 where a parameter does not move its pole."""
    moves = np.abs(slopes) > np.finfo(np.float32).tiny
    return np.where(moves, 1 / np.where(moves, slopes, 1), 0)


def _participation(
    T_B: np.ndarray, T_C: np.ndarray, old: Modes, new: Modes
) -> tuple[np.ndarray, np.ndarray]:
    """(w of the pairs (q̂, q), w of the real poles (k̂, k)), normalised rows; zero rows where
    nothing of the kind was there."""
    q, q_new = len(old.pairs), len(new.pairs)
    products = T_B * T_C.T
    blocks = products[: 2 * q_new, : 2 * q].reshape(q_new, 2, q, 2)
    # tr X Y = Σ_ab X_ab Y_ba: all four, for blocks may have turned within their planes.
    return _normalised(blocks.sum(axis=(1, 3))), _normalised(products[2 * q_new :, 2 * q :])


def _normalised(weights: np.ndarray) -> np.ndarray:
    # Signs of small weights carry no meaning once some modes are gone: all are counted positive.
    weights = np.abs(weights)
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1)
