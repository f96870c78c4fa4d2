"""Compression during training."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore import QuadraticOutputLTI
from lticore.errors import ArgumentError
from lticore.internal import (
    check_integer,
    check_one_given,
    order_for_energy,
    random_modes,
    to_numpy,
    truncate,
)

from ..layers import QuadraticSSM, SSMLayer, ssm_layers, time_invariant_layers
from ..layers.base import channels
from ..layers.on_data import OnData
from ..layers.parameters import check_plain_parameters
from ..layers.wrapped import check_not_quantised
from .methods import orders_by_loss
from .moments import change_of_layer, transferred
from .running import RunningGramians

#: Training steps before a reduction that "data" looks at.
_LOOKED_AT = 16
#: A layer is left alone when it would keep more than this share of its states.
_WORTHWHILE = 0.95
#: Entries of an optimizer's state that average gradients (1), and squares of gradients (2).
_POWERS = {
    **dict.fromkeys(("exp_avg", "momentum_buffer", "grad_avg"), 1),
    **dict.fromkeys(("exp_avg_sq", "max_exp_avg_sq", "square_avg"), 2),
}

Selection = Literal["largest", "smallest", "random", "random-modes"]


@dataclass(frozen=True)
class ReductionEvent:
    """What happened at one step.

    step : count of :meth:`InTrainingCompressor.step`
    orders_before, orders : stored real states by layer name
    energies : share of Σσ that each layer kept, with criterion "data" of Σσ²
    seconds : time it took
    rolled_back : whether an earlier reduction was undone instead; orders are then the old ones
    score : value of ``validate`` at this step

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> optimizer = torch.optim.Adam(layer.parameters())
    >>> compressor = lt.InTrainingCompressor(
    ...     layer, optimizer, tolerance=0.3, steps=[1]
    ... )
    >>> event = compressor.step()
    >>> event.orders_before, event.orders, round(event.energies[""], 4)
    ({'': 2}, {'': 1}, 0.75)
    """

    step: int
    orders_before: dict[str, int]
    orders: dict[str, int]
    energies: dict[str, float]
    seconds: float
    rolled_back: bool = False
    score: float | None = None


class InTrainingCompressor:
    """Shrinks the state-space layers of a model while it is trained.

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> model = torch.nn.Sequential(lt.RotationSSM(2, 2))
    >>> model[0].load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    >>> compressor = lt.InTrainingCompressor(
    ...     model, optimizer, tolerance=0.3, steps=[2]
    ... )
    >>> for step in range(3):
    ...     model(torch.ones(1, 9, 2)).mean().backward()
    ...     optimizer.step()
    ...     event = compressor.step()  # None, or what was reduced
    ...     print(event.orders if event else model[0].order)
    2
    {'0': 1}
    1

    At the given steps every time-invariant layer is balanced, and states that together hold a share
    τ of the Hankel energy Σσ are cut; with ``criterion="data"`` by the Gramians of what the layers
    met in the training steps before, where all layers together give up a share τ of Σσ². A layer
    that would keep more than 95 % of its states stays as it is. Parameters are new objects
    afterwards, in the optimizer too, in the same groups with the same settings and step counts:
    learning-rate schedules, gradient clipping, gradient scalers and checkpoints go on; what else
    holds on to parameters must be made anew. A model wrapped in ``DistributedDataParallel`` is
    wrapped again after every event:

        if compressor.step():
            model = DistributedDataParallel(model.module)

    Averages of a model over its training (``torch.optim.swa_utils.AveragedModel``) follow where
    they are given as ``copies``: a layer that is reduced starts its average anew from its reduced
    form, all else goes on. They are put back with the model.

    All processes take the orders and the score of the first. To resume, load the model's state,
    make the optimizer and load its state, and load this one's.

    Parameters
    ----------
    model : nn.Module, not wrapped
    optimizer : torch.optim.Optimizer over its parameters
    tolerance : float in [0, 1)
        τ. CompreSSM writes its rule for the share kept, 1 − τ.
    fraction : float in (0, 1)
        Instead: share of its states that every layer loses at every reduction, or with "data" the
        model, by one threshold on σ² over the layers.
    steps : step numbers at which it may act, counted from 1
    criterion : "balanced" or "data"
        Gramians of the systems alone, or of data (:func:`lticore.data_gramians`): states that the
        inputs excite and the loss notices, in the forward and backward passes of the 16 training
        steps before each of ``steps``, at the cost of about a forward pass more in these. Layers
        there must start from rest.
    selection : "largest", or for ablation "smallest", "random" or "random-modes"
        Which balanced states are kept, by their Hankel singular values; with "random-modes" the
        layer is not balanced, and modes as they stand are kept (as in the authors' code), a
        conjugate pair as one.
    validate : callable without arguments → score, higher is better
        With ``fraction``: the score is taken at each of ``steps``. When it has fallen by more than
        ``max_drop`` since the last reduction, model and optimizer are put back to before that
        reduction and nothing is reduced any more. The last of ``steps`` only looks.
    max_drop : float ≥ 0
    moments : "transform" or "reset"
        What becomes of the optimizer's averages: carried over to the new states
        (:func:`lticore_torch.compression.moments.transferred`), or zero. Averages of unknown names
        are zeroed.
    seed : int, for the random selections
    copies : modules that hold the same state-space layers in the same order

    Raises
    ------
    ArgumentError
        Also for copies with other layers; for layers of whose parameters some are made of others,
        by a parametrisation or by pruning; and in a reduction by data of layers that no gradient
        came through.

    Source: Chahine, Nazari, Rus & Rusch, CompreSSM, §3.1; Otto, Padovan & Rowley (2023) for "data".
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        steps: Iterable[int],
        tolerance: float | None = None,
        fraction: float | None = None,
        criterion: Literal["balanced", "data"] = "balanced",
        selection: Selection = "largest",
        validate: Callable[[], float] | None = None,
        max_drop: float = 0.0,
        moments: Literal["transform", "reset"] = "transform",
        seed: int = 0,
        copies: Iterable[nn.Module] = (),
    ) -> None:
        check_one_given(tolerance=tolerance, fraction=fraction)
        if tolerance is not None and not 0 <= tolerance < 1:
            raise ArgumentError(f"tolerance must lie in [0, 1), but is {tolerance}")
        if fraction is not None and not 0 < fraction < 1:
            raise ArgumentError(f"fraction must lie in (0, 1), but is {fraction}")
        if selection not in get_args(Selection):
            raise ArgumentError(f"selection={selection!r} is not one of {get_args(Selection)}")
        if criterion not in ("balanced", "data"):
            raise ArgumentError(f"criterion={criterion!r} is not 'balanced' or 'data'")
        if criterion == "data" and selection != "largest":
            raise ArgumentError(f"selection={selection!r} is for criterion='balanced'")
        quadratic = any(isinstance(x, QuadraticSSM) for x in ssm_layers(model).values())
        if selection == "random-modes" and quadratic:
            raise ArgumentError("modes of a quadratic layer cannot be kept as they stand")
        if moments not in ("transform", "reset"):
            raise ArgumentError(f"moments={moments!r} is not 'transform' or 'reset'")
        if validate is not None and fraction is None:
            raise ArgumentError("validate= rolls back reductions by fraction=")
        if not max_drop >= 0:
            raise ArgumentError(f"max_drop must be at least 0, but is {max_drop}")
        for layer in time_invariant_layers(model).values():
            check_plain_parameters(layer)
        if criterion == "data":
            check_not_quantised(model, "and no gradient passes it: quantise after training")
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise ArgumentError("give the model inside DistributedDataParallel, model.module")
        self.model, self.optimizer, self.copies = model, optimizer, tuple(copies)
        for copied in self.copies:
            _check_copy(model, copied)
        self.steps = frozenset(check_integer("each of steps", s, minimum=1) for s in steps)
        self.tolerance, self.fraction, self.selection = tolerance, fraction, selection
        self.validate, self.max_drop, self.moments = validate, max_drop, moments
        self.events: list[ReductionEvent] = []
        self.count = 0
        self._running = RunningGramians(ssm_layers(model)) if criterion == "data" else None
        self._random = np.random.default_rng(seed)
        self._undo: dict[str, Any] | None = None
        self._finished = False
        self._look(anew=True)

    def step(self) -> ReductionEvent | None:
        """Count a training step and reduce if it is one of ``steps``; call after the optimizer's.

        Returns the event, or None where nothing changed.
        """
        self.count += 1
        event = self._reduced() if self.count in self.steps and not self._finished else None
        self._look(anew=self.count in self.steps)
        return event

    def _reduced(self) -> ReductionEvent | None:
        start = time.perf_counter()
        score = None if self.validate is None else _of_first_process(float(self.validate()))
        undo = self._undo
        if score is not None and undo is not None and not score >= undo["score"] - self.max_drop:
            return self._rolled_back(undo, start, score)
        if self.validate is not None and self.count == max(self.steps):
            return None
        plan = self._plan()
        if not plan:
            return None
        if score is not None:
            self._undo = self._snapshot(score)
        before = _orders(self.model)
        for layer, systems, _ in plan.values():
            self._replace(layer, systems)
        self._hand_to_copies(plan)
        event = ReductionEvent(
            step=self.count,
            orders_before=before,
            orders=_orders(self.model),
            energies={name: plan[name][2] if name in plan else 1.0 for name in before},
            seconds=time.perf_counter() - start,
            score=score,
        )
        self.events.append(event)
        return event

    def state_dict(self) -> dict[str, Any]:
        """Everything but model and optimizer, to go on from a checkpoint."""
        return {
            "count": self.count,
            "events": [asdict(event) for event in self.events],
            "random": self._random.bit_generator.state,
            "undo": self._undo,
            "finished": self._finished,
            "sums": None if self._running is None else self._running.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.count, self._finished = state["count"], state["finished"]
        self.events = [ReductionEvent(**event) for event in state["events"]]
        self._random.bit_generator.state = state["random"]
        self._undo = state["undo"]
        if self._running is not None:
            self._running.load_state_dict(state["sums"])

    # --- choosing ---------------------------------------------------------------------------

    def _look(self, *, anew: bool) -> None:
        """Look at the next training step if a reduction is near, at what it may be judged by."""
        if self._running is None:
            return
        following = min((s for s in self.steps if s > self.count), default=math.inf)
        if self._finished or self.count < following - _LOOKED_AT:
            self._running.stop()
        elif anew or not self._running.looking:
            self._running.start()

    def _plan(self) -> dict[str, tuple[SSMLayer, list[Any], float]]:
        """(layer, reduced systems of its channels, share of Σσ kept or, of modes as they stand,
        left; with data the share of Σσ²) of those worth reducing."""
        layers = ssm_layers(self.model)
        for layer in layers.values():  # all, before the first is replaced
            check_plain_parameters(layer)
        if self._running is not None:
            return self._plan_on_data(layers, self._running.judged())
        balanced = {name: _balanced(layer) for name, layer in layers.items()}
        values = {
            name: np.sum([_padded(x.singular_values, layers[name].order) for x in found], axis=0)
            for name, found in balanced.items()
        }
        orders = _of_first_process([self._order(values[name]) for name in layers])
        plan = {}
        for (name, layer), order in zip(layers.items(), orders, strict=True):
            if order >= _WORTHWHILE * layer.order:
                continue
            if self.selection == "random-modes":
                systems = [random_modes(x, order, self._random) for x in channels(layer.to_lti())]
                left = sum(float(lticore.hankel_sum(x)) for x in systems)
            else:
                kept = self._kept(layer.order, order)
                systems = [_states(x.system, kept) for x in balanced[name]]
                left = values[name][kept].sum()
            total = values[name].sum()
            plan[name] = layer, systems, float(left / total) if total > 0 else 1.0
        return plan

    def _plan_on_data(
        self, layers: dict[str, SSMLayer], judged: dict[str, OnData]
    ) -> dict[str, tuple[SSMLayer, list[Any], float]]:
        systems = list(judged.values())
        sigmas = [sys.singular_values for sys in systems]
        if self.fraction is None:
            orders = orders_by_loss(sigmas, energy=1 - (self.tolerance or 0.0))
        else:
            fullest = 1 - len(systems) / sum(sys.order for sys in systems)
            orders = orders_by_loss(sigmas, ratio=min(self.fraction, fullest))
        orders = _of_first_process(orders)
        plan = {}
        for (name, layer), sys, order in zip(layers.items(), systems, orders, strict=True):
            if order < _WORTHWHILE * layer.order:
                parts = [truncate(x.sys, order=order, gramians=(x.P, x.Q)) for x in channels(sys)]
                squares = sys.singular_values**2
                kept = float(squares[:order].sum() / squares.sum())
                plan[name] = layer, [part.reduction.system for part in parts], kept
        return plan

    def _order(self, sigma: np.ndarray) -> int:
        if self.fraction is not None:
            return max(1, round((1 - self.fraction) * len(sigma)))
        return int(order_for_energy(sigma, 1 - (self.tolerance or 0.0)))

    def _kept(self, states: int, order: int) -> np.ndarray:
        """Places of the kept values among all, descending by size."""
        if self.selection == "largest":
            return np.arange(order)
        if self.selection == "smallest":
            return np.arange(states - order, states)
        return np.sort(self._random.permutation(states)[:order])

    # --- replacing --------------------------------------------------------------------------

    def _replace(self, layer: SSMLayer, systems: list[Any]) -> None:
        old = copy.deepcopy(layer)
        before = dict(layer.named_parameters())
        layer.load_channels(systems)
        after = dict(layer.named_parameters())
        states = {name: self.optimizer.state.pop(p, {}) for name, p in before.items()}
        moved = self._moved(old, layer, states) if self.moments == "transform" else {}
        for group in self.optimizer.param_groups:
            swaps = {id(before[name]): after[name] for name in before}
            group["params"][:] = [swaps.get(id(p), p) for p in group["params"]]
        for name, state in states.items():
            if state:
                self.optimizer.state[after[name]] = _resized(
                    state, before[name], after[name], moved.get(name, {})
                )

    def _moved(
        self, old: SSMLayer, new: SSMLayer, states: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, np.ndarray]]:
        """New averages by parameter and key."""
        averages = {key: _averages(states, key) for key in _POWERS}
        moved: dict[str, dict[str, np.ndarray]] = {name: {} for name in states}
        if not any(averages.values()):
            return moved
        change = change_of_layer(old, new)
        for key, values in averages.items():
            for name, value in transferred(change, values, _POWERS[key]).items():
                moved[name][key] = value
        return moved

    def _hand_to_copies(self, names: Iterable[str]) -> None:
        """The present parameters of these layers."""
        layers = ssm_layers(self.model)
        for copied in self.copies:
            twins = dict(zip(layers, ssm_layers(copied).values(), strict=True))
            for name in names:
                twins[name].load_state_dict(layers[name].state_dict())

    # --- rolling back -----------------------------------------------------------------------

    def _snapshot(self, score: float) -> dict[str, Any]:
        return {
            "score": score,
            "model": copy.deepcopy(self.model.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "copies": [copy.deepcopy(x.state_dict()) for x in self.copies],
        }

    def _rolled_back(self, undo: dict[str, Any], start: float, score: float) -> ReductionEvent:
        before = _orders(self.model)
        old = dict(self.model.named_parameters())
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.model.load_state_dict(undo["model"])
        new = dict(self.model.named_parameters())
        swaps = {id(old[name]): new[name] for name in old}
        for group in self.optimizer.param_groups:
            group["params"][:] = [swaps.get(id(p), p) for p in group["params"]]
        self.optimizer.load_state_dict(undo["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # the schedule goes on
        for copied, state in zip(self.copies, undo["copies"], strict=True):
            copied.load_state_dict(state)
        self._undo, self._finished = None, True
        orders = _orders(self.model)
        event = ReductionEvent(
            step=self.count,
            orders_before=before,
            orders=orders,
            energies=dict.fromkeys(orders, 1.0),
            seconds=time.perf_counter() - start,
            rolled_back=True,
            score=score,
        )
        self.events.append(event)
        return event


def _orders(model: nn.Module) -> dict[str, int]:
    return {name: layer.order for name, layer in ssm_layers(model).items()}


def _check_copy(model: nn.Module, copied: nn.Module) -> None:
    kinds, others = ([type(x) for x in ssm_layers(m).values()] for m in (model, copied))
    if kinds != others or list(_orders(model).values()) != list(_orders(copied).values()):
        raise ArgumentError(
            f"{type(copied).__name__} is no copy of {type(model).__name__}: its state-space layers "
            f"have orders {_orders(copied)}, those of the model {_orders(model)}"
        )


def _balanced(layer: SSMLayer) -> list[lticore.Reduction]:
    """All clear states of each channel, balanced."""
    # States at the level of rounding are gone at once, which is what is wanted: no warning.
    return [truncate(x, order=x.order).reduction for x in channels(layer.to_lti())]


def _padded(sigma: Any, order: int) -> np.ndarray:
    sigma = to_numpy(sigma)
    return np.pad(sigma, (0, order - len(sigma)))


def _states(balanced: Any, kept: np.ndarray) -> Any:
    """The chosen states of a balanced system, as far as it has them; one at least.

    Any of them make a stable system: A_11 Σ_1 A_11ᵀ ≤ Σ_1 for every set.
    """
    kept = kept[kept < balanced.order]
    kept = kept if len(kept) else np.arange(1)
    A = to_numpy(balanced.A)[np.ix_(kept, kept)]
    B, C = to_numpy(balanced.B)[kept], to_numpy(balanced.C)[:, kept]
    if isinstance(balanced, QuadraticOutputLTI):
        V, s = (to_numpy(x) for x in balanced.M)
        return QuadraticOutputLTI(A, B, C, (V[:, kept], s))
    return lticore.LTI(A, B, C, None if balanced.D is None else to_numpy(balanced.D))


def _of_first_process(value: Any) -> Any:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def _averages(states: dict[str, dict[str, Any]], key: str) -> dict[str, np.ndarray]:
    """The entries of this key by parameter, of those that have one."""
    return {
        name: state[key].detach().double().cpu().numpy()
        for name, state in states.items()
        if isinstance(state.get(key), Tensor)
    }


def _resized(
    state: dict[str, Any], old: Tensor, new: Tensor, moved: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The optimizer's state of a parameter: averages as given or zero, all else as it was."""
    resized = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == old.shape and value.ndim > 0:
            average = torch.as_tensor(moved[key]) if key in moved else torch.zeros(new.shape)
            resized[key] = average.to(value.dtype).to(value.device).reshape(new.shape).contiguous()
        else:
            resized[key] = value
    return resized
