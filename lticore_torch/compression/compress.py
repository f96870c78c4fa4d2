"""Compression of trained models: every state-space layer replaced by a smaller one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from lticore.errors import ArgumentError

from ..layers.batches import Calibration
from .plan import NEEDS_DATA, analyze, check_wish
from .report import CompressionReport

Model = TypeVar("Model", bound=nn.Module)


def compress(
    model: Model,
    *,
    ratio: float | Mapping[str, float] | None = None,
    energy: float | None = None,
    orders: Sequence[int] | Mapping[str, int] | None = None,
    error: float | None = None,
    evaluate: Callable[[Model], float] | None = None,
    tolerance: float | None = None,
    exclude: str | Sequence[str] = (),
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
        Share of all states to remove, spread over the layers as the method does; or of each layer,
        by module name: layers that are not named stay as they are.
    energy : float in (0, 1]
        Share of Σσ that each layer keeps ("balanced", "balanced-complex", "h2", "tlbt", "tlh2"), or
        of Σσ² that all layers keep together ("data").
    orders : one int per layer, or by module name: layers that are not named stay as they are
    error : float ≥ 0
        Bound on the h∞ error of each layer: smallest r with 2 Σ_{i>r} σ_i ≤ error ("balanced",
        "balanced-complex").
    evaluate : function of a model → number, more is better
        With ``tolerance``: the fewest states with evaluate(small) ≥ evaluate(model) − tolerance,
        found by bisection, about log₂ of the number of states cuts; models are evaluated in
        evaluation mode. The report says what it was.
    exclude : names of modules
        These, and the layers inside them, stay as they are and do not count.
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

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> small, report = lt.compress(layer, error=2.5)
    >>> small.order, round(report.layers[0].error_bound, 4)
    (1, 2.0)
    """
    check_wish(ratio, energy, orders, error, evaluate, tolerance)
    if calibration is None and (refit or fine_tune_steps):
        raise ArgumentError(NEEDS_DATA)
    plan = analyze(
        model,
        method=method,
        horizon=horizon,
        calibration=calibration,
        loss=loss,
        seed=seed,
        exclude=exclude,
    )
    return plan.compress(
        ratio=ratio,
        energy=energy,
        orders=orders,
        error=error,
        evaluate=evaluate,
        tolerance=tolerance,
        refit=refit,
        fine_tune_steps=fine_tune_steps,
        learning_rate=learning_rate,
    )
