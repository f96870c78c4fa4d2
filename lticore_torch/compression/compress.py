"""Compression of trained models: every state-space layer replaced by a smaller one."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError, PrecisionWarning
from lticore.internal import (
    check_integer,
    check_one_given,
    in_double,
    mapped,
    namespace,
    to_numpy,
)

from ..layers import (
    SelectiveSSM,
    StateSpaceLayer,
    capture,
    kinds_inside,
    state_space_layers,
)
from ..layers.base import Taken, check_plain_parameters
from ..layers.batches import Batches, Calibration, batches_of
from . import tuning
from .losses import Loss, choose_loss
from .measure import measure
from .methods import (
    METHODS,
    Criteria,
    Method,
    choose_orders,
)
from .report import CompressionReport, LayerReport
from .sensitivity import first_order_change, gramians_on_data

Model = TypeVar("Model", bound=nn.Module)

#: Rounding below this share of a layer's response, or of what all states do to the loss, is what
#: float32 parameters cost.
_SMALL_ROUNDING = 1e-5
#: Frequencies of each kind at which rounding is looked for.
_SAMPLES = 16
#: Measured and predicted changes of the loss that differ by more than this factor are reported.
_UNFORESEEN = 10.0


def compress(
    model: Model,
    *,
    ratio: float | None = None,
    energy: float | None = None,
    orders: Sequence[int] | None = None,
    error: float | None = None,
    method: str = "balanced",
    horizon: int | None = None,
    calibration: Calibration | None = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    seed: int = 0,
    refit: bool = False,
    fine_tune_steps: int = 0,
    learning_rate: float = 1e-3,
) -> tuple[Model, CompressionReport]:
    """A copy of ``model`` with smaller state-space layers of the same kinds; the original stays.

    Exactly one criterion chooses the orders. They count stored real states (2 per conjugate pair,
    1 per real pole), of each channel where a layer has one system per channel; every layer keeps at
    least one.

    Parameters
    ----------
    ratio : float in [0, 1)
        Share of all states to remove, spread over the layers as the method does.
    energy : float in (0, 1]
        Share of Σσ that each layer keeps ("balanced", "balanced-complex", "h2", "tlbt", "tlh2"), or
        of Σσ² that all layers keep together ("data").
    orders : one int per layer
    error : float ≥ 0
        Bound on the h∞ error of each layer: smallest r with 2 Σ_{i>r} σ_i ≤ error ("balanced",
        "balanced-complex").
    method : str
        "balanced": balanced truncation of the layer's real input-output map, states spread at one
        common energy level (:func:`lticore.allocate_orders`).
        "balanced-complex": the same for the complex system whose real part the layer is, as the
        authors' code of CompreSSM does; for layers without real poles.
        "h2": lowest h2 error (:func:`lticore.h2_reduction`), states as for "balanced".
        "tlbt", "tlh2": the same two over the first ``horizon`` steps.
        "data": balanced truncation of the Gramians of what the layer's inputs excite on the
        calibration data and of what the loss notices (:func:`lticore.data_gramians`), states spread
        by one threshold on σ², which is in units of the loss. For models that were not trained to
        be compressed; no bound.
        "last", "global", "uniform": modes with the highest h∞ scores, states spread by that rule
        (:func:`lticore.allocate_modal_orders`).
        All come back in the layer's own parameters, conjugate pairs folded. D stays, so bounds
        hold for the layer, up to the rounding that the report states (a PrecisionWarning
        when it is not small). Layers with quadratic outputs are known to "balanced", "data",
        "h2", "tlbt" and "tlh2", selective ones, which are always judged on data, to "balanced" and
        "data" (:meth:`SelectiveSSM.reduce`), without bounds.
    horizon : int ≥ 1
        For "tlbt" and "tlh2", and for these only.
    calibration : batches of inputs, optional
        One batch, as a tensor, a tuple of the model's positional arguments or a dict of keyword
        ones; or an iterable of batches, of which pairs are (inputs, labels), a DataLoader for
        example: it is gone through several times, in the memory of one batch. Needed for "data",
        selective layers, ``refit`` and ``fine_tune_steps``; where given, the change of output and
        loss is measured and, for a :class:`SequenceClassifier`, certified. The model runs in
        evaluation mode and stays as it was. A few hundred sequences do.
    loss : "cross-entropy", "output" or a function (output, batch) → (batch,) or mean, optional
        What "data" and selective layers count by. By default "cross-entropy" where the output is
        logits: that of a :class:`SequenceClassifier`, one named ``logits``, or with integer labels
        beside all but its last axis; no labels are needed, for the model's own softmax gives the
        (Fisher) metric. Else "output", its norm. A function gets the batch as it came.
    seed : int ≥ 0, of the directions of the output that are looked at
    refit : bool
        Fit C and D of each compressed layer, one after the other, to the outputs of the original
        (:func:`lticore.refit_outputs`): inputs are those of the model as reduced and fitted so far.
        With "data" the steps count by the size of the gradient of the loss. Of each layer the fit
        stays only where it lowers the change of the loss on every fourth batch.
    fine_tune_steps : int ≥ 0
        Adam steps of ``learning_rate`` towards the outputs of the original, in all parameters that
        are trainable: :func:`lticore_torch.compression.tuning.distil`.

    A trained model that nobody regularised is best given all three:

        small, report = compress(model, ratio=0.8, method="data", calibration=batches,
                                 refit=True, fine_tune_steps=200)

    Returns
    -------
    (model, report) : the copy has the dtype, device and mode of the original, and trains on.

    Cost: one reduction per layer, O(n³), or per channel; "h2" starts from eleven points. "data"
    runs the model forward and backward once over the calibration data, ``refit`` both models once
    for each layer, fine-tuning both for every step.

    Raises
    ------
    ArgumentError
        For a model without state-space layers, an unknown method, or criteria out of range; for
        layers of whose parameters some are made of others, by a parametrisation or by pruning: the
        message says how to make them plain, keeping their values. For calibration data that hold
        no batches, or from which no gradients reach a layer.
    NonFiniteError
        For NaN or infinity in a batch, or in the loss.

    Source: Schwerdtner et al., HSVR, §2.4 and Appendix C.1; Otto, Padovan & Rowley (2023) for
    "data", whose second Gramian is then, for cross-entropy, the Fisher metric seen from the layer.
    """
    if method not in METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(METHODS)}")
    check_one_given(ratio=ratio, energy=energy, orders=orders, error=error)
    check_integer("fine_tune_steps", fine_tune_steps, minimum=0)
    check_integer("seed", seed, minimum=0)
    chosen, criteria = METHODS[method], Criteria(ratio, energy, orders, error, horizon)
    if calibration is None and (refit or fine_tune_steps or chosen.on_data):
        raise ArgumentError(
            "method='data', refit= and fine_tune_steps= need calibration=, batches of inputs"
        )
    originals = state_space_layers(model)
    if not originals:
        raise ArgumentError(
            f"{type(model).__name__} contains no state-space layer, only {kinds_inside(model)}"
        )
    for layer in originals.values():
        check_plain_parameters(layer)
    if calibration is None:
        systems = [_judged(name, layer) for name, layer in originals.items()]
        small, reports = _with_reduced_layers(model, systems, chosen, criteria)
        return small, _report(method, model, small, reports)
    with torch.random.fork_rng():  # for loaders of data, which shuffle by torch's generator
        batches = batches_of(calibration)
        target = _choose_loss(loss, model, originals, batches, seed)
        systems = _judged_on_data(model, originals, chosen, batches, target)
        small, reports = _with_reduced_layers(model, systems, chosen, criteria)
        layers = state_space_layers(small)
        predicted = None
        if chosen.on_data:
            predicted = first_order_change(model, originals, layers, batches, target)
        if refit:
            pairs = list(zip(originals.values(), layers.values(), strict=True))
            tuning.refit(model, small, pairs, batches, target, weighted=chosen.on_data)
        if fine_tune_steps:
            tuning.distil(
                small, model, batches, target, steps=fine_tune_steps, learning_rate=learning_rate
            )
        if refit or fine_tune_steps:
            reports = [replace(x, error_bound=None) for x in reports]
        measured = measure(model, small, batches, target, certify=not fine_tune_steps)
    if predicted is not None and not (refit or fine_tune_steps):
        whole = math.hypot(*(np.linalg.norm(sys.singular_values) for sys in systems))
        _warn_if_unforeseen(measured.loss_change, predicted, whole)
    found = {**asdict(measured), "predicted_loss_change": predicted}
    return small, _report(method, model, small, reports, **found)


def _warn_if_unforeseen(measured: float, predicted: float, whole: float) -> None:
    """``whole`` is what removing all states would change to first order."""
    if max(measured, predicted) <= _SMALL_ROUNDING * whole:
        return
    if measured > _UNFORESEEN * predicted or predicted > _UNFORESEEN * measured:
        warnings.warn(
            f"the loss changed by {measured:.1e}, where {predicted:.1e} was predicted to first "
            "order: the cut is too deep for what the data say of small changes. Remove fewer "
            "states, or refit and fine-tune",
            PrecisionWarning,
            stacklevel=3,
        )


def _choose_loss(
    loss: Any, model: nn.Module, layers: dict[str, StateSpaceLayer], batches: Batches, seed: int
) -> Loss:
    first = next(iter(batches))
    output, _ = capture.run(model, first, layers.values())
    return choose_loss(loss, model, output, first.labels, seed)


def _judged_on_data(
    model: nn.Module,
    layers: dict[str, StateSpaceLayer],
    method: Method,
    batches: Batches,
    loss: Loss,
) -> list[Any]:
    """What the method sees of each layer; of selective ones always what they did on data."""
    measured = {
        name: layer
        for name, layer in layers.items()
        if method.on_data or isinstance(layer, SelectiveSSM)
    }
    found = gramians_on_data(model, measured, batches, loss) if measured else {}
    return [found.get(name) or _judged(name, layer) for name, layer in layers.items()]


def _with_reduced_layers(
    model: Model, systems: list[Any], method: Method, criteria: Criteria
) -> tuple[Model, list[LayerReport]]:
    orders = choose_orders(method, systems, criteria)
    small = _copied(model)
    layers = state_space_layers(small)
    reports = [
        _reduce_layer(name, layer, sys, order, method, criteria)
        for (name, layer), sys, order in zip(layers.items(), systems, orders, strict=True)
    ]
    return small, reports


def _report(
    method: str,
    model: nn.Module,
    small: nn.Module,
    layers: list[LayerReport],
    **found: Any,
) -> CompressionReport:
    return CompressionReport(
        method=method,
        layers=tuple(layers),
        parameters_before=_count(model),
        parameters_after=_count(small),
        **found,
    )


def _copied(model: Model) -> Model:
    try:
        small = copy.deepcopy(model)
    except RuntimeError as error:
        raise ArgumentError(
            f"{type(model).__name__} cannot be copied ({error}): pruned modules keep tensors that "
            "were computed, so call torch.nn.utils.prune.remove on each of them first"
        ) from error
    for original, copied in zip(model.modules(), small.modules(), strict=True):
        if "forward" in vars(copied) and copied.forward is original.forward:
            raise ArgumentError(
                f"the forward of a {type(original).__name__} was replaced by a function that "
                "copies share, so that the copy would run the original: compile with "
                "module.compile() or torch.compile(module) instead of its forward"
            )
    return small


def _judged(name: str, layer: StateSpaceLayer) -> Any:
    """What the methods see of a layer."""
    try:
        return layer.judged()
    except ArgumentError as error:
        raise ArgumentError(f"layer '{name}': {error}") from None


def _reduce_layer(
    name: str,
    layer: StateSpaceLayer,
    judged: Any,
    order: int,
    method: Method,
    criteria: Criteria,
) -> LayerReport:
    flops_before = layer.flops_per_step()
    bound, rounding, size = None, None, 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taken = layer.reduce_states(
            order, judged, lambda sys, order: method.reduce(sys, order, criteria)
        )
        if taken:
            rounding, size = _rounding(taken)
    if taken:
        bound = _largest([reduction.error_bound for reduction, _ in taken])
        values = _added([reduction.singular_values for reduction, _ in taken])
    else:
        values = judged.singular_values
    _warn(name, layer, [str(x.message) for x in caught], bound, rounding, size)
    return LayerReport(
        name=name,
        kind=type(layer).__name__,
        order_before=judged.order,
        order=layer.order,
        error_bound=bound,
        rounding=rounding,
        singular_values=tuple(map(float, values)),
        flops_before=flops_before,
        flops=layer.flops_per_step(),
    )


def _rounding(taken: list[Taken]) -> tuple[float, float]:
    """(change by the layer's own form, size of its response), the largest over its channels."""
    changes = [_change(reduction.system, held) for reduction, held in taken]
    return max(x for x, _ in changes), max(x for _, x in changes)


def _change(reduced: Any, loaded: Any) -> tuple[float, float]:
    """(largest difference of the two responses, largest response) over sampled frequencies."""
    if isinstance(reduced, lticore.QuadraticOutputLTI):
        reduced = mapped(namespace(loaded.B).asarray, reduced)
        return float(lticore.h2_error(loaded, reduced)), float(lticore.h2_norm(loaded))
    poles = to_numpy(loaded.poles)
    slowest = poles[np.argsort(-np.abs(poles), kind="stable")[:_SAMPLES]]
    omega = np.concatenate([np.angle(slowest), np.linspace(0, np.pi, _SAMPLES)])
    frequencies = namespace(loaded.B).asarray(omega)
    response = to_numpy(lticore.frequency_response(loaded, frequencies))
    difference = response - to_numpy(lticore.frequency_response(in_double(reduced), frequencies))
    largest = (np.linalg.norm(x, 2, axis=(-2, -1)).max() for x in (difference, response))
    return float(next(largest)), float(next(largest))


def _warn(
    name: str,
    layer: StateSpaceLayer,
    messages: list[str],
    bound: float | None,
    rounding: float | None,
    size: float,
) -> None:
    if rounding is not None and rounding > max(bound or 0.0, _SMALL_ROUNDING * size):
        messages.append(
            f"diagonalisation and rounding to {layer.D.dtype} changed the reduced layer by "
            f"{rounding / size:.0e} of its response, beyond the error bound: poles next to the "
            "unit circle or to each other are the usual cause"
        )
    for message, count in Counter(messages).items():
        times = f" ({count} channels)" if count > 1 else ""
        warnings.warn(f"layer '{name}'{times}: {message}", PrecisionWarning, stacklevel=4)


def _largest(bounds: list[Any]) -> float | None:
    return None if any(x is None for x in bounds) else max(map(float, bounds))


def _added(values: list[Any]) -> np.ndarray:
    """Singular values of the channels, added; none where a method computes none."""
    if any(x is None for x in values):
        return np.zeros(0)
    return np.sum([to_numpy(x) for x in values], axis=0)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
