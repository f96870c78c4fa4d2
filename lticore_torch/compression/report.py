"""What compression did to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Colours and dashes of marked orders.
_MARKS = (("#D55E00", "-"), ("#CC79A7", "--"), ("#009E73", ":"))


@dataclass(frozen=True)
class LayerReport:
    """What compression did to one layer.

    name : module name
    kind : class of the layer
    order_before, order : stored real states (S4D and selective layers: of each channel)
    error_bound : bound on the h∞ norm of the layer's change, 2 Σ_{i>r} σ_i for balanced truncation
        (the largest over the channels of S4D); None for methods without one, and after refitting or
        fine-tuning
    rounding : largest change of the frequency response by the layer's own form after the reduction
        (diagonalisation, and rounding of the new parameters to their dtype), at frequencies of the
        slowest poles and evenly spread ones; not part of the bound. For quadratic outputs the h2
        norm of that change, known to 1e-8 of the system's; None for selective layers
    singular_values : Hankel singular values before, descending, added over channels, where the
        method computes them
    flops_before, flops : real additions and multiplications per time step of one sequence
    size : h∞ norm of the original layer from below, its largest response at frequencies of the
        slowest poles and evenly spread ones; None for quadratic outputs and selective layers

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> report = lt.compress(layer, orders=[1])[1].layers[0]
    >>> report.order_before, report.order, round(report.error_bound, 4)
    (2, 1, 2.0)
    """

    name: str
    kind: str
    order_before: int
    order: int
    error_bound: float | None
    rounding: float | None
    singular_values: tuple[float, ...]
    flops_before: int
    flops: int
    size: float | None = None

    @property
    def relative_bound(self) -> float | None:
        """``error_bound`` / ``size``."""
        if self.error_bound is None or self.size is None:
            return None
        return self.error_bound / self.size if self.size > 0 else 0.0


@dataclass(frozen=True)
class CompressionReport:
    """What compression did to a model; prints as a table.

    method : name of the method
    layers : one report per state-space layer
    parameters_before, parameters_after : of the whole model
    output_change : ‖f(x) − f̂(x)‖/‖f(x)‖ on the calibration data; None without
    output_bound : the deep certificate: the largest bound on ‖f(x) − f̂(x)‖₂ over the sequences of
        the calibration data (:func:`output_error_bound`); None where it does not exist
    largest_output_change : the largest measured ‖f(x) − f̂(x)‖₂ over these sequences
    loss_change : root mean square over the sequences of the change of the loss: √(2 KL) of the
        softmax for "cross-entropy", the norm of the change for "output"
    predicted_loss_change : by method "data", the same to first order in what was cut, before
        refitting and fine-tuning: right where changes are small
    score_before, score : what ``evaluate`` said of the original and of this model

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> small, report = lt.compress(layer, orders=[1])
    >>> report.method, report.parameters_before, report.parameters_after
    ('balanced', 12, 7)
    """

    method: str
    layers: tuple[LayerReport, ...]
    parameters_before: int
    parameters_after: int
    output_change: float | None = None
    largest_output_change: float | None = None
    output_bound: float | None = None
    loss_change: float | None = None
    predicted_loss_change: float | None = None
    score_before: float | None = None
    score: float | None = None

    @property
    def orders(self) -> list[int]:
        """Stored real states of each layer after compression."""
        return [layer.order for layer in self.layers]

    @property
    def error_bounds(self) -> list[float | None]:
        """Bound on the h∞ error of each layer, before rounding."""
        return [layer.error_bound for layer in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """The report in built-in types, as JSON takes them."""
        return asdict(self) | {"orders": self.orders, "error_bounds": self.error_bounds}

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':<{width}}  states          flops/step        error bound  of norm"]
        lines += [
            f"{x.name:<{width}}  {x.order_before:>5} → {x.order:<5}  {short(x.flops_before):>6} → "
            f"{short(x.flops):<6}  "
            + ("       none" if x.error_bound is None else f"{x.error_bound:>11.3e}")
            + ("" if x.relative_bound is None else f"  {x.relative_bound:>7.1%}")
            for x in self.layers
        ]
        lines.append(
            f"{self.method}: {self.parameters_before:,} → {self.parameters_after:,} parameters "
            f"({percent_change(self.parameters_before, self.parameters_after)})"
        )
        if self.output_change is not None:
            bound = "" if self.output_bound is None else f", certified {self.output_bound:.1e}"
            lines.append(
                f"output: changed by {self.output_change:.2e} of its size; worst sequence by "
                f"{self.largest_output_change:.1e}{bound}"
            )
        if self.loss_change is not None and self.predicted_loss_change is not None:
            lines.append(
                f"loss: changed by {self.loss_change:.1e}; by the cut to first order "
                f"{self.predicted_loss_change:.1e}"
            )
        if self.score is not None:
            lines.append(f"evaluate: {self.score_before:.6g} → {self.score:.6g}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """The decay of the Hankel singular values of each layer, with the kept order marked.

        Returns a matplotlib figure; matplotlib must be installed.
        """
        return plot_decay(
            [
                (
                    f"{layer.name or layer.kind}: {layer.order_before} → {layer.order}",
                    layer.singular_values,
                    {"kept": layer.order},
                )
                for layer in self.layers
            ]
        )


def plot_decay(
    layers: Sequence[tuple[str, Sequence[float], Mapping[str, int | None]]],
) -> Any:
    """σᵢ/σ₁ of layers given as (title, σ, orders to mark by name), one axis each."""
    from matplotlib.figure import Figure

    shown = [layer for layer in layers if len(layer[1])]
    columns = max(min(len(shown), 3), 1)
    rows = max(-(-len(shown) // columns), 1)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis, (title, sigma, marks) in zip(axes, shown, strict=False):
        relative = [max(x / max(sigma[0], 1e-300), 1e-16) for x in sigma]
        axis.semilogy(range(1, len(sigma) + 1), relative, ".-", color="#0072B2")
        for (name, order), (color, style) in zip(marks.items(), _MARKS, strict=False):
            if order is not None:
                axis.axvline(order + 0.5, color=color, linestyle=style, linewidth=1, label=name)
        if len(marks) > 1:
            axis.legend(fontsize="small")
        axis.set(title=title, xlabel="state i", ylabel="σᵢ / σ₁")
    return figure


def percent_change(before: int, after: int) -> str:
    """A change as text, −20% or +3%."""
    return f"{after / before - 1:+.0%}".replace("-", "−")


def short(count: int) -> str:
    """A count of thousands or millions, as text."""
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"
