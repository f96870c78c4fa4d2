"""What regularising Hankel singular values costs: ``make bench-gradient``.

Value and gradient of Σσ beside one symmetric eigendecomposition (LAPACK's divide and conquer) of
the same order, in one process, taking turns; then training steps with and without the regulariser.
One BLAS thread.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import machine
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
import torch
import tyro
from torch.nn.functional import cross_entropy

import lticore as lti
from lticore_torch import (
    HankelRegularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
)

#: (states, inputs and outputs), and what the authors' code takes for value and gradient of one
#: layer, milliseconds in float64, on two cores of the class of the machine of the bars.
SIZES = {(64, 64): 2.8, (128, 128): 12.1, (192, 256): 32, (256, 192): 60, (384, 512): 159}
#: Times of one eigendecomposition that value and gradient should take at most.
BAR, BAR_COMPRESSIBLE = 4.0, 2.5
BARRED = {(128, 128), (256, 192), (384, 512)}
#: A training step with the regulariser should take at most this many times one without.
BAR_TRAINING = 1.03
ORDERS = (16, 32, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Options:
    rounds: int = 9
    """Turns of each contestant; the median counts."""
    steps: int = 5
    """Training steps with and without the regulariser, in turn."""


def full_system(order: int, width: int) -> lti.LTI:
    """All Hankel singular values within a factor of about 300."""
    rng = np.random.default_rng(0)
    A = lti.Rotation(rng.uniform(0.5, 0.999, order // 2), rng.uniform(0, np.pi, order // 2))
    B, C = rng.standard_normal((order, width)), rng.standard_normal((width, order))
    return lti.LTI(A, B / np.sqrt(order), C / np.sqrt(order))


def compressible_system(order: int, width: int) -> lti.LTI:
    """The same with states graded so that values are below 1e-12 σ_1 beyond a quarter of them."""
    sys = full_system(order, width)
    grades = np.repeat(10.0 ** np.linspace(0, -27, order // 2), 2)
    return lti.LTI(sys.A, sys.B * grades[:, None], sys.C * grades)


KINDS = {"full": full_system, "compressible": compressible_system}


def contestants(order: int, width: int) -> dict[str, Callable[[], object]]:
    """Value and gradient of both kinds of systems, and one eigendecomposition."""
    P = lti.controllability_gramian(full_system(order, order))
    calls: dict[str, Callable[[], object]] = {"eigh": lambda: scipy.linalg.eigh(P, driver="evd")}
    for kind, make in KINDS.items():
        calls[kind] = partial(lti.hankel_sum_and_gradient, make(order, width))
    return calls


def gradient_rows(rounds: int) -> list[dict]:
    rows = []
    for (order, width), peer in SIZES.items():
        sigma = lti.hankel_singular_values(compressible_system(order, width))
        assert np.all(sigma[order // 4 :] < 1e-12 * sigma[0])
        times = machine.interleaved(contestants(order, width), rounds)
        for kind in KINDS:
            bar = BAR if kind == "full" else BAR_COMPRESSIBLE
            rows.append(
                {
                    "order": order,
                    "width": width,
                    "system": kind,
                    "milliseconds": round(1e3 * times[kind], 3),
                    "eigh_milliseconds": round(1e3 * times["eigh"], 3),
                    "times_eigh": round(times[kind] / times["eigh"], 2),
                    "bar": bar if (order, width) in BARRED else None,
                    "peer_milliseconds_elsewhere": peer,
                }
            )
            report(rows[-1])
    return rows


def growth_row(order: int, rounds: int) -> dict:
    times = machine.interleaved(contestants(order, order), rounds)
    return report({"order": order, **{k: round(1e3 * t, 4) for k, t in times.items()}})


#: (layers, states, features): the paper's for sequential MNIST, and single layers to see how the
#: overhead grows with the order. Sequences of 784 steps, 50 at a time.
MODELS = ((4, 128, 128), *((1, n, 128) for n in (32, 64, 128, 256, 384)))


def training_row(depth: int, order: int, features: int, steps: int) -> dict:
    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 10, features, order, depth))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs, labels = torch.rand(50, 784, 1), torch.arange(50) % 10

    def step(regularizer: HankelRegularizer) -> None:
        optimizer.zero_grad()
        (cross_entropy(model(inputs), labels) + regularizer(model)).backward()
        optimizer.step()

    resting, weighted = HankelRegularizer(0.0), HankelRegularizer(1e-5)
    calls: dict[str, Callable[[], object]] = {
        "without": lambda: step(resting),
        "with": lambda: step(weighted),
        "regularizer": lambda: weighted(model).backward(),
    }
    times = machine.interleaved(calls, steps)
    return report(
        {
            "depth": depth,
            "order": order,
            "features": features,
            **{f"{name}_milliseconds": round(1e3 * t, 2) for name, t in times.items()},
            "times_without": round(times["with"] / times["without"], 3),
            "regularizer_share": round(times["regularizer"] / times["without"], 4),
            "bar": BAR_TRAINING if depth == 4 else None,
        }
    )


def report(row: dict) -> dict:
    known = {key: value for key, value in row.items() if value is not None}
    print("  ".join(f"{key} {value}" for key, value in known.items()), flush=True)
    return row


def draw(gradients: list[dict], training: list[dict]) -> None:
    orders = [row["order"] for row in gradients]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = {
        "eigh": "one eigendecomposition",
        "full": "Σσ and gradient",
        "compressible": "Σσ and gradient, compressible system",
    }
    for key, label in names.items():
        left.loglog(orders, [row[key] for row in gradients], "o-", label=label)
    left.set_xticks(orders[::2], [str(n) for n in orders[::2]])
    left.minorticks_off()
    left.set(title="Cost of value and gradient", xlabel="states n = m = p", ylabel="milliseconds")
    left.legend()
    single = [row for row in training if row["depth"] == 1]
    shares = [100 * row["regularizer_share"] for row in single]
    right.plot([row["order"] for row in single], shares, "o-", color="tab:red")
    right.set(
        title="Overhead in training",
        xlabel="states n of one layer, 128 features",
        ylabel="% of a step without (784 steps, batch 50)",
        ylim=(0, None),
    )
    for axes in (left, right):
        axes.grid(which="both", alpha=0.2)
    picture = machine.RESULTS / "gradient.png"
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=120)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    gradients = gradient_rows(options.rounds)
    curve = [growth_row(order, options.rounds) for order in ORDERS]
    training = [training_row(*sizes, options.steps) for sizes in MODELS]
    draw(curve, training)
    result = {
        "machine": machine.describe("lticore", "numpy", "scipy", "numba", "torch"),
        "gradient": gradients,
        "growth": curve,
        "training": training,
    }
    print("written to", machine.write("gradient", result))


if __name__ == "__main__":
    warnings.simplefilter("ignore", lti.PrecisionWarning)
    main(tyro.cli(Options))
