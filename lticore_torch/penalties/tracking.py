"""Hankel singular values over the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import torch
from torch import nn

import lticore
from lticore.internal import (
    linear_part,
    mapped,
    to_numpy,
)

from ..layers import SSMLayer, ssm_layers, time_invariant_layers

#: How many trajectories are drawn with margins: more would hide each other.
_MARGINS = 16


@dataclass(frozen=True)
class HankelRecord:
    """Hankel singular values of one layer at one step.

    step : as given
    singular_values : (n,) descending; added over the channels of S4D
    trajectory : (n,) the same values, entry i that of the state followed as number i since the
        layer's first record (or its last change of order)
    weyl_bound : ‖δH‖₂, the most that any value may have changed since the last record; None for the
        first record of a layer or of a new order

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> tracker = lt.HankelTracker(layer)
    >>> for step, gain in enumerate([3.0, 0.5]):  # of the first state
    ...     layer.load_lti(lti.LTI(A, B, np.diag([0.6 * gain, 0.8])))
    ...     record = tracker.record(step)[""]
    >>> np.round(record.singular_values, 4), np.round(record.trajectory, 4)
    (array([1. , 0.5]), array([0.5, 1. ]))
    """

    step: int
    singular_values: tuple[float, ...]
    trajectory: tuple[float, ...]
    weyl_bound: float | None

    def to_dict(self) -> dict[str, Any]:
        """In built-in types, as JSON takes them."""
        return {
            "step": self.step,
            "singular_values": list(self.singular_values),
            "trajectory": list(self.trajectory),
            "weyl_bound": self.weyl_bound,
        }


class HankelTracker:
    """Follows the Hankel singular values of all time-invariant layers of a model.

        H = (P^½ Q P^½)^½ has the values as eigenvalues;  |σ_i' − σ_i| ≤ ‖H' − H‖₂

    by Weyl's theorem between two records of a layer in the same coordinates. Values are followed by
    the assignment that makes the squared overlaps of the eigenvectors of H and H' largest, so that
    trajectories may cross. A layer whose order changed starts anew; of layers with one system per
    channel the sums over channels are recorded, followed by their rank.

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> model = torch.nn.Sequential(lt.RotationSSM(2, 2))
    >>> model[0].load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> tracker = lt.HankelTracker(model)
    >>> records = tracker.record(0)  # by module name; kept in tracker.history
    >>> np.round(records["0"].singular_values, 4)
    array([3., 1.])

    Cost of a record: O(n³) per system.

    Raises
    ------
    ArgumentError
        When the model has no time-invariant state-space layer.

    Source: Chahine et al., CompreSSM, §3.2, Lemma 3.1 and Figure 2.
    """

    def __init__(self, model: nn.Module) -> None:
        time_invariant_layers(model)  # one at least
        self.model = model
        self.history: dict[str, list[HankelRecord]] = {}
        self._last: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def record(self, step: int) -> dict[str, HankelRecord]:
        """Compute, follow and keep the values of all layers now."""
        records = {name: self._of(name, layer, step) for name, layer in self._layers().items()}
        for name, record in records.items():
            self.history.setdefault(name, []).append(record)
        return records

    def state_dict(self) -> dict[str, Any]:
        """What the next record needs of the last one, as tensors; the history is not in it."""
        return {
            name: [torch.from_numpy(x.copy()) for x in last] for name, last in self._last.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the tracker that ``state`` was taken from."""
        self._last = {name: tuple(x.numpy() for x in last) for name, last in state.items()}

    def _layers(self) -> dict[str, SSMLayer]:
        return ssm_layers(self.model)

    def _of(self, name: str, layer: SSMLayer, step: int) -> HankelRecord:
        H, sigma, vectors = _hankel_matrix(layer)
        last = self._last.get(name)
        if last is None or last[0].shape != H.shape:
            bound, order = None, np.arange(sigma.shape[-1])
        else:
            change = np.linalg.norm(H - last[0], 2, axis=(-2, -1))
            bound = float(np.sum(change))
            order = last[2]
            if H.ndim == 2:
                overlaps = (last[1].T @ vectors) ** 2
                order = scipy.optimize.linear_sum_assignment(-overlaps)[1][order]
        self._last[name] = H, vectors, order
        values = sigma.reshape(-1, sigma.shape[-1]).sum(axis=0)
        return HankelRecord(step, tuple(values.tolist()), tuple(values[order].tolist()), bound)

    def plot(self, name: str) -> Any:
        """:func:`plot_hankel_records` of the layer of this name."""
        return plot_hankel_records(self.history[name], name)


def plot_hankel_records(records: Sequence[HankelRecord], title: str) -> Any:
    """Trajectories of a layer since its last change of order, with the Weyl bounds as margins of
    the largest, the bound itself, and the share of Σσ in the smallest values.

    Returns a matplotlib figure; matplotlib must be installed.

    Source: Chahine et al., CompreSSM, Figure 2.
    """
    from matplotlib.figure import Figure

    order = len(records[-1].trajectory)
    records = [record for record in records if len(record.trajectory) == order]
    steps = [record.step for record in records]
    paths = np.array([record.trajectory for record in records])
    bounds = np.array([record.weyl_bound or 0.0 for record in records])
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for rank, path in enumerate(paths.T[np.argsort(-paths[-1])]):
        (line,) = axes[0].plot(steps, path, linewidth=1)
        if rank < _MARGINS:
            low, high = path - bounds, path + bounds
            axes[0].fill_between(steps, low, high, color=line.get_color(), alpha=0.2)
    axes[0].set(title=f"{title}: trajectories", xlabel="step", ylabel="σ", ylim=(0, None))
    axes[1].plot(steps[1:], bounds[1:], color="#0072B2")
    axes[1].set(title="Weyl bound ‖δH‖", xlabel="step")
    total = paths.sum(axis=1)
    for share in (0.25, 0.5, 0.75):
        count = max(int(share * order), 1)
        smallest = np.sort(paths, axis=1)[:, :count].sum(axis=1) / np.where(total > 0, total, 1)
        axes[2].plot(steps, smallest, label=f"smallest {count}")
    axes[2].set(title="share of Σσ", xlabel="step", ylim=(0, 1))
    axes[2].legend(frameon=False)
    return figure


def _hankel_matrix(layer: SSMLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, its eigenvalues descending, eigenvectors) of the layer's linear part."""
    sys = linear_part(mapped(to_numpy, layer.to_lti()))
    P, Q = lticore.controllability_gramian(sys), lticore.observability_gramian(sys)
    root = _root(P)
    H = _root(root @ Q @ root)
    values, vectors = np.linalg.eigh(H)
    return H, values[..., ::-1].clip(min=0), vectors[..., ::-1]


def _root(X: np.ndarray) -> np.ndarray:
    """The positive semidefinite square root."""
    values, V = np.linalg.eigh((X + np.swapaxes(X, -1, -2)) / 2)
    return (V * np.sqrt(values.clip(min=0))[..., None, :]) @ np.swapaxes(V, -1, -2)
