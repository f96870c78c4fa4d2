"""A model looked at once, and cut as often as one likes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError
from lticore.internal import check_integer, check_one_given, warn_precision

from ..layers import SelectiveSSM, StateSpaceLayer, capture, kinds_inside, state_space_layers
from ..layers.batches import Batches, Calibration, batches_of
from ..layers.parameters import check_plain_parameters
from ..layers.responses import size_of_response
from ..layers.wrapped import check_own_parameters
from . import tuning
from .cut import with_reduced_layers
from .losses import Loss, choose_loss
from .measure import measure
from .methods import METHODS, Criteria, check_method, choose_orders
from .outlook import (
    LayerOutlook,
    count_parameters,
    outlook_table,
    outlooks,
    resized,
    unseen_change,
)
from .report import CompressionReport, percent_change, plot_decay, short
from .search import smallest_within
from .sensitivity import gramians_on_data

Model = TypeVar("Model", bound=nn.Module)

#: Predicted and measured changes below this share of what all states do to the loss are rounding.
_SMALL_ROUNDING = 1e-5
#: Measured and predicted changes of the loss that differ by more than this factor are reported.
_UNFORESEEN = 10.0
NEEDS_DATA = "method='data', refit= and fine_tune_steps= need calibration=, batches of inputs"


@dataclass(frozen=True, eq=False)
class CompressionPlan(Generic[Model]):
    """What :func:`analyze` found; prints as a table, and :meth:`compress` cuts the model by it.

    model : the model that was looked at
    method : name of the method that judges and reduces
    layers : one outlook per layer, in order
    unseen : by method "data", the change of the loss that nobody sees

    >>> plan = lt.analyze(torch.nn.Sequential(lt.LRU(4, 8), lt.LRU(4, 8)))
    >>> [layer.order for layer in plan.layers]
    [8, 8]
    >>> for ratio in (0.5, 0.75):
    ...     small, report = plan.compress(ratio=ratio)
    ...     print(sum(layer.order for layer in report.layers))
    8
    4
    """

    model: Model
    method: str
    layers: tuple[LayerOutlook, ...]
    unseen: float | None
    _found: _Found

    def compress(
        self,
        *,
        ratio: float | Mapping[str, float] | None = None,
        energy: float | None = None,
        orders: Sequence[int] | Mapping[str, int] | None = None,
        error: float | None = None,
        evaluate: Callable[[Model], float] | None = None,
        tolerance: float | None = None,
        refit: bool = False,
        fine_tune_steps: int = 0,
        learning_rate: float = 1e-3,
    ) -> tuple[Model, CompressionReport]:
        """A smaller copy of the model, as :func:`compress` says; the layers are not judged again.

        Raises
        ------
        ArgumentError
            As :func:`compress`, and where the model has changed since it was analysed.
        """
        check_wish(ratio, energy, orders, error, evaluate, tolerance)
        check_integer("fine_tune_steps", fine_tune_steps, minimum=0)
        found = self._found
        if found.batches is None and (refit or fine_tune_steps):
            raise ArgumentError(NEEDS_DATA)
        if _fingerprint(self.model) != found.fingerprint:
            raise ArgumentError(
                "the model has changed since it was analysed, and what was found no longer holds: "
                "analyse it again"
            )
        finish = _Finish(refit, fine_tune_steps, learning_rate)
        if evaluate is not None and tolerance is not None:
            return smallest_within(
                self.model,
                sum(x.order for x in self.layers),
                lambda states: self._orders_for(states),
                lambda orders: self._cut(orders, finish),
                evaluate,
                tolerance,
            )
        if isinstance(ratio, Mapping):
            wanted = {
                name: self._orders([name], Criteria(x, None, None, None))[name]
                for name, x in self._named("ratio", ratio).items()
            }
        elif isinstance(orders, Mapping):
            wanted = dict(self._named("orders", orders))
        else:
            wanted = self._orders(list(found.judged), Criteria(ratio, energy, orders, error))
        return self._cut(wanted, finish)

    def _orders(self, names: list[str], criteria: Criteria) -> dict[str, int]:
        found = self._found
        systems, measured = ([x[name] for name in names] for x in (found.judged, found.measured))
        orders = choose_orders(METHODS[self.method], systems, measured, criteria)
        return dict(zip(names, orders, strict=True))

    def _orders_for(self, states: int) -> dict[str, int] | None:
        """Orders of so many states together, or None where they cannot be spread."""
        ratio = 1 - states / sum(x.order for x in self.layers)
        try:
            return self._orders(list(self._found.judged), Criteria(ratio, None, None, None))
        except ArgumentError:
            return None

    def _named(self, what: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        unknown = sorted(set(given) - set(self._found.judged))
        if unknown or not given:
            raise ArgumentError(
                f"{what}= names {unknown or 'no layer'}, but the layers are "
                f"{sorted(self._found.judged)}"
            )
        return given

    def _cut(self, orders: dict[str, int], finish: _Finish) -> tuple[Model, CompressionReport]:
        found, method, model = self._found, METHODS[self.method], self.model
        small, reports = with_reduced_layers(
            model,
            found.judged,
            found.sizes,
            orders,
            lambda sys, order: method.reduce(sys, order, found.horizon),
        )
        changes: dict[str, Any] = {}
        if found.batches is not None and found.loss is not None:
            with torch.random.fork_rng():  # for loaders of data, which shuffle by torch's generator
                changes = self._finished(small, finish, found.batches, found.loss)
        if finish.changes_outputs:
            reports = [replace(x, error_bound=None) for x in reports]
        report = CompressionReport(
            method=self.method,
            layers=tuple(reports),
            parameters_before=count_parameters(model),
            parameters_after=count_parameters(small),
            **changes,
        )
        return small, report

    def _finished(
        self, small: Model, finish: _Finish, batches: Batches, loss: Loss
    ) -> dict[str, Any]:
        """Refit and distil ``small``; what the report says of it."""
        method, model, judged = METHODS[self.method], self.model, self._found.judged
        originals, layers = (
            {name: x for name, x in state_space_layers(y).items() if name in judged}
            for y in (model, small)
        )
        cut = copy.deepcopy(layers) if method.on_data else None
        if finish.refit:
            pairs = list(zip(originals.values(), layers.values(), strict=True))
            tuning.refit(model, small, pairs, batches, loss, weighted=method.on_data)
        if finish.fine_tune_steps:
            tuning.distil(
                small,
                model,
                batches,
                loss,
                steps=finish.fine_tune_steps,
                learning_rate=finish.learning_rate,
            )
        certify = not finish.fine_tune_steps
        measured = measure(model, small, batches, loss, cut=cut, certify=certify)
        predicted = measured.predicted_loss_change
        if predicted is not None and not finish.changes_outputs:
            whole = math.hypot(*(np.linalg.norm(x.singular_values) for x in judged.values()))
            _warn_if_unforeseen(measured.loss_change, predicted, whole)
        return asdict(measured)

    def __str__(self) -> str:
        lines = outlook_table(self.layers)
        parameters = count_parameters(self.model)
        flops = sum(x.flops for x in self.layers)
        lines.append(
            f"{self.method}: {parameters:,} parameters, {short(flops)} flops/step in layers"
        )
        key = "order_999" if self.unseen is None else "order_unseen"
        orders = [getattr(x, key) for x in self.layers]
        if None not in orders:
            what = "with 99.9 %" if self.unseen is None else "without visible change of the loss"
            left, fewer = self._predicted(orders)
            lines.append(
                f"{what}: {left:,} parameters ({percent_change(parameters, left)}), "
                f"{short(fewer)} flops/step ({percent_change(flops, fewer)})"
            )
        return "\n".join(lines)

    def _predicted(self, orders: list[int]) -> tuple[int, int]:
        """(parameters of the model, flops per step of its layers) of these orders."""
        parameters, flops = count_parameters(self.model), 0
        layers = state_space_layers(self.model)
        for outlook, order in zip(self.layers, orders, strict=True):
            small = resized(layers[outlook.name], order)
            parameters += count_parameters(small) - outlook.parameters
            flops += small.flops_per_step()
        return parameters, flops

    def plot(self) -> Any:
        """The decay of σ in each layer, with the orders of the table marked.

        Returns a matplotlib figure; matplotlib must be installed.
        """
        marks = {"99 %": "order_99", "99.9 %": "order_999", "unseen": "order_unseen"}
        return plot_decay(
            [
                (
                    f"{x.name or x.kind}: {x.order} states",
                    x.singular_values,
                    {text: getattr(x, key) for text, key in marks.items()},
                )
                for x in self.layers
            ]
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """What cuts need of an analysis, by layer name where it is of layers.

    judged : what the method sees of a layer,   measured : what orders go by
    sizes : of responses,   fingerprint : of the model's values
    """

    judged: dict[str, Any]
    measured: dict[str, Any]
    sizes: dict[str, float | None]
    horizon: int | None
    batches: Batches | None
    loss: Loss | None
    fingerprint: tuple[Any, ...]


@dataclass(frozen=True)
class _Finish:
    """What is done after the cut."""

    refit: bool
    fine_tune_steps: int
    learning_rate: float

    @property
    def changes_outputs(self) -> bool:
        return self.refit or self.fine_tune_steps > 0


def analyze(
    model: Model,
    *,
    method: str | None = None,
    horizon: int | None = None,
    calibration: Calibration | None = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    seed: int = 0,
    exclude: str | Sequence[str] = (),
) -> CompressionPlan[Model]:
    """Look at the state-space layers of a model: how many of their states do anything.

    >>> layer, C = lt.RotationSSM(8, 64), np.zeros((8, 64))
    >>> C[:, :10] = 1.0  # the other 54 states do nothing
    >>> A = lti.Rotation(np.full(32, 0.9), np.linspace(0.1, 3.0, 32))
    >>> layer.load_lti(lti.LTI(A, np.ones((64, 8)), C))
    >>> plan = lt.analyze(layer)
    >>> print(plan)  # layers, states, and how many of them matter
    layer  kind         states    99 %  99.9 %
           RotationSSM      64       5      10
    balanced: 1,096 parameters, 2.3k flops/step in layers
    with 99.9 %: 178 parameters (−84%), 0.4k flops/step (−84%)
    >>> small, report = plan.compress(ratio=0.8)  # as often as you like

    Parameters
    ----------
    method : str, optional
        As for :func:`compress`; by default "data" where calibration data are given, else
        "balanced".
    horizon, calibration, loss, seed : as for :func:`compress`
    exclude : names of modules
        These, and the layers inside them, stay as they are and do not count.

    Returns
    -------
    CompressionPlan : good for the model as it is now.

    Cost: of "data" one pass forward and backward over the calibration data; else the Hankel values
    of each layer, O(n³).

    Raises
    ------
    ArgumentError
        As :func:`compress`, and for names that the model does not have.
    """
    if method is None:
        method = "balanced" if calibration is None else "data"
    if method not in METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(METHODS)}")
    check_integer("seed", seed, minimum=0)
    chosen = METHODS[method]
    if calibration is None and chosen.on_data:
        raise ArgumentError(NEEDS_DATA)
    check_own_parameters(model)
    layers = _layers_of(model, exclude)
    for layer in layers.values():
        check_plain_parameters(layer)
    batches, target, unseen = None, None, None
    if calibration is None:
        judged = {name: _judged(name, layer) for name, layer in layers.items()}
    else:
        with torch.random.fork_rng():  # for loaders of data, which shuffle by torch's generator
            batches = batches_of(calibration)
            first = next(iter(batches))
            output, _ = capture.run(model, first, layers.values())
            target = choose_loss(loss, model, output, first.labels, seed)
            on_data = {
                name: layer
                for name, layer in layers.items()
                if chosen.on_data or isinstance(layer, SelectiveSSM)
            }
            seen, size = gramians_on_data(model, on_data, batches, target) if on_data else ({}, 0.0)
            judged = {
                name: seen.get(name) or _judged(name, layer) for name, layer in layers.items()
            }
            if chosen.on_data:
                unseen = unseen_change(target, size)
    check_method(chosen, list(judged.values()), horizon)
    measured = {name: chosen.measure(x, horizon) for name, x in judged.items()}
    sizes = {name: size_of_response(x) for name, x in judged.items()}
    return CompressionPlan(
        model,
        method,
        outlooks(layers, measured, sizes, chosen, unseen),
        unseen,
        _Found(judged, measured, sizes, horizon, batches, target, _fingerprint(model)),
    )


def check_wish(
    ratio: Any, energy: Any, orders: Any, error: Any, evaluate: Any, tolerance: Any
) -> None:
    """Refuse unless one criterion is given."""
    check_one_given(ratio=ratio, energy=energy, orders=orders, error=error, evaluate=evaluate)
    if (evaluate is None) != (tolerance is None) or (tolerance is not None and not tolerance >= 0):
        raise ArgumentError(
            f"evaluate= goes with tolerance= ≥ 0, how much its value may fall: {tolerance!r}"
        )


def _layers_of(model: nn.Module, exclude: str | Sequence[str]) -> dict[str, StateSpaceLayer]:
    layers = state_space_layers(model)
    if not layers:
        raise ArgumentError(
            f"{type(model).__name__} contains no state-space layer, only {kinds_inside(model)}"
        )
    left_out = [exclude] if isinstance(exclude, str) else list(exclude)
    modules = dict(model.named_modules())
    unknown = [name for name in left_out if name not in modules]
    if unknown:
        raise ArgumentError(f"exclude= names {unknown}, which the model does not have")
    inside = {id(x) for name in left_out for x in modules[name].modules()}
    kept = {name: layer for name, layer in layers.items() if id(layer) not in inside}
    if not kept:
        raise ArgumentError(f"exclude= leaves none of the layers {sorted(layers)}")
    return kept


def _judged(name: str, layer: StateSpaceLayer) -> Any:
    """What the methods see of a layer."""
    try:
        return layer.judged()
    except ArgumentError as error:
        raise ArgumentError(f"layer '{name}': {error}") from None


@torch.no_grad()
def _fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """What tells a model from another state of it: shapes and sums of its tensors."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return tuple(
        (name, tuple(x.shape), complex(x.double().sum() if not x.is_complex() else x.sum()))
        for name, x in tensors.items()
    )


def _warn_if_unforeseen(measured: float, predicted: float, whole: float) -> None:
    """``whole`` is what removing all states would change to first order."""
    if max(measured, predicted) <= _SMALL_ROUNDING * whole:
        return
    if measured > _UNFORESEEN * predicted or predicted > _UNFORESEEN * measured:
        warn_precision(
            f"the loss changed by {measured:.1e}, where {predicted:.1e} was predicted to first "
            "order: the cut is too deep for what the data say of small changes. Remove fewer "
            "states, or refit and fine-tune"
        )
