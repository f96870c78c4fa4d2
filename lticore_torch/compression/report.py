"""What compression did to a model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


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
        lines = [f"{'layer':<{width}}  states          flops/step        error bound"]
        lines += [
            f"{x.name:<{width}}  {x.order_before:>5} → {x.order:<5}  {_short(x.flops_before):>6} → "
            f"{_short(x.flops):<6}  "
            + ("       none" if x.error_bound is None else f"{x.error_bound:>11.3e}")
            for x in self.layers
        ]
        share = 1 - self.parameters_after / self.parameters_before
        lines.append(
            f"{self.method}: {self.parameters_before:,} → {self.parameters_after:,} parameters "
            f"(−{share:.0%})"
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
        return "\n".join(lines)

    def plot(self) -> Any:
        """The decay of the Hankel singular values of each layer, with the kept order marked.

        Returns a matplotlib figure; matplotlib must be installed.
        """
        from matplotlib.figure import Figure

        shown = [layer for layer in self.layers if layer.singular_values]
        columns = max(min(len(shown), 3), 1)
        rows = max(-(-len(shown) // columns), 1)
        figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        for axis, layer in zip(axes, shown, strict=False):
            sigma = layer.singular_values
            relative = [max(x / max(sigma[0], 1e-300), 1e-16) for x in sigma]
            axis.semilogy(range(1, len(sigma) + 1), relative, ".-", color="#0072B2")
            axis.axvline(layer.order + 0.5, color="#D55E00", linewidth=1)
            axis.set(
                title=f"{layer.name or layer.kind}: {layer.order_before} → {layer.order}",
                xlabel="state i",
                ylabel="σᵢ / σ₁",
            )
        return figure


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"
