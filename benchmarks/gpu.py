"""GPU kernels beside a copy of the same bytes, whole functions, training: ``make bench-gpu``, or
``python benchmarks/gpu.py PART …`` for some of it.

Kernels are timed on the device: CUDA events around a graph of many launches, over buffers too large
for the cache. Whole functions are timed as a caller meets them, host included; Hankel-sum gradients
also as a graph, without the host. Medians. Every row is written as it is measured, and stays
whatever happens after.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator

import cupy as cp
import machine

import lticore as lti
from lticore import kernels
from lticore.equations.modal import diagonal_stein_reference, rotation_stein_reference
from lticore.equations.recurrence import linear_recurrence_reference, recurrence_adjoint_reference

#: (batch, length, states) of sequence layers.
FORMS = ((16, 784, 128), (16, 1024, 128), (16, 16384, 128))
DTYPES = ("float32", "complex64")
ORDERS = (128, 256, 512, 1024, 2048)
#: Share of the bandwidth of a copy that recurrences should reach, gradients included.
BAR_BANDWIDTH = 0.7
#: Inputs and outputs of the systems whose Hankel singular values are computed.
WIDTH = 16
#: Calls in turn take other buffers, of this many bytes together: several times a cache.
ROTATED_BYTES = 1 << 29
LAUNCHES, ROUNDS = 20, 15


def main(names: list[str]) -> None:
    for part in names or PARTS:
        # Work on the default stream cannot be captured in a graph.
        with cp.cuda.Stream(non_blocking=True):
            for row in PARTS[part]():
                print(part, json.dumps(row), keep(part, row), flush=True)


def keep(part: str, row: dict) -> str:
    """Writes the row into the result of this device, which other parts may have begun."""
    device = describe_device()
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")
    file = machine.RESULTS / f"{name}.json"
    described = machine.describe("lticore", "numpy", "torch", "cupy-cuda12x", "cupy-cuda13x")
    result = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if result.get("commit") != described["commit"]:
        result = {}
    rows = [*result.get(part, []), row]
    return str(machine.write(name, {**result, **described, "device": device, part: rows}))


def describe_device() -> dict:
    properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "cache_bytes": properties["l2CacheSize"],
        "memory_bytes": properties["totalGlobalMem"],
        "cuda_driver": cp.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cp.cuda.runtime.runtimeGetVersion(),
    }


def time_recurrence(form: tuple[int, int, int], dtype: str) -> dict:
    batch, _, n = form
    inputs = [random_array(form, dtype) for _ in range(buffers(form, dtype))]
    poles = 0.99 * cp.exp(1j * cp.linspace(0, 3, n)) if dtype == "complex64" else cp.full(n, 0.99)
    poles = cp.broadcast_to(poles.astype(dtype), (batch, n))
    initial = cp.zeros((batch, n), dtype)
    run = kernels.find(linear_recurrence_reference, poles)
    row = beside_a_copy(lambda u: run(poles, u, initial, False), inputs)
    return {"form": list(form), "dtype": dtype, **row}


def time_recurrence_gradient(form: tuple[int, int, int], dtype: str) -> dict:
    """The adjoint beside copies of the bytes it moves: two arrays read and one written."""
    batch, _, n = form
    inputs = [random_array(form, dtype) for _ in range(buffers(form, dtype))]
    poles = cp.full((batch, 1, n), 0.99, dtype)
    initial, states = cp.zeros((batch, n), dtype), random_array(form, dtype)
    run = kernels.find(recurrence_adjoint_reference, poles)
    row = beside_a_copy(lambda g: run(poles, g, states, initial, False)[0], inputs)
    row["share_of_copy_bandwidth"] *= 1.5
    row["gigabytes_per_second"] *= 1.5
    return {"form": list(form), "dtype": dtype, **row, "bar": BAR_BANDWIDTH}


STEIN = {
    "diagonal_stein": (diagonal_stein_reference, "complex128"),
    "rotation_stein": (rotation_stein_reference, "float64"),
}


def time_stein(name: str, n: int) -> dict:
    reference, dtype = STEIN[name]
    poles = n if name == "diagonal_stein" else n // 2
    radius, phase = cp.random.uniform(0.5, 0.999, poles), cp.random.uniform(-3, 3, poles)
    sides = [random_array((n, n), dtype) for _ in range(buffers((n, n), dtype))]
    run = kernels.find(reference, radius)
    row = beside_a_copy(lambda Q: run(radius, phase, radius, phase, Q), sides)
    return {"operation": name, "order": n, **row}


FUNCTIONS = {
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_sum_and_gradient": lti.hankel_sum_and_gradient,
}


def time_function(name: str, n: int) -> dict:
    radius, angle = cp.random.uniform(0.9, 0.999, n // 2), cp.random.uniform(0, 3, n // 2)
    B, C = (cp.random.standard_normal(shape) / n**0.5 for shape in ((n, WIDTH), (WIDTH, n)))
    sys = lti.LTI(lti.Rotation(radius, angle), B, C)
    seconds = median_seconds(lambda: FUNCTIONS[name](sys), rounds=5)
    return {"function": name, "order": n, "milliseconds": 1e3 * seconds}


#: (layers, states, inputs and outputs, steps): the paper's for sequential MNIST and CIFAR.
LAYERS = ((4, 128, 128, 784), (6, 384, 512, 1024))
#: Milliseconds for value and gradient of the larger set, and steps with beside steps without.
BAR_GRADIENT, BAR_TRAINING = 5.0, 1.05


def time_gradient(layers: int, order: int, width: int, _: int) -> dict:
    """Σσ and gradient of all layers in one call of lticore_torch, and as a graph."""
    import torch

    from lticore_torch.ops.spectral import spectral_sum

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(layers, order // 2, device="cuda").double()

    parameters = uniform(0.5, 0.999), uniform(0, 3), torch.zeros(layers, 0, device="cuda").double()
    B = torch.randn(layers, order, width, device="cuda") / order**0.5
    C = torch.randn(layers, width, order, device="cuda") / order**0.5
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def run() -> torch.Tensor:
        return spectral_sum("rotation", parameters, B, C)

    with torch.cuda.stream(stream), cp.cuda.ExternalStream(stream.cuda_stream):
        row = {
            "layers": layers,
            "order": order,
            "width": width,
            "call_milliseconds": 1e3 * median_seconds(run),
            "bar_milliseconds": BAR_GRADIENT,
        }
        with torch.cuda.graph(graph, stream=stream):
            run()
        return {**row, "graph_milliseconds": 1e3 * median_seconds(graph.replay)}


def time_training(layers: int, order: int, width: int, length: int) -> dict:
    """A training step of batch 50 with the regulariser beside one without."""
    import torch
    from torch.nn.functional import cross_entropy

    from lticore_torch import HankelRegularizer, SequenceClassifier, SequenceClassifierConfig

    model = SequenceClassifier(SequenceClassifierConfig(1, 10, width, order, layers)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs = torch.rand(50, length, 1, device="cuda")
    labels = torch.arange(50, device="cuda") % 10

    def seconds(regularizer: HankelRegularizer) -> float:
        def step() -> None:
            optimizer.zero_grad()
            (cross_entropy(model(inputs), labels) + regularizer(model)).backward()
            optimizer.step()
            torch.cuda.synchronize()

        return median_seconds(step, rounds=7)

    without, with_it = seconds(HankelRegularizer(0.0)), seconds(HankelRegularizer(1e-5))
    return {
        "layers": layers,
        "order": order,
        "width": width,
        "without_milliseconds": 1e3 * without,
        "with_milliseconds": 1e3 * with_it,
        "times_without": with_it / without,
        "bar": BAR_TRAINING,
    }


def buffers(shape: tuple[int, ...], dtype: str) -> int:
    """How many arrays of a kind make ROTATED_BYTES."""
    return max(2, -(-ROTATED_BYTES // cp.empty(shape, dtype).nbytes))


def random_array(shape: tuple[int, ...], dtype: str) -> cp.ndarray:
    x = cp.random.standard_normal(shape)
    return (x + 1j * cp.random.standard_normal(shape) if dtype[0] == "c" else x).astype(dtype)


def beside_a_copy(run: Callable[[cp.ndarray], cp.ndarray], inputs: list[cp.ndarray]) -> dict:
    """Device times of ``run`` and of copying its input, and the share of the copy's bandwidth."""
    copy = graph_seconds(lambda x: x.copy(), inputs)
    kernel = graph_seconds(run, inputs)
    call = median_seconds(lambda: run(inputs[0]))
    return {
        "copy_microseconds": 1e6 * copy,
        "kernel_microseconds": 1e6 * kernel,
        "share_of_copy_bandwidth": copy / kernel,
        "gigabytes_per_second": 2e-9 * inputs[0].nbytes / kernel,
        "call_microseconds": 1e6 * call,
    }


