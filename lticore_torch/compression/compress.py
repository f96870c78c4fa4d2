"""Compression of trained models: every state-space layer replaced by a smaller one."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
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

from ..certificates.certify import certifiable, output_error_bound
from ..layers import SSMLayer, StateSpaceLayer, capture, kinds_inside, state_space_layers
from ..layers.base import Taken, check_plain_parameters
from . import tuning
from .methods import (
    METHODS,
    Criteria,
    Method,
    choose_orders,
)
from .report import CompressionReport, LayerReport

Model = TypeVar("Model", bound=nn.Module)

#: Rounding below this share of a layer's response is what float32 parameters cost.
_SMALL_ROUNDING = 1e-5
#: Frequencies of each kind at which rounding is looked for.
_SAMPLES = 16


def compress(
    model: Model,
    *,
    ratio: float | None = None,
    energy: float | None = None,
    orders: Sequence[int] | None = None,
    error: float | None = None,
    method: str = "balanced",
    horizon: int | None = None,
    calibration: Tensor | tuple[Tensor, ...] | None = None,
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
        Share of Σσ that each layer keeps ("balanced", "balanced-complex", "h2", "tlbt", "tlh2").
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
        "last", "global", "uniform": modes with the highest h∞ scores, states spread by that rule
        (:func:`lticore.allocate_modal_orders`).
        All come back in the layer's own parameters, conjugate pairs folded. D is untouched, so
        bounds hold for the layer, up to the rounding that the report states (a PrecisionWarning
        when it is not small). Layers with quadratic outputs are known to "balanced", "h2", "tlbt"
        and "tlh2", selective ones to "balanced" (:meth:`SelectiveSSM.reduce`), without bounds.
    horizon : int ≥ 1
        For "tlbt" and "tlh2", and for these only.
    calibration : tensor or tuple of tensors, optional
        Positional arguments of the model: a batch on which the change of the output is measured
        and, for a :class:`SequenceClassifier`, certified; needed for selective layers, ``refit``
        and fine-tuning. It runs in evaluation mode.
    refit : bool
        Fit C of each compressed layer to the outputs of the original one on the calibration data
        (:func:`lticore.refit_outputs`).
    fine_tune_steps : int ≥ 0
        Adam steps of ``learning_rate`` towards the outputs of the original on the calibration data,
        in all parameters that are trainable.

    Returns
    -------
    (model, report) : the copy has the dtype, device and mode of the original, and trains on.

    Cost: one reduction per layer, O(n³), or per channel; "h2" starts from eleven points.

    Raises
    ------
    ArgumentError
        For a model without state-space layers, an unknown method, or criteria out of range; for
        layers of whose parameters some are made of others, by a parametrisation or by pruning: the
        message says how to make them plain, keeping their values.

    Source: Schwerdtner et al., HSVR, §2.4 and Appendix C.1.
    """
    if method not in METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(METHODS)}")
    check_one_given(ratio=ratio, energy=energy, orders=orders, error=error)
    check_integer("fine_tune_steps", fine_tune_steps, minimum=0)
    if calibration is None and (refit or fine_tune_steps):
        raise ArgumentError("refit= and fine_tune_steps= need calibration=, a batch of inputs")
    originals = state_space_layers(model)
    if not originals:
        raise ArgumentError(
            f"{type(model).__name__} contains no state-space layer, only {kinds_inside(model)}"
        )
    for layer in originals.values():
        check_plain_parameters(layer)
    output: Any = None
    seen: dict[nn.Module, capture.Seen] = {}
    if calibration is not None:
        output, seen = capture.run(model, calibration, originals.values())

    chosen, criteria = METHODS[method], Criteria(ratio, energy, orders, error, horizon)
    systems = [_judged(name, layer, seen.get(layer)) for name, layer in originals.items()]
    allocated = choose_orders(chosen, systems, criteria)
    small = _copied(model)
    layers = state_space_layers(small)
    changed = bool(refit or fine_tune_steps)
    reports = [
        _reduce_layer(name, layer, sys, order, chosen, criteria, changed)
        for (name, layer), sys, order in zip(layers.items(), systems, allocated, strict=True)
    ]
    if refit:
        pairs = zip(originals.values(), layers.values(), strict=True)
        tuning.refit({a: b for a, b in pairs if isinstance(b, SSMLayer)}, seen)
    if fine_tune_steps and calibration is not None:
        tuning.fine_tune(
            small, calibration, output, steps=fine_tune_steps, learning_rate=learning_rate
        )
    measured: dict[str, float] = {}
    if calibration is not None:
        measured = _measured(model, small, calibration, output, fine_tune_steps > 0)
    report = CompressionReport(
        method=method,
        layers=tuple(reports),
        parameters_before=_count(model),
        parameters_after=_count(small),
        **measured,
    )
    return small, report


def _copied(model: Model) -> Model:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise ArgumentError(
            f"{type(model).__name__} cannot be copied ({error}): pruned modules keep tensors that "
            "were computed, so call torch.nn.utils.prune.remove on each of them first"
        ) from error


def _judged(name: str, layer: StateSpaceLayer, seen: capture.Seen | None) -> Any:
    """What the methods see of a layer."""
    try:
        return layer.judged(None if seen is None else seen.inputs)
    except ArgumentError as error:
        raise ArgumentError(f"layer '{name}': {error}") from None


def _reduce_layer(
    name: str,
    layer: StateSpaceLayer,
    judged: Any,
    order: int,
    method: Method,
    criteria: Criteria,
    changed: bool,
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
        error_bound=None if changed else bound,
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


def _measured(
    model: Any,
    small: Any,
    calibration: Tensor | tuple[Tensor, ...],
    output: Tensor,
    tuned: bool,
) -> dict[str, float]:
    difference = (capture.run(small, calibration)[0] - output).double()
    size = output.double().norm()
    found = {
        "output_change": float(difference.norm() / size) if size > 0 else float(difference.norm()),
        "largest_output_change": float(difference.reshape(len(difference), -1).norm(dim=1).max()),
    }
    # Refitting changes systems only, which the bound compares as they are.
    if certifiable(model) and not tuned:
        found["output_bound"] = float(output_error_bound(model, small, calibration).max())
    return found


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