def graph_seconds(run: Callable[[cp.ndarray], cp.ndarray], inputs: list[cp.ndarray]) -> float:
    """Median time of one launch within a graph of many."""
    stream = cp.cuda.get_current_stream()
    # Results that live on make the next calls write elsewhere.
    results: deque[cp.ndarray] = deque(maxlen=len(inputs))
    launches = max(LAUNCHES, len(inputs))

    def launch_all() -> None:
        for i in range(launches):
            results.append(run(inputs[i % len(inputs)]))

    launch_all()
    stream.synchronize()
    stream.begin_capture()
    launch_all()
    graph = stream.end_capture()
    return median_seconds(lambda: graph.launch(stream)) / launches


def median_seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median time between events before and after, the first two rounds left out."""
    start, end = cp.cuda.Event(), cp.cuda.Event()
    times = []
    for _ in range(rounds + 2):
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e-3 * cp.cuda.get_elapsed_time(start, end))
    return statistics.median(times[2:])


#: The most telling first.
PARTS: dict[str, Callable[[], Iterator[dict]]] = {
    "recurrence": lambda: itertools.starmap(time_recurrence, itertools.product(FORMS, DTYPES)),
    "recurrence_gradient": lambda: itertools.starmap(
        time_recurrence_gradient, itertools.product(FORMS, DTYPES)
    ),
    "gradient": lambda: itertools.starmap(time_gradient, LAYERS),
    "training": lambda: itertools.starmap(time_training, LAYERS),
    "stein": lambda: itertools.starmap(time_stein, itertools.product(STEIN, ORDERS)),
    "functions": lambda: itertools.starmap(time_function, itertools.product(FUNCTIONS, ORDERS)),
}

if __name__ == "__main__":
    main(sys.argv[1:])
